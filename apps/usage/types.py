"""What apps above say and hear when they call a model."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from integrations.llm_providers.types import ModelSpec

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

LimitName = Literal["cost_usd", "tokens", "steps"]
#: Where a call counts: in its session, the session's project, and its user, each within the next.
Scope = Literal["session", "project", "user"]
#: A day is one of UTC; a call belongs to the day on which it began.
Period = Literal["total", "day"]


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them (``estimated``: as we did), and their price.

    ``input_tokens`` include the cached ones and those written to the vendor's cache, ``output_tokens`` those that the
    model thought. ``priced`` is False where no price is known; ``cost_usd`` is 0 then.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0
    estimated: bool = False
    priced: bool = True


@dataclass(frozen=True)
class ModelReply:
    """What a model said, and which one it was: of several, not always the first answers."""

    message: AIMessage
    usage: Usage
    spec: ModelSpec

    @property
    def model(self) -> str:
        """Its name, as ``openai:gpt-5-mini``."""
        return self.spec.name


@dataclass(frozen=True)
class Limits:
    """What a scope may spend; None: no limit of that kind. Tokens are input and output together."""

    cost_usd: Decimal | None = None
    tokens: int | None = None
    steps: int | None = None


AllowanceScope = Literal["project", "user"]


@dataclass(frozen=True)
class AllowanceLimits:
    """What a project or a user may spend in all and a day, and how many sessions it may have at once."""

    total: Limits = Limits()
    day: Limits = Limits()
    #: None: what the server's settings say.
    sessions: int | None = None


@dataclass(frozen=True)
class Spent:
    """What is spent, and held for calls that are under way, or whose process died."""

    cost_usd: Decimal = Decimal(0)
    tokens: int = 0
    steps: int = 0
    reserved_cost_usd: Decimal = Decimal(0)
    reserved_tokens: int = 0
    reserved_steps: int = 0


@dataclass(frozen=True)
class AllowanceState:
    """The limits of a project or a user, and what is spent of them."""

    limits: AllowanceLimits
    total: Spent
    #: Today, by UTC.
    day: Spent


@dataclass(frozen=True)
class BudgetState:
    """A budget at one moment. ``reserved_*`` is held for calls that are under way, or whose process died."""

    scope_id: uuid.UUID
    limits: Limits
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: Decimal
    steps: int
    reserved_cost_usd: Decimal
    reserved_tokens: int
    reserved_steps: int
    #: Some of the tokens were not counted by the provider.
    estimated: bool
    #: Some of the calls have no known price, so that the money is more than ``cost_usd``.
    unpriced: bool
    cache_write_tokens: int = 0

    @property
    def usage(self) -> Usage:
        """What was spent, as one figure of its kind each."""
        return Usage(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens,
            cache_write_tokens=self.cache_write_tokens,
            cost_usd=float(self.cost_usd),
            estimated=self.estimated,
            priced=not self.unpriced,
        )


@dataclass(frozen=True)
class CallTook:
    """Tokens, in and out together, that a call took for whoever its key names."""

    owner: uuid.UUID
    tokens: int


@dataclass(frozen=True, kw_only=True)
class UsageShare:
    """A share of what was taken. ``priced`` is False where the price of a call is not known, so that it cost more."""

    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: Decimal
    cache_write_tokens: int = 0
    failed: int = 0
    priced: bool = True
    estimated: bool = False

    @property
    def cached_share(self) -> float:
        """Of the input tokens, those that came from the provider's cache."""
        return share_of(self.cached_tokens, self.input_tokens)


@dataclass(frozen=True, kw_only=True)
class UsageLine(UsageShare):
    """What one model took."""

    provider: str
    model: str

    @property
    def name(self) -> str:
        return f"{self.provider}:{self.model}"


@dataclass(frozen=True, kw_only=True)
class RoleUsage(UsageShare):
    """What one role took, whichever models it called."""

    role: str


def share_of(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0

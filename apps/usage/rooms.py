"""What is left to spend, in every scope that a call counts in, and how long a reply fits into all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Any

from integrations.llm_providers.prices import price_ceiling
from integrations.llm_providers.types import ModelSpec

from .errors import BudgetExceeded
from .types import LimitName, Period, Scope

#: A reply that could not even have this many tokens (or the specification's own limit) is not asked for.
MIN_OUTPUT_TOKENS = 256
_SMALLEST_AMOUNT = Decimal("1e-9")

#: US dollars for so many input and output tokens; None: no price is known.
Price = Callable[[int, int], Decimal | None]


def price_of(spec: ModelSpec) -> Price:
    """The most that so many tokens of the model cost."""

    def price(read: int, written: int) -> Decimal | None:
        return price_ceiling(
            provider=spec.provider,
            model=spec.model,
            base_url=spec.base_url,
            input_tokens=read,
            output_tokens=written,
        )

    return price


def money(value: Decimal) -> Decimal:
    """Rounded up to the columns' precision, here rather than there: what is held has to equal what is let go."""
    return value.quantize(_SMALLEST_AMOUNT, rounding=ROUND_UP)


@dataclass(frozen=True)
class Room:
    """The limits of one scope over one period, and what is spent and held of them."""

    scope: Scope
    period: Period
    #: Of the project or the user.
    owner: str
    limits: Mapping[LimitName, Any]
    spent: Mapping[LimitName, Any]
    reserved: Mapping[LimitName, Any]

    def left(self, unit: LimitName) -> Any:
        """None: there is no limit."""
        limit = self.limits[unit]
        return None if limit is None else limit - self.spent[unit] - self.reserved[unit]

    def exceeded(self, unit: LimitName, needed: Any) -> BudgetExceeded:
        return BudgetExceeded(
            scope=self.scope,
            period=self.period,
            owner=self.owner,
            limit=unit,
            maximum=_shown(self.limits[unit]),
            spent=_shown(self.spent[unit]),
            reserved=_shown(self.reserved[unit]),
            needed=_shown(needed),
        )


def rooms_of(budget: Mapping[str, Any], allowances: Sequence[Mapping[str, Any]], *, day: Any) -> list[Room]:
    """The narrowest scope first; of rows that are locked."""
    rooms = [_room(budget, "session", "total", "")]
    for row in sorted(allowances, key=lambda one: one["project_id"] is None):
        scope: Scope = "user" if row["project_id"] is None else "project"
        owner = str(row["user_id"] or row["project_id"])
        rooms.append(_room(row, scope, "total", owner))
        rooms.append(_room(row, scope, "day", owner, is_over=row["day"] != day))
    return rooms


def _room(row: Mapping[str, Any], scope: Scope, period: Period, owner: str, *, is_over: bool = False) -> Room:
    prefix = "day_" if period == "day" else ""
    units: tuple[LimitName, ...] = ("cost_usd", "tokens", "steps")

    def sums(state: str) -> dict[LimitName, Any]:
        return {unit: 0 if is_over else row[f"{prefix}{state}_{unit}"] for unit in units}

    limits: dict[LimitName, Any] = {unit: row[f"limit_{prefix}{unit}"] for unit in units}
    return Room(scope, period, owner, limits, sums("spent"), sums("reserved"))


def reply_fitting(
    *, rooms: Sequence[Room], input_tokens: int, output_tokens: int, price: Price
) -> tuple[int, BudgetExceeded | None]:
    """How long a reply fits into every room, or why none does."""
    output = output_tokens
    least = min(MIN_OUTPUT_TOKENS, output)
    for room in rooms:
        if (left := room.left("steps")) is not None and left < 1:
            return 0, room.exceeded("steps", 1)
        if (left := room.left("tokens")) is not None:
            output = min(output, left - input_tokens)
            if output < least:
                return 0, room.exceeded("tokens", input_tokens + least)
    for room in rooms:
        left = room.left("cost_usd")
        whole, reading = price(input_tokens, output), price(input_tokens, 0)
        if left is not None and whole is not None and reading is not None and money(whole) > left:
            # An embedder writes nothing.
            writing = (whole - reading) / output if output else Decimal(0)
            output = int((left - reading) / writing) if writing > 0 else 0
            if output < least or money(price(input_tokens, output) or Decimal(0)) > left:
                return 0, room.exceeded("cost_usd", price(input_tokens, least))
    return output, None


def _shown(value: Any) -> Any:
    return Decimal(f"{value:.6f}".rstrip("0").rstrip(".")) if isinstance(value, Decimal) else value

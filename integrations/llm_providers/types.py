"""Names, specifications and failures of models, without any vendor's library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .vendors import Protocol, vendor_find

#: Tokens that a reply may have unless the specification says otherwise; they are reserved before each call.
DEFAULT_OUTPUT_TOKENS = 16_384

MAX_NAME_LENGTH = 200

FailureKind = Literal[
    "auth",
    "not_found",
    "rate_limited",
    "quota",
    "overloaded",
    "timeout",
    "connection",
    "context_too_long",
    "bad_request",
    "bad_response",
    "refused",
    "recording_missing",
]

#: What an endpoint turned out not to understand: no streaming, no usage in a stream, the other name of the output
#: limit, no temperature, no effort, no hint for its cache, no calls of tools, no schema of a reply, no images; or that
#: it has no room for replies of the usual length.
Quirk = Literal[
    "no_stream",
    "no_stream_options",
    "other_max_tokens",
    "no_temperature",
    "no_effort",
    "no_cache_key",
    "no_tools",
    "no_json_schema",
    "no_json_object",
    "no_images",
    "short_output",
]
#: How much a model thinks before it answers; each vendor has a scale of its own.
Effort = Literal["low", "medium", "high"]
#: How a model calls tools: as its API has it, or by writing JSON of a given shape.
ToolCallStyle = Literal["native", "envelope"]
#: The length of replies that is asked for instead.
SHORT_OUTPUT_TOKENS = 4_096


class Secret:
    """A string that shows itself only when asked, so that it reaches neither a log nor a traceback."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


@dataclass(frozen=True)
class ModelSpec:
    """Everything that is needed to call one model. Hashable: clients are cached by it."""

    #: The vendor's name.
    provider: str
    model: str
    #: Canonical, without a trailing slash; empty for providers that are not reached over HTTP.
    base_url: str = ""
    api_key: Secret = field(default_factory=lambda: Secret(""))
    #: The variable that the key came from, for messages.
    key_source: str = ""
    max_output_tokens: int = DEFAULT_OUTPUT_TOKENS
    #: None: what the model does by itself.
    temperature: float | None = None
    effort: Effort | None = None
    #: None: what is known of the model decides.
    tool_calls: ToolCallStyle | None = None
    vision: bool | None = None
    #: Its context window, where the operator knows better than the price list.
    context_tokens: int | None = None
    #: Ask for the reply as it is made; otherwise for the whole of it.
    stream: bool = True
    #: Seconds for one attempt, for one silence within it, and for connecting.
    timeout_s: float = 1200.0
    idle_timeout_s: float = 300.0
    connect_timeout_s: float = 10.0
    quirks: frozenset[Quirk] = frozenset()

    @property
    def name(self) -> str:
        return f"{self.provider}:{self.model}"

    @property
    def protocol(self) -> Protocol:
        """How requests and replies look on the wire."""
        vendor = vendor_find(self.provider)
        if vendor is None:
            raise ValueError(f"no such provider: {self.provider!r}")
        return vendor.protocol


@dataclass(frozen=True)
class CallFailure:
    """Why a call failed, in words that a person can act on."""

    kind: FailureKind
    message: str
    next_step: str = ""
    #: The same request may succeed later.
    retryable: bool = False
    #: Seconds that the endpoint asked to wait.
    retry_after: float | None = None
    #: The endpoint may have worked, and charged, although no token arrived.
    charged: bool = False
    #: What to leave out the next time, when the endpoint said what it does not understand.
    quirk: Quirk | None = None


def parse_model_name(name: str) -> tuple[str, str]:
    """``("openai", "gpt-5-mini")`` of ``openai:gpt-5-mini``; the model's part may have colons of its own."""
    from .errors import ModelNameInvalid  # errors carry the types of this module

    provider, colon, model = name.strip().partition(":")
    if not colon or not provider or not model.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise ModelNameInvalid(
            f"{name[:MAX_NAME_LENGTH]!r} is not the name of a model",
            next_step="Write PROVIDER:MODEL, for example openai:gpt-5-mini.",
        )
    return provider.strip().lower(), model.strip()

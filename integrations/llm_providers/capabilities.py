"""What models can do, as far as their names tell; nothing is asked of a vendor, and none of its libraries is loaded.

The tables are short on purpose: they hold what has to be known before the first call. What they don't know is tried,
and what an endpoint refuses is left out from then on (see ``Quirk``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .limits import context_limit
from .types import ModelSpec, ToolCallStyle

_SEES = re.compile(
    r"gpt-4o|gpt-4\.1|gpt-4\.5|gpt-4-turbo|gpt-4-vision|chatgpt-4o|gpt-5|gpt-[6-9]|^o1(?!-mini|-preview)|^o3(?!-mini)|^o4"
    r"|claude-(?:3|4|[5-9]|opus|sonnet|haiku|fable)|gemini|gemma-?3|(?:qwen.*-?vl)|llava|pixtral|mistral-(?:medium|small)-3"
    r"|llama-?3\.2.*vision|llama-?4|minicpm-v|internvl|moondream|granite.*vision|phi-?(?:3|4).*(?:vision|multimodal)"
    r"|grok-(?:2-vision|4)|bakllava",
    re.IGNORECASE,
)
#: Families that don't call tools, or write calls into their text as often as not.
_WEAK_AT_TOOLS = re.compile(
    r"^(?:gemma(?:-?[12])?(?![0-9])|gemma-?3(?!n?.*tools)|phi-?[123](?:[.:-]|$)|llama-?2|codellama|vicuna|alpaca|falcon|starcoder"
    r"|codegemma|deepseek-coder(?!-v2)|deepseek-r1|tinyllama|orca|wizard|yi(?:[:-]|$)|stablelm|llava|bakllava|moondream"
    r"|gpt-3\.5-turbo-instruct|o1-mini|o1-preview)",
    re.IGNORECASE,
)
_THINKS_OPENAI = re.compile(r"^(?:o[1-9]|gpt-5(?!.*-chat)|gpt-[6-9]|codex|gpt-oss)", re.IGNORECASE)
#: Anthropic's models think by a budget up to here, and by an effort since.
_BUDGET_CLAUDE = re.compile(r"claude-(?:3-7|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?!-?[0-9]{1}(?![0-9])))", re.IGNORECASE)
_EFFORT_CLAUDE = re.compile(r"claude-(?:[a-z]+-(?:4-[6-9]|[5-9])|[a-z]+-[5-9])", re.IGNORECASE)
_LEVEL_GEMINI = re.compile(r"gemini-(?:[3-9]|[1-9][0-9])", re.IGNORECASE)
_BUDGET_GEMINI = re.compile(r"gemini-2\.5", re.IGNORECASE)

#: What one image takes at most; base64 has nothing to do with it.
IMAGE_TOKENS = 6_000
#: The small ones of OpenAI count pictures by the prices of their large siblings.
_DEAR_IMAGES = re.compile(r"gpt-4o-mini|gpt-4\.1-(?:mini|nano)|gpt-5-(?:mini|nano)|o4-mini", re.IGNORECASE)
DEAR_IMAGE_TOKENS = 50_000


@dataclass(frozen=True)
class Capabilities:
    """What is known of a model before it is called."""

    context_tokens: int
    output_tokens: int
    vision: bool
    tool_calls: ToolCallStyle
    #: Whether it can be told how much to think, and how freely to choose its words.
    effort: bool
    temperature: bool
    streaming: bool
    #: The vendor keeps what it has read, and takes less for it.
    prompt_caching: bool


def capabilities_of(spec: ModelSpec) -> Capabilities:
    return Capabilities(
        context_tokens=context_tokens(spec),
        output_tokens=spec.max_output_tokens,
        vision=sees_images(spec),
        tool_calls=tool_call_style(spec),
        effort=takes_effort(spec),
        temperature=takes_temperature(spec),
        streaming=spec.stream and "no_stream" not in spec.quirks,
        prompt_caching=spec.protocol in ("anthropic", "openai-responses", "gemini") or spec.provider == "openai",
    )


def context_tokens(spec: ModelSpec) -> int:
    """The model's context window."""
    return spec.context_tokens or context_limit(spec.provider, spec.model)


def sees_images(spec: ModelSpec) -> bool:
    if "no_images" in spec.quirks:
        return False
    return spec.vision if spec.vision is not None else bool(_SEES.search(_bare(spec.model)))


def image_tokens(spec: ModelSpec) -> int:
    """The most that one image takes; nothing where a line of text stands for it."""
    if not sees_images(spec):
        return 64
    return DEAR_IMAGE_TOKENS if _DEAR_IMAGES.search(spec.model) else IMAGE_TOKENS


def tool_call_style(spec: ModelSpec) -> ToolCallStyle:
    """How the model is asked to call tools."""
    if "no_tools" in spec.quirks:
        return "envelope"
    if spec.tool_calls is not None:
        return spec.tool_calls
    return "envelope" if _WEAK_AT_TOOLS.match(_bare(spec.model)) else "native"


def reasons(spec: ModelSpec) -> bool:
    """Whether an OpenAI model thinks before it answers."""
    return bool(_THINKS_OPENAI.match(_bare(spec.model)))


def takes_effort(spec: ModelSpec) -> bool:
    if "no_effort" in spec.quirks:
        return False
    if spec.protocol == "anthropic":
        return thinks_by_effort(spec) or thinks_by_budget(spec)
    if spec.protocol == "gemini":
        return bool(_LEVEL_GEMINI.search(spec.model) or _BUDGET_GEMINI.search(spec.model))
    return reasons(spec) or (spec.protocol == "openai-chat" and not spec.model.startswith(("gpt-", "chatgpt-")))


def takes_temperature(spec: ModelSpec) -> bool:
    if "no_temperature" in spec.quirks:
        return False
    if spec.protocol == "anthropic":
        # While it thinks, it takes none.
        return spec.effort is None or not takes_effort(spec)
    return not reasons(spec) or "gpt-oss" in spec.model


def thinks_by_effort(spec: ModelSpec) -> bool:
    return spec.protocol == "anthropic" and bool(_EFFORT_CLAUDE.search(spec.model))


def thinks_by_budget(spec: ModelSpec) -> bool:
    return spec.protocol == "anthropic" and not thinks_by_effort(spec) and bool(_BUDGET_CLAUDE.search(spec.model))


def thinks_by_level(spec: ModelSpec) -> bool:
    """Whether a Gemini model is told a level (and older ones a budget)."""
    return bool(_LEVEL_GEMINI.search(spec.model))


def _bare(model: str) -> str:
    """The model's own name, of ``maker/model``."""
    return model.rpartition("/")[2]

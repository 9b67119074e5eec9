"""A call as one model gets it: the conversation in its form, tools by its means."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage

from integrations.llm_providers.capabilities import image_tokens, tool_call_style
from integrations.llm_providers.conversation import conversation_for
from integrations.llm_providers.envelope import envelope_conversation, envelope_schema
from integrations.llm_providers.tokens import tokens_ceiling, tokens_close, tokens_rough
from integrations.llm_providers.types import ModelSpec, Quirk

logger = logging.getLogger(__name__)

#: What is left out without a word, and what a person should hear of, since the model works otherwise from then on.
_TOLD: dict[Quirk, str] = {
    "no_tools": "does not take tools: its calls are written as JSON from now on",
    "no_images": "does not take images: a line of text stands for each from now on",
    "no_effort": "cannot be told how much to think: it is left out from now on",
    "no_temperature": "takes no temperature: it is left out from now on",
    "no_cache_key": "takes no hints for its cache: they are left out from now on",
}


@dataclass(frozen=True)
class ModelRequest:
    """What is sent, and what is needed to count it."""

    spec: ModelSpec
    messages: Sequence[BaseMessage]
    #: Tools that the API gets; in an envelope they stand in the messages.
    tools: tuple[dict[str, Any], ...]
    tools_json: str
    reply_schema: dict[str, Any] | None

    @property
    def is_enveloped(self) -> bool:
        return self.reply_schema is not None

    def ceiling(self) -> int:
        return tokens_ceiling(self.messages, self.tools_json, image_tokens=image_tokens(self.spec))

    def close(self) -> int:
        return tokens_close(self.messages, self.tools_json, model=self.spec.model, image_tokens=image_tokens(self.spec))

    def rough(self) -> int:
        return tokens_rough(self.messages, self.tools_json, image_tokens=image_tokens(self.spec))


def request_for(
    spec: ModelSpec, messages: Sequence[BaseMessage], tools: tuple[dict[str, Any], ...], tools_json: str
) -> ModelRequest:
    if tools and tool_call_style(spec) == "envelope":
        enveloped = conversation_for(spec, envelope_conversation(messages, tools))
        return ModelRequest(spec, enveloped, (), "", envelope_schema(tools))
    return ModelRequest(spec, conversation_for(spec, messages), tools, tools_json, None)


def quirk_tell(spec: ModelSpec, quirk: Quirk, said: str) -> None:
    """Log what an endpoint turned out not to take."""
    if quirk in _TOLD:
        logger.warning("model %s %s (it says: %s)", spec.name, _TOLD[quirk], said)
    else:
        logger.info("model %s is asked otherwise from now on: %s (it says: %s)", spec.name, quirk, said)

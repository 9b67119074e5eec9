"""What is reserved for a request is never less than the request has."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from integrations.llm_providers.tokens import reply_tokens, tokens_ceiling, tokens_close


@settings(deadline=None)
@given(texts=st.lists(st.text(max_size=400), max_size=6))
def test_the_ceiling_is_never_below_the_count(texts: list[str]) -> None:
    messages: list[BaseMessage] = [HumanMessage(text) for text in texts]
    for model in ("gpt-5-mini", "gpt-4", "some-other-model"):
        close = tokens_close(messages, '[{"name": "read"}]', model=model)
        assert sum(len(text.split()) > 0 for text in texts) <= close <= tokens_ceiling(messages, '[{"name": "read"}]')


def test_calls_and_their_results_are_counted() -> None:
    bare: list[BaseMessage] = [SystemMessage("s"), HumanMessage("h")]
    more = [
        *bare,
        AIMessage("", tool_calls=[{"name": "write", "args": {"text": "word " * 500}, "id": "1"}]),
        ToolMessage("result " * 300, tool_call_id="1"),
    ]
    assert tokens_close(more, model="gpt-5") > tokens_close(bare, model="gpt-5") + 800


def test_a_foreign_vocabulary_is_counted_with_a_margin() -> None:
    messages = [HumanMessage("The quick brown fox jumps over the lazy dog. " * 50)]
    assert tokens_close(messages, model="qwen3") > 1.2 * tokens_close(messages, model="gpt-5")


def test_a_reply_without_usage_can_be_counted() -> None:
    assert reply_tokens("four words are here", calls=0, model="gpt-5") == 4
    assert reply_tokens('read{"path": "a.py"}', calls=1, model="gpt-5") > 4

"""The OpenAI chat protocol as it is spoken over a wire, with everything that goes wrong there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from apps.usage.errors import ModelCallFailed
from apps.usage.gateway import NUDGE
from integrations.llm_providers.types import Secret
from tests.integration.usage_scene import MESSAGES, loopback_spec, scene
from tests.loopback.openai_server import OpenAIServer, Reply, ToolCall

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(lambda request: Reply(text="Hello there, this is a reply.", usage=(100, 20, 40))) as running:
        yield running


async def test_text_arrives_in_parts_and_is_paid_for_as_reported(server: OpenAIServer) -> None:
    parts: list[str] = []
    async with scene(cost_usd="1") as on:
        reply = await on.call(loopback_spec(server, "gpt-4o"), on_delta=parts.append)
        budget = await on.budget()
    assert reply.message.content == "Hello there, this is a reply." == "".join(parts)
    assert len(parts) > 1
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.cached_tokens) == (100, 20, 40)
    assert reply.usage.cost_usd == pytest.approx((60 * 2.5 + 40 * 1.25 + 20 * 10) / 1e6)
    assert not reply.usage.estimated
    assert float(budget.cost_usd) == pytest.approx(reply.usage.cost_usd)
    assert (budget.input_tokens, budget.output_tokens, budget.steps, budget.reserved_tokens) == (100, 20, 1, 0)


@pytest.mark.parametrize("plain", [False, True])
async def test_a_tool_call_and_its_result_go_back_and_forth(server: OpenAIServer, plain: bool) -> None:
    server.answer = lambda request: (
        Reply(text=f"It says {request.results()[0]}", plain=plain)
        if request.results()
        else (Reply(tool_calls=[ToolCall("read_file", {"path": "a.py"})], plain=plain))
    )
    async with scene() as on:
        spec = loopback_spec(server)
        first = (await on.call(spec)).message
        result = ToolMessage("x = 1", tool_call_id=first.tool_calls[0]["id"] or "")
        second = (await on.call(spec, messages=[*MESSAGES, first, result])).message
    assert first.tool_calls[0]["args"] == {"path": "a.py"}
    assert second.content == "It says x = 1"
    assert server.refused == []
    # An endpoint that does not stream is not asked twice.
    assert len(server.requests) == 2
    assert server.requests[0].tools == ["read_file"]
    assert server.requests[0].body["max_tokens"] == 1000


async def test_a_conversation_of_many_calls_is_valid(server: OpenAIServer) -> None:
    server.answer = lambda request: Reply(
        tool_calls=[ToolCall("read_file", {"path": str(n)}, id=f"call_{n}") for n in range(2)]
    )
    conversation: list[BaseMessage] = list(MESSAGES)
    async with scene() as on:
        for _ in range(5):
            message = (await on.call(loopback_spec(server), messages=conversation)).message
            conversation.append(message)
            conversation += [ToolMessage("é 漢字 \x00", tool_call_id=str(call["id"])) for call in message.tool_calls]
    ids = [call["id"] for m in conversation if isinstance(m, AIMessage) for call in m.tool_calls]
    assert len(set(ids)) == 10  # the server counts from zero each time
    assert server.refused == []


async def test_broken_json_of_a_call_reaches_the_caller_and_can_be_answered(server: OpenAIServer) -> None:
    server.answer = lambda request: Reply(tool_calls=[ToolCall("read_file", '{"path": "a.py')])
    async with scene() as on:
        message = (await on.call(loopback_spec(server))).message
        broken = message.invalid_tool_calls[0]
        server.answer = lambda request: Reply(text="I see.")
        result = ToolMessage("not valid JSON", tool_call_id=broken["id"] or "")
        again = await on.call(loopback_spec(server), messages=[*MESSAGES, message, result])
    assert (message.tool_calls, broken["args"]) == ([], '{"path": "a.py')
    assert again.message.content == "I see."
    assert server.refused == []


async def test_without_reported_usage_tokens_are_counted_here(server: OpenAIServer) -> None:
    server.answer = lambda request: Reply(text="word " * 50, without_usage=True)
    async with scene() as on:
        reply = await on.call(loopback_spec(server))
        budget = await on.budget()
    assert reply.usage.estimated
    assert budget.estimated
    assert 45 <= reply.usage.output_tokens <= 60
    assert reply.usage.input_tokens > 20
    assert reply.usage.cost_usd > 0


async def test_an_empty_answer_is_asked_for_again_in_other_words_and_paid_for(server: OpenAIServer) -> None:
    server.answer = lambda request: Reply() if len(server.requests) == 1 else Reply(text="Here I am.")
    async with scene() as on:
        reply = await on.call(loopback_spec(server))
        budget, calls = await on.budget(), await on.calls()
    assert reply.message.content == "Here I am."
    assert [request.messages[-1]["content"] for request in server.requests] == [MESSAGES[-1].content, NUDGE]
    assert [call.state for call in calls] == ["failed", "settled"]
    assert (budget.input_tokens, budget.steps) == (sum(call.input_tokens for call in calls), 2)
    assert calls[0].input_tokens > 0


async def test_a_model_that_answers_with_nothing_for_ever_fails_and_another_is_asked(server: OpenAIServer) -> None:
    server.answer = lambda request: Reply() if request.model == "mute" else Reply(text="Here I am.")
    mute = loopback_spec(server, model="mute")
    async with scene(attempts=3) as on:
        with pytest.raises(ModelCallFailed) as caught:
            await on.call(mute)
        reply = await on.call(mute, fallbacks=[loopback_spec(server)])
    assert (caught.value.kind, reply.message.content) == ("empty_answer", "Here I am.")
    assert [request.model for request in server.requests].count("mute") == 6


async def test_an_endpoint_whose_stream_is_empty_is_asked_without_one(server: OpenAIServer) -> None:
    server.answer = lambda request: Reply(text="plainly", failure="empty" if request.body.get("stream") else None)
    async with scene() as on:
        replies = [await on.call(loopback_spec(server)) for _ in range(2)]
    assert [reply.message.content for reply in replies] == ["plainly", "plainly"]
    assert [bool(request.body.get("stream")) for request in server.requests] == [True, False, False]


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ("max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        ("stream_options", "Extra inputs are not permitted: stream_options"),
        ("stream", "stream is not supported"),
    ],
)
async def test_what_an_endpoint_does_not_understand_is_left_out_from_then_on(
    server: OpenAIServer, refused: str, words: str
) -> None:
    server.answer = lambda request: (
        Reply(failure="bad_request", message=words) if request.body.get(refused) else Reply(text="fine")
    )
    async with scene(attempts=1) as on:
        replies = [await on.call(loopback_spec(server)) for _ in range(2)]
        budget = await on.budget()
    assert [reply.message.content for reply in replies] == ["fine", "fine"]
    assert len(server.requests) == 3
    assert budget.steps == 2


async def test_an_endpoint_with_little_room_is_asked_for_shorter_replies(server: OpenAIServer) -> None:
    words = "This model's maximum context length is 8192 tokens. However, you requested 16500 tokens"
    server.answer = lambda request: (
        Reply(failure="bad_request", message=words) if request.body["max_tokens"] > 8000 else Reply(text="fine")
    )
    async with scene(attempts=1) as on:
        reply = await on.call(loopback_spec(server, max_output_tokens=16_384))
    assert reply.message.content == "fine"
    assert [request.body["max_tokens"] for request in server.requests] == [16_384, 4_096]


async def test_a_refusal_of_another_kind_changes_nothing_later(server: OpenAIServer) -> None:
    server.answer = lambda request: Reply(failure="bad_request", message="Upstream refuses: max_tokens is odd")
    async with scene(attempts=1) as on:
        with pytest.raises(ModelCallFailed):
            await on.call(loopback_spec(server))
        server.answer = lambda request: Reply(text="fine")
        await on.call(loopback_spec(server))
    assert server.requests[-1].body["stream"] is True
    assert server.requests[-1].body["max_tokens"] == 1000


@pytest.mark.parametrize(
    ("reply", "kind", "tries", "words"),
    [
        (Reply(failure="unauthorized"), "auth", 1, "without a key"),
        (Reply(failure="not_found"), "not_found", 1, "knows no model 'gpt-4o-mini'"),
        (Reply(failure="rate_limited", retry_after="0"), "rate_limited", 3, "limits the rate"),
        (Reply(failure="rate_limited", retry_after="9999"), "rate_limited", 1, "limits the rate"),
        (Reply(failure="server_error"), "overloaded", 3, "HTTP 500"),
        (Reply(failure="bad_request", message="not like this"), "bad_request", 1, "not like this"),
        (
            Reply(failure="bad_request", message="This model's maximum context length is 8192 tokens"),
            "context_too_long",
            2,
            "too long",
        ),
        (Reply(raw=(200, {"content-type": "text/html"}, b"<html>Log in</html>")), "bad_response", 3, "not the OpenAI"),
        (Reply(raw=(200, {"content-type": "application/json"}, b'{"ok": 1}')), "bad_response", 3, "without choices"),
        (Reply(raw=(200, {"content-type": "application/json"}, b"{{{")), "bad_response", 3, "not the OpenAI"),
        (Reply(raw=(200, {"content-type": "text/event-stream"}, b"data: {oops\n\n")), "bad_response", 3, "not the"),
    ],
)
async def test_failures_say_what_happened_and_cost_nothing(
    server: OpenAIServer, reply: Reply, kind: str, tries: int, words: str
) -> None:
    server.answer = lambda request: reply
    async with scene(cost_usd="1") as on:
        with pytest.raises(ModelCallFailed) as caught:
            await on.call(loopback_spec(server))
        budget, calls = await on.budget(), await on.calls()
    assert caught.value.kind == kind
    assert words in caught.value.message
    assert caught.value.next_step
    assert len(server.requests) == tries
    assert [budget.cost_usd, budget.steps, budget.reserved_cost_usd, budget.reserved_tokens] == [0] * 4
    assert [call.state for call in calls] == ["failed"]


async def test_a_failure_that_passes_is_not_seen(server: OpenAIServer) -> None:
    server.answer = lambda request: (
        Reply(failure="server_error") if len(server.requests) < 3 else Reply(text="now", usage=(10, 1, 0))
    )
    async with scene() as on:
        reply = await on.call(loopback_spec(server))
        budget = await on.budget()
    assert reply.message.content == "now"
    assert (budget.input_tokens, budget.output_tokens, budget.steps) == (10, 1, 1)


async def test_a_wait_that_is_asked_for_is_reported(server: OpenAIServer) -> None:
    server.answer = lambda request: Reply(failure="rate_limited", retry_after="120")
    async with scene() as on:
        with pytest.raises(ModelCallFailed) as caught:
            await on.call(loopback_spec(server))
    assert (caught.value.retryable, caught.value.retry_after) == (True, 120.0)


async def test_a_stream_that_breaks_off_is_paid_for_and_tried_again(server: OpenAIServer) -> None:
    server.answer = lambda request: Reply(
        text="word " * 40, failure="cut" if len(server.requests) == 1 else None, usage=(50, 40, 0)
    )
    async with scene() as on:
        reply = await on.call(loopback_spec(server))
        budget, calls = await on.budget(), await on.calls()
    assert reply.message.content == "word " * 40
    assert [(call.state, call.attempt, call.estimated) for call in calls] == [
        ("failed", 1, True),
        ("settled", 2, False),
    ]
    assert 5 < calls[0].output_tokens < 40
    assert budget.output_tokens == calls[0].output_tokens + 40
    assert (budget.steps, budget.reserved_steps, budget.reserved_tokens) == (2, 0, 0)


async def test_a_server_that_is_silent_is_given_up(server: OpenAIServer) -> None:
    server.answer = lambda request: Reply(failure="hang")
    async with scene(attempts=1) as on:
        with pytest.raises(ModelCallFailed) as caught:
            await on.call(loopback_spec(server, idle_timeout_s=0.2, connect_timeout_s=0.2))
        budget = await on.budget()
    assert (caught.value.kind, caught.value.retryable) == ("timeout", True)
    # It has the request, so it may charge for reading it.
    assert budget.input_tokens > 0
    assert budget.estimated
    assert budget.reserved_tokens == 0


async def test_no_server_at_all_names_the_address() -> None:
    with OpenAIServer(lambda request: Reply()) as gone:
        spec = loopback_spec(gone)
    async with scene() as on:
        with pytest.raises(ModelCallFailed) as caught:
            await on.call(spec)
    assert caught.value.kind == "connection"
    assert spec.base_url in caught.value.message


async def test_a_redirect_is_not_followed_and_takes_no_key_along(server: OpenAIServer) -> None:
    with OpenAIServer(lambda request: Reply(text="stolen")) as elsewhere:
        target = elsewhere.base_url + "/chat/completions"
        server.answer = lambda request: Reply(raw=(307, {"location": target}, b""))
        async with scene() as on:
            with pytest.raises(ModelCallFailed) as caught:
                await on.call(loopback_spec(server, api_key=Secret("sk-private")))
        assert elsewhere.paths == []
    assert "redirect" in caught.value.message
    assert server.requests[0].authorization == "Bearer sk-private"


async def test_headers_of_the_own_account_stay_at_home(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-private")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-private")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    async with scene() as on:
        await on.call(loopback_spec(server))
    assert "private" not in json.dumps(server.requests[0].headers)
    assert server.requests[0].authorization == "Bearer none"


async def test_a_key_that_the_endpoint_repeats_is_not_shown(server: OpenAIServer) -> None:
    server.answer = lambda request: Reply(failure="unauthorized", message=f"bad {request.authorization}\x00")
    async with scene() as on:
        with pytest.raises(ModelCallFailed) as caught:
            await on.call(loopback_spec(server, api_key=Secret("sk-private"), key_source="ARCHON_MODEL_KEYS"))
        calls = await on.calls()
    assert "sk-private" not in caught.value.message + caught.value.next_step + calls[0].error
    assert "ARCHON_MODEL_KEYS" in caught.value.next_step


async def test_a_cancelled_call_settles_what_had_come(server: OpenAIServer) -> None:
    begun = asyncio.Event()
    server.answer = lambda request: Reply(text="word " * 4000, without_usage=True)
    async with scene() as on:
        task = asyncio.create_task(on.call(loopback_spec(server), on_delta=lambda text: begun.set()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        budget, calls = await on.budget(), await on.calls()
    assert [call.state for call in calls] == ["failed"]
    assert 0 < budget.output_tokens < 4000
    assert (budget.steps, budget.reserved_tokens, budget.reserved_steps) == (1, 0, 0)

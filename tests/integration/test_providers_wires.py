"""What holds for every protocol that models are spoken to by, over a wire, with servers as strict as the real ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, ToolMessage

from apps.usage.errors import BudgetExceeded, ModelCallFailed
from integrations.llm_providers.types import ModelSpec, Secret
from tests.integration.usage_scene import MESSAGES, READ_TOOL, Scene, scene
from tests.loopback.enveloped import Enveloped
from tests.loopback.wire import ModelServer, Reply, Request, ToolCall
from tests.loopback.wires import WIRES, Spoken

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]

EMPTY_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "run_checks",
        "description": "Run the checks.",
        "parameters": {"type": "object", "properties": {}},
    },
}
LONG = [SystemMessage("You are Archon's coder. " + "Rules are rules. " * 200), HumanMessage("Task: fix the sum")]
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 40).decode()


@pytest.fixture(params=WIRES)
def spoken(request: pytest.FixtureRequest) -> Spoken:
    return WIRES[request.param]


@pytest.fixture
def server(spoken: Spoken) -> Iterator[ModelServer]:
    with spoken.server(lambda request: Reply(text="Hello there, this is a reply.")) as running:
        yield running


def spec_of(spoken: Spoken, server: ModelServer, **changes: Any) -> ModelSpec:
    spec = ModelSpec(
        provider=spoken.provider,
        model=spoken.model,
        base_url=server.base_url,
        api_key=Secret("sk-private"),
        key_source="ARCHON_MODEL_KEYS",
        max_output_tokens=4000,
    )
    return replace(spec, **changes)


def reads(request: Request) -> Reply:
    """A coder that reads two files, one after the other, and says what it saw."""
    seen = len(request.results())
    if seen >= 4:
        return Reply(text=f"They say {request.results()[-1]}")
    return Reply(
        text="Let me look.",
        tool_calls=[ToolCall("read_file", {"path": f"{seen}.py", "how": {"é": [1, None]}}), ToolCall("run_checks", {})],
    )


async def talk(on: Scene, spec: ModelSpec, turns: int = 3, **more: Any) -> list[BaseMessage]:
    """A conversation of so many replies, their calls answered."""
    conversation: list[BaseMessage] = list(LONG)
    for _ in range(turns):
        reply = await on.call(spec, messages=conversation, tools=[READ_TOOL, EMPTY_TOOL], **more)
        conversation.append(reply.message)
        for call in reply.message.tool_calls:
            conversation.append(ToolMessage('{"x": 1}', tool_call_id=str(call["id"]), name=call["name"]))
        for broken in reply.message.invalid_tool_calls:
            conversation.append(ToolMessage("cannot be read", tool_call_id=str(broken["id"]), status="error"))
    return conversation


@pytest.mark.parametrize("stream", [True, False, None])
@pytest.mark.parametrize("effort", [None, "medium"])
async def test_calls_and_results_go_back_and_forth(
    spoken: Spoken, server: ModelServer, stream: bool | None, effort: Any
) -> None:
    """``None``: a stream is asked for and one document comes."""
    server.answer = (lambda request: replace(reads(request), plain=True)) if stream is None else reads
    parts: list[str] = []
    async with scene() as on:
        spec = spec_of(spoken, server, stream=stream is not False, effort=effort)
        conversation = await talk(on, spec, on_delta=parts.append)
        budget = await on.budget()
    assert server.refused == []
    assert str(conversation[-1].text) == 'They say {"x": 1}'
    assert "".join(parts) == 'Let me look.Let me look.They say {"x": 1}'
    assert conversation[2].tool_calls[0]["args"] == {"path": "0.py", "how": {"é": [1, None]}}  # type: ignore[attr-defined]
    assert [request.stream for request in server.requests] == [stream is not False] * 3
    # What the server counted is what is charged for: the cache, and what was thought, included.
    told = server.tokens
    assert (budget.input_tokens, budget.output_tokens) == (told.read, told.written)
    assert (budget.cached_tokens, budget.cache_write_tokens) == (told.cached, told.kept)
    assert told.cached > told.read / 3
    assert float(budget.cost_usd) == pytest.approx(spoken.cost(told), rel=1e-6)
    assert not budget.estimated


#: 600 plain, 300 read from the cache, 100 written to it (where that costs more), 50 written.
BY_HAND = {"openai-chat": 0.0001575, "openai-responses": 0.0002825, "anthropic": 0.003015, "gemini": 0.000344}


@pytest.mark.parametrize("name", WIRES)
async def test_the_cost_is_what_a_person_would_compute(name: str) -> None:
    spoken = WIRES[name]
    kept = 100 if name == "anthropic" else 0
    with spoken.server(lambda request: Reply(text="x", usage=(1000, 50, 300), cache_write_tokens=kept)) as server:
        async with scene() as on:
            usage = (await on.call(spec_of(spoken, server))).usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (1000, 50, 300)
    assert usage.cache_write_tokens == kept
    assert usage.cost_usd == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("at_the_end", ["written", "all", "all, and nothing at the beginning"])
async def test_anthropics_usage_is_read_wherever_it_stands(at_the_end: str) -> None:
    read = {"input_tokens": 600, "cache_read_input_tokens": 300, "cache_creation_input_tokens": 100}
    nothing = dict.fromkeys(read, 0)
    start = nothing if "nothing" in at_the_end else read
    end = {"output_tokens": 50} | ({} if at_the_end == "written" else read)
    message: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "x",
        "content": [],
        "stop_reason": None,
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"usage": start | {"output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": end},
        {"type": "message_stop"},
    ]
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
    raw = (200, {"content-type": "text/event-stream"}, body)
    with WIRES["anthropic"].server(lambda request: Reply(raw=raw)) as server:
        async with scene() as on:
            usage = (await on.call(spec_of(WIRES["anthropic"], server))).usage
    assert (usage.input_tokens, usage.output_tokens) == (1000, 50)
    assert (usage.cached_tokens, usage.cache_write_tokens) == (300, 100)
    assert usage.cost_usd == pytest.approx(BY_HAND["anthropic"])
    assert not usage.estimated


async def test_what_no_vendor_counted_is_not_counted_by_its_pieces() -> None:
    arguments = {"path": "one two three four " * 20}
    reply = Reply(text="Let me look.", tool_calls=[ToolCall("read_file", arguments)], without_usage=True)
    written: dict[bool, int] = {}
    for plain in (False, True):
        said = replace(reply, plain=plain)
        with WIRES["openai-chat"].server(lambda request: said) as server:  # noqa: B023 - it ends within the loop
            async with scene() as on:
                usage = (await on.call(spec_of(WIRES["openai-chat"], server))).usage
        assert usage.estimated
        written[plain] = usage.output_tokens
    assert written[False] == written[True]
    assert 80 < written[True] < 120


async def test_the_reservation_covers_what_is_taken(spoken: Spoken, server: ModelServer) -> None:
    server.answer = reads
    async with scene(cost_usd="10") as on:
        await talk(on, spec_of(spoken, server, effort="high"))
        calls = await on.calls()
    for call in calls:
        assert call.reserved_cost_usd >= call.cost_usd
        assert call.reserved_input_tokens >= call.input_tokens
        assert call.reserved_output_tokens >= call.output_tokens


async def test_a_budget_near_its_end_gets_shorter_replies(spoken: Spoken, server: ModelServer) -> None:
    async with scene(tokens=5000) as on:
        await on.call(spec_of(spoken, server, max_output_tokens=64_000, effort="high"))
        (call,) = await on.calls()
    assert call.reserved_output_tokens < 5000
    assert server.refused == []


@pytest.mark.parametrize(
    ("failure", "kind", "tries"),
    [
        ("unauthorized", "auth", 1),
        ("not_found", "not_found", 1),
        ("rate_limited", "rate_limited", 3),
        ("quota", "quota", 1),
        ("server_error", "overloaded", 3),
        ("overloaded", "overloaded", 3),
        ("context_too_long", "context_too_long", 2),
        ("bad_request", "bad_request", 1),
    ],
)
async def test_failures_say_what_happened_and_cost_nothing(
    spoken: Spoken, server: ModelServer, failure: Any, kind: str, tries: int
) -> None:
    server.answer = lambda request: Reply(failure=failure)
    async with scene(cost_usd="5") as on:
        with pytest.raises(ModelCallFailed) as caught:
            await on.call(spec_of(spoken, server))
        budget = await on.budget()
    assert caught.value.kind == kind
    assert caught.value.next_step
    assert server.base_url in caught.value.message or spoken.model in caught.value.message
    assert len(server.requests) == tries
    assert [budget.cost_usd, budget.steps, budget.reserved_cost_usd, budget.reserved_tokens] == [0] * 4


async def test_what_is_no_answer_is_named_so(spoken: Spoken, server: ModelServer) -> None:
    async with scene(attempts=1) as on:
        for kind, content in [
            ("text/html", b"<html>Log in</html>"),
            ("application/json", b'{"ok": 1}'),
            ("application/json", b"{{{"),
        ]:
            odd = Reply(raw=(200, {"content-type": kind}, content))
            server.answer = lambda request, odd=odd: odd  # type: ignore[misc]
            with pytest.raises(ModelCallFailed) as caught:
                await on.call(spec_of(spoken, server))
            assert caught.value.kind == "bad_response", caught.value.message


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("code", "kind"), [(401, "auth"), (429, "rate_limited"), ("insufficient_quota", "quota"), (None, "overloaded")]
)
async def test_an_error_that_comes_as_a_success_is_one(
    spoken: Spoken, server: ModelServer, stream: bool, code: Any, kind: str
) -> None:
    body = json.dumps({"error": {"message": "This did not work", "code": code}}).encode()
    server.answer = lambda request: Reply(raw=(200, {"content-type": "application/json"}, body))
    async with scene(attempts=1) as on:
        with pytest.raises(ModelCallFailed, match="This did not work") as caught:
            await on.call(spec_of(spoken, server, stream=stream))
    assert caught.value.failure.kind == kind


KEPT_BACK: dict[str, Any] = {
    "openai-chat": Reply(finish_reason="content_filter"),
    "openai-responses": {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "incomplete",
        "incomplete_details": {"reason": "content_filter"},
        "output": [],
        "usage": {"input_tokens": 10, "output_tokens": 0, "total_tokens": 10},
    },
    "anthropic": Reply(finish_reason="refusal"),
    "gemini": {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 10}},
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", WIRES)
async def test_a_reply_that_is_kept_back_is_tried_once_more_and_told(name: str, stream: bool) -> None:
    kept = KEPT_BACK[name]
    if isinstance(kept, dict):
        kept = Reply(raw=(200, {"content-type": "application/json"}, json.dumps(kept).encode()))
    with WIRES[name].server(lambda request: kept) as server:
        async with scene(attempts=4) as on:
            with pytest.raises(ModelCallFailed, match=r"keeps its reply back: [A-Za-z_]+") as caught:
                await on.call(spec_of(WIRES[name], server, stream=stream))
            calls = await on.calls()
    assert caught.value.failure.kind == "refused"
    assert [(call.state, call.input_tokens > 0) for call in calls] == [("failed", True)] * 2


@pytest.mark.parametrize("stream", [True, False, None])
async def test_arguments_that_are_objects_are_understood(stream: bool | None) -> None:
    """``None``: a stream is asked for and one document comes."""
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "read_file", "arguments": {"path": "a"}}}
    head = {"id": "1", "created": 1, "model": "m"}

    def answer(said: str, kind: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return head | {"object": kind, "choices": [{"index": 0, said: message, "finish_reason": "tool_calls"}]}

    chunk = f"data: {json.dumps(answer('delta', 'chat.completion.chunk'))}\n\ndata: [DONE]\n\n".encode()
    document = json.dumps(answer("message", "chat.completion")).encode()
    raw = (200, {"content-type": "text/event-stream"}, chunk)
    if not stream:
        raw = (200, {"content-type": "application/json"}, document)
    with WIRES["openai-chat"].server(lambda request: Reply(raw=raw)) as server:
        async with scene() as on:
            reply = await on.call(spec_of(WIRES["openai-chat"], server, stream=stream is not False))
    assert [one["args"] for one in reply.message.tool_calls] == [{"path": "a"}]


async def test_a_stream_that_breaks_off_is_paid_for_and_tried_again(spoken: Spoken, server: ModelServer) -> None:
    server.answer = lambda request: Reply(
        text="word " * 40, failure="cut" if len(server.requests) == 1 else None, usage=(50, 40, 0)
    )
    async with scene() as on:
        reply = await on.call(spec_of(spoken, server))
        calls = await on.calls()
    assert reply.message.text == "word " * 40
    assert [(call.state, call.attempt) for call in calls] == [("failed", 1), ("settled", 2)]
    assert calls[0].output_tokens > 5  # of the twenty words that came, whatever the beginning of the stream said
    if spoken is WIRES["anthropic"]:
        assert calls[0].input_tokens == 50


async def test_a_server_that_is_silent_is_given_up(spoken: Spoken, server: ModelServer) -> None:
    server.answer = lambda request: Reply(failure="hang")
    async with scene(attempts=1) as on:
        with pytest.raises(ModelCallFailed) as caught:
            await on.call(spec_of(spoken, server, idle_timeout_s=0.2, connect_timeout_s=0.2))
    assert (caught.value.kind, caught.value.retryable) == ("timeout", True)


async def test_no_server_at_all_names_the_address(spoken: Spoken) -> None:
    with spoken.server(lambda request: Reply()) as gone:
        spec = spec_of(spoken, gone)
    async with scene(attempts=1) as on:
        with pytest.raises(ModelCallFailed) as caught:
            await on.call(spec)
    assert caught.value.kind == "connection"
    assert spec.base_url in caught.value.message


async def test_a_redirect_is_not_followed(spoken: Spoken, server: ModelServer) -> None:
    with spoken.server(lambda request: Reply(text="stolen")) as elsewhere:
        server.answer = lambda request: Reply(raw=(307, {"location": elsewhere.base_url + "/x"}, b""))
        async with scene(attempts=1) as on:
            with pytest.raises(ModelCallFailed) as caught:
                await on.call(spec_of(spoken, server))
        assert elsewhere.paths == []
    assert "redirect" in caught.value.message


async def test_keys_and_accounts_of_the_environment_stay_at_home(
    spoken: Spoken, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY"):
        monkeypatch.setenv(name, "environment-secret")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-account: environment-secret")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with scene() as on:
        await on.call(spec_of(spoken, server))
    assert "environment-secret" not in str(server.requests[0].headers)
    assert server.wire.key(server.requests[0].headers) == "sk-private"


async def test_a_key_that_the_endpoint_repeats_is_not_shown(spoken: Spoken, server: ModelServer) -> None:
    server.answer = lambda request: Reply(failure="unauthorized", message="API key not valid: sk-private\x00")
    async with scene() as on:
        with pytest.raises(ModelCallFailed) as caught:
            await on.call(spec_of(spoken, server))
        calls = await on.calls()
    assert caught.value.kind == "auth"
    assert "sk-private" not in caught.value.message + caught.value.next_step + calls[0].error
    assert "ARCHON_MODEL_KEYS" in caught.value.next_step


async def test_broken_json_of_a_call_is_answered_and_goes_on(spoken: Spoken, server: ModelServer) -> None:
    """Gemini's API has no text of arguments that could be broken."""
    server.answer = lambda request: (
        Reply(text="I see.")
        if request.results()
        else Reply(text="So.", tool_calls=[ToolCall("read_file", '{"path": "a.py')])
    )
    async with scene() as on:
        conversation = await talk(on, spec_of(spoken, server, effort="low"), turns=2)
    first = conversation[2]
    if spoken.provider != "gemini":
        assert (first.tool_calls, len(first.invalid_tool_calls)) == ([], 1)  # type: ignore[attr-defined]
    assert str(conversation[-1].text) == "I see."
    assert server.refused == []


async def test_an_empty_reply_can_be_followed(spoken: Spoken, server: ModelServer) -> None:
    server.answer = lambda request: Reply() if len(server.requests) == 1 else Reply(text="Now.")
    async with scene() as on:
        empty = (await on.call(spec_of(spoken, server))).message
        again = await on.call(spec_of(spoken, server), messages=[*MESSAGES, empty, HumanMessage("Go on.")])
    assert (empty.text, again.message.text) == ("", "Now.")
    assert server.refused == []


@pytest.mark.parametrize("sees", [True, False])
@pytest.mark.parametrize("style", ["native", "envelope"])
async def test_images_reach_those_who_can_see(spoken: Spoken, server: ModelServer, sees: bool, style: Any) -> None:
    image = {"type": "image", "base64": PIXEL, "mime_type": "image/png"}
    calls = [ToolCall("read_file", {"path": "a.png"}), ToolCall("run_checks", {})]
    first = Reply(text="Look.", tool_calls=calls)
    answer = lambda request: Reply(text="Seen.") if request.results() else first  # noqa: E731
    server.answer = Enveloped(answer) if style == "envelope" else answer
    spec = spec_of(spoken, server, vision=sees, tool_calls=style)
    conversation: list[BaseMessage] = [*MESSAGES, HumanMessage([{"type": "text", "text": "Like this:"}, image])]
    async with scene() as on:
        message = (await on.call(spec, messages=conversation, tools=[READ_TOOL, EMPTY_TOOL])).message
        conversation.append(message)
        for call in message.tool_calls:
            content: Any = [{"type": "text", "text": "A picture:"}, image] if call["name"] == "read_file" else "passed"
            conversation.append(ToolMessage(content, tool_call_id=str(call["id"]), name=call["name"]))
        await on.call(spec, messages=conversation, tools=[READ_TOOL, EMPTY_TOOL])
    assert server.refused == []
    assert str(server.requests[-1].body).count(PIXEL) == (2 if sees else 0)
    assert ("cannot see" in str(server.requests[-1].body)) is not sees


async def test_images_are_not_counted_by_their_bytes(spoken: Spoken, server: ModelServer) -> None:
    image = {"type": "image", "base64": PIXEL * 20_000, "mime_type": "image/png"}
    async with scene() as on:
        await on.call(spec_of(spoken, server), messages=[*MESSAGES, HumanMessage([image])])
        (call,) = await on.calls()
    assert 1000 < call.reserved_input_tokens < 60_000


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fenced", [True, False])
async def test_an_envelope_is_as_good_as_calls(spoken: Spoken, server: ModelServer, stream: bool, fenced: bool) -> None:
    server.answer = Enveloped(reads, fenced=fenced)
    async with scene() as on:
        conversation = await talk(on, spec_of(spoken, server, tool_calls="envelope", stream=stream))
    assert server.refused == []
    assert conversation[2].content == "Let me look."
    assert [call["name"] for call in conversation[2].tool_calls] == ["read_file", "run_checks"]  # type: ignore[attr-defined]
    assert str(conversation[-1].text) == 'They say {"x": 1}'


async def test_an_endpoint_that_takes_no_tools_gets_an_envelope(spoken: Spoken, server: ModelServer) -> None:
    enveloped = Enveloped(reads)
    server.answer = lambda request: (
        Reply(failure="bad_request", message="registry/model does not support tools")
        if request.tools
        else enveloped(request)
    )
    async with scene() as on:
        conversation = await talk(on, spec_of(spoken, server))
        budget, calls = await on.budget(), await on.calls()
    assert str(conversation[-1].text) == 'They say {"x": 1}'
    # It is remembered: one refusal, then three replies.
    assert len(server.requests) == 4
    assert (budget.steps, budget.reserved_tokens) == (3, 0)
    assert all(call.reserved_input_tokens >= call.input_tokens for call in calls)


async def test_what_an_endpoint_refuses_is_left_out(spoken: Spoken, server: ModelServer) -> None:
    words = {"temperature": "temperature is not supported", "effort": "thinking/reasoning effort is not supported"}

    def answer(request: Request) -> Reply:
        body = str(request.body)
        if "temperature" in body:
            return Reply(failure="bad_request", message=words["temperature"])
        if any(name in body for name in ("effort", "thinking_", "'thinking'")):
            return Reply(failure="bad_request", message=words["effort"])
        return Reply(text="fine")

    server.answer = answer
    async with scene(attempts=1) as on:
        for _ in range(2):
            spec = spec_of(spoken, server, temperature=0.5, effort="high")
            assert (await on.call(spec)).message.text == "fine"
    assert len(server.requests) <= 4 and server.refused == []


# --- other models ---------------------------------------------------------------------------------------------------


async def test_another_model_goes_on_with_the_conversation(spoken: Spoken, server: ModelServer) -> None:
    """Whoever began it, and whatever that one wanted back."""
    for other in WIRES.values():
        with other.server(reads) as second:
            server.answer = reads
            async with scene() as on:
                first_spec = spec_of(spoken, server, effort="medium")
                second_spec = spec_of(other, second, effort="medium")
                conversation = await talk(on, first_spec, turns=1)
                server.answer = lambda request: Reply(failure="overloaded")
                reply = await on.call(
                    first_spec, fallbacks=[second_spec], messages=conversation, tools=[READ_TOOL, EMPTY_TOOL]
                )
                calls = await on.calls()
            assert second.refused == server.refused == []
            assert reply.model == second_spec.name and reply.message.tool_calls
            assert (calls[-1].provider, calls[-1].state) == (other.provider, "settled")
            assert (calls[-2].provider, calls[-2].state) == (spoken.provider, "failed")


async def test_fallbacks_have_rows_of_their_own_and_one_key() -> None:
    chat = WIRES["openai-chat"]
    with chat.server(lambda request: Reply(failure="rate_limited", retry_after="900")) as busy:
        with chat.server(lambda request: Reply(text="Here.", usage=(10, 2, 0))) as free:
            async with scene() as on:
                first, second = spec_of(chat, busy), spec_of(chat, free)
                wrong = spec_of(chat, busy, model="gone")
                reply = await on.call(first, fallbacks=[wrong, second], key="one")
                calls, budget = await on.calls(), await on.budget()
    assert reply.spec.base_url == second.base_url
    assert [(call.key, call.attempt, call.state) for call in calls] == [
        ("one", 1, "failed"),
        ("one", 2, "failed"),
        ("one", 3, "settled"),
    ]
    assert (budget.steps, budget.reserved_tokens, budget.input_tokens) == (1, 0, 10)


async def test_when_all_fail_the_one_that_may_pass_is_told() -> None:
    chat = WIRES["openai-chat"]
    with chat.server(
        lambda request: Reply(failure="overloaded" if request.model == "busy" else "unauthorized")
    ) as server:
        async with scene(attempts=1) as on:
            with pytest.raises(ModelCallFailed) as caught:
                await on.call(spec_of(chat, server, model="busy"), fallbacks=[spec_of(chat, server, model="closed")])
    assert (caught.value.kind, caught.value.retryable) == ("overloaded", True)
    assert "openai:closed" in caught.value.message


async def test_a_budget_that_is_spent_never_falls_back() -> None:
    chat = WIRES["openai-chat"]
    with chat.server(lambda request: Reply(text="x")) as server:
        async with scene(tokens=10) as on:
            with pytest.raises(BudgetExceeded):
                await on.call(spec_of(chat, server), fallbacks=[spec_of(chat, server, model="other")])
    assert server.requests == []


async def test_a_conversation_that_is_too_long_goes_to_a_larger_window() -> None:
    chat = WIRES["openai-chat"]
    with chat.server(
        lambda request: Reply(text="Read it all.") if request.model == "wide" else Reply(failure="context_too_long")
    ) as server:
        narrow, same, wide = (
            spec_of(chat, server, model=name, context_tokens=size)
            for name, size in (("narrow", 8000), ("same", 8000), ("wide", 200_000))
        )
        async with scene() as on:
            reply = await on.call(narrow, fallbacks=[same, wide])
            with pytest.raises(ModelCallFailed):
                await on.call(narrow, fallbacks=[same])
    assert reply.model == "openai:wide"
    assert "same" not in {request.model for request in server.requests}


async def test_what_is_the_requests_own_fault_is_not_asked_of_others() -> None:
    chat = WIRES["openai-chat"]
    with chat.server(lambda request: Reply(failure="bad_request", message="not like this")) as server:
        async with scene() as on:
            with pytest.raises(ModelCallFailed):
                await on.call(spec_of(chat, server), fallbacks=[spec_of(chat, server, model="other")])
    assert len(server.requests) == 1

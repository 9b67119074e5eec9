"""A session of many steps and large outputs, with a model that reads 8192 tokens and no more."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from tests.builders import repository_build
from tests.loopback.agents import call, finishes, says
from tests.loopback.narrow import Narrow
from tests.loopback.openai_server import OpenAIServer, Reply, Request
from tests.loopback.wire import text_of
from tests.stacks import LiveStack

pytestmark = pytest.mark.timeout(900)

#: What the price list says of the model: tokens that it reads, and dollars for a token in and out.
MODEL, WINDOW = "gpt-4", 8_192
READ, WRITTEN = Decimal("0.00003"), Decimal("0.00006")
STEPS = 60
NEEDLE = "needle-7391"


def model(request: Request) -> Reply:
    """Prints something large a step; what it once saw it looks up when it needs it, since it doesn't remember."""
    whole = "\n".join(text_of(message) for message in request.messages)
    done = max((int(number) for number in re.findall(r"step (\d+) done", whole)), default=0)
    if "Archon's summarizer" in request.system:
        return Reply(text=f"So far step {done} done. Each step printed numbers; the next is step {done + 1}.")
    if done < STEPS:
        secret = f"echo {NEEDLE[:6]}-{NEEDLE[7:]}; " if done == 2 else ""
        return says(call("run_command", command=f"seq {done}000 {done}999; {secret}echo step {done + 1} done"))
    last = request.messages[-1]
    said = text_of(last) if last["role"] == "tool" else ""
    if "checks passed" in said or "test: passed" in said or re.search(r": passed", said):
        return finishes("Looked it up.")
    if found := re.search(r"needle-(\d+)", said):
        return says(call("write_file", path="answer.txt", content=f"{found[1]}\n"))
    if "answer.txt" in said:
        return says(call("run_checks"))
    return says(call("search_conversation", pattern=r"^needle-\d+"))


@pytest.mark.slow
def test_sixty_steps_of_large_outputs_fit_into_8192_tokens(stack: LiveStack, tmp_path: Path) -> None:
    repository = repository_build(tmp_path / "numbers", {"answer.txt": "?\n"})
    narrow = Narrow(model, window=WINDOW)
    with OpenAIServer(narrow) as server:
        session = stack.session_start(
            repository,
            base_url=server.base_url,
            model=f"openai:{MODEL}",
            checks=["grep -q 7391 answer.txt"],
            limits={"cost_usd": 100.0, "steps": 300},
        )
        ended = stack.session_wait(session.id, seconds=800)
        assert server.refused == []
    assert (ended.status, ended.outcome) == ("completed", "verified"), stack.story(session.id)
    events = stack.events(session.id)
    commands = [event for event in events if event.type == "ToolStarted" and event.payload["name"] == "run_command"]
    assert len(commands) == STEPS
    # No request was longer than the model reads, as its server counts; so none was refused.
    assert narrow.refused == [] and max(narrow.taken) <= WINDOW
    cuts = [event.payload for event in events if event.type == "ConversationCompacted"]
    summaries = [cut for cut in cuts if cut["summary_by"] == f"openai:{MODEL}"]
    assert summaries and len(summaries) < STEPS / 2
    # What the server said that it took is what the session was charged, summaries included.
    assert (ended.usage.input_tokens, ended.usage.output_tokens) == (server.tokens.read, server.tokens.written)
    assert ended.usage.steps == server.replies == len([e for e in events if e.type == "ModelReplied"]) + len(summaries)
    cost = READ * server.tokens.read + WRITTEN * server.tokens.written
    assert ended.usage.priced and not ended.usage.estimated
    assert Decimal(str(ended.usage.cost_usd)).quantize(Decimal("0.0001")) == cost.quantize(Decimal("0.0001"))
    told = [event.payload["usage"] for event in events if event.payload.get("usage")]
    assert sum(usage["input_tokens"] for usage in told) == server.tokens.read

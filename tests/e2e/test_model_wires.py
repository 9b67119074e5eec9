"""``archon run`` over every protocol of models: a real package is mended, and every token is paid for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.e2e.test_run import CASES, QUICK, untouched
from tests.loopback.agents import Agents
from tests.loopback.enveloped import Enveloped
from tests.loopback.wire import Reply, Request
from tests.loopback.wires import WIRES
from tests.stacks import LiveStack

pytestmark = pytest.mark.timeout(900)

Answer = Callable[[Request], Reply]
#: The names of models that don't call tools by themselves; no price is known for them.
WEAK = "codellama:7b"
#: The models here change files by one means, whatever suits the family whose name they bear.
SAME_EDITS = ("--edit-format", "replace")


@dataclass(frozen=True)
class Way:
    """A protocol, how replies come, and by which means tools are called."""

    wire: str
    streams: bool = True
    envelope: bool = False

    def __str__(self) -> str:
        return f"{self.wire}{'' if self.streams else ', plain'}{', in an envelope' if self.envelope else ''}"


STREAMED = [Way(wire) for wire in WIRES]
OTHERS = [*(Way(wire, streams=False) for wire in WIRES), Way("openai-chat", envelope=True)]
OTHERS.append(Way("openai-chat", streams=False, envelope=True))
FIRST = Way("anthropic")


def unstreamed(answer: Answer) -> Answer:
    """An endpoint that knows no streams, and says so."""

    def plainly(request: Request) -> Reply:
        return Reply(failure="bad_request", message="stream is not supported") if request.stream else answer(request)

    return plainly


def mends(stack: LiveStack, tmp_path: Path, way: Way, case_name: str) -> None:
    case, spoken = CASES[case_name], WIRES[way.wire]
    repository = case.package.checkout(tmp_path)
    agents = Agents(case.repair.coder, planner=case.repair.planner, counted=True)
    answer: Answer = Enveloped(agents, fenced=not way.streams) if way.envelope else agents
    if not way.streams:
        answer = unstreamed(answer)
    model = f"{spoken.provider}:{WEAK}" if way.envelope else spoken.name
    with spoken.server(answer) as server, untouched(repository):
        done = stack.archon(
            "run", case.goal, "--repo", str(repository), "--model", model, "--base-url", server.base_url, "--json",
            "--yes", *SAME_EDITS, seconds=600,
        )  # fmt: skip
    said = done.document
    assert (done.code, said["status"], said["outcome"]) == (0, "completed", "verified"), stack.story(said["session_id"])
    assert server.refused == []
    assert said["checks"] == [{"name": case.check, "before": "failed", "after": "passed"}]
    assert said["files_changed"] == [case.package.path]
    assert case.line in said["diff"].splitlines()
    # Every token that the server told of is in the session's account, the cached ones at their price.
    usage, told = stack.api.session_get(said["session_id"]).usage, server.tokens
    assert usage.steps == server.replies
    assert len(server.requests) == server.replies + (not way.streams)
    assert (usage.input_tokens, usage.output_tokens) == (told.read, told.written)
    assert (usage.cached_tokens, usage.cache_write_tokens) == (told.cached, told.kept)
    assert told.cached > told.read / 2, "most of a conversation has been read before"
    assert not usage.estimated
    cost = 0.0 if way.envelope else spoken.cost(told)
    assert usage.cost_usd == pytest.approx(cost, rel=1e-4)
    replies = [event.payload for event in stack.events(said["session_id"]) if event.type == "ModelReplied"]
    assert {reply["model"] for reply in replies} == {model}
    assert sum(reply["usage"]["cached_tokens"] for reply in replies) == told.cached
    assert all(request.stream is way.streams for request in server.requests[1:])


@pytest.mark.slow
def test_a_bug_is_mended_over_a_wire(stack: LiveStack, tmp_path: Path) -> None:
    mends(stack, tmp_path, FIRST, QUICK)


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", [way for way in (*STREAMED, *OTHERS) if way != FIRST], ids=str)
def test_a_bug_is_mended_over_each_wire(stack: LiveStack, tmp_path: Path, way: Way) -> None:
    mends(stack, tmp_path, way, QUICK)


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", [*STREAMED, Way("openai-chat", envelope=True)], ids=str)
def test_a_real_package_is_mended_over_each_wire(stack: LiveStack, tmp_path: Path, way: Way) -> None:
    mends(stack, tmp_path, way, "itsdangerous, by pytest and freezegun")


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("wire", WIRES)
def test_documents_in_the_place_of_streams_do_as_well(stack: LiveStack, tmp_path: Path, wire: str) -> None:
    case, spoken = CASES[QUICK], WIRES[wire]
    repository = case.package.checkout(tmp_path)
    agents = Agents(case.repair.coder, planner=case.repair.planner, counted=True)
    with spoken.server(lambda request: replace(agents(request), plain=True)) as server:
        done = stack.archon(
            "run", case.goal, "--repo", str(repository), "--model", spoken.name, "--base-url", server.base_url,
            "--json", "--yes", *SAME_EDITS, seconds=600,
        )  # fmt: skip
    assert (done.code, done.document["outcome"]) == (0, "verified"), done.output
    assert server.refused == [] and len(server.requests) == server.replies

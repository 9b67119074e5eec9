"""Models that are dumb, broken or away: each session ends in a defined state, in time, with a reason and what to do."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apps.planning.document import MAX_TASKS
from tests.builders import git, repository_build
from tests.loopback.agents import Agents, Turn, call, finishes, plans, runs, says
from tests.loopback.openai_server import OpenAIServer, Reply, ToolCall
from tests.stacks import LiveStack, Ran

CHECK = "grep -q 42 answer.txt"
MEND = call("edit_file", path="answer.txt", old_text="41", new_text="42")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is wrong, and nothing to install."""
    return repository_build(tmp_path_factory.mktemp("small") / "small", {"answer.txt": "The answer is 41.\n"})


@dataclass(frozen=True)
class Ending:
    """What a run is to end in."""

    code: int
    status: str
    outcome: str | None
    #: Of the reason.
    name: str = ""
    words: str = ""


VERIFIED = Ending(0, "completed", "verified")
FAILING = Ending(1, "completed", "failing", "failing")
LOOPS = Ending(4, "paused", None, "loop_detected", "list_files {} with the same result, 5 times in a row")
STEPS_GONE = Ending(4, "paused", None, "budget_exceeded", "limit of 8 model calls is reached")


def paused(words: str) -> Ending:
    return Ending(4, "paused", None, "model_call_failed", words)


ONLY_REFUSED = paused("called only tools that there aren't")


def run(stack: LiveStack, repository: Path, base_url: str, *options: str) -> Ran:
    model = ("--model", "openai:loopback", "--base-url", base_url)
    limits = () if "--limit-steps" in options else ("--limit-steps", "40")
    return stack.archon(
        "run", "Correct the answer.", "--repo", str(repository), "--check", CHECK, *model, *limits, "--json", "--yes",
        *options, seconds=120,
    )  # fmt: skip


def assert_ended(stack: LiveStack, done: Ran, ending: Ending) -> dict[str, Any]:
    said = done.document
    assert "session_id" in said, said
    story = stack.story(said["session_id"])
    assert (done.code, said["status"], said["outcome"]) == (ending.code, ending.status, ending.outcome), story
    if ending.name:
        reason = said["reason"]
        assert reason["code"] == ending.name and ending.words in reason["message"], reason
        assert reason["next_step"]
    else:
        assert said["reason"] is None
    return said


def ids(*calls: ToolCall, give: str) -> Reply:
    return says(*(ToolCall(each.name, each.arguments, id=give) for each in calls))


BROKEN_JSON = ToolCall("edit_file", '{"path": "answer.txt", "old_text": "41", "new')
#: What a coder says, one after the other, and what comes of it. The last thing is said for ever.
CODERS: dict[str, tuple[list[Turn], Ending]] = {
    "speaks and calls nothing": ([Reply(text="I believe that it should be 42.")], FAILING),
    "says nothing at all": ([Reply(text="")], paused("answers with nothing")),
    # Five replies in a row with nothing that could be carried out end the work.
    "names tools that don't exist": (
        [says(call("bash", cmd="ls")), says(ToolCall("", ""), call("x y" * 300))],
        ONLY_REFUSED,
    ),
    "names tools of others": ([says(call("submit_plan", summary="x", features=[]))], ONLY_REFUSED),
    "sends arguments that are no JSON": ([says(BROKEN_JSON)], ONLY_REFUSED),
    "sends arguments that are no object": (
        [says(ToolCall("finish", "[1]")), says(ToolCall("finish", '"x"')), says(ToolCall("finish", "null"))],
        ONLY_REFUSED,
    ),
    "sends numbers that are none": (
        [says(ToolCall("read_file", '{"path": NaN, "start_line": Infinity}')), says(ToolCall("x", '{"a": -1e999}'))],
        ONLY_REFUSED,
    ),
    "sends arguments that are nested deeply": (
        [says(ToolCall("read_file", '{"path":' * 700 + "1" + "}" * 700))],
        ONLY_REFUSED,
    ),
    "sends arguments of other types": (
        [says(call("read_file", path=7)), says(call("read_file", path=[], end_line="x")), says(call("read_file"))],
        ONLY_REFUSED,
    ),
    "never finishes": ([runs(f"echo {n}") for n in range(9)], STEPS_GONE),
    "does the same over and over": ([says(call("list_files"))], LOOPS),
    "finishes without having done anything": ([finishes("It is fine as it is.")], FAILING),
    "makes a mess of one call and mends it": ([says(BROKEN_JSON), says(MEND), finishes()], VERIFIED),
    "gives no ids": ([ids(call("list_files"), MEND, give=""), ids(call("finish", summary="x"), give="")], VERIFIED),
    "gives very long ids": ([ids(MEND, give="x" * 500), ids(call("finish", summary="x"), give="y" * 500)], VERIFIED),
    "gives one id to all": (
        [ids(call("list_files"), MEND, give="call_1"), ids(call("finish", summary="x"), give="call_1")],
        VERIFIED,
    ),
    "answers streams with one document": (
        [Reply(tool_calls=[MEND], plain=True), Reply(tool_calls=[call("finish", summary="x")], plain=True)],
        VERIFIED,
    ),
    "reports no usage": (
        [Reply(tool_calls=[MEND], without_usage=True), Reply(tool_calls=[call("finish", summary="x")])],
        VERIFIED,
    ),
    "sends what a database can't hold": (
        [says(call("run_command", command="echo \0 \ud800"), text="\0\ud800"), says(MEND), finishes("\0 \udfff")],
        VERIFIED,
    ),
    "finishes in the same breath": ([says(MEND, call("finish", summary="x"), call("list_files"))], VERIFIED),
    "calls a hundred tools at once": ([says(*[call("list_files")] * 100, MEND), finishes()], VERIFIED),
    "leaves the repository": (
        [
            says(call("read_file", path="/etc/passwd"), call("read_file", path="../../../../etc/passwd")),
            says(
                call("write_file", path="../escaped", content="x"), call("write_file", path=".git/config", content="x")
            ),
            runs("cat /etc/shadow; ls /root; touch /escaped"),
            says(MEND),
            finishes(),
        ],
        VERIFIED,
    ),
}


@pytest.mark.parametrize(("turns", "ending"), CODERS.values(), ids=CODERS.keys())
def test_a_coder_that(stack: LiveStack, repository: Path, turns: list[Turn], ending: Ending) -> None:
    limit = ("--limit-steps", "8") if ending is STEPS_GONE else ()
    with OpenAIServer(Agents(turns)) as server:
        done = run(stack, repository, server.base_url, *limit)
        assert server.refused == []
    said = assert_ended(stack, done, ending)
    events = stack.events(said["session_id"])
    assert not any("root:" in str(event.payload) for event in events)
    assert git(repository, "status", "--porcelain") == ""


PLANNERS: dict[str, list[Turn]] = {
    "speaks and plans nothing": [Reply(text="Let us change the answer.")],
    "hands over half a plan": [says(call("submit_plan", summary="x", features=[])), Reply(text="Well.")],
    "plans too much, and then less": [
        plans(*[f"Step {number}" for number in range(MAX_TASKS + 1)]),
        plans("Correct the answer"),
    ],
    "tries to work itself": [says(MEND), runs("sed -i s/41/43/ answer.txt"), plans("Correct the answer")],
}


@pytest.mark.parametrize("turns", PLANNERS.values(), ids=PLANNERS.keys())
def test_a_planner_that(stack: LiveStack, repository: Path, turns: list[Turn]) -> None:
    with OpenAIServer(Agents([says(MEND), finishes()], planner=turns)) as server:
        done = run(stack, repository, server.base_url)
        assert server.refused == []
    said = assert_ended(stack, done, VERIFIED)
    assert said["diff"].count("\n+") == 2


HTML = Reply(raw=(200, {"content-type": "text/html"}, b"<html><body>Log in</body></html>"))
NO_CHOICES = Reply(raw=(200, {"content-type": "application/json"}, b'{"object": "chat.completion", "choices": []}'))
#: How an endpoint answers from the first request on.
ENDPOINTS: dict[str, tuple[Reply, Ending]] = {
    "refuses the key": (Reply(failure="unauthorized"), paused("without a key")),
    "finds every conversation too long": (
        Reply(failure="context_too_long"),
        Ending(4, "paused", None, "context_too_small", "the context window of openai:loopback is too small"),
    ),
    "is out of credit": (Reply(failure="quota"), paused("no credit left")),
    "knows no such model": (Reply(failure="not_found"), paused("knows no model 'loopback'")),
    "has errors": (Reply(failure="server_error"), paused("fails with HTTP 500")),
    "is overloaded": (Reply(raw=(503, {}, b"")), paused("fails with HTTP 503")),
    "wants an hour's rest": (Reply(failure="rate_limited", retry_after="3600"), paused("limits the rate")),
    "refuses the request": (Reply(failure="bad_request", message="no tools here"), paused("no tools here")),
    "breaks off": (Reply(text="Half of what I have to", failure="cut"), paused("")),
    "sends a page": (HTML, paused("not the OpenAI chat protocol")),
    "sends no choices": (NO_CHOICES, paused("not the OpenAI chat protocol")),
    "sends the client elsewhere": (Reply(raw=(307, {"location": "http://127.0.0.1:1/v1"}, b"")), paused("redirect")),
}


@pytest.mark.parametrize(("reply", "ending"), ENDPOINTS.values(), ids=ENDPOINTS.keys())
def test_an_endpoint_that(stack: LiveStack, repository: Path, reply: Reply, ending: Ending) -> None:
    with OpenAIServer(lambda request: reply) as server:
        done = run(stack, repository, server.base_url)
        assert len(server.requests) <= 8, "it was asked again and again"
    assert_ended(stack, done, ending)


def test_an_endpoint_that_isn_t_there_can_come_back(stack: LiveStack, repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    said = assert_ended(
        stack, run(stack, repository, f"http://127.0.0.1:{port}/v1"), paused("no connection to the model")
    )
    with OpenAIServer(Agents([says(MEND), finishes()]), port=port):
        assert stack.archon("resume", said["session_id"]).code == 0
        followed = stack.archon("watch", said["session_id"], "--json")
    assert (followed.code, followed.document["outcome"]) == (0, "verified"), stack.story(said["session_id"])


def test_an_endpoint_that_stumbles_is_asked_again(stack: LiveStack, repository: Path) -> None:
    stumbles = [
        Reply(failure="server_error"),
        Reply(failure="rate_limited", retry_after="0"),
        Reply("a", failure="cut"),
    ]
    agents = Agents([says(MEND), finishes()])
    with OpenAIServer(lambda request: stumbles.pop() if stumbles else agents(request)) as server:
        done = run(stack, repository, server.base_url)
        assert server.refused == []
    assert_ended(stack, done, VERIFIED)


def test_a_session_goes_on_once_its_limit_is_raised(stack: LiveStack, repository: Path) -> None:
    looking: list[Turn] = [runs(f"echo {n}") for n in range(6)]
    with OpenAIServer(Agents([*looking, says(MEND), finishes()])) as server:
        said = assert_ended(
            stack,
            run(stack, repository, server.base_url, "--limit-steps", "3"),
            Ending(4, "paused", None, "budget_exceeded", "limit of 3 model calls is reached"),
        )
        lower = stack.archon("resume", said["session_id"], "--limit-steps", "2", "--json")
        assert (lower.code, lower.document["error"]["status"]) == (2, 400)
        assert stack.archon("resume", said["session_id"], "--limit-steps", "9").code == 0
        followed = stack.archon("watch", said["session_id"], "--json")
    assert followed.document["outcome"] == "verified", stack.story(said["session_id"])
    assert stack.api.session_get(said["session_id"]).usage.steps == len(server.requests) == 9

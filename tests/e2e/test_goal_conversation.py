"""``run`` with files and an issue, and ``say`` after the end, as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders import git, repository_build
from tests.loopback.agents import Agents, call, finishes, plans, says
from tests.loopback.openai_server import OpenAIServer, Reply, Request
from tests.stacks import LiveStack
from tests.unit.test_images import picture

pytestmark = pytest.mark.timeout(600)

CHECK = "grep -q 42 answer.txt"


def coder(request: Request) -> Reply:
    """Reads what was attached, mends the file; after a message it writes what that asks for, and no more."""
    said = [str(message["content"]) for message in request.messages if message["role"] == "user"]
    mended, noted = request.results("edit_file"), request.results("write_file")
    if not request.results("read_file"):
        return says(call("read_file", path="/attachments/hint.txt"))
    if not mended:
        assert "forty-two" in request.results("read_file")[0]
        return says(call("edit_file", path="answer.txt", old_text="41", new_text="42"))
    if "asks further" not in said[-1] or noted:
        return finishes("It says 42 now.")
    return says(call("write_file", path="NOTES.md", content="As the issue said.\n"))


def test_a_goal_with_files_and_an_issue_and_a_word_after_the_end(stack: LiveStack, tmp_path: Path) -> None:
    repository = repository_build(tmp_path / "small", {"answer.txt": "The answer is 41.\n"})
    issue = b"# Wrong answer\n\nSays 41.\n"
    files = {"hint.txt": b"It should be forty-two.\n", "shot.png": picture(), "issue.md": issue}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with OpenAIServer(Agents(coder, planner=[plans("Mend it")])) as server:
        address = ("--model", "openai:loopback", "--base-url", server.base_url)
        given = ("--attach", str(tmp_path / "hint.txt"), "--attach", str(tmp_path / "shot.png"))
        ran = stack.archon(
            *("run", "--issue", str(tmp_path / "issue.md"), "--repo", str(repository), "--json", "--check", CHECK),
            *given,
            *address,
        )
        assert (ran.code, ran.document["outcome"]) == (0, "verified"), ran.document
        session_id = ran.document["session_id"]
        brief = json.dumps(server.requests[0].messages)
        assert "Wrong answer" in brief and "forty-two" in brief and "this model can't see images" in brief
        further = stack.archon("say", session_id[:8], "Write it down in NOTES.md.", "--json")
        assert (further.code, further.document["outcome"]) == (0, "verified"), further.document
        assert sorted(further.document["files_changed"]) == ["NOTES.md", "answer.txt"]
        assert server.refused == []
    fetched = stack.archon("fetch", session_id, "--repo", str(repository), "--json").document
    assert git(repository, "show", f"{fetched['branch']}:NOTES.md") == "As the issue said."
    assert len(git(repository, "log", "--format=%h", f"main..{fetched['branch']}").splitlines()) == 2
    seen = stack.archon("watch", session_id)
    assert seen.code == 0 and "Follow-up" in seen.output, "a replay passes the first end and stops at the last"


def test_what_cannot_be_sent_is_told_before_anything_starts(stack: LiveStack, tmp_path: Path) -> None:
    repository = repository_build(tmp_path / "small", {"a.txt": "x\n"})
    (tmp_path / "empty.txt").touch()
    (tmp_path / "fake.png").write_text("not an image")
    cases = [
        (("run", "x", "--attach", str(tmp_path / "gone.txt")), "invalid_input"),
        (("run", "x", "--attach", str(tmp_path / "empty.txt")), "invalid_input"),
        (("run", "x", "--attach", str(tmp_path / "fake.png")), "image_refused"),
        (("run",), "invalid_input"),
        (("run", "--log", "https://internal.example/log"), "address_refused"),
        (("run", "--issue", "-", "--log", "-"), "error"),
    ]
    for arguments, code in cases:
        options = () if arguments[0] != "run" else ("--repo", str(repository), "--model", "scripted:demo")
        ran = stack.archon(*arguments, *options, "--json")
        assert (ran.code, ran.document["error"]["code"]) == (2, code), (arguments, ran.document)
        assert ran.document["error"]["next_step"]


def test_a_model_with_eyes_is_shown_the_image(stack: LiveStack, tmp_path: Path) -> None:
    repository = repository_build(tmp_path / "small", {"answer.txt": "The answer is 42.\n"})
    (tmp_path / "shot.png").write_bytes(picture())
    image = stack.api.attachment_upload(tmp_path / "shot.png")
    # Larger than any other body may be.
    (tmp_path / "long.txt").write_text("many lines\n" * 300_000)
    assert stack.api.attachment_upload(tmp_path / "long.txt")
    with OpenAIServer(Agents([finishes()])) as server:
        session = stack.session_start(
            repository, base_url=server.base_url, model="openai:gpt-5-mini", checks=[CHECK], attachments=[image]
        )
        stack.session_wait(session.id, "completed")
        assert server.refused == []
        (content,) = [message["content"] for message in server.requests[0].messages if message["role"] == "user"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert len(urls) == 1 and urls[0].startswith("data:image/png;base64,")
    assert stack.api.session_get(session.id).usage.input_tokens < 20_000, "an image isn't counted by its letters"

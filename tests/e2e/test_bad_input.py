"""Input that cannot be used, of people, repositories and set-ups: said at once, or told to the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ApiError
from cli.resources import Session
from tests.builders import git, repository_build
from tests.loopback.agents import Agents, Turn, call, finishes, runs, says
from tests.loopback.openai_server import OpenAIServer
from tests.processes import processes_of
from tests.small_repository import CHECK, MEND, repository, server
from tests.stacks import LiveStack, archon_bounded

# pytest finds fixtures by their names in a file.
__all__ = ["repository", "server"]


def ended(stack: LiveStack, where: Path, server: OpenAIServer, turns: list[Turn], **options: Any) -> Session:
    server.answer = Agents(turns)
    session = stack.session_start(where, base_url=server.base_url, **{"checks": [CHECK], **options})
    return stack.session_wait(session.id)


# --- what is said before anything is started --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("a goal", "--repo", "/nowhere/at/all"), "repository_missing", "there is no /nowhere/at/all"),
        (("a goal", "--repo", "EMPTY"), "folder_empty", "is empty"),
        ((" \n", "--repo", "REPOSITORY"), "invalid_input", "the goal is empty"),
    ],
)
def test_a_command_that_cannot_work_starts_nothing(
    archon_home: Path, repository: Path, tmp_path: Path, arguments: tuple[str, ...], code: str, words: str
) -> None:
    (tmp_path / "EMPTY").mkdir()
    places = {"EMPTY": str(tmp_path / "EMPTY"), "REPOSITORY": str(repository)}
    ran = archon_bounded(archon_home, "run", *(places.get(each, each) for each in arguments), "--json")
    error = ran.document["error"]
    assert (ran.code, error["code"]) == (2, code)
    assert words in error["message"] and error["next_step"]
    assert list(archon_home.iterdir()) == [] and processes_of(archon_home) == {}


@pytest.mark.parametrize(
    ("options", "code", "words", "next_words"),
    [
        ((), "model_not_configured", "no model is configured", "OPENAI_API_KEY"),
        (("--model", "openai:gpt-5-mini"), "model_not_configured", "there is no key", "OPENAI_API_KEY"),
        (("--model", "nobody:nothing"), "model_refused", "no provider 'nobody'", "openai"),
        (("--model", "nonsense"), "model_refused", "not the name of a model", "PROVIDER:MODEL"),
        (("--model", "scripted:missing"), "model_refused", "missing", ""),
        (("--model", "scripted:../../etc/passwd"), "model_refused", "", ""),
        (
            ("--model", "openai:x", "--base-url", "https://models.example.com/v1"),
            "model_refused",
            "has not allowed models at https://models.example.com/v1",
            "ARCHON_MODEL_BASE_URLS",
        ),
        (("--model", "openai:x", "--base-url", "file:///etc/passwd"), "model_refused", "not an address", "http"),
        (
            ("--model", "openai:x", "--base-url", "http://127.0.0.1:1@example.com/v1"),
            "model_refused",
            "not an address",
            "http",
        ),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_at_once(
    stack: LiveStack, repository: Path, options: tuple[str, ...], code: str, words: str, next_words: str
) -> None:
    ran = stack.archon("run", "Do it.", "--repo", str(repository), *options, "--json")
    error = ran.document["error"]
    assert (ran.code, error["code"]) == (2, code), error
    assert words in error["message"] and next_words in error["next_step"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"goal": ""}, 400),
        ({"goal": " \0\n"}, 400),
        ({"goal": "x" * 100_001}, 400),
        ({"project": "5f0c3a58-0000-4000-8000-000000000000"}, 404),
        ({"project": "nothing"}, 400),
        ({"agent_type": "boss"}, 400),
        ({"limits": {"steps": 0}}, 400),
        ({"limits": {"cost_usd": -1}}, 400),
        ({"limits": {"seconds": 10**9}}, 400),
        ({"checks": "pytest"}, 400),
        ({"checks": ["true"] * 50}, 400),
        ({"model": 7}, 400),
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_is_refused(
    stack: LiveStack, repository: Path, change: dict[str, Any], status: int
) -> None:
    project = stack.project_make(repository)
    body = {"project": project.id, "goal": "Do it.", "model": "scripted:invoicing", **change}
    with pytest.raises(ApiError) as caught:
        stack.api._request("POST", "/api/agents/sessions/run/", json=body)
    assert caught.value.status == status, caught.value
    assert caught.value.code != "not_archon"


def test_a_project_without_a_repository_starts_no_session(stack: LiveStack) -> None:
    project = stack.api.project_create(name="empty")
    with pytest.raises(ApiError) as caught:
        stack.api.session_run(project_id=project.id, goal="Do it.", options={"model": "scripted:invoicing"})
    assert caught.value.status == 409 and "no repository" in caught.value.message and caught.value.next_step


@pytest.mark.parametrize("path", ["/etc", "/nowhere", "../..", "/proc/self/root"])
def test_a_path_outside_of_the_roots_is_refused(stack: LiveStack, path: str) -> None:
    with pytest.raises(ApiError) as caught:
        stack.api._request("POST", "/api/projects/", json={"name": "x", "repository_path": path})
    assert caught.value.status == 400 and caught.value.next_step


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_of_every_kind_are_read_in_words_and_written_byte_by_byte(
    stack: LiveStack, tmp_path: Path, server: OpenAIServer
) -> None:
    repository = repository_build(tmp_path / "odd", {"answer.txt": "The answer is 41.\n", "dos.txt": "one\r\n41\r\n"})
    (repository / "binary.dat").write_bytes(b"\0\1\2" * 1000)
    (repository / "latin.txt").write_bytes("# caf\xe9\nanswer = 41\n".encode("latin-1"))
    (repository / "huge.txt").write_bytes(b"a line of it\n" * 400_000)
    (repository / os.fsdecode(b"n\xe4me.txt")).write_text("strange\n")
    (repository / "passwd").symlink_to("/etc/passwd")
    (repository / "loop").symlink_to("loop")
    (repository / "empty.txt").touch()
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "Odd files")
    names = ["binary.dat", "latin.txt", "huge.txt", "passwd", "loop", "empty.txt", "missing.txt", "."]
    turns: list[Turn] = [
        says(*(call("read_file", path=name) for name in names)),
        says(call("list_files"), call("search", pattern="answer|root:|line of it")),
        says(
            MEND,
            call("edit_file", path="latin.txt", old_text="answer = 41", new_text="answer = 42"),
            call("edit_file", path="dos.txt", old_text="one\n41", new_text="one\n42"),
            call("edit_file", path="binary.dat", old_text="a", new_text="b"),
            call("edit_file", path="huge.txt", old_text="a line", new_text="b"),
            call("write_file", path="passwd", content="mine"),
        ),
        finishes(),
    ]
    session = ended(stack, repository, server, turns)
    assert session.outcome == "verified", stack.story(session.id)
    results = dict(zip(names, server.requests[1].results("read_file"), strict=True))
    for name, words in {
        "binary.dat": "binary",
        "latin.txt": "answer = 41",
        "huge.txt": "limit",
        "passwd": "leaves the workspace",
        "loop": "link",
        "empty.txt": "empty",
        "missing.txt": "no",
        ".": "folder",
    }.items():
        assert words in results[name], f"{name}: {results[name][:300]}"
    assert not any("root:x:" in str(event.payload) for event in stack.events(session.id))
    stack.api.bundle_download(session.id, target=tmp_path / "bundle")
    git(repository, "fetch", "-q", str(tmp_path / "bundle"), session.branch)
    git(repository, "checkout", "-q", "FETCH_HEAD")
    assert (repository / "latin.txt").read_bytes() == "# caf\xe9\nanswer = 42\n".encode("latin-1")
    assert (repository / "dos.txt").read_bytes() == b"one\r\n42\r\n"
    assert Path("/etc/passwd").read_text() != "mine"
    # What differs is what was edited, odd names and all.
    listed = git(repository, "-c", "core.quotePath=false", "diff", "--name-only", "HEAD~1").splitlines()
    assert listed == ["answer.txt", "dos.txt", "latin.txt"]


def test_a_file_that_is_too_large_to_keep_is_told_to_the_coder(
    stack: LiveStack, repository: Path, server: OpenAIServer
) -> None:
    turns: list[Turn] = [
        says(MEND, call("run_command", command="head -c 30000000 /dev/urandom > big.bin")),
        says(call("run_checks")),
        finishes(),
        runs("rm big.bin"),
        finishes(),
    ]
    session = ended(stack, repository, server, turns)
    assert session.outcome == "verified", stack.story(session.id)
    assert "big.bin" in server.requests[2].results("run_checks")[0]
    assert "big.bin" in str(server.requests[3].messages[-1])
    assert [file.path for file in stack.api.session_diff(session.id).files] == ["answer.txt"]


def test_what_cannot_be_kept_at_all_ends_in_a_reason(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    session = ended(
        stack, repository, server, [says(MEND), runs("head -c 30000000 /dev/urandom > big.bin"), finishes()]
    )
    assert (session.status, session.outcome) == ("completed", "failing"), stack.story(session.id)
    assert session.reason is not None and "big.bin" in session.reason.message


# --- set-ups ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "setup", "words"),
    [
        ({"requirements.txt": "a-package-that-nobody-ever-made==4.2\n"}, "", "a-package-that-nobody-ever-made"),
        ({}, "echo about to fail; exit 3", "about to fail"),
        ({}, "no-such-program", "no-such-program"),
        ({}, "python -c \"import urllib.request as u; u.urlopen('http://example.com')\"", "example.com"),
    ],
    ids=["no such package", "exit code", "no program", "another host"],
)
def test_a_set_up_that_fails_ends_the_session_with_its_words(
    stack: LiveStack, tmp_path: Path, server: OpenAIServer, files: dict[str, str], setup: str, words: str
) -> None:
    repository = repository_build(tmp_path / "project", {"answer.txt": "41\n", **files})
    session = ended(stack, repository, server, [finishes()], setup_command=setup)
    assert session.status == "failed", stack.story(session.id)
    assert session.reason is not None
    assert words in session.reason.message and session.reason.next_step
    assert server.requests == [], "a model was asked although there was nothing to work with"


def test_a_repository_without_any_check_is_unverified(stack: LiveStack, repository: Path, server: OpenAIServer) -> None:
    session = ended(stack, repository, server, [says(MEND), finishes()], checks=[])
    assert (session.status, session.outcome) == ("completed", "unverified")
    assert session.reason is not None and "no checks" in session.reason.message.lower()


@pytest.mark.parametrize(
    "check", ["no-such-program", "exit 7", "kill -9 $$", "sleep 1000 & exit 1", "yes | head -c 5000000; false"]
)
def test_a_check_that_cannot_pass_is_failing(
    stack: LiveStack, repository: Path, server: OpenAIServer, check: str
) -> None:
    session = ended(stack, repository, server, [says(MEND), finishes()], checks=[check])
    assert (session.status, session.outcome) == ("completed", "failing"), stack.story(session.id)

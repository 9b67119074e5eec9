"""Repositories from elsewhere, as a user brings them: an address, a folder without git, an archive, a monorepo."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ApiError
from tests.builders import git, repository_build
from tests.loopback.agents import Agents, Turn, call, finishes, runs, says
from tests.loopback.git_server import GitServer, git_server_run
from tests.loopback.openai_server import OpenAIServer
from tests.processes import wait_until
from tests.stacks import LiveStack, Ran, home_open, stack_open

pytestmark = pytest.mark.timeout(600)

TOKEN = "tok-CANARY-0815"
FILES = {"answer.txt": "The answer is 41.\n", "checks.sh": "grep -q 42 answer.txt\n"}
MEND = call("edit_file", path="answer.txt", old_text="41", new_text="42")


@dataclass(frozen=True)
class Place:
    stack: LiveStack
    forge: GitServer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A stack that knows a forge on loopback, with a small repository that wants a token."""
    folder = tmp_path_factory.mktemp("served")
    with git_server_run(folder, tmp_path_factory.mktemp("keys")) as forge, home_open() as home:
        variables = {
            "ARCHON_GIT_CA_FILE": str(forge.ca_file),
            "ARCHON_PRIVATE_HOSTS": f"127.0.0.1:{forge.port}",
        }
        with stack_open(home, **variables) as stack:
            yield Place(stack, forge)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(Agents()) as running:
        yield running
        assert running.refused == []


def run(place: Place, server: OpenAIServer, repo: str | Path, turns: list[Turn], *options: str) -> Ran:
    server.answer = Agents(turns)
    address = ("--model", "openai:loopback", "--base-url", server.base_url)
    return place.stack.archon(
        "run", "Make it 42.", "--repo", str(repo), *address, "--json", "--yes", *options, seconds=300
    )


def mended() -> list[Turn]:
    return [says(MEND), finishes()]


def verified(done: Ran) -> dict[str, Any]:
    said = done.document
    assert (done.code, said["status"], said.get("outcome")) == (0, "completed", "verified"), (said, done.errors)
    return said


@pytest.mark.slow
def test_an_address_with_a_token(place: Place, server: OpenAIServer, tmp_path: Path) -> None:
    work = repository_build(place.forge.folder / "private", FILES)
    place.forge.tokens["private"] = TOKEN
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    url = place.forge.url("private/.git")
    refused = run(place, server, url, mended(), "--check", "sh checks.sh")
    assert (refused.code, refused.document["error"]["code"]) == (2, "repository_refused"), refused
    assert "token" in refused.document["error"]["next_step"]
    options = ("--token-file", str(token), "--check", "sh checks.sh")
    said = verified(run(place, server, url, mended(), *options))
    assert said["files_changed"] == ["answer.txt"]
    # The next one starts from what is there by then.
    (work / "new.txt").write_text("new\n")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "New")
    again = verified(run(place, server, url, [runs("cat new.txt"), says(MEND), finishes()], "--check", "sh checks.sh"))
    session = place.stack.api.session_get(again["session_id"])
    assert session.base_commit == git(work, "rev-parse", "HEAD")
    projects = place.stack.archon("projects", "--json").document["projects"]
    # Other tests of this module use the same stack, before this one or after it.
    fetched = [project["name"] for project in projects if "/private/" in (project["source"] or {}).get("url", "")]
    assert fetched == ["private"], "the same address is one"
    for path in place.stack.home.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix in (".log", ".json", ".jsonl", ""):
            assert TOKEN.encode() not in path.read_bytes(), path


def test_a_folder_without_git(place: Place, server: OpenAIServer, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    (folder / "node_modules" / "x").mkdir(parents=True)
    files = {**FILES, ".env": "SECRET=CANARY\n", ".gitignore": "ignored.txt\n", "ignored.txt": "x\n"}
    for name, content in files.items():
        (folder / name).write_text(content)
    (folder / "node_modules" / "x" / "index.js").write_text("x\n")
    before = {path: (path.stat().st_mtime_ns, path.is_dir()) for path in folder.rglob("*")}
    done = run(place, server, folder, mended(), "--check", "sh checks.sh")
    said = verified(done)
    assert ".env" in done.errors and "node_modules" in done.errors
    assert {path: (path.stat().st_mtime_ns, path.is_dir()) for path in folder.rglob("*")} == before
    project = place.stack.api.session_get(said["session_id"]).project
    listing = place.stack.home / "repositories" / f"{project}.git"
    assert set(git(listing, "ls-tree", "-r", "--name-only", "HEAD").split()) == {
        ".gitignore", "answer.txt", "checks.sh",
    }  # fmt: skip
    fetched = place.stack.archon("fetch", said["session_id"], "--json")
    assert fetched.code == 2 and "apply" in fetched.document["error"]["next_step"]
    unasked = place.stack.archon("apply", said["session_id"])
    assert unasked.code == 2 and (folder / "answer.txt").read_text() == FILES["answer.txt"]
    patch = tmp_path / "out.patch"
    assert place.stack.archon("apply", said["session_id"], "--patch", str(patch)).code == 0
    assert "+The answer is 42." in patch.read_text()
    (folder / "answer.txt").write_text("changed meanwhile\n")
    clash = place.stack.archon("apply", said["session_id"], "--yes", "--json")
    assert clash.document["error"]["code"] == "patch_does_not_fit"
    (folder / "answer.txt").write_text(FILES["answer.txt"])
    applied = place.stack.archon("apply", said["session_id"], "--yes", "--json").document
    assert applied["files"] == ["answer.txt"]
    assert (folder / "answer.txt").read_text() == "The answer is 42.\n"
    assert not (folder / ".git").exists()


def test_an_archive(place: Place, server: OpenAIServer, tmp_path: Path) -> None:
    folder = repository_build(tmp_path / "project", FILES)
    with tarfile.open(tmp_path / "project.tar.gz", "w:gz") as archive:
        archive.add(folder, "project")
    said = verified(run(place, server, tmp_path / "project.tar.gz", mended(), "--check", "sh checks.sh"))
    assert said["files_changed"] == ["answer.txt"]
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no zip")
    refused = run(place, server, tmp_path / "bad.zip", mended())
    assert (refused.code, refused.document["error"]["code"]) == (2, "archive_refused")


def test_a_folder_of_a_monorepo_with_a_submodule(place: Place, server: OpenAIServer, tmp_path: Path) -> None:
    library = repository_build(place.forge.folder / "library", {"lib.txt": "from the library\n"})
    work = repository_build(
        place.forge.folder / "mono",
        {"services/api/answer.txt": FILES["answer.txt"], "services/api/checks.sh": FILES["checks.sh"], "top.txt": "t"},
    )
    git(work, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "services/api/library")
    modules = (work / ".gitmodules").read_text().replace(str(library), "../../library/.git")
    (work / ".gitmodules").write_text(modules)
    git(work, "commit", "-qam", "Library")
    made = place.stack.archon(
        "clone", place.forge.url("mono/.git"), "--name", "mono", "--subfolder", "services/api", "--json"
    )
    assert made.code == 0, made
    project = made.document
    assert (made.code, project["repository_state"], project["repository_notices"]) == (0, "ready", []), made
    server.answer = Agents(
        [
            # In the folder, with the submodule's files, and all of the repository around it.
            runs(
                "test -f checks.sh && grep -q library library/lib.txt && test -f ../../top.txt && echo seen > seen.txt"
            ),
            runs("echo spoilt > library/lib.txt; cat seen.txt"),
            says(call("edit_file", path="services/api/answer.txt", old_text="41", new_text="42")),
            finishes(),
        ]
    )
    session = place.stack.api.session_run(
        project_id=project["id"],
        goal="Make it 42.",
        options={
            "agent_type": "coder",
            "model": "openai:loopback",
            "base_url": server.base_url,
            "checks": ["sh checks.sh && grep -q 'from the library' library/lib.txt"],
        },
    )
    ended = place.stack.session_wait(session.id)
    assert (ended.status, ended.outcome) == ("completed", "verified"), place.stack.story(session.id)
    diff = place.stack.api.session_diff(session.id)
    assert [file.path for file in diff.files] == ["services/api/answer.txt", "services/api/seen.txt"]


@pytest.mark.slow
def test_sync_and_remove(place: Place) -> None:
    work = repository_build(place.forge.folder / "moving", FILES)
    archon = place.stack.archon
    made = archon("clone", place.forge.url("moving/.git"), "--name", "moving", "--json").document
    (work / "more.txt").write_text("x")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "More")
    synced = archon("sync", "moving", "--json").document
    assert synced["head_commit"] == git(work, "rev-parse", "HEAD") != made["head_commit"]
    git(work, "reset", "-q", "--hard", "HEAD~1")
    git(work, "commit", "-q", "--amend", "-m", "Rewritten")
    told = archon("sync", "moving", "--json")
    assert told.code == 2 and "force" in told.document["error"]["next_step"], told
    assert archon("sync", "moving", "--force", "--json").document["head_commit"] == git(work, "rev-parse", "HEAD")
    assert archon("remove", "moving", "--json").document["error"]["code"] == "confirmation_needed"
    assert archon("remove", "moving", "--yes", "--json").code == 0
    assert not (place.stack.home / "repositories" / f"{made['id']}.git").exists()


def test_deleting_a_project_ends_its_fetch(place: Place) -> None:
    repository_build(place.forge.folder / "stalled", FILES)
    place.forge.stalled.set()
    try:
        api = place.stack.api
        project = api.project_create(name="stalled", repository_url=place.forge.url("stalled/.git"))
        assert place.forge.stall_entered.wait(60)
        source = api.project_get(project.id).source
        assert source is not None and source.state == "running"
        with pytest.raises(ApiError) as refused:
            api.session_run(project_id=project.id, goal="x", options={})
        assert (refused.value.status, refused.value.state) == (409, "cloning")
        api.project_delete(project.id)
        repositories = place.stack.home / "repositories"
        assert wait_until(lambda: not [path for path in repositories.iterdir() if path.name.endswith(".git")
                                       and project.id in path.name])  # fmt: skip
        assert wait_until(lambda: not _fetching(project.id))
    finally:
        place.forge.stalled.clear()
        place.forge.stall_entered.clear()


def _fetching(project_id: str) -> list[str]:
    """git processes that work in the project's repository."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{project_id}.git".encode() in (entry / "environ").read_bytes():
                found.append(os.readlink(entry / "exe"))
        except OSError:
            continue
    return found

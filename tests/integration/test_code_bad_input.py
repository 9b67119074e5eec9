"""Repositories, files and embedders as nobody wants them: each has a state that says so, and the rest is found."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from apps.context.filling import vectors_run
from apps.context.models import CodeFile, CodeIndex, JobState
from apps.context.searching.regex import spans_lines
from apps.core.errors import InvalidInput
from apps.projects.worktree import worktree_path
from apps.vector_store.spaces import status_get
from tests.integration.context_scene import FILES, code_make, files_write, tree_make
from tests.loopback.embed_server import EmbedServer
from tests.loopback.json_server import Answer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

_MINIFIED = b"function a(b,c){return b?c[b]:a(c,b)};var d={e:1,f:[2,3]};"


@pytest.fixture(autouse=True)
def _no_vectors(settings: Any) -> None:
    settings.ARCHON_EMBEDDER = "off"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("limit_kb", [1024, 300_000])
def test_two_hundred_megabytes_of_minified_javascript(tmp_path: Path, settings: Any, limit_kb: int) -> None:
    """It is left out for its size, or where the operator takes files of any size for what it is."""
    settings.ARCHON_INDEX_FILE_KB = limit_kb
    code = code_make(tmp_path, {**FILES, "bundle.min.js": _MINIFIED * (200 * 2**20 // len(_MINIFIED))})
    job = code.index()
    assert job.state == JobState.COMPLETED, job.reason
    row = CodeFile.objects.get(path="bundle.min.js")
    assert row.state in ("skipped", "failed") and row.reason and row.size > 190 * 2**20
    assert code.paths("parse http header")[0] == "greeting/people.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_very_many_tiny_files(tmp_path: Path) -> None:
    files = {f"d{number % 100}/t{number}.txt": f"tiny{number}\n" for number in range(20_000)}
    code = code_make(tmp_path, files)
    job = code.index()
    assert job.state == JobState.COMPLETED and job.progress["files_done"] == 20_000
    assert CodeFile.objects.count() == 20_000
    for number in (0, 9_999, 19_999):
        assert code.paths(f"tiny{number}")[0] == f"d{number % 100}/t{number}.txt"
    code.commit({"d1/t1.txt": "otherwise\n"})
    assert code.index().progress["files_total"] == 1


def test_links_that_lead_round_in_circles(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    (code.folder / "deep" / "er").mkdir(parents=True)
    for target, name in (("b", "a"), ("a", "b"), ("self", "self"), ("..", "deep/up"), ("../..", "deep/er/top")):
        os.symlink(target, code.folder / name)
    code.commit({})
    job = code.index()
    assert job.state == JobState.COMPLETED and job.progress["files_done"] == len(FILES) + 5
    links = CodeFile.objects.filter(state="skipped")
    assert {row.path for row in links} == {"a", "b", "self", "deep/up", "deep/er/top"}
    assert all("symbolic link" in row.reason for row in links)
    # As an agent has them in its checkout: whoever looks a hit up is not led round either.
    session_id = uuid.uuid4()
    code.index_session(session_id, tree_make(code, {"new.py": "def gecko():\n    return 1\n"}))
    checkout = worktree_path(session_id=session_id)
    checkout.mkdir(parents=True)
    files_write(checkout, {**FILES, "new.py": "def gecko():\n    return 1\n"})
    (checkout / "README.md").unlink()
    os.symlink("README.md", checkout / "README.md")
    assert code.paths("gecko", session_id=session_id) == ["new.py"]
    assert code.paths("zebra stripes", session_id=session_id) == []


def test_a_file_that_changes_while_it_is_looked_up(tmp_path: Path) -> None:
    """A hit shows what was there at one moment, whole, or nothing is said."""
    code = code_make(tmp_path)
    code.index()
    session_id = uuid.uuid4()
    body = "def iguana_walks():\n    return 1\n"
    code.index_session(session_id, tree_make(code, {"walk.py": body}))
    checkout = worktree_path(session_id=session_id)
    checkout.mkdir(parents=True)
    files_write(checkout, {**FILES, "walk.py": body})
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            text = (body, "# moved\n" * 5 + body, "nothing of it\n", "")[number % 4]
            (checkout / "walk.py").write_text(text)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(40):
            found = code.search("iguana walks", session_id=session_id)
            assert len(found.hits) + found.stale == 1
            for hit in found.hits:
                shown = hit.snippet.text.split("\n")
                assert shown[hit.start_line - hit.snippet.start_line] == "def iguana_walks():"
    finally:
        ended.set()
        writer.join()


@pytest.mark.parametrize("wrong", ["down", "dimension"])
def test_an_embedder_that_fails_stops_no_index(tmp_path: Path, settings: Any, wrong: str) -> None:
    """The job is done, words are found at once, the state says what is wrong; later the vectors are made."""

    def instead(texts: Sequence[str]) -> Answer:
        if wrong == "down":
            return Answer(500, {"error": {"message": "the server had an error", "code": "server_error"}})
        data = [{"index": index, "object": "embedding", "embedding": [1.0] * 7} for index, _ in enumerate(texts)]
        return Answer(200, {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1}})

    with EmbedServer() as server:
        settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = server.base_url, server.api_key
        settings.ARCHON_EMBEDDER, settings.ARCHON_EMBEDDER_DIMENSION = "openai:text-embedding-3-small", 64
        server.instead = instead
        code = code_make(tmp_path)
        job = code.index()
        assert job.state == JobState.COMPLETED
        vectors_run(project_id=code.project.id)
        status = status_get(code.project.id, "primary")
        assert status.state == "stopped" and status.detail and status.next_step
        found = code.search("parse http header", "hybrid")
        assert found.hits[0].symbol == "parseHTTPHeader" and found.notes
        assert CodeIndex.objects.get().vectors_lease_until is None
        # It is there again, and the time has come.
        server.instead = None
        from apps.vector_store.models import VectorSpace

        VectorSpace.objects.update(retry_at=None)
        vectors_run(project_id=code.project.id)
        assert status_get(code.project.id, "primary").state == "ready"
        assert not code.search("parse http header", "hybrid").notes


def test_vectors_are_wanted_with_the_tree(tmp_path: Path) -> None:
    """Whoever dies after the tree was taken, and before the job has its end, leaves word of what is to be embedded."""
    code = code_make(tmp_path)
    code.index()
    index = CodeIndex.objects.get()
    assert index.vectors_wanted == 1 and index.vectors_filled == 0
    code.index()
    index.refresh_from_db()
    assert index.vectors_wanted == 1


def test_a_file_is_hidden_and_shown_again(tmp_path: Path) -> None:
    from apps.context.adding import file_add, path_remove

    code = code_make(tmp_path)
    code.index()
    file_add(project=code.project, path="greeting/people.py", hidden=True)
    # Before it is indexed nothing is said that the index doesn't know; afterwards it is gone for every search.
    code.index()
    assert code.paths("parse http header") == []
    row = CodeFile.objects.get(path="greeting/people.py", state="skipped")
    assert row.reason == "it was hidden by hand"
    # It stays hidden when the branch moves on, until the path is as the repository has it.
    code.commit({"greeting/people.py": str(FILES["greeting/people.py"]) + "\n\ndef also_parse(): pass\n"})
    code.index()
    assert code.paths("also parse") == []
    assert path_remove(project=code.project, path="greeting/people.py") is not None
    code.index()
    assert "greeting/people.py" in code.paths("also parse")
    assert path_remove(project=code.project, path="greeting/people.py") is None
    with pytest.raises(InvalidInput):
        file_add(project=code.project, path="README.md", content="x", hidden=True)


def test_expressions_over_several_lines(tmp_path: Path) -> None:
    code = code_make(
        tmp_path,
        {
            "a.py": "def first():\n    value = 1\n    return value\n\n\ndef second():\n    return 2\n",
            "b.py": "def third():\n    return 1\n",
            "c.txt": "return value\n\n\n\ndef second\n",
        },
    )
    code.index()

    def found(pattern: str) -> list[tuple[str, int]]:
        return [(hit.path, hit.line) for hit in code.search(pattern, "regex").hits]

    assert found(r"value = 1\n\s+return") == [("a.py", 2)]
    assert found("value = 1\n    return value") == [("a.py", 2)]
    assert found(r"(?s)def first.*return value") == [("a.py", 1)]
    assert found(r"^def \w+\(\):\n    return \d$") == [("a.py", 6), ("b.py", 1)]
    # A match lies in one chunk: what stands behind it in the search is another's.
    assert found(r"(?s)def first.*def third") == []
    assert found(r"\\n") == []
    with pytest.raises(InvalidInput):
        found(r"(?s)(unclosed")
    assert found(r"(?s)(a+.*)+(a+.*)+(a+.*)+zz$") == []
    assert [spans_lines(text) for text in (r"a\nb", r"a\\nb", r"a\\\nb", r"(?is)a", r"(?i)a", r"\(?s", "(?P<s>a)")] == [
        True, False, True, True, False, False, False,
    ]  # fmt: skip


def test_parsers_that_were_killed_while_they_waited_fail_no_file(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    code.index()
    killed = 0
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if b"apps.context.parsing_process" in command and int(parent) == os.getpid():
            os.kill(int(entry.name), signal.SIGKILL)
            killed += 1
    assert killed
    code.commit({"one.py": "def wombat():\n    return 1\n"})
    job = code.index()
    assert (job.state, job.progress["failed"]) == (JobState.COMPLETED, 0)
    assert code.paths("wombat") == ["one.py"]

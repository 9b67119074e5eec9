"""The index of a project's code: what is read, what isn't and why, and that nothing is read twice."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, connections
from django.utils import timezone

from apps.context import reading, writing
from apps.context.freshness import head_changed, session_files_changed
from apps.context.indexing import index_run
from apps.context.jobs import index_claim, index_release, job_cancel, job_take, job_want, jobs_wanted
from apps.context.models import (
    CodeChunk,
    CodeFile,
    CodeIndex,
    CodeSymbol,
    IndexJob,
    JobState,
    Overlay,
    Posting,
    Segment,
    TreeEntry,
)
from apps.context.pruning import index_prune
from apps.context.types import LeaseLost
from apps.context.writing import index_locked, segments_merge
from apps.core.database import connection_parameters
from apps.projects.models import Project
from apps.projects.services import project_delete
from tests.integration.context_scene import FILES, code_make, job_finish, tree_make

pytestmark = pytest.mark.django_db(transaction=True)


def _states(project: Project) -> dict[str, tuple[str, str]]:
    return {file.path: (file.state, file.reason) for file in CodeFile.objects.filter(index__project=project)}


def test_every_file_is_read_or_has_a_reason(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        **FILES,
        ".gitignore": "*.log\nbuild/\n",
        ".archonignore": "vendor/\n!keep.log\n",
        "server.log": "secret words of a log\n",
        "keep.log": "words that stay\n",
        "build/out.py": "def built(): pass\n",
        "vendor/lib.py": "def vendored(): pass\n",
        "picture.png": b"\x89PNG\r\n",
        "data.txt": b"one\0two",
        "huge.py": "x = 1\n" * 300_000,
        "min.js": "var a=1;" * 4_000,
        "broken.py": "def half(:\n    return (\n\n\ndef whole():\n    return 1\n",
        "strange.xyz": "words of an unknown language\n",
        "late.txt": "some line of it\n" * 600 + "\0tail\n",
        "empty.py": "",
    }
    code = code_make(tmp_path, files)
    os.symlink("README.md", code.folder / "link.md")
    os.symlink("loop", code.folder / "loop")
    code.commit({})
    job = code.index()
    assert job.state == JobState.COMPLETED, job.reason
    states = _states(code.project)
    skipped = {path: reason for path, (state, reason) in states.items() if state == "skipped"}
    assert skipped.keys() == {
        "server.log", "build/out.py", "vendor/lib.py", "picture.png", "data.txt", "huge.py", "min.js", "link.md",
        "loop",
    }  # fmt: skip
    assert skipped["server.log"] == "an ignore file names it"
    assert "binary" in skipped["data.txt"]
    assert "KiB" in skipped["huge.py"]
    assert "symbolic link" in skipped["loop"]
    assert states["broken.py"][1]
    assert states["strange.xyz"][0] == "lines"
    assert code.paths("vendored") == code.paths("secret") == []
    assert code.paths("words that stay")[0] == "keep.log"
    assert code.paths("unknown language")[0] == "strange.xyz"
    assert "broken.py" in code.paths("whole")
    assert code.paths("tail") == ["late.txt"]


def test_nothing_is_read_twice(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    assert code.index().progress["files_total"] == len(FILES)
    again = code.index()
    assert again.state == JobState.COMPLETED and again.progress["files_total"] == 0
    before = set(CodeFile.objects.values_list("id", flat=True))
    code.commit({"greeting/main.py": "def other():\n    return 'pelican'\n"})
    changed = code.index()
    assert changed.progress["files_total"] == 1
    assert code.paths("pelican") == ["greeting/main.py"]
    assert len(set(CodeFile.objects.values_list("id", flat=True)) - before) == 1
    # Back again: it has been read.
    rows = CodeFile.objects.count()
    code.commit({"greeting/main.py": FILES["greeting/main.py"]})
    code.index()
    assert CodeFile.objects.count() == rows
    assert code.paths("pelican") == []
    assert "greeting/main.py" in code.paths("greet_person")


def test_the_tree_is_what_the_commit_has(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    code.index()
    code.commit({"README.md": None, "greeting/new.py": "def fresh_ocelot():\n    return 1\n"})
    code.index()
    assert code.paths("zebra stripes") == []
    assert code.paths("fresh ocelot") == ["greeting/new.py"]
    # What an ignore file says counts for all files, not only for those that were changed with it.
    code.commit({".archonignore": "greeting/people.py\n"})
    code.index()
    assert "greeting/people.py" not in code.paths("parse http header")
    code.commit({".archonignore": None})
    code.index()
    assert code.paths("parse http header")[0] == "greeting/people.py"


def test_a_sessions_files_lie_over_the_tree(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    code.index()
    session_id = uuid.uuid4()
    tree = tree_make(code, {"README.md": None, "greeting/main.py": "def flamingo_dance():\n    return 1\n"})
    rows = CodeFile.objects.count()
    job = code.index_session(session_id, tree)
    assert job.state == JobState.COMPLETED, job.reason
    assert CodeFile.objects.count() == rows + 1
    assert code.paths("flamingo", session_id=session_id) == ["greeting/main.py"]
    assert code.paths("zebra stripes", session_id=session_id) == []
    assert code.paths("parse http header", session_id=session_id)[0] == "greeting/people.py"
    assert code.paths("flamingo") == []
    assert code.paths("zebra stripes") == ["README.md"]
    # The branch moves on; the session's files lie on what they did.
    code.commit({"greeting/people.py": "def gone_elsewhere():\n    return 1\n"})
    code.index()
    code.commit({"greeting/extra.py": "x = 1\n"})
    code.index()
    assert code.paths("parse http header") == []
    assert code.paths("parse http header", session_id=session_id)[0] == "greeting/people.py"


def test_a_job_that_lost_its_worker_goes_on(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    job = job_want(project=code.project)
    dead = index_claim(job.index_id)
    assert dead is not None and job_take(dead) is not None
    assert index_claim(job.index_id) is None
    assert jobs_wanted() == []
    CodeIndex.objects.update(lease_until=timezone.now())
    assert jobs_wanted() == [job.index_id]
    assert job_finish(job).state == JobState.COMPLETED
    job.refresh_from_db()
    assert job.attempts == 2
    # What the dead one still has in hand is not written.
    with pytest.raises(LeaseLost), index_locked(dead):
        pass
    events = list(job.events.values_list("seq", "type"))
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
    assert [kind for _, kind in events][:3] == ["IndexQueued", "IndexStarted", "IndexStarted"]
    assert events[-1][1] == "IndexCompleted"


def test_a_job_that_never_ends_is_given_up(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    job = job_want(project=code.project)
    IndexJob.objects.update(attempts=5)
    assert job_finish(job).state == JobState.FAILED
    assert job.reason is not None and job.reason["code"] == "given_up" and job.reason["next_step"]


def test_a_repository_that_is_gone_fails_the_job(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    Project.objects.update(head_commit="1" * 40)
    job = job_finish(job_want(project=Project.objects.get()))
    assert job.state == JobState.FAILED
    assert job.reason is not None and job.reason["message"]
    assert code.project.code_index.lease_until is None


def test_cancelled_before_and_while_it_runs(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    job = job_want(project=code.project)
    assert job_cancel(job=job).state == JobState.CANCELLED
    index_run(index_id=job.index_id)
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    running = job_want(project=code.project)
    lease = index_claim(running.index_id)
    assert lease is not None and job_take(lease) is not None
    job_cancel(job=running)
    index_release(lease)
    assert job_finish(running).state == JobState.CANCELLED
    assert code.index().state == JobState.COMPLETED


def test_several_workers_at_once_do_it_once(tmp_path: Path) -> None:
    code = code_make(tmp_path, {f"m{number}.py": f"def fun_{number}():\n    return {number}\n" for number in range(60)})
    job = job_want(project=code.project)

    def work() -> None:
        try:
            index_run(index_id=job.index_id)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    job.refresh_from_db()
    assert job.state == JobState.COMPLETED
    assert CodeFile.objects.count() == TreeEntry.objects.count() == 60
    assert CodeSymbol.objects.filter(kind="function").count() == 60


def test_wanting_it_twice_is_one_job(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    assert job_want(project=code.project).id == job_want(project=code.project).id


def test_segments_are_merged_and_say_the_same(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    code.index()
    for number in range(9):
        code.commit({f"extra{number}.py": f"def walrus_{number}():\n    return 'walrus'\n"})
        code.index()
    found = code.paths("walrus", limit=20)
    assert sorted(found) == [f"extra{number}.py" for number in range(9)]
    assert Segment.objects.count() < 8
    lease = index_claim(code.project.code_index.id)
    assert lease is not None
    segments_merge(lease=lease)
    assert code.paths("walrus", limit=20) == found


def test_pruning_forgets_what_no_tree_has(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    code.index()
    session_id = uuid.uuid4()
    code.index_session(session_id, tree_make(code, {"greeting/main.py": "def heron():\n    return 1\n"}))
    code.commit({"greeting/people.py": None, "README.md": None})
    code.index()
    code.commit({"last.py": "x = 1\n"})
    code.index()
    lease = index_claim(code.project.code_index.id)
    assert lease is not None
    index_prune(lease, kept=timezone.timedelta(0))  # type: ignore[attr-defined]
    # The session still has them.
    assert code.paths("parse http header", session_id=session_id)
    Overlay.objects.update(updated_at=timezone.now() - timezone.timedelta(days=30))  # type: ignore[attr-defined]
    index_prune(lease, kept=timezone.timedelta(0))  # type: ignore[attr-defined]
    assert set(CodeFile.objects.values_list("path", flat=True)) == {
        "greeting/__init__.py",
        "greeting/main.py",
        "last.py",
    }
    assert CodeChunk.objects.filter(text__contains="zebra").count() == 0
    assert not Posting.objects.filter(term="zebra").exists()
    assert code.paths("greet_person") == ["greeting/main.py"]
    index = CodeIndex.objects.get()
    assert index.dead_documents == 0 and index.documents == CodeChunk.objects.count()


def test_everything_goes_with_the_project(tmp_path: Path) -> None:
    code, other = code_make(tmp_path / "one"), code_make(tmp_path / "two")
    for each in (code, other):
        each.index()
        each.index_session(uuid.uuid4(), tree_make(each, {"new.py": "x = 1\n"}))
    project_delete(project=code.project)
    with connection.cursor() as cursor:
        for table in ("codefile", "treeentry", "segment", "posting", "overlay", "codesymbol", "codechunk"):
            cursor.execute(f"SELECT count(DISTINCT index_id) FROM context_{table}")
            assert cursor.fetchone()[0] == 1, table
    assert other.paths("parse http header")


def test_a_rebuild_reads_everything_again(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    code.index()
    CodeChunk.objects.all().delete()
    job = code.index(rebuild=True)
    assert job.progress["files_total"] == len(FILES)
    assert code.paths("parse http header")[0] == "greeting/people.py"


@pytest.mark.parametrize(("condition", "state", "failed"), [("True", "failed", 1), ("not by_lines", "lines", 0)])
def test_a_file_that_kills_its_parser_is_read_by_lines_or_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, condition: str, state: str, failed: int
) -> None:
    """The parser dies of one file: the others of its batch are read, and the job comes to its end."""
    code = code_make(tmp_path, {**FILES, "deadly.py": "def deadly(): pass\n"})
    trap = tmp_path / "trap" / "sitecustomize.py"
    trap.parent.mkdir()
    trap.write_text(
        "import os, sys\n"
        "import apps.context.parsing.parse as parse\n"
        "whole = parse.file_parse\n"
        "def file_parse(*, path, content, by_lines):\n"
        f"    if path == 'deadly.py' and {condition}:\n"
        "        os.abort()\n"
        "    return whole(path=path, content=content, by_lines=by_lines)\n"
        "parse.file_parse = file_parse\n"
    )
    from apps.context import parser_pool

    root = parser_pool._ROOT
    monkeypatch.setattr(parser_pool, "_ROOT", f"{trap.parent}:{root}")
    parser_pool.parser_pool_close()
    try:
        job = code.index()
    finally:
        parser_pool.parser_pool_close()
    assert job.state == JobState.COMPLETED and job.progress["failed"] == failed
    assert _states(code.project)["deadly.py"][0] == state
    assert "died" in _states(code.project)["deadly.py"][1]
    assert code.paths("parse http header")[0] == "greeting/people.py"


def test_after_a_crash_in_the_middle_every_file_has_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker dies between two transactions, and in one: what stands is whole, and the rest is read by the next."""
    files = {f"m{number:02}.py": f"def animal{number}zebu():\n    return {number}\n" for number in range(30)}
    code = code_make(tmp_path, files)
    monkeypatch.setattr(reading, "_BATCH_FILES", 4)
    monkeypatch.setattr(reading, "_FIRST_BATCH_FILES", 4)
    monkeypatch.setattr(reading, "_WRITE_SECONDS", 0.0)
    monkeypatch.setattr(reading, "_WRITE_MOST_SECONDS", 0.0)
    whole, calls = writing.postings_flush, []

    def dying(cursor: Any, **arguments: Any) -> None:
        whole(cursor, **arguments)
        calls.append(1)
        if len(calls) == 3:
            raise OSError("the process dies here")

    job = job_want(project=code.project)
    with monkeypatch.context() as patched:
        patched.setattr(writing, "postings_flush", dying)
        with pytest.raises(OSError, match="dies here"):
            index_run(index_id=job.index_id)
    written = CodeFile.objects.count()
    assert 0 < written < 30
    assert jobs_wanted() == [job.index_id]
    # What is there is found by its words while the rest is missing.
    assert len(code.paths("zebu", limit=50)) == written
    assert job_finish(job).state == JobState.COMPLETED
    assert sorted(code.paths("zebu", limit=50)) == sorted(files)
    assert CodeFile.objects.count() == CodeChunk.objects.values("file_id").distinct().count() == 30


def test_whoever_tells_of_a_change_waits_for_nobody_who_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """A session must not stand with a worker that was stopped in the middle of a transaction on the index."""
    settings.ARCHON_INDEX_AUTO = True
    monkeypatch.setattr("apps.context.freshness._LOCK_WAIT", "100ms")
    code = code_make(tmp_path)
    session_id, commit = uuid.uuid4(), code.project.head_commit
    session_files_changed(project_id=code.project.id, session_id=session_id, tree=commit)
    head_changed(project=code.project)
    with psycopg.connect(**connection_parameters()) as stopped:
        stopped.execute("SELECT 1 FROM context_indexjob FOR UPDATE")
        head_changed(project=code.project)
        with pytest.raises(OperationalError):
            session_files_changed(project_id=code.project.id, session_id=session_id, tree=commit)
    session_files_changed(project_id=code.project.id, session_id=session_id, tree=commit)
    assert IndexJob.objects.filter(session_id=session_id, state=JobState.WAITING).count() == 1

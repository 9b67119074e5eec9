"""Whoever asks the index about code gets what is in the files that they work on: nothing older, and nobody else's."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession, SessionHead, ToolCall
from apps.agents.selectors import lanes_opened
from apps.authentication.models import User
from apps.context.freshness import session_files_forget
from apps.context.indexing import index_run
from apps.context.jobs import index_claim, index_release, job_want
from apps.context.models import CodeFile, IndexJob, JobState, JobTarget, Overlay
from apps.context.overlays import overlay_follow
from apps.context.searching.search import code_search
from apps.context.types import SearchRequest, WorkFiles
from apps.projects.models import Project
from tests.integration.context_scene import code_make, job_finish, tree_make
from tests.integration.lanes_scene import DONE, UNKNOWN, plan_beside
from tests.integration.session_scene import (
    Cut,
    entry,
    lease_let_run_out,
    plan_of,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

FILES = {
    "shop/prices.py": "def price_of(item):\n    return 1\n",
    "shop/old.py": "def price_old(item):\n    return price_of(item)\n",
}
CHECK = "test -s shop/prices.py"
OWN = "from shop.prices import price_of\n\n\ndef {name}(item):\n    return price_of(item)\n"


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        user, project = project_make(Path(folder) / "repository", FILES)
        index_run(index_id=job_want(project=project).index_id)
        yield user, project


def find(name: str) -> tuple[str, dict[str, Any]]:
    return "find_symbol", {"name": name}


USED = ("find_references", {"name": "price_of"})
WORDS = ("search_code", {"query": "wombat quokka", "mode": "text"})


def observed(session: AgentSession, title: str) -> list[tuple[str, str]]:
    """What the agent of a task was told by each tool, in order."""
    calls = ToolCall.objects.filter(session=session, execution__task__title=title).exclude(name="finish")
    rows = calls.order_by("execution__created_at", "position", "ordinal").values_list("name", "observation")
    return [(name, text) for name, text in rows]


def beside() -> list[dict[str, Any]]:
    """Two tasks that add a function each, ask at once where it is and for the other's, and one that needs both."""
    entries = [entry("planner", plan_beside("Add wombat", "Add quokka", then="Join"))]
    for name, other in (("wombat", "quokka"), ("quokka", "wombat")):
        of = {"task": f"^Task: Add {name}"}
        write = ("write_file", {"path": f"shop/{name}.py", "content": OWN.format(name=f"{name}_feed")})
        asks = (find(f"{name}_feed"), find(f"{other}_feed"), USED, WORDS)
        entries += [
            entry("coder", write, **of, **UNKNOWN),
            entry("coder", *asks, **of, last_tool="write_file"),
            entry("coder", DONE, **of, last_tool="search_code"),
            entry("coder", write, **of),
        ]
    last = {"task": "^Task: Join"}
    asks = (find("wombat_feed"), find("quokka_feed"), USED, WORDS)
    entries += [entry("coder", DONE, **last, last_tool="search_code"), entry("coder", *asks, **last)]
    return entries


def beside_require(session: AgentSession) -> None:
    assert (session.status, session.outcome) == ("completed", "verified"), (session.reason, session.report)
    for name, other in (("wombat", "quokka"), ("quokka", "wombat")):
        own, others, used, words = [text for tool, text in observed(session, f"Add {name}") if tool != "write_file"]
        assert own.startswith(f"shop/{name}.py:4-5: function {name}_feed"), own
        assert others == "no such definition"
        assert f"shop/{name}.py:5: call in {name}_feed" in used and f"shop/{other}.py" not in used
        assert f"{name}_feed" in words and f"{other}_feed" not in words
        assert not any("lags" in text for text in (own, others, used, words))
    first, second, used, words = [text for _, text in observed(session, "Join")]
    assert first.startswith("shop/wombat.py:4-5:") and second.startswith("shop/quokka.py:4-5:")
    assert "shop/wombat.py:5" in used and "shop/quokka.py:5" in used and "lags" not in used
    assert "wombat_feed" in words and "quokka_feed" in words
    # Of lanes nothing is left, and what both they and the session have had was read once.
    assert len(lanes_opened(session.id)) == 2
    assert list(Overlay.objects.values_list("session_id", flat=True)) == [session.id]
    assert CodeFile.objects.filter(path__startswith="shop/").count() == 4


def test_a_lane_finds_what_it_has_written_and_nothing_of_another(scene: tuple[User, Project]) -> None:
    user, project = scene
    session = session_make(user, project, recording_write(beside()), checks=[CHECK], lanes=2)
    beside_require(session_run(session.id))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.35, 0.6, 0.85])
def test_a_worker_that_takes_over_sees_the_same(scene: tuple[User, Project], share: float) -> None:
    user, project = scene
    model = recording_write(beside())
    counting = Cut()
    session_run(session_make(user, project, model, checks=[CHECK], lanes=2).id, cut=counting)
    Overlay.objects.all().delete()
    session = session_make(user, project, model, checks=[CHECK], lanes=2)
    session_run(session.id, cut=Cut(int(counting.points * share)))
    if SessionHead.objects.get(session=session).lease_expires_at is not None:
        lease_let_run_out(session.id)
        session = session_run(session.id)
    beside_require(session)


def test_what_was_moved_deleted_or_shifted_is_found_where_it_is(scene: tuple[User, Project]) -> None:
    user, project = scene
    of = {"task": "^Task: Tidy"}
    tidy = "sed -i '1i import os\\n' shop/prices.py && mv shop/old.py shop/new.py"
    asks = (find("price_of"), find("price_old"), ("find_references", {"name": "price_of"}))
    drop = ("run_command", {"command": "rm shop/new.py"})
    entries = [
        entry("planner", plan_of("Tidy")),
        entry("coder", DONE, **of, last_tool="find_references"),
        # In one reply: nobody has had a moment to follow the files between two calls.
        entry("coder", ("run_command", {"command": tidy}), *asks, drop, *asks, **of),
    ]
    session = session_run(session_make(user, project, recording_write(entries), checks=[CHECK]).id)
    assert session.status == "completed", session.reason
    told = [text for tool, text in observed(session, "Tidy") if tool != "run_command"]
    begins = ["shop/prices.py:3-4:", "shop/new.py:1-2:", "shop/new.py:2:", "shop/prices.py:3-4:", "no", "nothing"]
    assert [text.split(" ")[0] for text in told] == begins, told


def test_files_are_followed_once_by_whoever_asks(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    code.index()
    session_id = uuid.uuid4()
    written = tree_make(code, {"heron.py": "def heron():\n    return 1\n"})
    lane, other = WorkFiles(session_id, "task-a", written), WorkFiles(session_id, "task-b", code.project.head_commit)

    def paths(files: WorkFiles) -> tuple[set[str], bool]:
        request = SearchRequest(query="heron", mode="text")
        found = code_search(project=code.project, request=request, files=files)
        return {hit.path for hit in found.hits}, found.index.lagging

    # Somebody has the index: the answer is what there is, and says so.
    lease = index_claim(code.project.code_index.id)
    assert lease is not None
    overlay_follow(project=code.project, files=lane, seconds=0.1)
    assert paths(lane) == (set(), True)
    index_release(lease)
    for files in (lane, other):
        overlay_follow(project=code.project, files=files)
    assert (paths(lane), paths(other)) == (({"heron.py"}, False), (set(), False))
    # What the default branch does meanwhile is no news to either; asking again writes nothing.
    code.commit({"greeting/heron.py": "HERON = 1\n"})
    code.index()
    before = set(Overlay.objects.values_list("id", "generation", "updated_at"))
    for files in (lane, other):
        overlay_follow(project=code.project, files=files)
    assert before == set(Overlay.objects.values_list("id", "generation", "updated_at"))
    assert (paths(lane), paths(other)) == (({"heron.py"}, False), (set(), False))
    # A session that has the lane's files now has nothing read again.
    files_read = CodeFile.objects.count()
    overlay_follow(project=code.project, files=WorkFiles(session_id, tree=written))
    assert CodeFile.objects.count() == files_read
    # A job that somebody is at when the files go leaves nothing behind.
    job = job_want(project=code.project, target=JobTarget.SESSION, session_id=session_id, revision=written)
    IndexJob.objects.filter(id=job.id).update(state=JobState.RUNNING)
    session_files_forget(session_id=session_id, lanes=["task-a", "task-b"])
    assert job_finish(job).state == JobState.CANCELLED
    assert not Overlay.objects.exists()

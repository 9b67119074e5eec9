"""Whatever stops a run, the session is left in a state from which it goes on, or that it keeps."""

from __future__ import annotations

import asyncio
import datetime
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection, connections
from django.utils import timezone

from apps.agents.models import AgentSession, SessionEvent, ToolCall
from apps.agents.services.ledger import Ledger
from apps.agents.services.master_orchestrator import session_cancel
from apps.agents.services.sessions import StaleFence, lease_claim
from apps.agents.services.steering import session_steer
from apps.agents.tasks import prune_sessions
from apps.agents.types import AgentType, Event, Reason, SessionOutcome, SessionStatus
from apps.authentication.models import User
from apps.core.database import EVENT_LOOP_NAME, AsyncDatabase, connection_parameters
from apps.core.realtime import Hub
from apps.projects.models import Project
from apps.projects.worktree import worktree_path
from apps.usage.models import Budget, ModelCall
from tests.integration.session_scene import (
    Cut,
    entry,
    events_of,
    executor_open,
    lease_let_run_out,
    project_make,
    recording_write,
    session_make,
    session_run,
)

pytestmark = pytest.mark.django_db(transaction=True)

DONE = ("finish", {"summary": "done"})


@pytest.fixture
def project() -> Iterator[Project]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", {"data.txt": "x\n"})[1]


def sleeper(project: Project, *, limit_seconds: int = 600) -> AgentSession:
    """A session whose agent runs a command that takes long, once."""
    model = recording_write(
        [
            entry("coder", DONE, last_tool="write_file"),
            entry("coder", ("write_file", {"path": "a.txt", "content": "a"}), last_tool="run_command"),
            entry("coder", ("run_command", {"command": "test -e began || { touch began; sleep 60; }"})),
        ]
    )
    return make(project, model, limit_seconds=limit_seconds)


def make(project: Project, model: str, *, limit_seconds: int = 600) -> AgentSession:
    user: User = project.memberships.get().user
    return session_make(user, project, model, agent_type=AgentType.CODER, checks=["true"], limit_seconds=limit_seconds)


def checkpoints(session: AgentSession) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM checkpoints WHERE thread_id = %s", [str(session.id)])
        return int(cursor.fetchone()[0])


async def command_begun(session: AgentSession, database: AsyncDatabase) -> None:
    calls = ToolCall.objects.filter(session=session, name="run_command")
    async with asyncio.timeout(60):
        while not await database.run_in_thread(calls.exists):
            await asyncio.sleep(0.05)


def test_a_command_does_not_outlast_the_session_s_time(project: Project) -> None:
    session = session_run(sleeper(project, limit_seconds=4).id)
    assert session.status == "paused"
    assert session.reason is not None and session.reason["code"] == "time_limit_reached"


def test_a_restarted_database_fails_no_session(project: Project) -> None:
    session = make(
        project,
        recording_write(
            [
                entry("coder", DONE, last_tool="write_file"),
                entry("coder", ("write_file", {"path": "a.txt", "content": "a"}), last_tool="run_command"),
                entry("coder", ("run_command", {"command": "sleep 1"})),
            ]
        ),
    )

    async def main() -> None:
        database = AsyncDatabase()
        async with executor_open(database) as executor:
            running = asyncio.create_task(executor.session_execute(session.id))
            await command_begun(session, database)
            await database.run_in_thread(connections_break)
            await running

    connections.close_all()
    asyncio.run(main())
    row = AgentSession.objects.select_related("head").get(id=session.id)
    # What the command came to is written once the database is back: no outcome is unknown, and nobody takes over.
    assert (row.status, row.outcome, row.head.claims) == ("completed", "verified", 1), row.reason
    assert not ToolCall.objects.filter(session=row, observation__contains="outcome is unknown").exists()


def connections_break() -> None:
    """What a restart of the database does to a worker's event loop; what other tests hold in this process stays."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = %s",
            [EVENT_LOOP_NAME],
        )


def test_a_finished_session_has_no_checkpoint_and_stays_finished(project: Project) -> None:
    session = make(project, recording_write([entry("coder", DONE)]))
    finished = session_run(session.id)
    assert finished.status == "completed"
    assert checkpoints(finished) == 0


def test_what_an_ended_session_left_behind_is_cleared_away(project: Project) -> None:
    """A session that was cancelled under a worker's hands, one of a project that is gone, and one that goes on."""
    user = project.memberships.get().user
    model = recording_write([entry("coder", DONE)])
    ended, going = make(project, model), make(project, model)
    points = Cut()
    session_run(make(project, model).id, cut=points)
    for session in (ended, going):
        session_run(session.id, cut=Cut(points.points // 2))
        assert checkpoints(session) and worktree_path(session_id=session.id).exists()
    session_cancel(user=user, session_id=ended.id)
    gone = worktree_path(session_id=uuid.uuid4())
    gone.mkdir(parents=True)
    prune_sessions()
    assert not gone.exists()
    assert not checkpoints(ended)
    assert worktree_path(session_id=ended.id).exists(), "a worker may still be letting go of it"
    AgentSession.objects.filter(id=ended.id).update(finished_at=timezone.now() - datetime.timedelta(hours=2))
    prune_sessions()
    assert not worktree_path(session_id=ended.id).exists()
    lease_let_run_out(going.id)
    assert session_run(going.id).status == "completed"


def test_what_goes_wrong_after_the_end_does_not_undo_it(project: Project) -> None:
    session = make(project, recording_write([entry("coder", DONE)]))

    async def main() -> None:
        database = AsyncDatabase()
        await database.open()
        lease = await lease_claim(database=database, session_id=session.id, owner="test", seconds=10)
        assert lease is not None
        hub = Hub()
        ledger = Ledger(database=database, hub=hub, lease=lease)
        await ledger.session_end(
            Event("SessionCompleted"), status=SessionStatus.COMPLETED, outcome=SessionOutcome.UNVERIFIED.value
        )
        with pytest.raises(StaleFence):
            await ledger.session_end(Event("SessionFailed"), status=SessionStatus.FAILED, reason=Reason("x", "y"))
        await asyncio.sleep(0.05)
        await hub.close()
        await database.close()

    asyncio.run(main())
    assert AgentSession.objects.get(id=session.id).status == "completed"
    assert not SessionEvent.objects.filter(session=session, type="SessionFailed").exists()


class CallCut(Cut):
    """Lets the worker die as soon as a call of the model is under way."""

    def __init__(self, session_id: uuid.UUID) -> None:
        super().__init__()
        self._session_id = session_id

    def __call__(self) -> None:
        if not self.dead:
            with psycopg.connect(**connection_parameters()) as connection:
                held = "SELECT FROM usage_modelcall WHERE scope_id = %s AND state = 'reserved'"
                if connection.execute(held, (self._session_id,)).fetchone() is not None:
                    self.at = self.points + 1
        super().__call__()


def test_what_a_dead_worker_held_is_counted_when_the_session_is_cancelled(project: Project) -> None:
    session = make(project, recording_write([entry("coder", DONE)]))
    session_run(session.id, cut=CallCut(session.id))
    assert ModelCall.objects.filter(budget_id=session.id, state="reserved").exists()
    session_cancel(user=project.memberships.get().user, session_id=session.id)
    budget = Budget.objects.get(scope_id=session.id)
    assert (budget.reserved_steps, budget.spent_steps) == (0, 1)
    assert events_of(session.id)[-1].type == "SessionCancelled"


def test_what_a_dead_worker_held_is_counted_when_another_call_took_its_place(project: Project) -> None:
    """Somebody says something before the next worker comes, so that it asks under another key."""
    user = project.memberships.get().user
    session = make(project, recording_write([entry("coder", DONE)]))
    session_run(session.id, cut=CallCut(session.id))
    assert ModelCall.objects.filter(budget_id=session.id, state="reserved").exists()
    session_steer(user=user, session_id=session.id, text="Be brief.")
    lease_let_run_out(session.id)
    assert session_run(session.id).status == "completed"
    budget = Budget.objects.get(scope_id=session.id)
    assert (budget.reserved_steps, budget.reserved_tokens) == (0, 0)
    assert not ModelCall.objects.filter(budget_id=session.id, state="reserved").exists()
    assert budget.spent_steps == ModelCall.objects.filter(budget_id=session.id).count()

"""A session's time is what workers have it: neither a person's pause, nor a dead worker's silence, counts."""

from __future__ import annotations

import asyncio
import datetime
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone

from apps.agents.models import AgentSession, SessionHead
from apps.agents.services.master_orchestrator import session_answer, session_pause, session_resume
from apps.agents.services.sessions import lease_claim, lease_release, seconds_used
from apps.authentication.models import User
from apps.core.database import AsyncDatabase
from apps.projects.models import Project
from tests.api import client_for
from tests.integration.session_scene import entry, events_of, project_make, recording_write, session_make, session_run

pytestmark = pytest.mark.django_db(transaction=True)


def idle() -> str:
    """A model that nobody asks."""
    return recording_write([entry("coder", ("finish", {"summary": "done"}))])


HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", {"data.txt": "x\n"})


def claim(session: AgentSession, *, release: bool = False) -> AgentSession:
    async def main() -> None:
        database = AsyncDatabase()
        await database.open()
        try:
            lease = await lease_claim(database=database, session_id=session.id, owner="test", seconds=60)
            assert lease is not None
            if release:
                await lease_release(database=database, lease=lease)
        finally:
            await database.close()

    asyncio.run(main())
    return AgentSession.objects.select_related("head").get(id=session.id)


def running_for(session: AgentSession, time: datetime.timedelta) -> None:
    AgentSession.objects.filter(id=session.id).update(running_since=timezone.now() - time)


def test_a_night_between_pause_and_resume_costs_nothing(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = session_make(*scene, idle(), limit_seconds=7200)
    assert seconds_used(session) == 0, "waiting for a worker is no time"
    claim(session)
    running_for(session, HOUR)
    paused = session_pause(user=user, session_id=session.id)
    assert paused.running_since is None
    assert 3600 <= paused.used_seconds < 3700
    AgentSession.objects.filter(id=session.id).update(started_at=timezone.now() - 12 * HOUR)
    client = client_for(user)
    elapsed = client.get(f"/api/agents/sessions/{session.id}/progress/").json()["elapsed_s"]
    assert 3600 <= elapsed < 3700
    session_resume(user=user, session_id=session.id)
    taken = claim(session)
    assert 3600 <= seconds_used(taken) < 3700


def test_a_dead_worker_had_it_until_its_lease_ran_out(scene: tuple[User, Project]) -> None:
    session = session_make(*scene, idle())
    claim(session)
    running_for(session, 10 * HOUR)
    SessionHead.objects.filter(session=session).update(lease_expires_at=timezone.now() - 9 * HOUR)
    left = AgentSession.objects.select_related("head").get(id=session.id)
    assert 3600 <= seconds_used(left) < 3700
    taken = claim(session)
    assert 3600 <= taken.used_seconds < 3700
    assert taken.running_since is not None and seconds_used(taken) < 3700


def test_a_worker_that_stops_lets_the_clock_stand(scene: tuple[User, Project]) -> None:
    session = claim(session_make(*scene, idle()), release=True)
    assert session.running_since is None and session.status == "running"


def test_thinking_about_an_answer_costs_nothing_and_working_does(scene: tuple[User, Project]) -> None:
    user, _ = scene
    model = recording_write(
        [
            entry("coder", ("finish", {"summary": "done"}), last_tool="ask_user"),
            entry("coder", ("ask_user", {"question": "Which?"})),
        ]
    )
    session = session_make(*scene, model, agent_type="coder", checks=["true"], limit_seconds=600)  # type: ignore[arg-type]
    waiting = session_run(session.id)
    assert waiting.status == "waiting_input" and waiting.running_since is None
    assert 0 < waiting.used_seconds < 600
    AgentSession.objects.filter(id=session.id).update(started_at=timezone.now() - 12 * HOUR)
    (asked,) = events_of(session.id, "QuestionAsked")
    session_answer(user=user, session_id=session.id, question_id=asked.payload["question"], answer="this one")
    done = session_run(session.id)
    assert done.status == "completed", done.reason
    assert waiting.used_seconds < done.used_seconds < 600


def test_time_that_was_worked_counts_over_pauses(scene: tuple[User, Project]) -> None:
    user, _ = scene
    model = recording_write([entry("coder", ("finish", {"summary": "done"}))])
    session = session_make(*scene, model, agent_type="coder", checks=["true"], limit_seconds=100)  # type: ignore[arg-type]
    AgentSession.objects.filter(id=session.id).update(used_seconds=101)
    paused = session_run(session.id)
    assert (paused.status, paused.reason["code"]) == ("paused", "time_limit_reached")  # type: ignore[index]
    session_resume(user=user, session_id=session.id, limit_seconds=400)
    assert session_run(session.id).status == "completed"

"""A worker's sessions: handed over at once, run again when they were paused and resumed, let go of at the end."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connections
from psycopg_pool import PoolTimeout

from apps.agents.models import AgentSession, SessionHead, ToolCall
from apps.agents.services.master_orchestrator import session_pause, session_resume
from apps.agents.services.session_host import SessionHost
from apps.agents.types import AgentType
from apps.projects.models import Project
from tests.integration.session_scene import entry, project_make, recording_write, session_make

pytestmark = pytest.mark.django_db(transaction=True)

DONE = ("finish", {"summary": "done"})


@pytest.fixture
def project() -> Iterator[Project]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", {"data.txt": "x\n"})[1]


@pytest.fixture
def host() -> Iterator[SessionHost]:
    host = SessionHost(sessions=4)
    host.start()
    yield host
    host.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.02)


def slow_session(project: Project) -> AgentSession:
    model = recording_write(
        [
            entry("coder", DONE, last_tool="run_command"),
            entry("coder", ("run_command", {"command": "test -e began || { touch began; sleep 60; }"})),
        ]
    )
    user = project.memberships.get().user
    return session_make(user, project, model, agent_type=AgentType.CODER, checks=["true"])


def test_a_session_resumed_while_it_still_stops_is_run_again_at_once(project: Project, host: SessionHost) -> None:
    """Without waiting for the sweep, which has no part in this test."""
    session, user = slow_session(project), project.memberships.get().user
    host.submit(session.id)
    wait_until(ToolCall.objects.filter(session=session, name="run_command").exists)
    session_pause(user=user, session_id=session.id)
    session_resume(user=user, session_id=session.id)
    host.submit(session.id)
    wait_until(lambda: AgentSession.objects.get(id=session.id).status == "completed")


def test_a_worker_that_stops_lets_go_of_its_sessions_at_once(project: Project) -> None:
    host = SessionHost(sessions=4)
    host.start()
    session = slow_session(project)
    host.submit(session.id)
    wait_until(ToolCall.objects.filter(session=session, name="run_command").exists)
    host.stop()
    head = SessionHead.objects.get(session=session)
    assert head.wanted and head.lease_expires_at is None
    assert AgentSession.objects.get(id=session.id).status == "running"


def test_a_host_that_cannot_start_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "PORT", "1")
    monkeypatch.setattr("apps.core.database.OPEN_SECONDS", 0.5)
    before = set(threading.enumerate())
    with pytest.raises(PoolTimeout):
        SessionHost(sessions=1).start()
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()

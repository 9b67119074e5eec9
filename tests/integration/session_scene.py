"""Sessions that really run, in this process: a project, a recorded model, executors that can be cut off anywhere."""

from __future__ import annotations

import asyncio
import datetime
import json
import random
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.db import connections
from django.utils import timezone
from psycopg_pool import AsyncConnectionPool

from apps.agents.models import AgentSession, SessionEvent, SessionHead
from apps.agents.services.autonomous_executor import SessionExecutor
from apps.agents.services.leases import LeaseKeeper
from apps.agents.services.master_orchestrator import SessionRequest, session_start
from apps.agents.types import AgentType, Review
from apps.authentication.models import User
from apps.core.database import AsyncDatabase, Connection
from apps.core.realtime import Hub
from apps.projects.models import Project, RepositoryState
from apps.projects.repository import repository_import_path
from apps.usage.choices import ModelConfiguration
from apps.usage.gateway import ModelGateway
from apps.usage.types import Limits
from tests.builders import project_build, repository_build, user_build

P = ParamSpec("P")
T = TypeVar("T")

LIMITS = Limits(tokens=10**9, steps=1000)


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it, and the database is out of reach from then on."""


class Cut:
    """Counts the points at which a process could die, and lets one die at the ``at``-th of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.points = 0
        self.dead = False

    def __call__(self) -> None:
        if self.dead:
            raise Killed
        self.points += 1
        if self.points == self.at:
            self.dead = True
            raise Killed


class Meddling(Cut):
    """Lets somebody act at points of a run, as another process would.

    The run waits for that where it is, but not for good: what they need may be locked by a part of the run that goes on
    only with the others. They act as soon as it has let go then.
    """

    _WAIT_SECONDS = 1.0

    def __init__(self) -> None:
        super().__init__()
        self._acting: threading.Thread | None = None

    def meddle(self, act: Callable[[], object]) -> None:
        """Have this done, unless what was begun before is still under way."""
        if self._acting is None or not self._acting.is_alive():
            self._acting = threading.Thread(target=self._do, args=[act])
            self._acting.start()
            self._acting.join(self._WAIT_SECONDS)

    def over(self) -> None:
        """Wait for what is under way."""
        if self._acting is not None:
            self._acting.join()

    @staticmethod
    def _do(act: Callable[[], object]) -> None:
        try:
            act()
        finally:
            connections.close_all()


class CutPool(AsyncConnectionPool[Connection]):
    """A pool that has a point before each use of a connection and one after it, when its work is committed."""

    cut: Cut

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:
        self.cut()
        async with super().connection(timeout) as connection:
            yield connection
        self.cut()


class CutDatabase(AsyncDatabase):
    """A database that is lost at a point of the run, with whatever would still have been written."""

    def __init__(self, cut: Cut) -> None:
        super().__init__(pool_class=CutPool)
        self._cut = cut
        assert isinstance(self.pool, CutPool)
        self.pool.cut = cut

    async def run_in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._cut()
        result = await super().run_in_thread(function, *args, **kwargs)
        self._cut()
        return result


def project_make(folder: Path, files: Mapping[str, str], *, user: User | None = None) -> tuple[User, Project]:
    """A project with a repository of these files."""
    user = user or user_build()
    project = project_build(user=user)
    repository_build(folder, files)
    with_root = settings.ARCHON_REPOSITORY_ROOTS
    settings.ARCHON_REPOSITORY_ROOTS = [str(folder)]
    try:
        info = repository_import_path(project_id=project.id, source=str(folder))
    finally:
        settings.ARCHON_REPOSITORY_ROOTS = with_root
    Project.objects.filter(id=project.id).update(
        repository_state=RepositoryState.READY, default_branch=info.default_branch, head_commit=info.head_commit
    )
    return user, Project.objects.get(id=project.id)


def recording_write(entries: Sequence[Mapping[str, Any]]) -> str:
    """The name of a model that plays these entries."""
    name = f"test-{uuid.uuid4().hex}"
    folder = settings.ARCHON_HOME / "recordings"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"format": 1, "entries": list(entries)}))
    return f"scripted:{name}"


def entry(role: str, *calls: tuple[str, Mapping[str, Any]], text: str = "", **when: Any) -> dict[str, Any]:
    """One answer of a recording: under these conditions, these calls."""
    tool_calls = [{"name": name, "args": arguments} for name, arguments in calls]
    return {"when": {"role": role, **when}, "reply": {"text": text, "tool_calls": tool_calls}}


def plan_of(*titles: str) -> tuple[str, dict[str, Any]]:
    """The call by which a planner hands over a plan of these tasks."""
    tasks = [{"title": title} for title in titles]
    return "submit_plan", {"summary": "the plan", "features": [{"title": "all", "tasks": tasks}]}


def session_make(
    user: User,
    project: Project,
    model: str,
    *,
    agent_type: AgentType = AgentType.EXECUTOR,
    checks: Sequence[str] = (),
    limits: Limits = LIMITS,
    limit_seconds: int = 600,
    goal: str = "make it work",
    models: ModelConfiguration | None = None,
    review: Review = Review.NEVER,
    lanes: int = 1,
) -> AgentSession:
    """A session that waits for a worker; without reviews and one task at a time unless asked
    for otherwise, since most recordings know nothing of these."""
    request = SessionRequest(
        project_id=project.id,
        goal=goal,
        limits=limits,
        limit_seconds=limit_seconds,
        agent_type=agent_type,
        models=models or ModelConfiguration(model=model),
        checks=tuple(checks),
        review=review,
        lanes=lanes,
    )
    return session_start(user=user, request=request, execute=True)


@asynccontextmanager
async def executor_open(
    database: AsyncDatabase | None = None, *, lease_seconds: float = 60
) -> AsyncIterator[SessionExecutor]:
    """An executor with all that it needs, as a worker has it."""
    database = database or AsyncDatabase()
    await database.open()
    hub, gateway, keeper = Hub(), ModelGateway(database=database), LeaseKeeper(seconds=lease_seconds)
    keeper.start()
    try:
        yield SessionExecutor(database=database, hub=hub, gateway=gateway, keeper=keeper, owner="test")
    finally:
        keeper.stop()
        await gateway.close()
        await hub.close()
        await database.close()


def session_run(session_id: uuid.UUID, *, cut: Cut | None = None) -> AgentSession:
    """Run the session as one worker would, until it ends, waits or is cut off; the session as it is then."""

    async def main() -> None:
        async with executor_open(CutDatabase(cut) if cut is not None else None) as executor:
            try:
                await executor.session_execute(session_id)
            except Killed:
                assert cut is not None and cut.dead

    asyncio.run(main())
    if isinstance(cut, Meddling):
        cut.over()
    return AgentSession.objects.select_related("head").get(id=session_id)


def lease_let_run_out(session_id: uuid.UUID) -> None:
    past = timezone.now() - datetime.timedelta(seconds=1)
    SessionHead.objects.filter(session_id=session_id, lease_expires_at__isnull=False).update(lease_expires_at=past)


def events_of(session_id: uuid.UUID, *types: str) -> list[SessionEvent]:
    events = SessionEvent.objects.filter(session_id=session_id).order_by("seq")
    return list(events.filter(type__in=types) if types else events)


def messages_of(session_id: uuid.UUID) -> Iterator[tuple[str, dict[str, Any]]]:
    """Role and message of every conversation, in order."""
    session = AgentSession.objects.get(id=session_id)
    for execution in session.executions.order_by("created_at"):
        for row in execution.messages.order_by("position"):
            yield execution.role, row.message


def points_taken(points: int, *, part: int, parts: int, every: bool) -> list[int]:
    """This part's share of the points from 1 on: of all, or of a twelfth that the run's seed chooses."""
    # The seed is the same in all processes of a run.
    taken = range(1, points + 1) if every else range(1 + random.randrange(12), points + 1, 12)
    return list(taken)[part::parts]

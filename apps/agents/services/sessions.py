"""The only writer of a session's status and events.

Every write goes through the session's head row: one statement takes the next numbers and checks the fence, so a worker
that lost its lease writes nothing, and numbers have no gap because a rolled-back write gives them back. What tells
others leaves after the commit.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from apps.agents.models import AgentSession, SessionHead, ToolCall
from apps.agents.services.places import place_take
from apps.agents.types import (
    TERMINAL_STATUSES,
    AgentType,
    Event,
    Lease,
    Reason,
    Review,
    SessionStatus,
    ToolCallStatus,
)
from apps.core.database import AsyncDatabase, Connection
from apps.core.errors import Conflict, NotFound
from apps.core.queue import enqueue_on_commit
from apps.core.realtime import publish_on_commit
from apps.core.storable import json_dump
from apps.planning.models import Plan
from apps.planning.types import MadeIn
from apps.projects.autonomy import Autonomy
from apps.projects.models import Project

P = ParamSpec("P")
T = TypeVar("T")

EXECUTE_TASK = "apps.agents.tasks.execute_session"
#: The wiring of today's graphs; a session in flight under another version starts its task again from the rows.
GRAPH_VERSION = 5
#: Sessions that one sweep wakes at most, and after how long it wakes one again that no worker has taken up: those that
#: wait in a worker's line are told of once in a while, not with each sweep.
WANTED_SESSIONS = 500
WAKE_AGAIN_SECONDS = 10.0
#: Where Postgres tells that a session's fence has moved; the payload is the session's id.
FENCE_CHANNEL = "archon_fence"

_APPEND = """
WITH head AS (
    UPDATE agents_sessionhead SET seq = seq + %(count)s, written = seq + greatest(%(count)s, 1)
    WHERE session_id = %(session)s AND (%(fence)s::bigint IS NULL OR fence = %(fence)s::bigint)
    RETURNING seq, steering
), inserted AS (
    INSERT INTO agents_sessionevent (session_id, seq, type, payload, created_at)
    SELECT %(session)s, head.seq - %(count)s + event.ordinality, event.type, event.payload, clock_timestamp()
    FROM head, unnest(%(types)s::text[], %(payloads)s::jsonb[]) WITH ORDINALITY AS event(type, payload, ordinality)
)
SELECT seq, steering FROM head
"""
#: For so long after the database has started no lease counts as run out: it could not be renewed, and its worker may
#: hold what has happened meanwhile (a reply, a tool's result), which it writes as soon as it is connected again.
RETURN_SECONDS = 5
_FREE = (
    "(head.lease_expires_at IS NULL OR head.lease_expires_at < now()"
    f" AND pg_postmaster_start_time() < now() - interval '{RETURN_SECONDS} seconds')"
)
_CLAIM = f"""
UPDATE agents_sessionhead AS head
SET fence = fence + 1, claims = claims + 1, owner = %(owner)s, woken_at = NULL,
    lease_expires_at = now() + make_interval(secs => %(seconds)s)
FROM agents_agentsession AS session,
     (SELECT session_id, lease_expires_at FROM agents_sessionhead WHERE session_id = %(session)s FOR UPDATE) AS former
WHERE head.session_id = %(session)s AND session.id = head.session_id AND former.session_id = head.session_id
  AND head.wanted AND session.status IN ('pending', 'running')
  AND {_FREE}
RETURNING head.fence, head.claims, former.lease_expires_at AS expired_at
"""
_WANTED = f"""
WITH due AS (
    SELECT head.session_id, session.created_at
    FROM agents_sessionhead AS head JOIN agents_agentsession AS session ON session.id = head.session_id
    WHERE head.wanted AND session.status IN ('pending', 'running')
      AND {_FREE}
      AND (head.woken_at IS NULL OR head.woken_at < now() - make_interval(secs => %(again)s))
    ORDER BY session.created_at LIMIT %(most)s FOR UPDATE OF head SKIP LOCKED
), woken AS (
    UPDATE agents_sessionhead AS head SET woken_at = now() FROM due WHERE head.session_id = due.session_id
)
SELECT session_id FROM due ORDER BY created_at
"""
#: Count the time since a worker took the session up; nothing while none has it.
CLOCK_STOP = (
    "UPDATE agents_agentsession SET used_seconds = used_seconds"
    " + coalesce(greatest(0, extract(epoch FROM now() - running_since)), 0), running_since = NULL WHERE id = %s"
)
_TAKE_UP = (
    "UPDATE agents_agentsession SET status = 'running', started_at = coalesce(started_at, now()), updated_at = now(),"
    # A worker that died was at work until its lease ran out at the latest.
    " used_seconds = used_seconds"
    " + coalesce(greatest(0, extract(epoch FROM coalesce(%(expired)s, now()) - running_since)), 0),"
    " running_since = now() WHERE id = %(session)s"
)


class StaleFence(Exception):
    """The lease was taken or revoked: whoever meets this stops, since somebody else decides now."""


@dataclass(frozen=True)
class Appended:
    """What an append came to: the last ``seq``, and whether people have said something that the agent has yet to hear.

    Both are exact until the transaction ends, since the head row is locked.
    """

    seq: int
    steering: bool


def topic_of(session_id: uuid.UUID) -> str:
    """The realtime topic of a session's bell and token deltas."""
    return f"session:{session_id}"


def _append_parameters(session_id: uuid.UUID, fence: int | None, events: Sequence[Event]) -> dict[str, Any]:
    return {
        "session": session_id,
        "fence": fence,
        "count": len(events),
        "types": [event.type for event in events],
        "payloads": [json_dump(event.payload) for event in events],
    }


def event_append(*, session_id: uuid.UUID, events: Sequence[Event], fence: int | None = None) -> int:
    """Append inside the caller's transaction; the last ``seq``. A command needs no lease, and so no fence.

    With a fence, StaleFence is raised when it is an older one, and everything else in the transaction is fenced too.
    """
    with connection.cursor() as cursor:
        cursor.execute(_APPEND, _append_parameters(session_id, fence, events))
        row = cursor.fetchone()
    if row is None:
        if fence is not None:
            raise StaleFence(f"session {session_id} is no longer run under fence {fence}")
        raise NotFound(f"there is no session {session_id}")
    publish_on_commit(topic_of(session_id), {"seq": row[0]})
    return int(row[0])


async def event_append_fenced(*, connection: Connection, lease: Lease, events: Sequence[Event]) -> Appended:
    """Append from the worker that holds the lease, inside the caller's transaction.

    Locks the head row until the transaction ends, which makes everything else in it fenced too. Raises StaleFence.
    """
    cursor = await connection.execute(_APPEND, _append_parameters(lease.session_id, lease.fence, events))
    row = await cursor.fetchone()
    if row is None:
        raise StaleFence(f"session {lease.session_id} is no longer run under fence {lease.fence}")
    return Appended(int(row["seq"]), bool(row["steering"]))


def session_create(
    *,
    session_id: uuid.UUID,
    project: Project,
    user_id: uuid.UUID,
    goal: str,
    agent_type: AgentType,
    model: str,
    base_url: str,
    role_models: Mapping[str, Any] | None = None,
    base_branch: str,
    base_commit: str,
    check_commands: list[str],
    setup_command: str,
    limit_seconds: int,
    subfolder: str = "",
    autonomy: Autonomy = Autonomy.AUTO,
    lanes: int = 1,
    secrets: Sequence[Mapping[str, Any]] = (),
    review: Review = Review.NEVER,
    agents: Mapping[str, Any] | None = None,
) -> AgentSession:
    """A pending session with its head row and first event; inside the caller's transaction."""
    session = AgentSession.objects.create(
        id=session_id,
        project=project,
        created_by_id=user_id,
        goal=goal,
        agent_type=agent_type,
        model=model,
        base_url=base_url,
        role_models=dict(role_models or {}),
        branch=f"archon/{session_id}",
        base_branch=base_branch,
        base_commit=base_commit,
        check_commands=check_commands,
        setup_command=setup_command,
        limit_seconds=limit_seconds,
        subfolder=subfolder,
        autonomy=autonomy,
        lanes=lanes,
        secrets=[dict(use) for use in secrets],
        review=review,
        agents=dict(agents or {}),
        graph_version=GRAPH_VERSION,
    )
    SessionHead.objects.create(session=session)
    created = Event(
        "SessionCreated",
        {
            "goal": goal,
            "agent_type": agent_type,
            "model": model,
            "branch": session.branch,
            "autonomy": autonomy.value,
            "lanes": lanes,
        },
    )
    event_append(session_id=session_id, events=[created])
    return session


def session_lock(session_id: uuid.UUID) -> AgentSession:
    """The session, with its head row locked until the transaction ends: no claim, event or transition runs beside."""
    try:
        SessionHead.objects.select_for_update().get(session_id=session_id)
    except SessionHead.DoesNotExist:
        raise NotFound(f"there is no session {session_id}") from None
    return AgentSession.objects.get(id=session_id)


@transaction.atomic
def session_wake(*, session_id: uuid.UUID, allowed: Sequence[SessionStatus], event: Event) -> AgentSession:
    """Let a worker take the session: wanted, free of any lease, announced. Asking again changes nothing.

    Raises TooManySessions for one that had no place among those at work and finds none free.
    """
    session = session_lock(session_id)
    head = session.head
    if session.status in (SessionStatus.PENDING, SessionStatus.RUNNING) and head.wanted:
        enqueue_on_commit(EXECUTE_TASK, session_id=str(session_id))
        return session
    state_require(session, allowed)
    if session.status in (SessionStatus.PENDING, SessionStatus.PAUSED):
        place_take(session)
    SessionHead.objects.filter(session_id=session_id).update(
        wanted=True, lease_expires_at=None, owner="", woken_at=None
    )
    if session.status != SessionStatus.PENDING:
        session.status = SessionStatus.RUNNING
        session.reason = None
        session.save(update_fields=["status", "reason", "updated_at"])
    event_append(session_id=session_id, events=[event])
    enqueue_on_commit(EXECUTE_TASK, session_id=str(session_id))
    return session


@transaction.atomic
def session_stop(
    *,
    session_id: uuid.UUID,
    status: SessionStatus,
    allowed: Sequence[SessionStatus],
    event: Event,
    reason: Reason | None = None,
) -> AgentSession:
    """Take the session away from whoever runs it, at once: the fence moves on, so nothing more is written under it.

    A worker hears it at once from the database, or at its next look or write, and ends what it was doing; the calls of
    tools that this cuts off are told as stopped. Asking again changes nothing.
    """
    session = session_lock(session_id)
    if session.status == status:
        return session
    state_require(session, allowed)
    clock_stop(session)
    fence_move(session, wanted=False)
    session.status = status
    session.reason = reason.as_dict() if reason else None
    if status in TERMINAL_STATUSES:
        session.finished_at = timezone.now()
    session.save(update_fields=["status", "reason", "finished_at", "used_seconds", "running_since", "updated_at"])
    event_append(session_id=session_id, events=[*_calls_stop(session_id), event])
    return session


def fence_move(session: AgentSession, *, wanted: bool) -> None:
    """Take a locked session from whoever runs it, and have that worker hear of it when this commits."""
    SessionHead.objects.filter(session_id=session.id).update(
        wanted=wanted, owner="", lease_expires_at=None, woken_at=None, fence=F("fence") + 1
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [FENCE_CHANNEL, str(session.id)])


def _calls_stop(session_id: uuid.UUID) -> list[Event]:
    """Mark the calls that are under way as stopped, which is all that can be known of them."""
    calls = list(ToolCall.objects.filter(session_id=session_id, status=ToolCallStatus.OPEN).order_by("created_at"))
    ToolCall.objects.filter(id__in=[call.id for call in calls]).update(
        status=ToolCallStatus.STOPPED, updated_at=timezone.now()
    )
    return [Event("ToolStopped", {"call": str(call.id), "name": call.name}) for call in calls]


def clock_stop(session: AgentSession) -> None:
    """Count the time since a worker took the session up; the caller saves ``used_seconds`` and ``running_since``."""
    session.used_seconds = seconds_used(session)
    session.running_since = None


def seconds_used(session: AgentSession) -> float:
    """How long the session has run so far. A worker that died was at work until its lease ran out at the latest."""
    if session.running_since is None:
        return session.used_seconds
    now = timezone.now()
    until = min(now, session.head.lease_expires_at or now)
    return session.used_seconds + max(0.0, (until - session.running_since).total_seconds())


def made_in(session_id: uuid.UUID) -> MadeIn:
    """What a version of a plan bears that is made now; inside a transaction that has locked the head row."""
    written = SessionHead.objects.values_list("written", flat=True).get(session_id=session_id)
    return MadeIn(session_id=session_id, seq=written)


def session_plan_set(*, session_id: uuid.UUID, plan: Plan) -> None:
    """What the session carries out; inside the caller's fenced transaction."""
    AgentSession.objects.filter(id=session_id).update(plan=plan, updated_at=timezone.now())


def state_require(session: AgentSession, allowed: Sequence[SessionStatus]) -> None:
    """Conflict, naming the state, unless the session is in one of these."""
    if session.status not in allowed:
        raise Conflict(
            f"the session is {session.status}",
            next_step=f"this works while a session is {' or '.join(allowed)}",
            state=session.status,
        )


def sessions_wanted_take() -> list[uuid.UUID]:
    """Sessions that should run and that no living worker holds, the oldest first, each once in a while."""
    with connection.cursor() as cursor:
        cursor.execute(_WANTED, {"again": WAKE_AGAIN_SECONDS, "most": WANTED_SESSIONS})
        return [row[0] for row in cursor.fetchall()]


def fenced_call(lease: Lease, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that writes through the ORM, in a transaction that holds the fence. Raises StaleFence."""
    with transaction.atomic():
        held = SessionHead.objects.select_for_update().filter(session_id=lease.session_id, fence=lease.fence)
        if not held.exists():
            raise StaleFence(f"session {lease.session_id} is no longer run under fence {lease.fence}")
        return function(*args, **kwargs)


async def lease_claim(*, database: AsyncDatabase, session_id: uuid.UUID, owner: str, seconds: float) -> Lease | None:
    """Take the session if it is wanted and nobody's lease is alive; None for whoever comes second."""
    async with database.transaction() as connection:
        cursor = await connection.execute(_CLAIM, {"session": session_id, "owner": owner, "seconds": seconds})
        row = await cursor.fetchone()
        if row is None:
            return None
        lease = Lease(session_id=session_id, fence=row["fence"], attempt=row["claims"])
        await connection.execute(_TAKE_UP, {"session": session_id, "expired": row["expired_at"]})
        started = Event("SessionStarted", {"worker": owner, "attempt": lease.attempt})
        await event_append_fenced(connection=connection, lease=lease, events=[started])
        return lease


async def lease_release(*, database: AsyncDatabase, lease: Lease) -> None:
    """Give the lease up so that another worker need not wait for it to run out."""
    async with database.transaction() as connection:
        cursor = await connection.execute(
            "UPDATE agents_sessionhead SET lease_expires_at = NULL, owner = '' WHERE session_id = %s AND fence = %s",
            (lease.session_id, lease.fence),
        )
        if cursor.rowcount:
            await connection.execute(CLOCK_STOP, (lease.session_id,))

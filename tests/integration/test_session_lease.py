"""The lease and its fence: one worker runs a session, and one that lost it writes nothing."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from langgraph.checkpoint.serde.types import INTERRUPT

from apps.agents.models import AgentSession, SessionEvent, SessionHead
from apps.agents.services.checkpoints import FencedSaver, thread_config
from apps.agents.services.leases import LeaseKeeper
from apps.agents.services.ledger import Ledger
from apps.agents.services.ledger_records import ToolCallIntent
from apps.agents.services.sessions import (
    WAKE_AGAIN_SECONDS,
    StaleFence,
    fence_move,
    lease_claim,
    session_lock,
    session_stop,
    session_wake,
    sessions_wanted_take,
)
from apps.agents.types import Event, Lease, Reason, SessionStatus, ToolCallStatus
from apps.core.database import AsyncDatabase
from apps.core.errors import Conflict
from apps.core.realtime import Hub
from tests.builders import project_build, session_build, user_build

pytestmark = pytest.mark.django_db(transaction=True)

RUNNING = [SessionStatus.PENDING, SessionStatus.RUNNING]


@pytest.fixture
def session() -> AgentSession:
    user = user_build()
    session = session_build(user=user, project=project_build(user=user))
    session_wake(session_id=session.id, allowed=[SessionStatus.PENDING], event=Event("SessionQueued"))
    return session


def run(body: Callable[[AsyncDatabase], Coroutine[Any, Any, None]]) -> None:
    """Run a body on an event loop with a database of its own."""

    async def main() -> None:
        database = AsyncDatabase()
        await database.open()
        try:
            await body(database)
        finally:
            await database.close()

    asyncio.run(main())


@asynccontextmanager
async def ledger_open(database: AsyncDatabase, lease: Lease) -> AsyncIterator[Ledger]:
    hub = Hub()
    try:
        yield Ledger(database=database, hub=hub, lease=lease)
    finally:
        await asyncio.sleep(0.05)
        await hub.close()


async def claim(database: AsyncDatabase, session_id: uuid.UUID, owner: str = "a") -> Lease | None:
    return await lease_claim(database=database, session_id=session_id, owner=owner, seconds=10)


def seqs(session_id: uuid.UUID) -> list[int]:
    return list(SessionEvent.objects.filter(session_id=session_id).order_by("seq").values_list("seq", flat=True))


def test_of_many_workers_exactly_one_gets_the_session(session: AgentSession) -> None:
    async def body(database: AsyncDatabase) -> None:
        leases = await asyncio.gather(*(claim(database, session.id, f"worker {number}") for number in range(12)))
        assert len([lease for lease in leases if lease is not None]) == 1

    run(body)
    session.refresh_from_db()
    assert session.status == SessionStatus.RUNNING
    assert SessionEvent.objects.filter(session=session, type="SessionStarted").count() == 1


def test_a_stale_worker_can_write_nothing_and_leaves_no_gap(session: AgentSession) -> None:
    async def body(database: AsyncDatabase) -> None:
        old = await claim(database, session.id, "old")
        assert old is not None
        await database.run_in_thread(lease_let_run_out, session.id)
        new = await claim(database, session.id, "new")
        assert new is not None and new.fence > old.fence
        async with ledger_open(database, old) as stale, ledger_open(database, new) as fresh:
            with pytest.raises(StaleFence):
                await stale.record(Event("PhaseChanged", {"phase": "stale"}))
            with pytest.raises(StaleFence):
                await stale.effect_record("effect", result={"by": "stale"})
            with pytest.raises(StaleFence):
                await stale.session_end(status=SessionStatus.FAILED, reason=Reason("x", "y"))
            assert await fresh.effect_record("effect", result={"by": "fresh"}) == {"by": "fresh"}
            await fresh.record(Event("PhaseChanged", {"phase": "fresh"}), Event("PhaseChanged", {"phase": "more"}))

    run(body)
    assert seqs(session.id) == list(range(1, len(seqs(session.id)) + 1))
    phases = SessionEvent.objects.filter(session=session, type="PhaseChanged").values_list("payload__phase", flat=True)
    assert sorted(phases) == ["fresh", "more"]


def test_a_stale_worker_can_write_no_checkpoint(session: AgentSession) -> None:
    async def body(database: AsyncDatabase) -> None:
        lease = await claim(database, session.id)
        assert lease is not None
        config = thread_config(session.id)
        config["configurable"]["checkpoint_ns"] = ""
        saver = FencedSaver(pool=database.pool, lease=lease)
        checkpoint = {
            "v": 1, "id": "1", "ts": "", "channel_values": {}, "channel_versions": {}, "versions_seen": {}
        }  # fmt: skip
        written = await saver.aput(config, checkpoint, {}, {})  # type: ignore[arg-type]
        await saver.aput_writes(written, [(INTERRUPT, "value")], "task")
        await database.run_in_thread(
            session_stop,
            session_id=session.id,
            status=SessionStatus.PAUSED,
            allowed=RUNNING,
            event=Event("SessionPaused"),
        )
        with pytest.raises(StaleFence):
            await saver.aput(written, {**checkpoint, "id": "2"}, {}, {})  # type: ignore[typeddict-item]
        with pytest.raises(StaleFence):
            await saver.aput_writes(written, [(INTERRUPT, "other")], "task")
        stored = await saver.aget_tuple(thread_config(session.id))
        assert stored is not None
        assert stored.checkpoint["id"] == "1"
        assert [write[1:] for write in stored.pending_writes or []] == [(INTERRUPT, "value")]

    run(body)


def test_a_revoked_lease_is_told_to_its_worker(session: AgentSession) -> None:
    async def body(database: AsyncDatabase) -> None:
        lease = await claim(database, session.id)
        assert lease is not None
        lost = asyncio.Event()
        loop = asyncio.get_running_loop()
        keeper = LeaseKeeper(seconds=10)
        keeper.start()
        keeper.hold(lease, partial(loop.call_soon_threadsafe, lost.set))
        try:
            await database.run_in_thread(
                session_stop,
                session_id=session.id,
                status=SessionStatus.CANCELLED,
                allowed=RUNNING,
                event=Event("SessionCancelled"),
            )
            async with asyncio.timeout(10):
                await lost.wait()
        finally:
            keeper.stop()

    run(body)


def test_a_moved_fence_is_heard_from_the_database_without_a_look(
    session: AgentSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper would look again in an hour only, and what becomes of other sessions doesn't wake it."""
    monkeypatch.setattr("apps.agents.services.leases.LOOK_SECONDS", 3600.0)

    async def body(database: AsyncDatabase) -> None:
        lease = await claim(database, session.id)
        assert lease is not None
        lost = asyncio.Event()
        loop = asyncio.get_running_loop()
        keeper = LeaseKeeper(seconds=10)
        keeper.start()
        keeper.hold(lease, partial(loop.call_soon_threadsafe, lost.set))
        try:
            async with asyncio.timeout(60):
                while not lost.is_set():
                    # More than once, since what is told before the keeper listens is not heard.
                    await database.run_in_thread(fence_tell, session.id)
                    await asyncio.sleep(0.1)
        finally:
            keeper.stop()

    run(body)


@transaction.atomic
def fence_tell(session_id: uuid.UUID) -> None:
    fence_move(session_lock(session_id), wanted=False)


def test_an_expired_lease_is_found_by_the_sweep_and_a_living_one_is_not(session: AgentSession) -> None:
    assert sessions_wanted_take() == [session.id]

    async def body(database: AsyncDatabase) -> None:
        assert await claim(database, session.id) is not None

    run(body)
    assert sessions_wanted_take() == []
    lease_let_run_out(session.id)
    assert sessions_wanted_take() == [session.id]


def test_a_session_in_a_line_is_told_of_once_in_a_while(session: AgentSession) -> None:
    assert [sessions_wanted_take(), sessions_wanted_take()] == [[session.id], []]
    long_ago = timezone.now() - datetime.timedelta(seconds=WAKE_AGAIN_SECONDS)
    SessionHead.objects.filter(session_id=session.id).update(woken_at=long_ago)
    assert sessions_wanted_take() == [session.id]


def test_leases_are_renewed_beside_transactions_that_hold_their_rows(session: AgentSession) -> None:
    """A row that is held is left out and renewed later; it is neither waited for nor taken for lost."""
    user = user_build()
    other = session_build(user=user, project=project_build(user=user))
    session_wake(session_id=other.id, allowed=[SessionStatus.PENDING], event=Event("SessionQueued"))
    lost: list[uuid.UUID] = []

    async def expiries() -> dict[uuid.UUID, datetime.datetime]:
        rows = SessionHead.objects.values_list("session_id", "lease_expires_at")
        return {row[0]: row[1] async for row in rows if row[1] is not None}

    async def body(database: AsyncDatabase) -> None:
        keeper = LeaseKeeper(seconds=3)
        keeper.start()
        try:
            for one in (session, other):
                lease = await claim(database, one.id)
                assert lease is not None
                keeper.hold(lease, partial(lost.append, one.id))
            before = await expiries()
            async with database.transaction() as connection:
                row = await connection.execute(
                    "SELECT 1 FROM agents_sessionhead WHERE session_id = %s FOR UPDATE", (other.id,)
                )
                await row.fetchone()
                async with asyncio.timeout(60):
                    while (await expiries())[session.id] == before[session.id]:
                        await asyncio.sleep(0.1)
                assert (await expiries())[other.id] == before[other.id]
            async with asyncio.timeout(60):
                while (await expiries())[other.id] == before[other.id]:
                    await asyncio.sleep(0.1)
        finally:
            keeper.stop()

    run(body)
    assert lost == []


def test_a_tool_call_is_written_once_and_found_again(session: AgentSession) -> None:
    async def body(database: AsyncDatabase) -> None:
        lease = await claim(database, session.id)
        assert lease is not None
        async with ledger_open(database, lease) as ledger:
            execution_id = await ledger.execution_open(role="coder", task_id=None, messages=[])
            assert await ledger.execution_open(role="coder", task_id=None, messages=[]) == execution_id
            intent = ToolCallIntent(execution_id, 2, 0, "call_1", "run_command", {"command": "true"})
            first = await ledger.tool_call_open(intent, Event("ToolStarted"))
            again = await ledger.tool_call_open(intent, Event("ToolStarted"))
            assert (first.is_new, again.is_new) == (True, False)
            assert again.status == ToolCallStatus.OPEN
            async with ledger.transaction(Event("ToolFinished")) as connection:
                await ledger.tool_call_finish(connection, intent.id, ok=True, observation="done")
            finished = await ledger.tool_call_open(intent, Event("ToolStarted"))
            assert (finished.status, finished.observation) == (ToolCallStatus.FINISHED, "done")

    run(body)
    types = SessionEvent.objects.filter(session=session).order_by("seq").values_list("type", flat=True)
    assert list(types)[-2:] == ["ToolStarted", "ToolFinished"]


def test_stopping_twice_changes_nothing_and_a_wrong_state_is_named(session: AgentSession) -> None:
    for _ in range(2):
        session_stop(session_id=session.id, status=SessionStatus.PAUSED, allowed=RUNNING, event=Event("SessionPaused"))
    assert SessionEvent.objects.filter(session=session, type="SessionPaused").count() == 1
    with pytest.raises(Conflict) as caught:
        session_wake(session_id=session.id, allowed=[SessionStatus.PENDING], event=Event("SessionQueued"))
    assert caught.value.extra["state"] == "paused"


def lease_let_run_out(session_id: uuid.UUID) -> None:
    past = timezone.now() - datetime.timedelta(seconds=1)
    SessionHead.objects.filter(session_id=session_id).update(lease_expires_at=past)

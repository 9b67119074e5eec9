"""What a running session writes: the worker's hand on its rows, under one lease.

Everything here happens once however often it is asked for: executions, messages, tool calls and effects have keys that
follow from where they stand, so a node that runs again after a crash finds what it did. Each write shares a transaction
with its events, and each transaction takes the head row first, which checks the fence.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import psycopg
from django.db import transaction
from django.utils import timezone
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict
from psycopg import sql
from psycopg.types.json import Jsonb

from apps.agents.services.conversation_view import Compaction, Cut
from apps.agents.services.ledger_effects import effects_apply
from apps.agents.services.ledger_records import Snapshot, SteeringWaiting, ToolCallIntent, ToolCallRecord
from apps.agents.services.live_updates import LiveUpdates
from apps.agents.services.sessions import (
    CLOCK_STOP,
    StaleFence,
    event_append,
    event_append_fenced,
    fenced_call,
    topic_of,
)
from apps.agents.types import TERMINAL_STATUSES, Event, Lease, Reason, SessionStatus, ToolCallStatus
from apps.core.database import AsyncDatabase, Connection
from apps.core.realtime import Hub
from apps.core.redaction import NOTHING_SECRET
from apps.core.storable import json_dump, text_storable

P = ParamSpec("P")
T = TypeVar("T")

_TOOL_CALL_INSERT = (
    "INSERT INTO agents_toolcall (id, session_id, execution_id, position, ordinal, provider_call_id, name,"
    " arguments, status, approval, model_key, observation, created_at, updated_at)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, '', now(), now())"
)


async def _nobody_else() -> None:
    """Nobody else works on the session."""


def _no_task() -> None:
    """No task is worked on beside others."""


@dataclass(frozen=True)
class Decided:
    """What an effect that looks at rows first comes to: its events, its result, and the change that it makes."""

    events: Sequence[Event]
    result: Mapping[str, Any]
    change: Callable[[], object]


@transaction.atomic
def _effect_decide(
    lease: Lease, key: str, decide: Callable[[], Decided], redacted: Callable[[Decided], Decided]
) -> None:
    # The head before any other row, as everywhere.
    event_append(session_id=lease.session_id, events=(), fence=lease.fence)
    decided = redacted(decide())
    effects_apply(lease, {key: decided.result}, decided.change, decided.events, None, {})


#: The step that a row belongs to, inside a transaction that has locked the head; takes the session's id.
_SEQ = "(SELECT written FROM agents_sessionhead WHERE session_id = %s)"
#: What people have said and nobody has heard; takes the session's id.
_UNHEARD = "session_id = %s AND delivered_seq IS NULL AND retired IS NULL"


def _jsonb(value: Any) -> Jsonb:
    return Jsonb(value, dumps=json_dump)


class SteeringWaits(Exception):
    """The session would end while a person's word to it is unheard."""


class Ledger:
    """Writes of one session under one lease; every method raises StaleFence once the lease is lost."""

    def __init__(self, *, database: AsyncDatabase, hub: Hub, lease: Lease) -> None:
        self.database = database
        self.lease = lease
        #: Takes the session's secrets out of all that is written and told here.
        self.redactor = NOTHING_SECRET
        self.live = LiveUpdates(
            hub=hub, topic=topic_of(lease.session_id), redacted=lambda text: self.redactor.text(text)
        )
        #: Whether people have said something that the agent has yet to hear, as of the last write; None: not known yet.
        self.steering_waits: bool | None = None
        #: Called before the session stops for a person or for good. Where tasks are worked on side by side, the others
        #: come to the end of their step first: what they have begun could not be written down afterwards.
        self.settle: Callable[[], Awaitable[None]] = _nobody_else
        #: The task that the caller works on, where others are worked on beside it; its events name it.
        self.task_beside: Callable[[], uuid.UUID | None] = _no_task

    @property
    def session_id(self) -> uuid.UUID:
        return self.lease.session_id

    @asynccontextmanager
    async def transaction(self, *events: Event) -> AsyncIterator[Connection]:
        """A fenced transaction that appends the events first; the bell rings once it has committed."""
        async with self.database.transaction() as connection:
            seq = await self.append(connection, *events)
            yield connection
        self.live.ring(seq)

    async def append(self, connection: Connection, *events: Event) -> int:
        """Append inside a transaction of somebody else's (and check the fence); ring the bell after it."""
        appended = await event_append_fenced(connection=connection, lease=self.lease, events=self.told(events))
        self.steering_waits = appended.steering
        return appended.seq

    def told(self, events: Sequence[Event]) -> Sequence[Event]:
        """The events as they are written: without any of the session's secrets, and with whose work they tell of."""
        if (task := self.task_beside()) is not None:
            events = [replace(event, payload={"task": str(task), **event.payload}) for event in events]
        if not self.redactor:
            return events
        return [replace(event, payload=self.redactor.value(event.payload)) for event in events]

    def redacted_columns(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """The columns without any of the session's secrets."""
        return {
            name: self.redactor.value(value) if isinstance(value, (str, dict, list)) else value
            for name, value in columns.items()
        }

    async def record(self, *events: Event) -> None:
        async with self.transaction(*events):
            return

    async def fenced(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a service that writes through the ORM (plan rows), in a thread and under the fence."""

        def call() -> T:
            return fenced_call(self.lease, function, *args, **kwargs)

        return await self.database.run_in_thread(call)

    # --- the session's row ---------------------------------------------------------------------------------------
    async def session_update(self, connection: Connection, **columns: Any) -> None:
        """Set columns of the session's row; dicts and lists become JSON."""
        plain = self.redacted_columns(columns).values()
        values = [_jsonb(value) if isinstance(value, (dict, list)) else value for value in plain]
        assignments = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in columns)
        await connection.execute(
            sql.SQL("UPDATE agents_agentsession SET {}, updated_at = now() WHERE id = %s").format(assignments),
            (*values, self.session_id),
        )

    async def graph_version_set(self, version: int) -> None:
        """The session goes on under this wiring."""
        async with self.transaction() as connection:
            await self.session_update(connection, graph_version=version)

    async def session_end(
        self, *events: Event, status: SessionStatus, reason: Reason | None = None, **columns: Any
    ) -> None:
        """Leave ``running``: to a terminal status, or to one that waits for a person. The lease is given up with it.

        Once: what goes wrong after a session was completed doesn't make it failed. Raises StaleFence then. A session
        whose agent has yet to hear something is not completed: SteeringWaits. What was said of a task doesn't hold it
        up: by then that is over.
        """
        async with self._stopping(*events) as connection:
            if status is SessionStatus.COMPLETED and await self.steering_load(connection, task_id=None):
                raise SteeringWaits(f"somebody has said something to session {self.session_id}")
            if status in TERMINAL_STATUSES:
                columns["finished_at"] = timezone.now()
            await self.session_update(
                connection, status=status.value, reason=reason.as_dict() if reason else None, **columns
            )

    async def execution_pause(
        self, execution_id: uuid.UUID, position: int, message: BaseMessage, reason: Reason, *events: Event
    ) -> None:
        """Pause the session, with a message that its agent finds when it goes on; after these events."""
        async with self._stopping(*events, Event("SessionPaused", {"reason": reason.as_dict()})) as connection:
            await self.message_insert(connection, execution_id, position, message)
            await self.session_update(connection, status=SessionStatus.PAUSED.value, reason=reason.as_dict())

    async def pause_record(self, key: str, reason: Reason) -> None:
        """Pause the session, and note that it was for this, so that it goes on once it is resumed."""
        async with self._stopping(Event("SessionPaused", {"reason": reason.as_dict()})) as connection:
            await self.effect_insert(connection, key, {"reason": reason.code})
            await self.session_update(connection, status=SessionStatus.PAUSED.value, reason=reason.as_dict())

    # --- what people say meanwhile -------------------------------------------------------------------------------
    async def steering_load(self, connection: Connection, *, task_id: uuid.UUID | None) -> list[SteeringWaiting]:
        """What an agent at work on this task has yet to hear, in order; inside a fenced transaction.

        That is what was said to whoever is at work, and of this task; not what was said of another one.
        """
        if not self.steering_waits:
            return []
        cursor = await connection.execute(
            f"SELECT id, text FROM agents_steering WHERE {_UNHEARD} AND (task_id IS NULL OR task_id = %s) ORDER BY seq",
            (self.session_id, task_id),
        )
        return [SteeringWaiting(row["id"], row["text"]) for row in await cursor.fetchall()]

    async def steering_since(self, connection: Connection, execution_id: uuid.UUID) -> list[SteeringWaiting]:
        """What people said, of no task alone, that some agent has heard since this execution began, in order."""
        cursor = await connection.execute(
            "SELECT said.id, said.text FROM agents_steering AS said"
            " JOIN agents_agentexecution AS begun ON begun.id = %s"
            " WHERE said.session_id = %s AND said.delivered_seq >= begun.seq AND said.retired IS NULL"
            " AND said.task_id IS NULL ORDER BY said.seq",
            (execution_id, self.session_id),
        )
        return [SteeringWaiting(row["id"], row["text"]) for row in await cursor.fetchall()]

    async def steering_delivered(self, connection: Connection, steering_ids: Sequence[uuid.UUID]) -> None:
        """These are in a conversation, as of the transaction's last event."""
        await connection.execute(
            f"UPDATE agents_steering SET delivered_seq = {_SEQ}, updated_at = now() WHERE id = ANY(%s)",
            (self.session_id, list(steering_ids)),
        )
        cursor = await connection.execute(
            f"UPDATE agents_sessionhead SET steering = (SELECT count(*) FROM agents_steering WHERE {_UNHEARD})"
            " WHERE session_id = %s RETURNING steering",
            (self.session_id, self.session_id),
        )
        left = await cursor.fetchone()
        self.steering_waits = left is not None and left["steering"] > 0

    # --- effects -------------------------------------------------------------------------------------------------
    async def effect_find(self, key: str) -> dict[str, Any] | None:
        """What the effect came to, if it happened."""
        async with self.database.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT result FROM agents_sessioneffect WHERE session_id = %s AND key = %s", (self.session_id, key)
            )
            row = await cursor.fetchone()
        return None if row is None else row["result"]

    async def effect_last(self, keys: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
        """Of these effects the one that happened last, by its key and what it came to; None: none of them."""
        async with self.database.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT key, result FROM agents_sessioneffect WHERE session_id = %s AND key = ANY(%s)"
                " ORDER BY seq DESC NULLS LAST, id DESC LIMIT 1",
                (self.session_id, list(keys)),
            )
            row = await cursor.fetchone()
        return None if row is None else (row["key"], row["result"])

    async def effects_find(self, keys: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
        """Those of these effects that happened, in order: key and what it came to."""
        async with self.database.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT key, result FROM agents_sessioneffect WHERE session_id = %s AND key = ANY(%s) ORDER BY seq, id",
                (self.session_id, list(keys)),
            )
            rows = await cursor.fetchall()
        return [(row["key"], row["result"]) for row in rows]

    async def effect_list(self, prefix: str) -> list[tuple[str, dict[str, Any]]]:
        """The effects whose keys begin so, without those that were taken back: key and what it came to, in order."""
        async with self.database.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT key, result FROM agents_sessioneffect"
                " WHERE session_id = %s AND starts_with(key, %s) AND retired IS NULL ORDER BY seq, id",
                (self.session_id, prefix),
            )
            rows = await cursor.fetchall()
        return [(row["key"], row["result"]) for row in rows]

    async def effect_record(
        self, key: str, *events: Event, result: Mapping[str, Any], snapshot: Snapshot | None = None, **columns: Any
    ) -> Mapping[str, Any]:
        """Note that an effect happened, with its events and columns of the session; what stands if it was before.

        ``snapshot`` is how it left the files, where it has changed them.
        """
        if (known := await self.effect_find(key)) is not None:
            return known
        async with self.transaction(*events) as connection:
            await self.effect_insert(connection, key, result)
            if snapshot is not None:
                await self.snapshot_insert(connection, snapshot)
            if columns:
                await self.session_update(connection, **columns)
        return result

    async def effect_apply(
        self,
        key: str,
        change: Callable[[], object],
        *events: Event,
        result: Mapping[str, Any] | None = None,
        further: Mapping[str, Mapping[str, Any]] | None = None,
        snapshot: Snapshot | None = None,
        **columns: Any,
    ) -> None:
        """Make a change through the ORM, once, in one fenced transaction with its note and its events.

        For the rows of other apps: were they changed by themselves, a crash in between would leave a change that was
        never told, or a worker that has lost its lease could still make it. ``further`` effects, columns of the session
        and how the files are then are written with it.
        """
        if await self.effect_find(key) is not None:
            return
        effects = {key: self.redactor.value(dict(result or {}))}
        effects |= {name: self.redactor.value(dict(came_to)) for name, came_to in (further or {}).items()}
        told, plain = self.told(events), self.redacted_columns(columns)
        await self.database.run_in_thread(effects_apply, self.lease, effects, change, told, snapshot, plain)

    async def effect_decide(self, key: str, decide: Callable[[], Decided]) -> None:
        """As :meth:`effect_apply` for an effect that depends on rows which others may change: ``decide`` looks at them.

        It is called in the transaction, once the session's head is locked. What it raises leaves everything as it was.
        """
        if await self.effect_find(key) is None:

            def redacted(decided: Decided) -> Decided:
                told, plain = self.told(decided.events), self.redactor.value(dict(decided.result))
                return Decided(told, plain, decided.change)

            await self.database.run_in_thread(_effect_decide, self.lease, key, decide, redacted)

    async def effects_load(self, prefix: str) -> dict[str, dict[str, Any]]:
        """The effects that stand whose keys begin so, by key, in the order in which they happened."""
        async with self.database.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT key, result FROM agents_sessioneffect"
                " WHERE session_id = %s AND starts_with(key, %s) AND retired IS NULL ORDER BY seq, id",
                (self.session_id, prefix),
            )
            rows = await cursor.fetchall()
        return {row["key"]: row["result"] for row in rows}

    async def effect_insert(self, connection: Connection, key: str, result: Mapping[str, Any]) -> None:
        """Note an effect inside a fenced transaction; one fence at a time writes, so it isn't there yet."""
        await connection.execute(
            "INSERT INTO agents_sessioneffect (session_id, key, result, created_at, seq)"
            f" VALUES (%s, %s, %s, now(), {_SEQ})",
            (self.session_id, key, _jsonb(self.redactor.value(dict(result))), self.session_id),
        )

    async def snapshot_insert(self, connection: Connection, snapshot: Snapshot) -> None:
        """Note how the files are after this step, inside its fenced transaction and after its events."""
        await connection.execute(
            "INSERT INTO agents_filesnapshot (session_id, lane, seq, tree, head, problem, created_at)"
            f" VALUES (%s, %s, {_SEQ}, %s, %s, %s, now())",
            (
                *(self.session_id, snapshot.lane, self.session_id),
                *(snapshot.tree, snapshot.head, text_storable(snapshot.problem)),
            ),
        )

    # --- conversations -------------------------------------------------------------------------------------------
    def execution_id(self, *, role: str, task_id: uuid.UUID | None, name: str = "") -> uuid.UUID:
        return uuid.uuid5(self.session_id, f"{role}:{task_id}:{name}")

    async def execution_open(
        self, *, role: str, task_id: uuid.UUID | None, messages: Sequence[BaseMessage], name: str = ""
    ) -> uuid.UUID:
        """The role's execution on this task, begun with these messages unless it is there; its id."""
        execution_id = self.execution_id(role=role, task_id=task_id, name=name)
        async with self.transaction() as connection:
            cursor = await connection.execute(
                "INSERT INTO agents_agentexecution"
                " (id, session_id, task_id, role, attempt, created_at, updated_at, seq)"
                f" VALUES (%s, %s, %s, %s, 1, now(), now(), {_SEQ}) ON CONFLICT (id) DO NOTHING RETURNING id",
                (execution_id, self.session_id, task_id, role, self.session_id),
            )
            if await cursor.fetchone() is not None:
                for position, message in enumerate(messages):
                    await self.message_insert(connection, execution_id, position, message)
        return execution_id

    async def messages_load(self, execution_id: uuid.UUID) -> list[BaseMessage]:
        """The conversation so far."""
        async with self.database.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT message FROM agents_executionmessage WHERE execution_id = %s ORDER BY position", (execution_id,)
            )
            rows = await cursor.fetchall()
        return messages_from_dict([row["message"] for row in rows])

    async def message_find(self, connection: Connection, execution_id: uuid.UUID, position: int) -> BaseMessage | None:
        """The message at this position, if it is written; inside a fenced transaction."""
        cursor = await connection.execute(
            "SELECT message FROM agents_executionmessage WHERE execution_id = %s AND position = %s",
            (execution_id, position),
        )
        row = await cursor.fetchone()
        return None if row is None else messages_from_dict([row["message"]])[0]

    async def message_insert(
        self, connection: Connection, execution_id: uuid.UUID, position: int, message: BaseMessage
    ) -> None:
        await connection.execute(
            "INSERT INTO agents_executionmessage (execution_id, position, message, created_at, seq)"
            f" VALUES (%s, %s, %s, now(), {_SEQ})",
            (execution_id, position, _jsonb(self.redactor.value(message_to_dict(message))), self.session_id),
        )

    async def compaction_load(self, execution_id: uuid.UUID) -> Compaction | None:
        """What was last left out of the conversation, if anything was."""
        async with self.database.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT sequence, position, dropped_to, kept, summary, cleared_to, output_limit, bytes_per_token"
                " FROM agents_compaction WHERE execution_id = %s ORDER BY sequence DESC LIMIT 1",
                (execution_id,),
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        cut = Cut(
            dropped_to=row["dropped_to"],
            kept=tuple(row["kept"]),
            cleared_to=row["cleared_to"],
            output_limit=row["output_limit"],
            summary=row["summary"],
            position=row["position"],
        )
        return Compaction(row["sequence"], cut, row["bytes_per_token"])

    async def windows_load(self) -> dict[str, int]:
        """The context windows of models as they turned out in this session, by the models' names."""
        async with self.database.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT model, min(made.window) AS tokens FROM agents_compaction AS made"
                " JOIN agents_agentexecution AS execution ON execution.id = made.execution_id"
                " WHERE execution.session_id = %s AND made.window IS NOT NULL GROUP BY model",
                (self.session_id,),
            )
            rows = await cursor.fetchall()
        return {row["model"]: row["tokens"] for row in rows}

    async def compaction_insert(
        self, connection: Connection, execution_id: uuid.UUID, compaction: Compaction, **told: Any
    ) -> None:
        """Keep what is left out from now on; ``told`` are the row's further columns."""
        cut = compaction.cut
        columns = {
            "sequence": compaction.sequence,
            "position": cut.position,
            "dropped_to": cut.dropped_to,
            "kept": _jsonb(list(cut.kept)),
            "summary": cut.summary,
            "cleared_to": cut.cleared_to,
            "output_limit": cut.output_limit,
            "bytes_per_token": compaction.bytes_per_token,
            **told,
        }
        await connection.execute(
            sql.SQL("INSERT INTO agents_compaction (execution_id, created_at, {}) VALUES (%s, now(), {})").format(
                sql.SQL(", ").join(sql.Identifier(name) for name in columns),
                sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
            ),
            (execution_id, *columns.values()),
        )

    async def result_load(self, execution_id: uuid.UUID) -> dict[str, Any] | None:
        """What the execution came to, or None while it is at work."""
        async with self.database.pool.connection() as connection:
            cursor = await connection.execute("SELECT result FROM agents_agentexecution WHERE id = %s", (execution_id,))
            row = await cursor.fetchone()
        return None if row is None else row["result"]

    async def result_set(
        self, connection: Connection, execution_id: uuid.UUID, result: Mapping[str, Any] | None
    ) -> None:
        """What the execution came to, or None to have it go on; each is kept with its step, for a rewind."""
        value = None if result is None else _jsonb(self.redactor.value(dict(result)))
        await connection.execute(
            "UPDATE agents_agentexecution SET result = %s, updated_at = now(), results ="
            f" coalesce(results, '[]') || jsonb_build_array(jsonb_build_object('seq', {_SEQ}, 'result', %s::jsonb))"
            " WHERE id = %s",
            (value, self.session_id, value, execution_id),
        )

    # --- tool calls ----------------------------------------------------------------------------------------------
    async def tool_call_open(self, intent: ToolCallIntent, *events: Event) -> ToolCallRecord:
        """Write the intent before the effect. A call that was there comes back as it stands, without the events."""
        try:
            # It is there only after a crash: not worth a look beforehand each time.
            await self._tool_call_insert(intent, events)
        except psycopg.errors.UniqueViolation:
            record = await self.tool_call_load(intent.id)
            if record is None:
                raise
            return record
        return ToolCallRecord(intent.id, ToolCallStatus.OPEN, None, "", is_new=True)

    async def tool_call_load(self, call_id: uuid.UUID) -> ToolCallRecord | None:
        """The call as it stands, if it was ever written."""
        async with self.database.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT status, ok, observation, arguments, approval FROM agents_toolcall WHERE id = %s", (call_id,)
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        return ToolCallRecord(
            call_id,
            ToolCallStatus(row["status"]),
            row["ok"],
            row["observation"],
            is_new=False,
            arguments=row["arguments"],
            approval=row["approval"],
        )

    async def _tool_call_insert(self, intent: ToolCallIntent, events: Sequence[Event]) -> None:
        async with self.transaction(*events) as connection:
            await connection.execute(_TOOL_CALL_INSERT, self._tool_call_values(intent, ToolCallStatus.OPEN, None))

    def _tool_call_values(
        self, intent: ToolCallIntent, status: ToolCallStatus, approval: Mapping[str, Any] | None
    ) -> tuple[Any, ...]:
        return (
            intent.id,
            self.session_id,
            intent.execution_id,
            intent.position,
            intent.ordinal,
            intent.provider_call_id,
            intent.name,
            _jsonb(self.redactor.value(dict(intent.arguments))),
            status.value,
            None if approval is None else _jsonb(self.redactor.value(dict(approval))),
            intent.model_key,
        )

    async def approval_request(self, intent: ToolCallIntent, approval: Mapping[str, Any], *events: Event) -> None:
        """The call waits for a person's leave, and the session with it: one transaction, the lease is given up.

        One that waited before, or whose approval has run out, waits anew; the caller has made sure that it never began.
        """
        async with self._stopping(*events) as connection:
            await connection.execute(
                f"{_TOOL_CALL_INSERT} ON CONFLICT (id) DO UPDATE SET status = excluded.status,"
                " arguments = excluded.arguments, approval = excluded.approval, updated_at = now()",
                self._tool_call_values(intent, ToolCallStatus.WAITING, approval),
            )
            await self.session_update(connection, status=SessionStatus.WAITING_APPROVAL.value)

    async def approved_call_begin(self, call_id: uuid.UUID, *events: Event) -> bool:
        """The intent of a call that waited, once: whoever comes after a crash finds it open, its outcome unknown."""
        async with self.transaction(*events) as connection:
            cursor = await connection.execute(
                "UPDATE agents_toolcall SET status = 'open', updated_at = now()"
                " WHERE id = %s AND status IN ('approved', 'waiting') AND approval IS NOT NULL RETURNING id",
                (call_id,),
            )
            return await cursor.fetchone() is not None

    async def tool_call_finish(
        self,
        connection: Connection,
        call_id: uuid.UUID,
        *,
        ok: bool,
        observation: str,
        edit_format: str = "",
        well_formed: bool = False,
    ) -> None:
        """Write the result after the effect, inside a fenced transaction; of an edit, whether it could be made."""
        await connection.execute(
            "UPDATE agents_toolcall SET status = 'finished', ok = %s, observation = %s, edit_format = %s,"
            " well_formed = %s, finished_at = now(), updated_at = now() WHERE id = %s",
            (ok, self.redactor.text(observation), edit_format, well_formed if edit_format else None, call_id),
        )

    async def tool_call_wait(self, call_id: uuid.UUID, *events: Event, status: SessionStatus) -> None:
        """The call waits for a person, and the session with it."""
        async with self._stopping(*events) as connection:
            await connection.execute("UPDATE agents_toolcall SET status = 'waiting' WHERE id = %s", (call_id,))
            await self.session_update(connection, status=status.value)

    async def question_ask(self, intent: ToolCallIntent, *events: Event) -> None:
        """A question of the server's own waits for a person, and the session with it, as one that an agent asks.

        Its row is a call of ``ask_user`` that no model made, at the end of the conversation that it is about.
        """
        async with self._stopping(*events) as connection:
            await connection.execute(
                f"{_TOOL_CALL_INSERT} ON CONFLICT (id) DO NOTHING",
                self._tool_call_values(intent, ToolCallStatus.WAITING, None),
            )
            await self.session_update(connection, status=SessionStatus.WAITING_INPUT.value)

    @asynccontextmanager
    async def _stopping(self, *events: Event) -> AsyncIterator[Connection]:
        """A transaction with which the session stops, and the lease is given up; others' steps come to their end first.

        Raises StaleFence where it is not to run any more.
        """
        await self.settle()
        async with self.transaction(*events) as connection:
            await self._lease_give_up(connection)
            yield connection

    async def _lease_give_up(self, connection: Connection) -> None:
        cursor = await connection.execute(
            "UPDATE agents_sessionhead SET wanted = false, owner = '', lease_expires_at = NULL"
            " WHERE session_id = %s AND wanted RETURNING session_id",
            (self.session_id,),
        )
        if await cursor.fetchone() is None:
            raise StaleFence(f"session {self.session_id} is not to run any more")
        await connection.execute(CLOCK_STOP, (self.session_id,))

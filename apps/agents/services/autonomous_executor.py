"""The one place that runs a graph: take the lease, run from where the session is, and leave it in a defined state."""

from __future__ import annotations

import asyncio
import errno
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.conf import settings

from apps.agents.graphs.autonomous import session_graph
from apps.agents.models import AgentSession
from apps.agents.nodes.baseline import baseline_open
from apps.agents.nodes.context import RunContext, SessionFacts, SessionState, SessionSuspended
from apps.agents.nodes.worksite import SiteFacts, WorkSite
from apps.agents.selectors import session_take_ups
from apps.agents.services.checkpoints import FencedSaver, thread_config
from apps.agents.services.leases import LeaseKeeper
from apps.agents.services.ledger import Ledger
from apps.agents.services.sessions import GRAPH_VERSION, StaleFence, lease_claim, lease_release
from apps.agents.services.sources import sources_to_fetch
from apps.agents.types import TERMINAL_STATUSES, AgentType, Event, Lease, Reason, SessionStatus
from apps.core.cancellation import uninterrupted
from apps.core.database import DATABASE_AWAY, AsyncDatabase
from apps.core.errors import ApplicationError, DiskFull, LimitReached
from apps.core.realtime import Hub
from apps.projects.autonomy import Autonomy
from apps.usage.choices import SessionModels
from apps.usage.errors import ModelCallFailed
from apps.usage.gateway import ModelGateway
from apps.usage.keys import stored_keys
from apps.usage.services import reservations_expire

logger = logging.getLogger(__name__)

#: A session that was taken up this often, since a person set it going, takes its workers down with it.
CLAIMS = 50


class SessionExecutor:
    """Runs sessions on one event loop."""

    def __init__(
        self, *, database: AsyncDatabase, hub: Hub, gateway: ModelGateway, keeper: LeaseKeeper, owner: str
    ) -> None:
        self._database = database
        self._hub = hub
        self._gateway = gateway
        self._keeper = keeper
        self._owner = owner

    async def session_execute(self, session_id: uuid.UUID) -> None:
        """Run the session until it ends, waits for a person, or is taken away; returns at once if somebody has it."""
        lease = await lease_claim(
            database=self._database,
            session_id=session_id,
            owner=self._owner,
            seconds=settings.ARCHON_LEASE_SECONDS,
        )
        if lease is None:
            return
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        lost = asyncio.Event()

        def on_lost() -> None:
            def cancel() -> None:
                lost.set()
                task.cancel("the lease is lost")

            loop.call_soon_threadsafe(cancel)

        self._keeper.hold(lease, on_lost)
        ledger = Ledger(database=self._database, hub=self._hub, lease=lease)
        try:
            await self._run(ledger, lease)
        except StaleFence:
            logger.info("session %s was taken away", session_id)
        except DATABASE_AWAY as error:
            # Nothing of the session is lost or can be written: its lease runs out, and it is taken up again.
            logger.warning("session %s is let go, the database is away: %s", session_id, error)
            await self._database.connections_check()
        except asyncio.CancelledError:
            if not lost.is_set():
                # The worker is stopping: let another one go on at once.
                await asyncio.shield(lease_release(database=self._database, lease=lease))
                raise
            task.uncancel()
            logger.info("session %s was taken away", session_id)
        finally:
            self._keeper.forget(lease)

    async def _run(self, ledger: Ledger, lease: Lease) -> None:
        """Run the graph and turn whatever stops it into a state with a reason."""
        try:
            if lease.attempt > CLAIMS and (
                await self._database.run_in_thread(session_take_ups, lease.session_id) > CLAIMS
            ):
                raise SessionGivenUp(
                    f"the session was taken up {CLAIMS} times without coming to an end",
                    next_step="start a new session, and look at the worker's log for why the old one ended each time",
                )
            await self._graph_run(ledger, lease)
        except SessionSuspended:
            return
        except (LimitReached, DiskFull) as error:
            await self._pause(ledger, Reason(error.code, error.message, error.next_step))
        except ModelCallFailed as error:
            reason = Reason(error.code, error.message, error.next_step)
            await (self._pause if error.retryable else self._fail)(ledger, reason)
        except ApplicationError as error:
            await self._fail(ledger, Reason(error.code, error.message, error.next_step))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                await self._fail_unexpected(ledger, error)
                return
            full = DiskFull("the session cannot go on")
            await self._pause(ledger, Reason(full.code, full.message, full.next_step))
        except (StaleFence, asyncio.CancelledError, *DATABASE_AWAY):
            raise
        # Whatever else went wrong is a bug; the session must not hang on it, and the log has to say it.
        except Exception as error:  # noqa: BLE001
            await self._fail_unexpected(ledger, error)

    async def _graph_run(self, ledger: Ledger, lease: Lease) -> None:
        facts, site_facts, models = await self._database.run_in_thread(_facts_load, lease.session_id)
        site = WorkSite(
            facts=site_facts,
            database=self._database,
            on_progress=lambda text: ledger.delta_send(execution_id=lease.session_id, role="setup", text=text),
        )
        context = RunContext(
            facts=facts,
            ledger=ledger,
            gateway=self._gateway,
            models=models,
            site=site,
        )
        saver = FencedSaver(pool=self._database.pool, lease=lease)
        config = thread_config(lease.session_id)
        graph = session_graph(facts.agent_type, saver)
        if facts.graph_version != GRAPH_VERSION:
            # A cursor into a graph that is wired otherwise now means nothing.
            await saver.adelete_thread(str(lease.session_id))
            await ledger.graph_version_set(GRAPH_VERSION)
        # Nodes find what they did in the rows, so a graph that starts over repeats nothing.
        begun = await saver.aget_tuple(config) is not None
        start: SessionState | None = None if begun else {"ended": False}
        try:
            if begun:
                # The prepare node is behind us, and what it opened was the other worker's.
                await baseline_open(context)
            async with _time_limit(facts):
                await graph.ainvoke(start, config, context=context, durability="sync")
            status = await self._database.run_in_thread(_status_load, lease.session_id)
            if status not in TERMINAL_STATUSES:
                raise RuntimeError(f"the graph of session {lease.session_id} ended while it is {status}")
            # The rows say it all now. Should the process die before this, a sweep does it.
            await saver.adelete_thread(str(lease.session_id))
        finally:
            # The lease is given up with the session's last write, and losing it cancels whoever held it.
            await uninterrupted(site.close())

    async def _pause(self, ledger: Ledger, reason: Reason) -> None:
        await ledger.session_end(
            Event("SessionPaused", {"reason": reason.as_dict()}), status=SessionStatus.PAUSED, reason=reason
        )

    async def _fail(self, ledger: Ledger, reason: Reason) -> None:
        await ledger.session_end(Event("SessionFailed", reason.as_dict()), status=SessionStatus.FAILED, reason=reason)
        # A call of a worker that died is asked for again by its successor, unless the session ends before that.
        await self._database.run_in_thread(reservations_expire, scope_id=ledger.session_id)

    async def _fail_unexpected(self, ledger: Ledger, error: Exception) -> None:
        logger.error("session %s failed", ledger.session_id, exc_info=error)
        reason = Reason(
            "internal_error",
            f"something went wrong inside the server: {type(error).__name__}",
            f"look for session {ledger.session_id} in the worker's log",
        )
        await self._fail(ledger, reason)


@asynccontextmanager
async def _time_limit(facts: SessionFacts) -> AsyncIterator[None]:
    """Cut off what still runs when the session's time is up, a command or a check included."""
    limit = asyncio.timeout(facts.seconds_left)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise facts.time_limit_reached() from None
        raise


class SessionGivenUp(ApplicationError):
    """The session was taken up too often."""

    code = "given_up"


def _facts_load(session_id: uuid.UUID) -> tuple[SessionFacts, SiteFacts, SessionModels]:
    session = AgentSession.objects.select_related("project").get(id=session_id)
    assert session.running_since is not None
    facts = SessionFacts(
        session_id=session.id,
        project_id=session.project_id,
        goal=session.goal,
        agent_type=AgentType(session.agent_type),
        branch=session.branch,
        base_branch=session.base_branch,
        base_commit=session.base_commit,
        running_since=session.running_since,
        used_seconds=session.used_seconds,
        limit_seconds=session.limit_seconds,
        command_seconds=settings.ARCHON_COMMAND_SECONDS,
        network_hosts=tuple(session.project.network_hosts),
        graph_version=session.graph_version,
        turn=session.turn,
        autonomy=Autonomy(session.autonomy),
        sources_waiting=bool(sources_to_fetch(session.id)),
    )
    site = SiteFacts(
        session_id=session.id,
        project_id=session.project_id,
        branch=session.branch,
        base_commit=session.base_commit,
        check_commands=tuple(session.check_commands),
        setup_command=session.setup_command,
        subfolder=session.subfolder,
        notices=tuple(notice["message"] for notice in session.project.repository_notices),
    )
    models = SessionModels.read(
        session.role_models,
        model=session.model,
        base_url=session.base_url,
        stored=stored_keys(user_id=session.created_by_id, project_id=session.project_id),
    )
    return facts, site, models


def _status_load(session_id: uuid.UUID) -> SessionStatus:
    return SessionStatus(AgentSession.objects.values_list("status", flat=True).get(id=session_id))

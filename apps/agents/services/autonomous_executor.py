"""The one place that runs a graph: take the lease, run from where the session is, and leave it in a defined state."""

from __future__ import annotations

import asyncio
import errno
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from django.conf import settings

from apps.agents.graphs.autonomous import session_graph
from apps.agents.graphs.lane import lane_graph
from apps.agents.models import AgentSession
from apps.agents.nodes.baseline import baseline_open
from apps.agents.nodes.context import Rebase, RunContext, SessionFacts, SessionState, SessionSuspended
from apps.agents.nodes.index_telling import index_tell
from apps.agents.nodes.worksite import SiteFacts, WorkSite
from apps.agents.selectors import plan_made, session_take_ups, snapshot_last
from apps.agents.services.checkpoints import FencedSaver, thread_config
from apps.agents.services.leases import LeaseKeeper
from apps.agents.services.ledger import Ledger
from apps.agents.services.plan_work import plan_work_load
from apps.agents.services.restoring import Restore
from apps.agents.services.sessions import GRAPH_VERSION, StaleFence, lease_claim, lease_release
from apps.agents.services.sources import sources_to_fetch
from apps.agents.types import (
    ROLES_OF,
    TERMINAL_STATUSES,
    AgentType,
    Event,
    HandOver,
    Lease,
    Reason,
    Review,
    SessionStatus,
)
from apps.core.cancellation import uninterrupted
from apps.core.database import DATABASE_AWAY, AsyncDatabase
from apps.core.encryption import SecretUnreadable
from apps.core.errors import ApplicationError, DiskFull, LimitReached
from apps.core.kill_points import kill_points_of
from apps.core.realtime import Hub
from apps.projects.autonomy import Autonomy
from apps.projects.secrets import SecretMissing, session_secrets_load
from apps.usage.choices import SessionModels
from apps.usage.errors import ModelCallFailed, ModelNotAvailable, ModelRefused
from apps.usage.gateway import ModelGateway
from apps.usage.keys import stored_keys
from apps.usage.services import reservations_expire
from integrations.llm_providers.types import ModelSpec

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
        self._leaving = False
        self._handed_over: list[uuid.UUID] = []

    def leave(self) -> None:
        """The worker stops: take no session any more, and let go of each at the end of its step."""
        self._leaving = True

    @property
    def handed_over(self) -> tuple[uuid.UUID, ...]:
        """The sessions that were let go of for that, which others can take at once."""
        return tuple(self._handed_over)

    async def session_execute(self, session_id: uuid.UUID) -> None:
        """Run the session until it ends, waits for a person, or is taken away; returns at once if somebody has it."""
        if self._leaving:
            return
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
            with kill_points_of(session_id):
                await self._run(ledger, lease)
        except StaleFence:
            logger.info("session %s was taken away", session_id)
        except HandOver:
            await self._let_go(lease)
        except DATABASE_AWAY as error:
            # Nothing of the session is lost or can be written: its lease runs out, and it is taken up again.
            logger.warning("session %s is let go, the database is away: %s", session_id, error)
            await self._database.connections_check()
        except asyncio.CancelledError:
            if not lost.is_set():
                # The worker is stopping, and can't wait: let another one go on at once.
                await asyncio.shield(self._let_go(lease))
                raise
            task.uncancel()
            logger.info("session %s was taken away", session_id)
        finally:
            self._keeper.forget(lease)

    async def _let_go(self, lease: Lease) -> None:
        await lease_release(database=self._database, lease=lease)
        self._handed_over.append(lease.session_id)
        logger.info("session %s is handed over", lease.session_id)

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
        except (
            *(LimitReached, DiskFull, ModelCallFailed, ModelNotAvailable, ModelRefused),
            *(SecretMissing, SecretUnreadable),
        ) as error:
            # What is used up, away or set wrong can be put right by a person, and then the session goes on.
            next_step = error.next_step
            if "resume" not in next_step:
                next_step = f"{next_step.rstrip('.')}; then resume the session."
            if isinstance(error, ModelCallFailed) and not error.retryable:
                other = f"./archon resume {lease.session_id} --model PROVIDER:MODEL"
                next_step = f"{next_step} Or have it go on with another model: {other}"
            await self._pause(ledger, Reason(error.code, error.message, next_step, error.extra))
        except ApplicationError as error:
            await self._fail(ledger, Reason(error.code, error.message, error.next_step))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                await self._fail_unexpected(ledger, error)
                return
            full = DiskFull("the session cannot go on")
            await self._pause(ledger, Reason(full.code, full.message, full.next_step))
        except (StaleFence, HandOver, asyncio.CancelledError, *DATABASE_AWAY):
            raise
        # Whatever else went wrong is a bug; the session must not hang on it, and the log has to say it.
        except Exception as error:  # noqa: BLE001
            await self._fail_unexpected(ledger, error)

    async def _graph_run(self, ledger: Ledger, lease: Lease) -> None:
        facts, site_facts, models, restore = await self._database.run_in_thread(_facts_load, lease.session_id)
        # Before anything is done: from here on nothing is written that holds one of the session's secrets.
        ledger.redactor = site_facts.secrets.redactor
        await self._gateway.models_load(_specs_of(facts, models))
        site = WorkSite(
            facts=site_facts,
            database=self._database,
            on_progress=lambda text: ledger.live.delta_send(execution_id=lease.session_id, role="setup", text=text),
        )
        context = RunContext(
            facts=facts,
            ledger=ledger,
            gateway=self._gateway,
            models=models,
            site=site,
            leaving=lambda: self._leaving,
            lane_graph=lane_graph(),
        )
        saver = FencedSaver(pool=self._database.pool, lease=lease, leaving=lambda: self._leaving)
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
            if restore is not None:
                # A rewind whose files nobody has put back yet.
                await site.restore(tree=restore.tree, head=restore.head)
                await index_tell(context, await site.files_tree())
                async with ledger.transaction() as connection:
                    await ledger.session_update(connection, restore=None)
            if begun:
                # The prepare node is behind us, and what it opened was the other worker's.
                await baseline_open(context)
            async with _time_limit(facts):
                await graph.ainvoke(start, config, context=context, durability="sync")
            # The lease was given up with the last write, which cancels this at any moment.
            await uninterrupted(self._ended(saver, lease.session_id))
        finally:
            # The lease is given up with the session's last write, and losing it cancels whoever held it.
            await uninterrupted(site.close())

    async def _ended(self, saver: FencedSaver, session_id: uuid.UUID) -> None:
        """Let go of what nobody needs any more. Should the process die before this, a sweep does it."""
        status = await self._database.run_in_thread(_status_load, session_id)
        if status not in TERMINAL_STATUSES:
            raise RuntimeError(f"the graph of session {session_id} ended while it is {status}")
        # A call of a worker that died, whose place in the conversation somebody's word has taken meanwhile.
        await self._database.run_in_thread(reservations_expire, scope_id=session_id)
        # The rows say it all now.
        await saver.adelete_thread(str(session_id))

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


def _facts_load(session_id: uuid.UUID) -> tuple[SessionFacts, SiteFacts, SessionModels, Restore | None]:
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
        rebases=session.rebases,
        rebase=Rebase(**session.rebase) if session.rebase else None,
        sources_waiting=bool(sources_to_fetch(session.id)),
        made_plan_id=plan_made(session),
        plan_work=plan_work_load(session.id),
        rewinds=session.rewinds,
        plan_rewind=session.plan_rewind,
        review=Review(session.review),
        agents=session.agents,
        lanes=session.lanes,
    )
    snapshot = snapshot_last(session.id)
    site = SiteFacts(
        session_id=session.id,
        project_id=session.project_id,
        branch=session.branch,
        base_commit=session.base_commit,
        check_commands=tuple(session.check_commands),
        setup_command=session.setup_command,
        subfolder=session.subfolder,
        notices=tuple(notice["message"] for notice in session.project.repository_notices),
        kept=snapshot.tree if snapshot else "",
        network_hosts=tuple(session.project.network_hosts),
        secrets=session_secrets_load(project_id=session.project_id, uses=session.secrets),
    )
    models = SessionModels.read(
        session.role_models,
        model=session.model,
        base_url=session.base_url,
        stored=stored_keys(user_id=session.created_by_id, project_id=session.project_id),
    )
    return facts, site, models, Restore.read(session)


def _specs_of(facts: SessionFacts, models: SessionModels) -> list[ModelSpec]:
    """What the session's roles call, as far as it can be called."""
    specs: list[ModelSpec] = []
    roles: list[str] = [*ROLES_OF[facts.agent_type], *([] if facts.review is Review.NEVER else ["reviewer"])]
    for role in dict.fromkeys(roles):
        with suppress(ApplicationError):
            chosen = models.for_role(role)
            specs += [chosen.spec, *chosen.fallbacks]
    return specs


def _status_load(session_id: uuid.UUID) -> SessionStatus:
    return SessionStatus(AgentSession.objects.values_list("status", flat=True).get(id=session_id))

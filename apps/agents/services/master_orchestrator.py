"""The commands on sessions: start, execute, pause, resume, answer, cancel, merge, discard. No model, no LangGraph.

Those that talk to a session or take it back have files of their own: ``messages``, ``steering``, ``rewind``.

Every transport calls these. Each is one transaction; what tells others leaves when it has committed. Asking for what is
already so changes nothing, and asking for what the state rules out is a Conflict that names the state.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.agents.models import AgentSession, ToolCall
from apps.agents.selectors import lanes_opened, session_get_for_user
from apps.agents.services.agent_profiles import agents_frozen
from apps.agents.services.attachments import attachments_claim
from apps.agents.services.plan_work import (
    PlanWork,
    PlanWorkMode,
    done_commits_missing,
    plan_status_require,
    plan_work_record,
)
from apps.agents.services.sessions import (
    event_append,
    session_create,
    session_lock,
    session_stop,
    session_wake,
    state_require,
)
from apps.agents.services.sources import SourceRequest, goal_of_sources, sources_check, sources_create
from apps.agents.types import ROLES_OF, AgentType, Event, Review, SessionOutcome, SessionStatus, ToolCallStatus
from apps.context.freshness import head_changed, session_files_forget
from apps.core.errors import Conflict, InvalidInput, NotFound
from apps.core.kill_points import kill_points_of
from apps.core.storable import text_storable
from apps.planning.selectors import plan_get_for_user
from apps.projects.autonomy import Autonomy
from apps.projects.models import Project, RepositoryState
from apps.projects.repository import branch_delete, branch_merge, commit_has_folder, commit_resolve
from apps.projects.secrets import secret_uses_read
from apps.projects.selectors import project_get_for_user, source_get
from apps.projects.services import project_head_record
from apps.projects.sources import source_sync_if_due
from apps.projects.worktree import session_files_delete
from apps.projects.worktree_lanes import lanes_delete
from apps.projects.worktree_snapshots import snapshots_delete
from apps.usage.catalogue import project_configuration
from apps.usage.choices import (
    ROLES,
    ModelConfiguration,
    ModelOptions,
    Role,
    choices_make,
    configuration_read,
    server_configuration,
)
from apps.usage.keys import stored_keys
from apps.usage.services import budget_create, budget_lock, budget_raise, reservations_expire
from apps.usage.types import Limits

if TYPE_CHECKING:
    from apps.authentication.models import User

GOAL_LIMIT = 100_000
ANSWER_LIMIT = 50_000


@dataclass(frozen=True)
class SessionRequest:
    """What a person asks for."""

    project_id: uuid.UUID
    goal: str
    limits: Limits
    limit_seconds: int
    agent_type: AgentType = AgentType.EXECUTOR
    models: ModelConfiguration = field(default_factory=ModelConfiguration)
    checks: tuple[str, ...] = ()
    setup_command: str = ""
    #: Uploads that go with the goal, and issues or logs that it comes from.
    attachments: tuple[uuid.UUID, ...] = ()
    sources: tuple[SourceRequest, ...] = ()
    #: What its agents may do without asking; None: as the project says, else the server.
    autonomy: Autonomy | None = None
    #: Which changes are reviewed; None: as the project says, else the server.
    review: Review | None = None
    #: How many of its tasks may be worked on side by side; None: as the project says, else the server.
    lanes: int | None = None
    #: Of the project's: `NAME`, or `NAME:PLACE,…`.
    secrets: tuple[str, ...] = ()
    #: A plan, or a feature, that is there already, and what is to be done with it.
    plan_work: PlanWork | None = None


def session_start(*, user: User, request: SessionRequest, execute: bool) -> AgentSession:
    """A new session on the head of the project's default branch; with ``execute``, handed to the workers."""
    sources_check(request.sources)
    goal = text_storable(request.goal).strip() or goal_of_sources(request.sources) or _goal_of_plan(user, request)
    if not goal:
        raise InvalidInput("the goal is empty", next_step="say in a sentence or two what should be different")
    if len(goal) > GOAL_LIMIT:
        raise InvalidInput(f"the goal is longer than {GOAL_LIMIT} characters", next_step="put long text into a file")
    project = project_get_for_user(user=user, project_id=request.project_id, write=True)
    base_commit = _head_resolve(project)
    _subfolder_check(project, base_commit)
    if request.plan_work is not None:
        _plan_check(user, request, request.plan_work, base_commit)
    review = request.review or Review(project.review or settings.ARCHON_REVIEW)
    chosen = _models_choose(user=user, project=project, request=request, review=review)
    main = chosen[ROLES_OF[request.agent_type][-1]]
    secrets = secret_uses_read(request.secrets, project=project)
    with transaction.atomic():
        session = session_create(
            session_id=uuid.uuid4(),
            project=project,
            user_id=user.id,
            goal=goal,
            agent_type=request.agent_type,
            model=main.model,
            base_url=main.base_url,
            role_models={role: options.model_dump(mode="json") for role, options in chosen.items()},
            base_branch=project.default_branch,
            base_commit=base_commit,
            check_commands=list(request.checks or project.check_commands),
            setup_command=request.setup_command or project.setup_command,
            limit_seconds=request.limit_seconds,
            subfolder=project.subfolder,
            review=review,
            agents=agents_frozen(project.agents),
            autonomy=request.autonomy or Autonomy(project.autonomy or settings.ARCHON_AUTONOMY),
            lanes=request.lanes or project.lanes or settings.ARCHON_LANES,
            secrets=[{"name": use.name, "places": list(use.places)} for use in secrets],
        )
        if request.plan_work is not None:
            plan_work_record(session, request.plan_work)
        budget_create(scope_id=session.id, project=project, user=user, limits=request.limits)
        attachments_claim(user=user, session=session, attachment_ids=request.attachments, turn=0)
        sources_create(user=user, session=session, sources=request.sources)
        if execute:
            session_wake(session_id=session.id, allowed=[SessionStatus.PENDING], event=Event("SessionQueued"))
    return session_get_for_user(user=user, session_id=session.id)


def session_execute(*, user: User, session_id: uuid.UUID) -> AgentSession:
    """Hand a pending session to the workers."""
    session_get_for_user(user=user, session_id=session_id, write=True)
    session_wake(session_id=session_id, allowed=[SessionStatus.PENDING], event=Event("SessionQueued"))
    return session_get_for_user(user=user, session_id=session_id)


def session_pause(*, user: User, session_id: uuid.UUID) -> AgentSession:
    """Stop the session where it is; nothing of it is lost."""
    session_get_for_user(user=user, session_id=session_id, write=True)
    session_stop(
        session_id=session_id,
        status=SessionStatus.PAUSED,
        allowed=[SessionStatus.PENDING, SessionStatus.RUNNING],
        event=Event("SessionPaused", {"reason": None}),
    )
    return session_get_for_user(user=user, session_id=session_id)


@transaction.atomic
def session_resume(
    *,
    user: User,
    session_id: uuid.UUID,
    raised: Limits | None = None,
    limit_seconds: int | None = None,
    models: ModelConfiguration | None = None,
) -> AgentSession:
    """Go on from where the session was paused, with higher limits and other models where some are given.

    A model that is named takes the place of the session's own whole; options alone go to the session's own.
    """
    session_get_for_user(user=user, session_id=session_id, write=True)
    # In the order in which a worker's writes lock them: budget, head, and only then the session's row.
    budget_lock(scope_id=session_id)
    session = session_lock(session_id)
    changed: dict[str, Any] = {}
    if models is not None and models != ModelConfiguration():
        state_require(session, [SessionStatus.PAUSED])
        changed["models"] = _models_change(session, models)
    if limit_seconds is not None:
        if limit_seconds < session.limit_seconds:
            raise InvalidInput(f"the limit of time is {session.limit_seconds} s and can only be raised")
        session.limit_seconds = limit_seconds
        session.save(update_fields=["limit_seconds", "updated_at"])
    if raised is not None:
        budget_raise(scope_id=session_id, cost_usd=raised.cost_usd, tokens=raised.tokens, steps=raised.steps)
    session_wake(session_id=session_id, allowed=[SessionStatus.PAUSED], event=Event("SessionResumed", changed))
    return session_get_for_user(user=user, session_id=session_id)


def session_cancel(*, user: User, session_id: uuid.UUID) -> AgentSession:
    """End the session for good; its branch stays as it is."""
    session_get_for_user(user=user, session_id=session_id, write=True)
    session_stop(
        session_id=session_id,
        status=SessionStatus.CANCELLED,
        allowed=[
            SessionStatus.PENDING,
            SessionStatus.RUNNING,
            SessionStatus.PAUSED,
            SessionStatus.WAITING_INPUT,
            SessionStatus.WAITING_APPROVAL,
        ],
        event=Event("SessionCancelled"),
    )
    # After that transaction, since a call that is being settled locks the budget first and the session second.
    reservations_expire(scope_id=session_id)
    return session_get_for_user(user=user, session_id=session_id)


@transaction.atomic
def session_answer(*, user: User, session_id: uuid.UUID, question_id: uuid.UUID, answer: str) -> AgentSession:
    """Answer the agent's question and let it go on. The same answer again changes nothing."""
    session_get_for_user(user=user, session_id=session_id, write=True)
    answer = text_storable(answer).strip()
    if not answer:
        raise InvalidInput("the answer is empty")
    if len(answer) > ANSWER_LIMIT:
        raise InvalidInput(f"the answer is longer than {ANSWER_LIMIT} characters")
    session = session_lock(session_id)
    call = ToolCall.objects.filter(id=question_id, session_id=session_id, name="ask_user").first()
    if call is None:
        raise NotFound(f"the session has no question {question_id}")
    if call.status == ToolCallStatus.FINISHED:
        if call.observation == answer:
            return session_get_for_user(user=user, session_id=session_id)
        raise Conflict("the question was answered already", state=session.status)
    state_require(session, [SessionStatus.WAITING_INPUT])
    call.status = ToolCallStatus.FINISHED
    call.ok = True
    call.observation = answer
    call.finished_at = timezone.now()
    call.save(update_fields=["status", "ok", "observation", "finished_at", "updated_at"])
    answered = Event("QuestionAnswered", {"question": str(question_id), "answer": answer})
    session_wake(session_id=session_id, allowed=[SessionStatus.WAITING_INPUT], event=answered)
    return session_get_for_user(user=user, session_id=session_id)


def session_merge(*, user: User, session_id: uuid.UUID, allow_failing: bool = False) -> AgentSession:
    """Bring the session's branch into the branch that it started from; refused once that has moved on."""
    session_get_for_user(user=user, session_id=session_id, write=True)
    # Locked until it is written down: a message, a rebase or a rewind that came in between would have a branch merged
    # that nobody has judged. git's own compare-and-swap decides, and doing it again after a crash finds it done.
    with kill_points_of(session_id), transaction.atomic():
        session = session_lock(session_id)
        if session.merged_commit:
            return session_get_for_user(user=user, session_id=session_id)
        _mergeable_require(session, allow_failing=allow_failing)
        merged = branch_merge(
            project_id=session.project_id,
            branch=session.branch,
            into=session.base_branch,
            expected=session.merge_onto or session.base_commit,
        )
        session.merged_commit = merged
        session.save(update_fields=["merged_commit", "updated_at"])
        project_head_record(project_id=session.project_id, branch=session.base_branch, commit=merged)
        done = Event("SessionMerged", {"into": session.base_branch, "commit": merged})
        event_append(session_id=session_id, events=[done])
    head_changed(project=session.project)
    # Nothing leads back to before a merge.
    snapshots_delete(project_id=session.project_id, session_id=session_id)
    return session_get_for_user(user=user, session_id=session_id)


def session_discard(*, user: User, session_id: uuid.UUID) -> AgentSession:
    """Throw the session's branch and files away; its record stays."""
    session_get_for_user(user=user, session_id=session_id, write=True)
    # Locked meanwhile: one that somebody has go on, or takes back, keeps its files.
    with transaction.atomic():
        session = session_lock(session_id)
        if session.discarded_at is None:
            state_require(session, [SessionStatus.COMPLETED, SessionStatus.FAILED, SessionStatus.CANCELLED])
            branch_delete(project_id=session.project_id, branch=session.branch)
            session_files_delete(session_id=session_id)
            snapshots_delete(project_id=session.project_id, session_id=session_id)
            lanes_delete(project_id=session.project_id, session_id=session_id, branch=session.branch)
            session_files_forget(session_id=session_id, lanes=lanes_opened(session_id))
            session.discarded_at = timezone.now()
            session.save(update_fields=["discarded_at", "updated_at"])
            event_append(session_id=session_id, events=[Event("SessionDiscarded")])
    return session_get_for_user(user=user, session_id=session_id)


def _models_choose(
    *, user: User, project: Project, request: SessionRequest, review: Review
) -> dict[Role, ModelOptions]:
    """What each role calls: those that the session works in, and those that the request names besides."""
    used = ROLES_OF[request.agent_type]
    if request.agent_type is AgentType.CODER and review is Review.ALWAYS:
        used = ("reviewer", *used)
    return choices_make(
        roles=[*used, *(role for role in request.models.models if role not in used)],
        places=[request.models, project_configuration(project), server_configuration()],
        stored=stored_keys(user_id=user.id, project_id=project.id),
    )


def _models_change(session: AgentSession, models: ModelConfiguration) -> dict[str, str]:
    """Have the roles of a session call other models from now on; by role, their names."""
    roles = [role for role in ROLES if role in session.role_models or role in models.models]
    chosen = choices_make(
        roles=roles or ROLES_OF[AgentType(session.agent_type)],
        places=[
            models,
            configuration_read({"models": session.role_models}),
            ModelConfiguration(model=session.model, base_url=session.base_url),
        ],
        # With the keys of whoever the session belongs to, as it is run.
        stored=stored_keys(user_id=session.created_by_id, project_id=session.project_id),
    )
    main = chosen[ROLES_OF[AgentType(session.agent_type)][-1]]
    session.role_models = {role: options.model_dump(mode="json") for role, options in chosen.items()}
    session.model, session.base_url = main.model, main.base_url
    session.save(update_fields=["role_models", "model", "base_url", "updated_at"])
    return {role: options.model for role, options in chosen.items()}


def _head_resolve(project: Project) -> str:
    _fetch_await(project)
    if project.repository_state != RepositoryState.READY:
        raise Conflict(
            "the project has no repository yet",
            next_step="upload a git bundle or an archive, or give the project a source to be fetched from",
            state=project.repository_state,
        )
    return commit_resolve(project_id=project.id, revision=project.default_branch)


def _goal_of_plan(user: User, request: SessionRequest) -> str:
    """What the plan that is to be carried out is for."""
    if request.plan_work is None or request.plan_work.plan_id is None:
        return ""
    return plan_get_for_user(user=user, plan_id=request.plan_work.plan_id).goal.strip()


def _plan_check(user: User, request: SessionRequest, work: PlanWork, base_commit: str) -> None:
    """What can be said before the plan is taken. Raises NotFound, InvalidInput, or Conflict (``not_merged``)."""
    if work.plan_id is None:
        return
    plan = plan_get_for_user(user=user, plan_id=work.plan_id)
    if plan.project_id != request.project_id:
        raise InvalidInput("the plan belongs to another project", next_step="name its own project")
    if work.mode != PlanWorkMode.CARRY_OUT:
        return
    if request.agent_type != AgentType.EXECUTOR:
        raise InvalidInput(
            "a plan is carried out by an executor", next_step="leave agent_type out, or the plan: a planner revises it"
        )
    plan_status_require(plan)
    missing = done_commits_missing(project_id=plan.project_id, plan_id=plan.id, base_commit=base_commit)
    if missing and not work.merged:
        raise Conflict(
            f"what was done in {', '.join(missing)} is not in the base branch",
            next_step="merge the session that did it; or send merged, where it is there in other commits",
            state="not_merged",
            tasks=missing,
        )


def _subfolder_check(project: Project, commit: str) -> None:
    if project.subfolder and not commit_has_folder(project_id=project.id, commit=commit, folder=project.subfolder):
        raise Conflict(
            f"the repository has no folder {project.subfolder} at {commit[:12]}",
            next_step="set the project's subfolder to one that is there, or to nothing",
            state="no_subfolder",
        )


def _fetch_await(project: Project) -> None:
    """A session starts from what the project's source has: not while that is on its way, nor when it failed to come."""
    source = source_get(project)
    if source is not None and project.repository_state == RepositoryState.CLONING:
        raise Conflict(
            "the project's repository is still being cloned",
            next_step="look at GET /api/projects/{id}/ until its repository_state is ready, and start the session then",
            state="cloning",
            progress=source.fetch_progress,
        )
    if source is not None and project.repository_state == RepositoryState.FAILED:
        reason = source.fetch_reason or {}
        raise Conflict(
            f"the project's repository could not be cloned: {reason.get('message', '')}",
            next_step=reason.get("next_step", ""),
            state="failed",
        )
    if source_sync_if_due(project=project):
        raise Conflict(
            "the project's repository is being brought up to date with its source",
            next_step="look at GET /api/projects/{id}/ until its source is idle, and start the session then",
            state="syncing",
        )


def _mergeable_require(session: AgentSession, *, allow_failing: bool) -> None:
    state_require(session, [SessionStatus.COMPLETED])
    _discarded_refuse(session)
    if session.outcome == SessionOutcome.FAILING and not allow_failing:
        raise Conflict(
            "the checks fail on this branch",
            next_step="look at the diff; to merge it all the same, send allow_failing",
            state=session.status,
        )
    if not session.head_commit or session.head_commit == session.base_commit:
        raise Conflict("the session changed nothing, so there is nothing to merge", state=session.status)


def _discarded_refuse(session: AgentSession) -> None:
    if session.discarded_at is not None:
        raise Conflict("the session's branch was discarded", state="discarded")

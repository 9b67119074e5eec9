"""People change plans: a version of their own, over what an agent or somebody else has made of it, at any time.

While a session carries the plan out, its head row is locked first. So a task begins on the plan as it is, or not at
all; an agent at work on a task that is changed hears of it before its next call of the model; and the session's events
tell of the version, so that a rewind to before it puts the former one back.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F

from apps.agents.models import AgentSession, SessionEffect, SessionHead, Steering
from apps.agents.services.plan_estimates import estimate_of
from apps.agents.services.plan_work import live_sessions
from apps.agents.services.sessions import event_append, made_in, session_lock
from apps.agents.tools.base import text_cut
from apps.agents.tools.grounding import RepositoryGrounding
from apps.agents.types import Event
from apps.core.errors import Conflict
from apps.core.storable import text_storable
from apps.planning.checking import Problem, plan_problems, problems_refuse
from apps.planning.diff_text import changes_brief
from apps.planning.diffing import plan_diff
from apps.planning.document import PlanDoc, TaskDoc, follow_up_key
from apps.planning.editing import Operation, operations_apply
from apps.planning.models import Plan, Task
from apps.planning.restoring import plan_restored
from apps.planning.scheduling import SATISFIED, tasks_ready, tasks_settle
from apps.planning.selectors import keys_past, plan_document, plan_get_for_user, task_states, version_get
from apps.planning.services import plan_lock, plan_revise
from apps.planning.types import PlanStatus, TaskAgent, TaskStatus, VersionSource
from apps.projects.git import GitError
from apps.projects.models import Project, RepositoryState

if TYPE_CHECKING:
    from apps.authentication.models import User

logger = logging.getLogger(__name__)

#: What of a plan's changes an event tells of a text.
_EVENT_TEXT = 2_000
#: How often a change that names no version is made anew because another one came in between.
_TRIES = 20
#: What a plan is at once all that could be done of it was done.
_ENDED = (PlanStatus.DONE, PlanStatus.FAILED)


def plan_edit(
    *, user: User, plan_id: uuid.UUID, operations: Sequence[Operation], expected: int | None = None, reason: str = ""
) -> Plan:
    """The plan with these operations done in turn, all of them or none. Raises as :func:`plan_change`, InvalidInput."""

    def make(plan: Plan, now: PlanDoc) -> PlanDoc:
        return operations_apply(now, operations, past=keys_past(plan))

    return plan_change(user=user, plan_id=plan_id, make=make, expected=expected, reason=reason)


def plan_restore(
    *, user: User, plan_id: uuid.UUID, version: int, expected: int | None = None, reason: str = ""
) -> Plan:
    """The plan as an earlier version had it, for what has not started. Raises as :func:`plan_change`, and NotFound."""

    def make(plan: Plan, now: PlanDoc) -> PlanDoc:
        former = PlanDoc.read(version_get(plan, version).document)
        return plan_restored(former, now, task_states(plan))

    told = reason or f"version {version} was put back"
    return plan_change(user=user, plan_id=plan_id, make=make, expected=expected, reason=told)


def plan_change(
    *,
    user: User,
    plan_id: uuid.UUID,
    make: Callable[[Plan, PlanDoc], PlanDoc],
    expected: int | None,
    reason: str,
    source: VersionSource = VersionSource.PERSON,
) -> Plan:
    """The plan as ``make`` makes it of what it says now, as its next version; what changes nothing makes none.

    ``expected`` is the version that the person saw: Conflict (``plan_changed``) once there is a newer one. Without it
    the change is made of the newest, whichever that is. A plan that is over has something to be carried out again
    where the change brings that; one that was rejected waits for approval again.

    Raises NotFound, PermissionDenied for a viewer, Conflict for a plan that was withdrawn or whose session is just
    ending, PlanRefused for what doesn't hold or takes back what was begun.
    """
    for _ in range(_TRIES):
        plan = plan_get_for_user(user=user, plan_id=plan_id, write=True)
        _open_require(plan, live_sessions(plan_id).first())
        version, before = plan.version, plan_document(plan)
        _version_require(version, expected)
        after = make(plan, before)
        # The repository is looked into before anything is locked.
        _problems_refuse(plan, before, after)
        made = _Made(version, before, after, estimate_of(plan=plan, document=after, states=task_states(plan)))
        try:
            return _version_write(plan_id, made, author=user, reason=reason, source=source)
        except _Overtaken:
            continue
    raise Conflict("the plan is being changed over and over", next_step="try it again", state="plan_changed")


class _Overtaken(Exception):
    """Another version came, or a session took the plan up, while this one was made."""


@dataclass(frozen=True)
class _Made:
    """A change that was made of a version."""

    version: int
    before: PlanDoc
    after: PlanDoc
    estimate: Mapping[str, Any]


@transaction.atomic
def _version_write(plan_id: uuid.UUID, made: _Made, *, author: User, reason: str, source: VersionSource) -> Plan:
    version, before, after = made.version, made.before, made.after
    sessions = _sessions_lock(plan_id)
    plan = plan_lock(plan_id)
    if plan.version != version or {session.id for session in sessions} != _session_ids(plan_id):
        raise _Overtaken
    _open_require(plan, sessions[0] if sessions else None)
    changes = [change.as_dict() for change in plan_diff(before, after)]
    if not changes:
        return plan
    reason = text_storable(reason).strip() or changes_brief(changes)
    for session in sessions:
        _carried_out_require(session, before, after)
        words = _tasks_told(session, plan, before, after)
        revised = plan_revised(
            plan_id=plan_id, version=version + 1, reason=reason, source=source, changes=changes, author=author
        )
        _session_tell(session, revised, words, author)
    was_approved = plan.approved_version == plan.version
    plan = plan_revise(
        plan_id=plan_id,
        document=after,
        source=source,
        reason=reason,
        expected=version,
        author=author,
        made_in=made_in(sessions[0].id) if sessions else None,
        status=_status_after(plan, after),
        estimate=made.estimate,
    )
    if was_approved:
        # Whoever may change a plan that was let through lets the change through with it.
        Plan.objects.filter(id=plan_id).update(approved_version=plan.version)
        plan.approved_version = plan.version
    return plan


def plan_revised(
    *,
    plan_id: uuid.UUID,
    version: int,
    reason: str,
    source: VersionSource,
    changes: Sequence[Mapping[str, Any]],
    author: User | None = None,
) -> Event:
    """What a session's events tell of a new version of its plan; ``changes`` as ``Change.as_dict`` has them."""
    return Event(
        "PlanRevised",
        {
            "plan": str(plan_id),
            "version": version,
            "reason": reason,
            "source": source.value,
            "changes": [_cut(change) for change in changes],
            "by": str(author.id) if author else None,
        },
    )


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return text_cut(value, _EVENT_TEXT)
    if isinstance(value, Mapping):
        return {key: _cut(item) for key, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list) else value


# --- What is refused --------------------------------------------------------------------------------------------------
def _open_require(plan: Plan, session: AgentSession | None) -> None:
    status = PlanStatus(plan.status)
    if status == PlanStatus.WITHDRAWN:
        raise Conflict(
            "the plan can't be changed any more: its session was taken back to before it was made",
            next_step="change the plan that the session has now",
            state=status.value,
        )
    if status in _ENDED and session is not None:
        raise Conflict(
            f"the plan is {status.value}, and session {session.id} still has it",
            next_step="wait until that has ended; or say to it what should be different (POST steer/)",
            state=status.value,
        )


def _status_after(plan: Plan, after: PlanDoc) -> PlanStatus | None:
    """What a plan becomes that was over and is changed: there may be something to carry out again. None: it stays."""
    if plan.status == PlanStatus.REJECTED:
        return PlanStatus.WAITING
    if plan.status not in _ENDED:
        return None
    states = task_states(plan)
    statuses = {standing.status for standing in tasks_settle(after, states).values()}
    if statuses <= SATISFIED:
        return PlanStatus.DONE
    stuck = TaskStatus.FAILED in statuses and not tasks_ready(after, states)
    return PlanStatus.FAILED if stuck else PlanStatus.ACTIVE


def _version_require(version: int, expected: int | None) -> None:
    if expected is not None and expected != version:
        raise Conflict(
            f"the plan is at version {version}, not at {expected}",
            next_step="look at it again, and make the change from there",
            state="plan_changed",
            version=version,
        )


def _problems_refuse(plan: Plan, before: PlanDoc, after: PlanDoc) -> None:
    """Raises PlanRefused for what doesn't hold. What didn't before is no reason to keep a plan from being changed."""
    problems_refuse(plan_problems(after, None))
    grounded_refuse(plan.project, after, plan=plan, before=before)


def grounded_refuse(
    project: Project, document: PlanDoc, *, plan: Plan | None = None, before: PlanDoc | None = None
) -> None:
    """Raises PlanRefused for files that aren't there and checks that can't run; not for those of ``before``.

    They are looked for in the commit that the plan's session started from, while one carries it out, else in that
    from which one would start now. Of a project without a repository nothing can be said.
    """
    live = live_sessions(plan.id).order_by("created_at").last() if plan else None
    commit = live.base_commit if live else project.head_commit
    if project.repository_state != RepositoryState.READY or not commit:
        return
    subfolder = live.subfolder if live else project.subfolder
    grounding = RepositoryGrounding(project_id=project.id, commit=commit, subfolder=subfolder)
    begun = [key for key, state in task_states(plan).items() if state.started] if plan else []
    try:
        problems = plan_problems(document, grounding, begun=begun)
        known = plan_problems(before, grounding, begun=begun) if problems and before else []
    except GitError as error:
        logger.warning("the files of project %s can't be looked up: %s", project.id, error)
        return
    problems_refuse([problem for problem in problems if problem not in known])


def _carried_out_require(session: AgentSession, before: PlanDoc, after: PlanDoc) -> None:
    """A follow-up carries out its own feature alone: a task that is added elsewhere would wait for ever."""
    if not session.turn:
        return
    key = follow_up_key(session.turn)
    # That of a plan which other sessions have had names the session too.
    own = next((name for name in (f"{key}-{str(session.id)[:8]}", key) if name in after.features_by_key), key)
    problems_refuse(
        [
            Problem(
                f"tasks.{placed.task.key}",
                "not_carried_out",
                f"the session works on follow-up {session.turn}: of what is added it carries out what is in {own}",
                f"add {placed.task.key} there",
            )
            for placed in after.placed_tasks
            if placed.task.key not in before.tasks and own not in [feature.key for feature in placed.within]
        ]
    )


def _heard_require(session: AgentSession, task: Task) -> None:
    """An agent that has finished hears nothing of a change; its work is judged by what it was told."""
    executions = session.executions.filter(retired=None)
    if session.turn:
        # A follow-up goes on in a conversation that was another task's.
        going = SessionEffect.objects.filter(session=session, key=f"conversation#{session.turn}").first()
        executions = executions.filter(id=going.result["execution"]) if going else executions.none()
    else:
        executions = executions.filter(task_id=task.id)
    if task.agent_type != TaskAgent.REVIEWER:
        executions = executions.exclude(role="reviewer")
    last = executions.order_by("created_at").last()
    if last is not None and last.result is not None:
        raise Conflict(
            f"the agent of task {task.key} has finished, and its work is being judged",
            next_step="add a task of its own for what is to be done otherwise; or try it again when it was sent back",
            state="being_judged",
        )


# --- The session that carries it out ----------------------------------------------------------------------------------
def _session_ids(plan_id: uuid.UUID) -> set[uuid.UUID]:
    return set(live_sessions(plan_id).values_list("id", flat=True))


def _sessions_lock(plan_id: uuid.UUID) -> list[AgentSession]:
    """The sessions that have not ended and carry the plan out, their head rows locked: as a rule one or none."""
    return [session_lock(session_id) for session_id in sorted(_session_ids(plan_id))]


def _session_tell(session: AgentSession, revised: Event, words: Mapping[uuid.UUID, str], author: User) -> None:
    """Write down what happened, and what agents at work have to hear of it, for each its own."""
    said = [(uuid.uuid4(), task_id, text) for task_id, text in words.items()]
    received = [
        Event("SteeringReceived", {"steering": str(steering_id), "text": text}) for steering_id, _, text in said
    ]
    # The version comes last: one can go back to it, and all of this belongs to that step.
    seq = event_append(session_id=session.id, events=[*received, revised])
    for steering_id, task_id, text in said:
        Steering.objects.create(
            id=steering_id, session=session, sent_by=author, task_id=task_id, text=text, key="", seq=seq
        )
    if said:
        SessionHead.objects.filter(session=session).update(steering=F("steering") + len(said))


def _tasks_told(session: AgentSession, plan: Plan, before: PlanDoc, after: PlanDoc) -> dict[uuid.UUID, str]:
    """What the agents of tasks that run are to hear, by the tasks' ids. Raises Conflict for one that hears no more."""
    told = {}
    running = Task.objects.filter(feature__plan=plan, session_id=session.id, status=TaskStatus.RUNNING)
    for task in running.order_by("feature__position", "position"):
        if (now := after.tasks.get(task.key)) is None or not (changed := _told(before.tasks[task.key], now)):
            continue
        _heard_require(session, task)
        told[task.id] = "\n\n".join(["Your task was changed. What follows stands in place of what it said:", *changed])
    return told


def _told(before: TaskDoc, now: TaskDoc) -> list[str]:
    """What of a task's words, files and checks is different, as its agent is told."""
    parts = []
    if now.title != before.title:
        parts.append(f"Task: {now.title}")
    if now.instructions != before.instructions:
        parts.append(now.instructions or "There are no further instructions.")
    if (now.files, now.creates) != (before.files, before.creates):
        files = ", ".join((*now.files, *(f"{path} (new)" for path in now.creates)))
        parts.append(f"It is expected to touch: {files or 'nothing in particular'}")
    if now.checks != before.checks:
        checks = "\n".join(f"- `{check.command}`" for check in now.checks)
        parts.append(
            f"It is done when these hold, besides the checks (exit code 0):\n{checks}"
            if checks
            else "It has no checks of its own any more."
        )
    return parts

"""Sessions that begin with a plan or a feature that is there already: to carry it out, revise it or break it down.

What a session was begun for is an effect of its first step, so that no rewind takes it back. While it has not ended, no
other session has the plan.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import models

from apps.agents.models import AgentSession, SessionEffect, SessionHead
from apps.agents.types import TERMINAL_STATUSES, AgentType
from apps.core.errors import Conflict
from apps.planning.models import Feature, Plan, Task, TaskStatus
from apps.planning.scheduling import tasks_ready
from apps.planning.selectors import plan_document, task_states
from apps.planning.services import plan_lock, plan_update_status
from apps.planning.takeover import tasks_release
from apps.planning.types import PlanStatus
from apps.projects.autonomy import Autonomy
from apps.projects.repository import commits_missing

#: Under these a person looks at a plan before anything of it is carried out.
ASKING = frozenset({Autonomy.OBSERVE, Autonomy.ASK})
WORK_EFFECT = "plan-work"
#: A plan in these states can be carried out, as far as tasks are left; another one says why not.
_CARRIED_OUT = frozenset({PlanStatus.ACTIVE, PlanStatus.FAILED})
_NOT_CARRIED_OUT = {
    PlanStatus.WAITING: ("it waits for approval", "approve it first: ./archon plan approve {plan} (POST approve/)"),
    PlanStatus.REJECTED: ("it was rejected", "have it revised: ./archon plan revise {plan} TEXT (POST revise/)"),
    PlanStatus.DONE: ("everything in it is done", "have it revised, or start a session with a goal"),
    PlanStatus.WITHDRAWN: ("its session was taken back to before it was made", "start a session with a goal"),
}


class PlanWorkMode(models.TextChoices):
    CARRY_OUT = "carry_out"
    REVISE = "revise"
    BREAK_DOWN = "break_down"


@dataclass(frozen=True)
class PlanWork:
    """What a session does with what was there before it."""

    mode: PlanWorkMode
    #: None: a feature without a plan is broken down, which makes one.
    plan_id: uuid.UUID | None = None
    #: The version that the person had seen; 0: it doesn't matter.
    version: int = 0
    #: The feature to break down: its row, and its key in the plan.
    feature_id: uuid.UUID | None = None
    feature_key: str = ""
    #: What the person said of it.
    comment: str = ""
    #: To carry out: what was done is in the base commit, whatever the commits say (they were squashed, say).
    merged: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "mode": self.mode.value,
            "plan": str(self.plan_id) if self.plan_id else None,
            "version": self.version,
            "feature": str(self.feature_id) if self.feature_id else None,
            "feature_key": self.feature_key,
            "comment": self.comment,
            "merged": self.merged,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PlanWork:
        return cls(
            mode=PlanWorkMode(data["mode"]),
            plan_id=uuid.UUID(data["plan"]) if data["plan"] else None,
            version=data["version"],
            feature_id=uuid.UUID(data["feature"]) if data["feature"] else None,
            feature_key=data["feature_key"],
            comment=data["comment"],
            merged=data["merged"],
        )


def plan_work_record(session: AgentSession, work: PlanWork) -> None:
    """Begin a new session with what was there before it; inside the transaction that makes it.

    Raises Conflict: another session that has not ended has the plan (``plan_taken``), it was changed meanwhile
    (``plan_changed``), or it can't be carried out as it stands (``state`` is the plan's status).
    """
    _effect_write(session.id, WORK_EFFECT, work.as_dict())
    if work.plan_id is None:
        _feature_take(session, work)
        return
    plan = tasks_release_if_free(work.plan_id, but=session.id)
    if work.version and work.version != plan.version:
        raise Conflict(
            f"the plan is at version {plan.version}, not at {work.version}",
            next_step="look at it as it is now",
            state="plan_changed",
            version=plan.version,
        )
    session.plan = plan
    session.save(update_fields=["plan", "updated_at"])
    known: dict[str, Any] = {"plan": str(plan.id), "given": True, "status": plan.status}
    if work.mode == PlanWorkMode.CARRY_OUT:
        _carried_out_require(plan)
        asks = session.autonomy in ASKING and plan.approved_version != plan.version
        known["status"] = (PlanStatus.WAITING if asks else PlanStatus.ACTIVE).value
        plan_update_status(plan_id=plan.id, status=PlanStatus(known["status"]))
    _effect_write(session.id, "plan", known)


def plan_work_load(session_id: uuid.UUID) -> PlanWork | None:
    """What the session was begun for with what was there before it; None: it has a goal alone."""
    found = SessionEffect.objects.filter(session_id=session_id, key=WORK_EFFECT).first()
    return PlanWork.from_dict(found.result) if found else None


def live_sessions(plan_id: uuid.UUID) -> models.QuerySet[AgentSession]:
    """The sessions that have the plan and have not ended, whatever they do with it."""
    return AgentSession.objects.filter(plan=plan_id).exclude(status__in=TERMINAL_STATUSES)


def plan_free_require(session: AgentSession) -> None:
    """Refuse to have an ended session go on, or go back, while another one has its plan: ``plan_taken``.

    Locks the plan, so that nobody takes it meanwhile.
    """
    if session.plan_id is not None:
        plan_lock(session.plan_id)
        _taken_refuse(session.plan_id, but=session.id)


def plan_is_kept(session: AgentSession) -> bool:
    """Whether a message has the session go on with the plan that it has: a planner of a goal makes another one."""
    return session.agent_type != AgentType.PLANNER or plan_work_load(session.id) is not None


def tasks_release_if_free(plan_id: uuid.UUID, *, but: uuid.UUID) -> Plan:
    """The plan, locked, its tasks free of sessions that have ended. Raises Conflict (``plan_taken``)."""
    _taken_refuse(plan_id, but=but)
    plan = tasks_release(plan_id=plan_id)
    # Looked at again with the plan locked: whoever takes it has to lock it.
    _taken_refuse(plan_id, but=but)
    return plan


def plan_status_standing(effects: Mapping[str, Mapping[str, Any]]) -> PlanStatus:
    """Whether the plan waited for a person, by the effects of a session that still stand, in their order."""
    status = PlanStatus.ACTIVE
    for key, result in effects.items():
        if result.get("waits"):
            status = PlanStatus.WAITING
        elif result.get("given"):
            status = PlanStatus(result["status"])
        elif key.startswith("plan-approved:"):
            status = PlanStatus.ACTIVE
    return status


def done_commits_missing(*, project_id: uuid.UUID, plan_id: uuid.UUID, base_commit: str) -> dict[str, str]:
    """By key, the commits of tasks that are done which the base commit doesn't have."""
    done = {
        key: commit
        for key, commit in Task.objects.filter(feature__plan=plan_id, status=TaskStatus.DONE).values_list(
            "key", "commit"
        )
        if commit
    }
    missing = set(commits_missing(project_id=project_id, commits=list(done.values()), within=base_commit))
    return {key: commit for key, commit in done.items() if commit in missing}


def _taken_refuse(plan_id: uuid.UUID, *, but: uuid.UUID) -> None:
    other = live_sessions(plan_id).exclude(id=but).first()
    if other is not None:
        raise Conflict(
            f"session {other.id} has the plan, and is {other.status}",
            next_step="wait until it has ended, or cancel it",
            state="plan_taken",
            session=str(other.id),
        )


def plan_status_require(plan: Plan) -> None:
    """Refuse to carry out a plan that waits for a person, or is over; ``state`` is its status."""
    status = PlanStatus(plan.status)
    if status not in _CARRIED_OUT:
        said, next_step = _NOT_CARRIED_OUT[status]
        raise Conflict(
            f"the plan can't be carried out: {said}", next_step=next_step.format(plan=plan.id), state=status.value
        )


def _carried_out_require(plan: Plan) -> None:
    plan_status_require(plan)
    if not tasks_ready(plan_document(plan), task_states(plan)):
        raise Conflict(
            "the plan can't be carried out: nothing of it can start",
            next_step=f"have it revised: ./archon plan revise {plan.id} TEXT (POST revise/)",
            state="nothing_ready",
        )


def _feature_take(session: AgentSession, work: PlanWork) -> None:
    """One session at a time breaks a feature down that has no plan."""
    assert work.feature_id is not None
    if not Feature.objects.select_for_update().filter(id=work.feature_id, plan=None).exists():
        raise Conflict("the feature is in a plan by now", next_step="look at it again", state="plan_changed")
    others = AgentSession.objects.filter(
        effects__key=WORK_EFFECT, effects__result__feature=str(work.feature_id), effects__result__plan=None
    ).exclude(id=session.id)
    other = others.exclude(status__in=TERMINAL_STATUSES).first()
    if other is not None:
        raise Conflict(
            f"session {other.id} breaks the feature down already",
            next_step="wait until it has ended, or cancel it",
            state="plan_taken",
            session=str(other.id),
        )


def _effect_write(session_id: uuid.UUID, key: str, result: Mapping[str, Any]) -> None:
    written = SessionHead.objects.values_list("written", flat=True).get(session_id=session_id)
    SessionEffect.objects.create(session_id=session_id, key=key, result=dict(result), seq=written)

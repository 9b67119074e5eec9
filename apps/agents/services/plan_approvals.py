"""Plans that a person has to approve: having a session wait with one, and what they say to it.

The plan's row says that it waits; effects of the session say what was decided, so that a rewind knows. Asking is one
transaction of the worker's, which gives its lease up with it; deciding is one of the person's, which wakes the session.
Who decides names the version that they have seen.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from django.db import transaction

from apps.agents.models import AgentSession, SessionEffect, SessionHead
from apps.agents.selectors import approval_get
from apps.agents.services.approvals import session_autonomy_set
from apps.agents.services.plan_work import ASKING, live_sessions
from apps.agents.services.sessions import (
    StaleFence,
    clock_stop,
    event_append,
    session_lock,
    session_stop,
    session_wake,
)
from apps.agents.types import TERMINAL_STATUSES, AgentType, Event, Lease, Reason, SessionStatus
from apps.core.errors import Conflict, InvalidInput
from apps.core.storable import text_storable
from apps.planning import services as planning
from apps.planning.models import Plan
from apps.planning.selectors import plan_get_for_user
from apps.planning.types import PlanStatus
from apps.projects.autonomy import Autonomy
from apps.projects.selectors import project_get_for_user
from apps.usage.services import reservations_expire

if TYPE_CHECKING:
    from apps.authentication.models import User

COMMENT_LIMIT = 50_000
#: How often one session's planner is sent back by comments.
REJECTIONS = 10
_REJECTED, _TOLD, _REVISED, _APPROVED = "plan-rejected:", "plan-revise:", "plan-revised:", "plan-approved:"
_NOT_ENDED = [status for status in SessionStatus if status not in TERMINAL_STATUSES]


@dataclass(frozen=True)
class Rejection:
    """A person's comment on a version, which the planner is to follow."""

    number: int
    version: int
    comment: str
    #: The planner has handed over what it made of it.
    is_settled: bool
    #: What is to be said of that.
    note: str = ""

    @property
    def told_key(self) -> str:
        """The effect of telling the planner."""
        return f"{_TOLD}{self.number}"

    @property
    def revised_key(self) -> str:
        """The effect of taking what it made of it."""
        return f"{_REVISED}{self.number}"


@dataclass(frozen=True)
class PlanStanding:
    """How a session goes on with its plan: with it, with a revision, or not before a person has decided."""

    way: Literal["go", "revise", "wait"]
    rejection: Rejection | None = None


def version_waits(session_id: uuid.UUID) -> bool:
    """Whether a person has to look at a version of the plan that the session's agents make now.

    For callers that have locked the session's head: its autonomy can't change meanwhile.
    """
    session = AgentSession.objects.only("agent_type", "autonomy").get(id=session_id)
    return session.agent_type == AgentType.EXECUTOR and session.autonomy in ASKING


def rejection_last(session_id: uuid.UUID) -> Rejection | None:
    """What a person last said against the session's plan, if they did."""
    effects = dict(
        SessionEffect.objects.filter(session_id=session_id, retired=None, key__startswith="plan-re").values_list(
            "key", "result"
        )
    )
    number = sum(key.startswith(_REJECTED) for key in effects)
    if not number:
        return None
    said = effects[f"{_REJECTED}{number}"]
    settled = effects.get(f"{_REVISED}{number}")
    note = str(settled.get("note", "")) if settled else ""
    return Rejection(number, said["version"], said["comment"], settled is not None, note)


@transaction.atomic
def plan_wait_settle(lease: Lease, *, plan_id: uuid.UUID) -> PlanStanding:
    """Have the session wait for a person if its plan does, in one transaction that gives the lease up; fenced."""
    event_append(session_id=lease.session_id, events=[], fence=lease.fence)
    plan = planning.plan_lock(plan_id)
    rejection = rejection_last(lease.session_id)
    if plan.status != PlanStatus.WAITING:
        return PlanStanding("go")
    if rejection is not None and not rejection.is_settled:
        return PlanStanding("revise", rejection)
    if not SessionHead.objects.filter(session_id=lease.session_id, wanted=True).update(
        wanted=False, owner="", lease_expires_at=None
    ):
        raise StaleFence(f"session {lease.session_id} is not to run any more")
    session = AgentSession.objects.get(id=lease.session_id)
    clock_stop(session)
    session.status = SessionStatus.WAITING_APPROVAL
    session.save(update_fields=["status", "used_seconds", "running_since", "updated_at"])
    # What came of an earlier one has been told.
    is_new = rejection is not None and plan.version - rejection.version <= 1
    note = rejection.note if rejection is not None and is_new else ""
    asked = Event("PlanApprovalRequested", {"plan": str(plan.id), "version": plan.version, "note": note})
    event_append(session_id=session.id, events=[asked])
    return PlanStanding("wait")


def plan_waiting(session: AgentSession) -> Plan | None:
    """The plan that the session waits with for a person's leave, if that is what it waits for."""
    if session.status != SessionStatus.WAITING_APPROVAL or session.plan_id is None:
        return None
    if approval_get(session_id=session.id) is not None:
        return None
    return Plan.objects.filter(id=session.plan_id, status=PlanStatus.WAITING).first()


@transaction.atomic
def plan_approve(*, user: User, plan_id: uuid.UUID, version: int, autonomy: Autonomy | None = None) -> Plan:
    """Let this version be carried out, with a session's autonomy raised where one is given. Again: changes nothing.

    Raises Conflict: it is another version by now (``plan_changed``), a planner is at it (``being_revised``), the plan
    is rejected, done or taken back, or the session may only look (``observe``).
    """
    session, plan = _open(user, plan_id)
    if plan.approved_version == version and plan.status != PlanStatus.WAITING:
        if session is not None and autonomy is not None:
            session_autonomy_set(user=user, session_id=session.id, autonomy=autonomy)
        return plan
    if session is None:
        if autonomy is not None:
            raise InvalidInput("no session carries the plan out", next_step="leave autonomy out")
        return planning.plan_approve(plan_id=plan_id, version=version)
    rejection = rejection_last(session.id)
    if rejection is not None and not rejection.is_settled:
        raise _being_revised(session)
    now = autonomy or Autonomy(session.autonomy)
    if now == Autonomy.OBSERVE:
        raise Conflict(
            "the session may only look, so nothing of the plan could be carried out",
            next_step=f"raise its autonomy first: ./archon autonomy {session.id} ask; or with the approval (autonomy)",
            state="observe",
        )
    plan = planning.plan_approve(plan_id=plan_id, version=version)
    session_autonomy_set(user=user, session_id=session.id, autonomy=now)
    approved = Event("PlanApproved", {"plan": str(plan.id), "version": version, "by": str(user.id)})
    _go_on(session, approved)
    number = SessionEffect.objects.filter(session=session, retired=None, key__startswith=_APPROVED).count() + 1
    _effect_write(session, f"{_APPROVED}{number}", {"version": version, "by": str(user.id)})
    return plan


def plan_reject(*, user: User, plan_id: uuid.UUID, version: int, comment: str = "") -> Plan:
    """Refuse this version: with a comment the planner makes another one of it, without one the session is cancelled.

    The same again changes nothing. Raises Conflict: it is another version by now (``plan_changed``), a planner is at
    it (``being_revised``), it is carried out already, or was sent back too often (``too_many_revisions``).
    """
    comment = text_storable(comment).strip()
    if len(comment) > COMMENT_LIMIT:
        raise InvalidInput(f"the comment is longer than {COMMENT_LIMIT} characters")
    with transaction.atomic():
        session, plan = _open(user, plan_id)
        if session is None:
            if comment:
                raise InvalidInput(
                    "no session waits with the plan: no planner would hear the comment",
                    next_step=f"have it revised: ./archon plan revise {plan_id} TEXT (POST revise/)",
                )
            return planning.plan_reject(plan_id=plan_id, version=version)
        if comment:
            return _send_back(user, session, plan, version=version, comment=comment)
        _waiting_require(plan)
        plan = planning.plan_reject(plan_id=plan_id, version=version)
        event_append(session_id=session.id, events=[_rejected(user, plan, version, "")])
        reason = Reason(
            "plan_rejected",
            "a person rejected the plan",
            "send a message that says what should be different, or start another session",
        )
        session_stop(
            session_id=session.id,
            status=SessionStatus.CANCELLED,
            allowed=_NOT_ENDED,
            event=Event("SessionCancelled"),
            reason=reason,
        )
    # After that transaction, since a call that is being settled locks the budget first and the session second.
    reservations_expire(scope_id=session.id)
    return plan


def _send_back(user: User, session: AgentSession, plan: Plan, *, version: int, comment: str) -> Plan:
    last = rejection_last(session.id)
    if last is not None and (last.version, last.comment) == (version, comment):
        if not last.is_settled or plan.version != version:
            return plan
    elif last is not None and not last.is_settled:
        raise _being_revised(session)
    _waiting_require(plan)
    if version != plan.version:
        raise Conflict(
            f"the plan is at version {plan.version}, not at {version}",
            next_step="look at it as it is now",
            state="plan_changed",
            version=plan.version,
        )
    number = last.number + 1 if last else 1
    if number > REJECTIONS:
        raise Conflict(
            f"the plan was sent back {REJECTIONS} times",
            next_step="edit it yourself and approve that, or reject it without a comment",
            state="too_many_revisions",
        )
    _go_on(session, _rejected(user, plan, version, comment))
    said = {"version": version, "comment": comment, "by": str(user.id)}
    _effect_write(session, f"{_REJECTED}{number}", said)
    return plan


def _rejected(user: User, plan: Plan, version: int, comment: str) -> Event:
    return Event("PlanRejected", {"plan": str(plan.id), "version": version, "comment": comment, "by": str(user.id)})


def _go_on(session: AgentSession, event: Event) -> None:
    """Tell of the decision, and wake the session if that is what it waits for; one that is paused stays so."""
    waits = session.status == SessionStatus.WAITING_APPROVAL and approval_get(session_id=session.id) is None
    if waits:
        session_wake(session_id=session.id, allowed=[SessionStatus.WAITING_APPROVAL], event=event)
    else:
        event_append(session_id=session.id, events=[event])


def _open(user: User, plan_id: uuid.UUID) -> tuple[AgentSession | None, Plan]:
    """The session that carries the plan out and has not ended, its head locked, if there is one; the plan, locked."""
    plan = plan_get_for_user(user=user, plan_id=plan_id)
    project_get_for_user(user=user, project_id=plan.project_id, write=True)
    found = _carrying(plan_id)
    session = session_lock(found.id) if found else None
    plan = planning.plan_lock(plan_id)
    now = _carrying(plan_id)
    if (now.id if now else None) != (session.id if session else None):
        raise Conflict("a session has just taken the plan, or ended", next_step="look again", state="plan_changed")
    return session, plan


def _carrying(plan_id: uuid.UUID) -> AgentSession | None:
    return live_sessions(plan_id).filter(agent_type=AgentType.EXECUTOR).order_by("created_at").last()


def _waiting_require(plan: Plan) -> None:
    if plan.status != PlanStatus.WAITING:
        raise Conflict(
            f"the plan is {plan.status}: its session doesn't wait for a word on it",
            next_step="say to the session what should be different, or cancel it",
            state=plan.status,
        )


def _being_revised(session: AgentSession) -> Conflict:
    return Conflict(
        "the planner is at another version of the plan",
        next_step=f"wait for that; to say more to the planner: ./archon say {session.id} TEXT",
        state="being_revised",
    )


def _effect_write(session: AgentSession, key: str, result: dict[str, Any]) -> None:
    written = SessionHead.objects.values_list("written", flat=True).get(session_id=session.id)
    SessionEffect.objects.create(session_id=session.id, key=key, result=result, seq=written)

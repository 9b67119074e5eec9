"""Having planners think about plans: a new one from a goal, another version of one, a feature broken down.

Each starts a session of its own; no request waits for a model. Where a session is at the plan already, what is asked
for reaches that session instead.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from apps.agents.models import AgentSession
from apps.agents.selectors import session_get_for_user
from apps.agents.services.master_orchestrator import GOAL_LIMIT, SessionRequest, session_start
from apps.agents.services.plan_approvals import plan_reject
from apps.agents.services.plan_work import PlanWork, PlanWorkMode, live_sessions
from apps.agents.services.steering import session_steer
from apps.agents.types import AgentType
from apps.core.errors import Conflict, InvalidInput
from apps.core.storable import text_storable
from apps.planning.models import Plan
from apps.planning.selectors import feature_get_for_user, plan_get_for_user
from apps.planning.types import PlanStatus
from apps.projects.selectors import project_get_for_user

if TYPE_CHECKING:
    from apps.authentication.models import User

#: Room for what is said about a plan, in front of its goal.
COMMENT_LIMIT = 50_000


@dataclass(frozen=True)
class _Said:
    comment: str
    version: int


def plan_generate(*, user: User, request: SessionRequest) -> AgentSession:
    """Start a planner on the goal; its plan stands by itself until somebody approves it and has it carried out."""
    return session_start(user=user, request=replace(request, agent_type=AgentType.PLANNER), execute=True)


def plan_revise(*, user: User, plan_id: uuid.UUID, version: int, comment: str, request: SessionRequest) -> AgentSession:
    """Have the plan made otherwise, as the comment says: the session that does so.

    That is a new planner's, unless one has the plan already: where it waits with the plan this is a rejection with a
    comment, else it is told. ``request`` says how a new session works. Raises Conflict (``plan_changed``).
    """
    plan = plan_get_for_user(user=user, plan_id=plan_id)
    project_get_for_user(user=user, project_id=plan.project_id, write=True)
    said = _Said(_comment_read(comment, required=True), version)
    _version_require(plan, version)
    return _hear(user, plan, said) or session_start(
        user=user,
        request=replace(
            request,
            project_id=plan.project_id,
            goal=_goal(f"Revise the plan: {said.comment}", plan.goal),
            agent_type=AgentType.PLANNER,
            plan_work=PlanWork(PlanWorkMode.REVISE, plan_id=plan.id, version=version, comment=said.comment),
        ),
        execute=True,
    )


def feature_break_down(
    *, user: User, feature_id: uuid.UUID, comment: str, version: int, request: SessionRequest
) -> AgentSession:
    """Have a planner find the tasks of a feature: in a plan of its own, or in the plan that it is in.

    ``version`` is that of the plan as it was seen; 0: it doesn't matter. A session that has the plan is told, as by
    :func:`plan_revise`.
    """
    feature = feature_get_for_user(user=user, feature_id=feature_id)
    project_get_for_user(user=user, project_id=feature.project_id, write=True)
    comment = _comment_read(comment, required=False)
    words = "\n\n".join(part for part in (feature.title, feature.description.strip(), comment) if part)
    goal = f"Break this feature down into tasks: {words}"
    work = PlanWork(
        PlanWorkMode.BREAK_DOWN,
        feature_id=feature.id,
        feature_key=feature.key,
        comment=comment or f"{feature.title} is broken down",
    )
    if feature.plan_id is not None:
        plan = plan_get_for_user(user=user, plan_id=feature.plan_id)
        if version:
            _version_require(plan, version)
        asked = f"Break the feature {feature.key} down into tasks. {comment}".strip()
        if (session := _hear(user, plan, _Said(asked, plan.version))) is not None:
            return session
        goal = _goal(goal, plan.goal)
        work = replace(work, plan_id=plan.id, version=plan.version)
    return session_start(
        user=user,
        request=replace(
            request, project_id=feature.project_id, goal=goal, agent_type=AgentType.PLANNER, plan_work=work
        ),
        execute=True,
    )


def _hear(user: User, plan: Plan, said: _Said) -> AgentSession | None:
    """The session that has the plan, told of it; None: none has."""
    session = live_sessions(plan.id).order_by("created_at").last()
    if session is None:
        return None
    if plan.status == PlanStatus.WAITING and session.agent_type == AgentType.EXECUTOR:
        plan_reject(user=user, plan_id=plan.id, version=said.version, comment=said.comment)
        return session_get_for_user(user=user, session_id=session.id)
    return session_steer(user=user, session_id=session.id, text=f"About the plan: {said.comment}")


def _comment_read(comment: str, *, required: bool) -> str:
    comment = text_storable(comment).strip()
    if required and not comment:
        raise InvalidInput("the comment is empty", next_step="say what should be different")
    if len(comment) > COMMENT_LIMIT:
        raise InvalidInput(f"the comment is longer than {COMMENT_LIMIT} characters")
    return comment


def _goal(asked: str, goal: str) -> str:
    """What a planner is asked for, with the goal that the plan is for."""
    return f"{asked}\n\nThe plan's goal:\n{goal}"[:GOAL_LIMIT]


def _version_require(plan: Plan, version: int) -> None:
    if version != plan.version:
        raise Conflict(
            f"the plan is at version {plan.version}, not at {version}",
            next_step="look at it as it is now",
            state="plan_changed",
            version=plan.version,
        )

"""Having a person decide on a plan before any of it is carried out, and having the planner follow what they say."""

from __future__ import annotations

import uuid

from langchain_core.messages import HumanMessage
from langgraph.runtime import Runtime

from apps.agents.nodes.brief import goal_brief
from apps.agents.nodes.context import RunContext, SessionState, SessionSuspended
from apps.agents.nodes.opening import conversation_opening
from apps.agents.nodes.plan_desk import standing_load
from apps.agents.nodes.planning import conversation_add
from apps.agents.services.plan_approvals import Rejection, plan_wait_settle
from apps.agents.types import Event
from apps.core.kill_points import kill_point
from apps.planning.outline import plan_outline

_SENT_BACK = (
    "The person you work for has looked at version {version} of the plan, and does not want it so:\n\n{comment}\n\n"
    "Make it as they say: look further where you have to, and hand over the whole plan anew with submit_plan, with the "
    "keys of what stays. Tasks that were begun stay as they are, whether or not you repeat them.\n\n"
    "The plan as it is now:\n{outline}"
)


async def plan_wait(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Go on with the plan where nobody has to approve it, or somebody has; wait for that; or have it made otherwise."""
    context = runtime.context
    standing = await context.ledger.database.run_in_thread(
        plan_wait_settle, context.ledger.lease, plan_id=context.facts.plan_id
    )
    if standing.way == "wait":
        raise SessionSuspended("a person has to approve the plan")
    if standing.rejection is None:
        return {"way": "go"}
    execution_id = await _sent_back(context, standing.rejection)
    kill_point("plan.returned")
    ended = await context.ledger.result_load(execution_id) is not None
    return {"way": "revise", "execution_id": str(execution_id), "role": "planner", "ended": ended}


def route_after_wait(state: SessionState) -> str:
    return state["way"]


async def _sent_back(context: RunContext, rejection: Rejection) -> uuid.UUID:
    """The planner's conversation with the comment in it: the one that made the plan, or a new one on a plan of old."""
    known = await context.ledger.effect_find(rejection.told_key)
    if known is not None:
        return uuid.UUID(known["execution"])
    execution_id = context.ledger.execution_id(role="planner", task_id=None)
    if not await context.ledger.messages_load(execution_id):
        messages = await conversation_opening(context, role="planner", brief=await goal_brief(context))
        execution_id = await context.ledger.execution_open(role="planner", task_id=None, messages=messages)
    standing = await standing_load(context)
    assert standing is not None
    text = _SENT_BACK.format(
        version=rejection.version,
        comment=rejection.comment,
        outline=plan_outline(standing.document, standing.states),
    )
    planning = Event("PhaseChanged", {"phase": "planning"})
    await conversation_add(context, execution_id, HumanMessage(text), key=rejection.told_key, events=[planning])
    return execution_id

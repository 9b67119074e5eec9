"""Looking at the plan again while it is carried out: a planner revises what has not started, or leaves it as it is."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.runtime import Runtime
from pydantic import ValidationError

from apps.agents.nodes.context import RunContext, SessionState, SessionSuspended
from apps.agents.nodes.opening import conversation_opening
from apps.agents.nodes.replan_brief import is_blocked, plan_told, replan_brief
from apps.agents.nodes.replan_choice import (
    LOOKS,
    Cause,
    causes_open,
    look_begin_key,
    look_key,
    look_number,
)
from apps.agents.nodes.replan_judging import revision_check
from apps.agents.nodes.task_rows import tasks_load
from apps.agents.services.ledger import Decided
from apps.agents.services.plan_approvals import version_waits
from apps.agents.services.plan_edits import plan_revised
from apps.agents.services.plan_estimates import coder_of, estimate_make
from apps.agents.services.sessions import made_in
from apps.agents.tools.plan_revising import revision_of
from apps.agents.tools.replanning import RevisePlanArguments
from apps.agents.types import Event, Reason
from apps.planning.diffing import plan_diff
from apps.planning.problems import PlanRefused, problems_refuse
from apps.planning.selectors import plan_document, task_states
from apps.planning.services import plan_lock, plan_revise
from apps.planning.types import PlanStatus, VersionSource

ROLE = "replanner"
#: How often a revision that held when it was handed over, and doesn't any more, goes back to the planner.
AGAIN = 2
USED_UP = (
    f"it was looked at {LOOKS} times, which is the most in one session, and goes on as it is. A person can change it."
)


async def replan_begin(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Open a planner's conversation on the plan as it stands, and on what has happened."""
    context = runtime.context
    number = await look_number(context)
    key = look_begin_key(context, number)
    begun = await context.ledger.effect_find(key)
    if begun is None:
        causes = await causes_open(context, await tasks_load(context))
        if not causes:
            # A person has changed the plan since the choice.
            return {"look": 0, "execution_id": "", "role": ROLE, "ended": True}
        events = [Event("PhaseChanged", {"phase": "replanning"})] if number <= LOOKS else []
        result = {"causes": [cause.key for cause in causes]}
        begun = dict(await context.ledger.effect_record(key, *events, result=result))
    if number > LOOKS:
        return {"look": number, "execution_id": "", "role": ROLE, "ended": True}
    brief = await replan_brief(context, [Cause.read(each) for each in begun["causes"]])
    execution_id = await context.ledger.execution_open(
        role=ROLE,
        task_id=None,
        name=f"replan:{number}",
        messages=await conversation_opening(context, role=ROLE, brief=brief),
    )
    ended = await context.ledger.result_load(execution_id) is not None
    return {"look": number, "execution_id": str(execution_id), "role": ROLE, "ended": ended}


async def replan_record(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Make the revision the plan's next version, or note that the plan was kept; once for each look."""
    context, number = runtime.context, state["look"]
    if not number:
        return {"way": "tasks"}
    key = look_key(context, number)
    if await context.ledger.effect_find(key) is None and not await _record(context, number, key, state):
        return {"way": "again", "ended": False}
    looked = await context.ledger.effect_find(key) or {}
    if looked.get("oscillates"):
        await _pause_once(context, number, version=int(looked["oscillates"]))
    return {"way": "wait" if looked.get("waits") else "tasks"}


def route_after_replan(state: SessionState) -> str:
    return state["way"]


async def _record(context: RunContext, number: int, key: str, state: SessionState) -> bool:
    """Write down what came of the look; False where its planner is to decide once more."""
    if number > LOOKS:
        await _keep(context, number, key, reason=USED_UP)
        return True
    execution_id = uuid.UUID(state["execution_id"])
    handed = await context.ledger.result_load(execution_id)
    if handed is None and isinstance((await context.transcript(execution_id))[-1], HumanMessage):
        # Told already why it has to.
        return False
    handed = handed or {}
    if "revise" in handed:
        try:
            await _revise(context, number, key, RevisePlanArguments.model_validate(handed["revise"]))
        except (PlanRefused, ValidationError) as error:
            return await _refused(context, number, key, execution_id, str(error))
    elif "oscillates" in handed:
        reason = f"the revision leads back to version {handed['oscillates']}: {handed.get('reason', '')}"
        await _keep(context, number, key, reason=reason, oscillates=handed["oscillates"])
    else:
        said = str(handed.get("summary") or "it came to no end")
        reason = str(handed.get("keep") or f"the planner has decided nothing: {said}")
        await _keep(context, number, key, reason=reason)
    return True


async def _revise(context: RunContext, number: int, key: str, arguments: RevisePlanArguments) -> None:
    """Make the next version, of the plan as it is by now. Raises PlanRefused where the revision doesn't hold on it."""
    decide = partial(
        _revision_decide, context=context, arguments=arguments, result=await _result(context, number, kept=False)
    )
    await context.ledger.effect_decide(key, decide)


def _revision_decide(*, context: RunContext, arguments: RevisePlanArguments, result: dict[str, Any]) -> Decided:
    facts = context.facts
    plan = plan_lock(facts.plan_id)
    before, states = plan_document(plan), task_states(plan)
    within = facts.follow_up_key if facts.turn else None
    revision = revision_of(arguments, before, states, within=within)
    problems_refuse(revision_check(revision, before, states, None))
    revised = plan_revised(
        plan_id=plan.id,
        version=plan.version + 1,
        reason=arguments.reason,
        source=VersionSource.REPLAN,
        changes=[change.as_dict() for change in plan_diff(before, revision.document)],
    )

    waits = version_waits(facts.session_id)
    estimate = estimate_make(
        project_id=facts.project_id, document=revision.document, states=states, coder=coder_of(context.models)
    )

    def change() -> None:
        plan_revise(
            plan_id=plan.id,
            document=revision.document,
            source=VersionSource.REPLAN,
            reason=arguments.reason,
            expected=plan.version,
            status=PlanStatus.WAITING if waits else None,
            estimate=estimate,
            made_in=made_in(facts.session_id),
        )

    return Decided([revised], {**result, "version": plan.version + 1, "waits": waits}, change)


async def _keep(context: RunContext, number: int, key: str, *, reason: str, oscillates: int | None = None) -> None:
    result = await _result(context, number, kept=True)
    kept = Event(
        "PlanKept",
        {"plan": str(context.facts.plan_id), "reason": reason[:2000], "trigger": await _triggers(context, result)},
    )
    if oscillates is not None:
        result["oscillates"] = oscillates
    await context.ledger.effect_record(key, kept, result=result)


async def _result(context: RunContext, number: int, *, kept: bool) -> dict[str, Any]:
    begun = await context.ledger.effect_find(look_begin_key(context, number))
    assert begun is not None
    return {"causes": begun["causes"], "kept": kept}


async def _triggers(context: RunContext, result: dict[str, Any]) -> list[str]:
    """What the look was for, as events tell it: ``failed T2``, ``blocked T2``, ``veto T2`` or ``steering``."""
    tasks = {task.id: task for task in await tasks_load(context)}
    told = []
    for cause in map(Cause.read, result["causes"]):
        task = tasks.get(cause.id)
        kind = "blocked" if cause.kind == "failed" and task and is_blocked(task) else cause.kind
        told.append(f"{kind} {task.key}" if task else kind)
    return list(dict.fromkeys(told))


async def _refused(context: RunContext, number: int, key: str, execution_id: uuid.UUID, problems: str) -> bool:
    """Have the planner decide on the plan as it is now; or keep that, once it has been asked often enough."""
    again = f"replan-again:{number}:"
    count = len(await context.ledger.effects_load(again)) + 1
    if count > AGAIN:
        await _keep(context, number, key, reason=f"the revision does not hold on the plan as it is now: {problems}")
        return True
    transcript = await context.transcript(execution_id)
    message = HumanMessage(
        f"The plan was changed meanwhile, and your revision doesn't hold on it: {problems}\n\n"
        f"{await plan_told(context)}\n\nRevise it as it is now, or keep it."
    )
    async with context.ledger.transaction() as connection:
        await context.ledger.effect_insert(connection, f"{again}{count}", {})
        await context.ledger.result_set(connection, execution_id, None)
        await context.ledger.message_insert(connection, execution_id, len(transcript), message)
    context.conversation_forget(execution_id)
    return False


async def _pause_once(context: RunContext, number: int, *, version: int) -> None:
    """Have a person look at a plan that goes round in circles; once they have, the session goes on with it as it is."""
    key = f"replan-pause:{number}"
    if await context.ledger.effect_find(key) is not None:
        return
    reason = Reason(
        "plan_oscillates",
        f"the plan goes round in circles: its revision has what is left done as version {version} had it",
        "change the plan, say what should be done instead (archon say), or resume: it goes on with the plan as it is",
    )
    await context.ledger.pause_record(key, reason)
    raise SessionSuspended("the plan goes round in circles")

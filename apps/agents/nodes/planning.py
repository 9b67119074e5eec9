"""From a goal to tasks: research without a model, a planner with one, and the plan's rows."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.runtime import Runtime
from pydantic import ValidationError

from apps.agents.nodes.brief import goal_brief
from apps.agents.nodes.context import RunContext, SessionFacts, SessionState
from apps.agents.nodes.follow_up import question_continue
from apps.agents.nodes.opening import conversation_opening, instructions_renew
from apps.agents.nodes.plan_desk import SessionPlanDesk, standing_load
from apps.agents.services.ledger import Decided
from apps.agents.services.plan_approvals import rejection_last, version_waits
from apps.agents.services.plan_edits import plan_revised
from apps.agents.services.plan_estimates import coder_of, estimate_make
from apps.agents.services.plan_work import PlanWorkMode, plan_work_load
from apps.agents.services.sessions import made_in, session_plan_set
from apps.agents.tools.planning import SubmitPlanArguments, plan_of
from apps.agents.types import AgentType, Event
from apps.core.errors import Conflict
from apps.core.kill_points import kill_point
from apps.planning.checking import plan_problems
from apps.planning.diffing import plan_diff
from apps.planning.document import TEXT_LENGTH, TITLE_LENGTH, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.intents import intent_guess
from apps.planning.outline import plan_outline
from apps.planning.revising import plan_mend
from apps.planning.selectors import plan_document, task_states
from apps.planning.services import plan_create, plan_lock, plan_revise
from apps.planning.types import Intent, PlanStatus, VersionSource
from apps.projects.models import Project
from apps.usage.choices import ModelOptions

NO_PLAN = "the planner handed over no plan"
_HINTS = {
    Intent.QUESTION: "a question, to be answered",
    Intent.SMALL_EDIT: "a small edit in one place",
    Intent.BUG: "a bug to be mended",
    Intent.FEATURE: "a change of some size",
}
_REVISE = (
    "There is a plan already, which is to be made otherwise as the goal says. Hand over the whole plan anew with "
    "submit_plan, with the keys of what stays. Tasks that were begun stay as they are, whether or not you repeat "
    "them.\n\nVersion {version} of the plan:\n{outline}"
)
_BREAK_DOWN = (
    "The feature is {key} of this plan. Hand over with submit_plan only what belongs into it: one feature with its "
    "tasks, or several, which become parts of it. New tasks may depend on tasks of the plan by their keys.\n\n"
    "Version {version} of the plan:\n{outline}"
)
_BREAK_DOWN_ALONE = (
    "Hand over with submit_plan what belongs into the feature: one feature with its tasks, or several, which become "
    "parts of it."
)
_CHANGED = (
    "The plan was changed by a person while you were at it: it is at version {version} now. Hand over the whole plan "
    "anew with submit_plan, with what they have changed.\n\n{outline}"
)


@dataclass(frozen=True)
class HandedOver:
    """What a planner's work came to. Without a ``document`` nothing could be made of it, and the note says why."""

    document: PlanDoc | None
    note: str = ""
    #: The version that it is to follow.
    version: int = 0


async def plan_begin(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Open the planner's conversation with what can be known without a model."""
    context = runtime.context
    return await _conversation_begin(context, "planner", "planning", further=await _planner_told(context))


async def research_begin(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Open the conversation of a reading agent that works on the goal as a whole (researcher, reviewer)."""
    context = runtime.context
    return await _conversation_begin(context, context.facts.agent_type.value, "researching")


async def plan_record(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Turn what the planner handed over into rows: a plan, its next version, or the answer to a question.

    Without a usable plan the goal is the one task, and the event says so; a plan that was there stays as it is.
    """
    context = runtime.context
    execution_id = uuid.UUID(state["execution_id"])
    result = await context.ledger.result_load(execution_id) or {}
    if "answer" in result:
        said = {name: result[name] for name in ("text", "citations", "uncited_reason", "note")}
        answered = Event("GoalAnswered", said)
        await context.ledger.effect_record(context.facts.turn_key("answer"), answered, result=said)
        return {"ended": False, "way": "answered"}
    revision = await _revision_due(context)
    if revision is not None:
        key, reason = revision
        return {"ended": False, "way": await _revision_store(context, execution_id, handed_over(result), key, reason)}
    if not context.facts.plan_given and await context.ledger.effect_find(context.facts.turn_key("plan")) is None:
        handed = handed_over(result)
        document = handed.document
        if document is None:
            document = (await SessionPlanDesk(context).plan_fit(plan_of_goal(context.facts.goal))).document
        await _plan_store(context, document, note=handed.note)
    return {"ended": False, "way": "plan"}


def route_after_plan(state: SessionState) -> str:
    return state["way"]


def handed_over(result: Mapping[str, Any]) -> HandedOver:
    """A planner's result as a plan."""
    if "document" in result:
        document = result["document"]
        note, version = str(result.get("note", "")), int(result.get("version", 0))
        return HandedOver(PlanDoc.read(document) if document else None, note, version)
    try:
        # As it was kept before plans were held against the repository when they are handed over.
        plan = plan_of(SubmitPlanArguments.model_validate(result))
    except ValidationError:
        return HandedOver(None, NO_PLAN)
    if problems := plan_problems(plan, None):
        plan = plan_mend(plan, problems)
    return HandedOver(None, NO_PLAN) if plan_problems(plan, None) else HandedOver(plan)


async def plan_skip(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """A coder alone gets the goal as its one task."""
    return await _plan_store(runtime.context, plan_of_goal(runtime.context.facts.goal), note="")


def plan_of_goal(goal: str) -> PlanDoc:
    """The goal as its own one task."""
    title = goal.strip().partition("\n")[0][:TITLE_LENGTH] or "The goal"
    task = TaskDoc(key="T1", title=title, instructions=goal[:TEXT_LENGTH])
    return PlanDoc(
        summary=title, intent=Intent.SMALL_EDIT, features=(FeatureDoc(key="F1", title=title, tasks=(task,)),)
    )


async def _plan_store(context: RunContext, plan: PlanDoc, *, note: str) -> SessionState:
    decide = partial(_plan_decide, facts=context.facts, document=plan, note=note, coder=coder_of(context.models))
    await context.ledger.effect_decide(context.facts.turn_key("plan"), decide)
    kill_point("plan.recorded")
    return {"ended": False}


def _plan_decide(*, facts: SessionFacts, document: PlanDoc, note: str, coder: ModelOptions) -> Decided:
    """The plan, made in a transaction that has locked the session's head; it waits where a person has to look."""
    created = Event(
        "PlanCreated",
        {
            "plan": str(facts.plan_id),
            "summary": document.summary,
            "features": [placed.feature.title for placed in document.placed_features],
            "tasks": [placed.task.title for placed in document.placed_tasks],
            "note": note,
        },
    )
    waits = facts.agent_type is AgentType.PLANNER or version_waits(facts.session_id)

    def change() -> None:
        plan = plan_create(
            plan_id=facts.plan_id,
            project=Project.objects.get(id=facts.project_id),
            goal=facts.goal,
            document=document,
            estimate=estimate_make(project_id=facts.project_id, document=document, states={}, coder=coder),
            status=PlanStatus.WAITING if waits else PlanStatus.ACTIVE,
            made_in=made_in(facts.session_id),
            features=_features_adopted(facts.session_id, document),
        )
        session_plan_set(session_id=facts.session_id, plan=plan)

    return Decided([created], {"plan": str(facts.plan_id), "waits": waits}, change)


def _features_adopted(session_id: uuid.UUID, document: PlanDoc) -> dict[str, uuid.UUID]:
    """The person's feature that the plan is made for, by the key that it has in it."""
    work = plan_work_load(session_id)
    if work is None or work.plan_id is not None or work.feature_id is None or not document.features:
        return {}
    return {document.features[0].key: work.feature_id}


async def _revision_due(context: RunContext) -> tuple[str, str] | None:
    """The effect of taking the next version, and why it is made, where a planner was sent for one."""
    facts, ledger = context.facts, context.ledger
    if facts.agent_type is AgentType.PLANNER:
        if not facts.plan_given or facts.plan_work is None:
            return None
        key = facts.turn_key("plan-revised")
        reason = f"follow-up {facts.turn}" if facts.turn else facts.plan_work.comment
        return None if await ledger.effect_find(key) is not None else (key, reason)
    rejection = await ledger.database.run_in_thread(rejection_last, facts.session_id)
    if rejection is None or rejection.is_settled or await ledger.effect_find(rejection.told_key) is None:
        return None
    return rejection.revised_key, rejection.comment


async def _revision_store(
    context: RunContext, execution_id: uuid.UUID, handed: HandedOver, key: str, reason: str
) -> str:
    """Make what was handed over the plan's next version; how the session goes on.

    ``again``: a person has changed the plan since, which the planner has to hear of.
    """
    result = {"plan": str(context.facts.plan_id), "waits": True, "note": handed.note}
    if handed.document is None:
        note = f"the planner made no other plan: {handed.note}"
        await context.ledger.effect_record(key, result={**result, "note": note})
        return "plan"
    decide = partial(
        _revision_decide,
        facts=context.facts,
        handed=handed,
        reason=reason,
        result=result,
        coder=coder_of(context.models),
    )
    try:
        await context.ledger.effect_decide(key, decide)
    except Conflict as error:
        if error.extra.get("state") != "plan_changed":
            raise
        await _changed_tell(context, execution_id)
        return "again"
    kill_point("plan.revised")
    return "plan"


def _revision_decide(
    *, facts: SessionFacts, handed: HandedOver, reason: str, result: Mapping[str, Any], coder: ModelOptions
) -> Decided:
    """The next version, in a transaction that has locked the session's head. Raises Conflict (``plan_changed``)."""
    document = handed.document
    assert document is not None
    plan = plan_lock(facts.plan_id)
    before, states = plan_document(plan), task_states(plan)
    revised = plan_revised(
        plan_id=plan.id,
        version=plan.version + 1,
        reason=reason,
        source=VersionSource.PLANNER,
        changes=[change.as_dict() for change in plan_diff(before, document)],
    )

    def change() -> None:
        plan_revise(
            plan_id=plan.id,
            document=document,
            source=VersionSource.PLANNER,
            reason=reason,
            expected=handed.version,
            status=PlanStatus.WAITING,
            estimate=estimate_make(project_id=facts.project_id, document=document, states=states, coder=coder),
            made_in=made_in(facts.session_id),
        )

    return Decided([revised], result, change)


async def _changed_tell(context: RunContext, execution_id: uuid.UUID) -> None:
    standing = await standing_load(context)
    assert standing is not None
    key = f"plan-changed:{standing.version}"
    text = _CHANGED.format(version=standing.version, outline=plan_outline(standing.document, standing.states))
    await conversation_add(context, execution_id, HumanMessage(text), key=key)


async def conversation_add(
    context: RunContext, execution_id: uuid.UUID, message: HumanMessage, *, key: str, events: Sequence[Event] = ()
) -> None:
    """Have a planner that has ended go on with this message, once."""
    if await context.ledger.effect_find(key) is not None:
        return
    transcript = await context.transcript(execution_id)
    message = await instructions_renew(context, transcript, message, role="planner")
    async with context.ledger.transaction(*events) as connection:
        await context.ledger.effect_insert(connection, key, {"execution": str(execution_id)})
        await context.ledger.result_set(connection, execution_id, None)
        await context.ledger.message_insert(connection, execution_id, len(transcript), message)
    context.conversation_forget(execution_id)


async def _planner_told(context: RunContext) -> list[str]:
    """What a planner hears besides the goal: what it looks like, and the plan or feature that is there already."""
    work = context.facts.plan_work
    if work is None:
        hint = _HINTS[intent_guess(context.facts.goal)]
        return [f"By its words the goal looks like {hint} (guessed without a model; judge by yourself)."]
    standing = await standing_load(context)
    if standing is None:
        return [_BREAK_DOWN_ALONE]
    outline = plan_outline(standing.document, standing.states)
    if work.mode == PlanWorkMode.BREAK_DOWN:
        return [_BREAK_DOWN.format(key=work.feature_key, version=standing.version, outline=outline)]
    return [_REVISE.format(version=standing.version, outline=outline)]


async def _conversation_begin(
    context: RunContext, role: str, phase: str, *, further: Sequence[str] = ()
) -> SessionState:
    key = context.facts.turn_key(f"phase:{phase}")
    await context.ledger.effect_record(key, Event("PhaseChanged", {"phase": phase}), result={})
    if context.facts.turn:
        execution_id = await question_continue(context, role=role)
    else:
        brief = await goal_brief(context, further=further)
        messages = await conversation_opening(context, role=role, brief=brief)
        execution_id = await context.ledger.execution_open(role=role, task_id=None, messages=messages)
    ended = await context.ledger.result_load(execution_id) is not None
    return {"execution_id": str(execution_id), "role": role, "ended": ended}

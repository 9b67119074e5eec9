"""From a goal to tasks: research without a model, a planner with one, and the plan's rows."""

from __future__ import annotations

import uuid
from functools import partial

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langgraph.runtime import Runtime
from pydantic import ValidationError

from apps.agents.nodes.baseline import baseline_open, checks_observe
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.prompts import prompt_read
from apps.agents.services.sessions import session_plan_set
from apps.agents.tools.conversation import SubmitPlanArguments
from apps.agents.types import Event
from apps.planning.services import plan_create
from apps.planning.types import FeatureDraft, TaskDraft
from apps.projects.models import Project
from apps.projects.workspace import WorkspaceError

BRIEF_FILES = 300


async def plan_begin(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Open the planner's conversation with what can be known without a model."""
    context = runtime.context
    return await _conversation_begin(context, "planner", "planning")


async def research_begin(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Open the conversation of a reading agent that works on the goal as a whole (researcher, reviewer)."""
    context = runtime.context
    return await _conversation_begin(context, context.facts.agent_type.value, "researching")


async def plan_record(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Turn what the planner handed over into rows; without a usable plan the goal is the one task, and said so."""
    context = runtime.context
    handed = await context.ledger.result_load(uuid.UUID(state["execution_id"])) or {}
    try:
        plan = SubmitPlanArguments.model_validate(handed)
    except ValidationError:
        return await _plan_store(context, _plan_of_goal(context.facts.goal), note="the planner handed over no plan")
    features = tuple(
        FeatureDraft(
            title=feature.title,
            description=feature.description,
            tasks=tuple(TaskDraft(title=task.title, instructions=task.instructions) for task in feature.tasks),
        )
        for feature in plan.features
    )
    return await _plan_store(context, (plan.summary, features), note="")


async def plan_skip(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """A coder alone gets the goal as its one task."""
    return await _plan_store(runtime.context, _plan_of_goal(runtime.context.facts.goal), note="")


def _plan_of_goal(goal: str) -> tuple[str, tuple[FeatureDraft, ...]]:
    title = goal.strip().partition("\n")[0][:300]
    return title, (FeatureDraft(title=title, description="", tasks=(TaskDraft(title=title, instructions=goal),)),)


async def _plan_store(context: RunContext, plan: tuple[str, tuple[FeatureDraft, ...]], *, note: str) -> SessionState:
    summary, features = plan
    if await context.ledger.effect_find("plan") is None:
        plan_id = uuid.uuid5(context.facts.session_id, "plan")
        titles = [feature.title for feature in features]
        tasks = [task.title for feature in features for task in feature.tasks]
        created = Event(
            "PlanCreated", {"plan": str(plan_id), "summary": summary, "features": titles, "tasks": tasks, "note": note}
        )
        made = partial(
            _plan_create,
            session_id=context.facts.session_id,
            plan_id=plan_id,
            project_id=context.facts.project_id,
            goal=context.facts.goal,
            summary=summary,
            features=features,
        )
        await context.ledger.effect_apply("plan", made, created, result={"plan": str(plan_id)})
    return {"ended": False}


def _plan_create(
    *,
    session_id: uuid.UUID,
    plan_id: uuid.UUID,
    project_id: uuid.UUID,
    goal: str,
    summary: str,
    features: tuple[FeatureDraft, ...],
) -> None:
    project = Project.objects.get(id=project_id)
    plan = plan_create(plan_id=plan_id, project=project, goal=goal, summary=summary, features=features)
    session_plan_set(session_id=session_id, plan=plan)


async def _conversation_begin(context: RunContext, role: str, phase: str) -> SessionState:
    await context.ledger.effect_record(f"phase:{phase}", Event("PhaseChanged", {"phase": phase}), result={})
    messages: list[BaseMessage] = [SystemMessage(prompt_read(role)), HumanMessage(await _brief(context))]
    execution_id = await context.ledger.execution_open(role=role, task_id=None, messages=messages)
    ended = await context.ledger.result_load(execution_id) is not None
    return {"execution_id": str(execution_id), "role": role, "ended": ended}


async def rules_brief(context: RunContext) -> list[str]:
    """What is to be known of the place, and what the repository's AGENTS.md says where one can be read."""
    workspace = await context.site.workspace()
    try:
        rules = await workspace.file_read("AGENTS.md", max_bytes=20_000)
    except WorkspaceError:
        return [*context.site.notes]
    return [*context.site.notes, f"The repository's AGENTS.md says:\n{rules.decode('utf-8', 'replace')}"]


async def _brief(context: RunContext) -> str:
    """The goal, the files and what the checks say now: what every session starts from."""
    baseline = await baseline_open(context)
    workspace = await context.site.workspace()
    listing = await workspace.file_list(".", depth=4, limit=BRIEF_FILES)
    files = "\n".join(entry.path for entry in listing.entries if entry.kind != "directory")
    more = "\n[more files left out]" if listing.truncated else ""
    parts = [f"Goal:\n{context.facts.goal}", f"Files:\n{files}{more}"]
    parts += await rules_brief(context)
    parts.append(f"Checks before any change:\n{checks_observe(baseline.before).text}")
    return "\n\n".join(parts)

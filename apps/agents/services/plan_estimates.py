"""What plans are likely to take, by what past tasks of the project took and what the models cost now."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from apps.agents.models import AgentExecution
from apps.agents.services.plan_work import live_sessions
from apps.agents.types import AgentType
from apps.core.errors import ApplicationError
from apps.planning.document import PlanDoc
from apps.planning.estimating import TaskTook, TokenPrice, plan_estimate
from apps.planning.models import Plan, Task, TaskStatus
from apps.planning.scheduling import SATISFIED, tasks_settle
from apps.planning.selectors import plan_document, plan_progress, task_states
from apps.planning.types import Effort, PlanProgress, PlanStatus, TaskState
from apps.projects.models import Project
from apps.usage.catalogue import project_configuration
from apps.usage.choices import ModelOptions, SessionModels, options_merge, server_configuration
from apps.usage.selectors import calls_took
from integrations.llm_providers.prices import price_actual

#: The last so many tasks of a project tell what its tasks take.
PAST_TASKS = 60
#: So much of what a coder reads typically comes from the provider's cache; of all tokens so many are its own.
_CACHED, _OUTPUT = Decimal("0.6"), Decimal("0.03")
_MILLION = 1_000_000
#: Of plans at these nothing is carried out any more.
_OVER = frozenset({PlanStatus.DONE, PlanStatus.WITHDRAWN, PlanStatus.REJECTED})


def estimate_make(
    *, project_id: uuid.UUID, document: PlanDoc, states: Mapping[str, TaskState], coder: ModelOptions
) -> dict[str, Any]:
    """The estimate of what is left of a plan, as ``Plan.estimate`` keeps it; ``coder`` is what carries it out."""
    return plan_estimate(document, states, _past(project_id), _price(coder)).as_dict()


def estimate_of(*, plan: Plan, document: PlanDoc, states: Mapping[str, TaskState]) -> dict[str, Any]:
    """The same of a plan that somebody changes: by what the session calls that has it, else the project's next one."""
    return estimate_make(project_id=plan.project_id, document=document, states=states, coder=_coder(plan))


def estimate_left(plan: Plan) -> dict[str, Any]:
    """What is left of the plan now is likely to take; empty: nothing is left to do.

    As it was kept with the version, until a task more or less is left than there was then.
    """
    document, states = plan_document(plan), task_states(plan)
    left = sum(task.status not in SATISFIED for task in tasks_settle(document, states).values())
    if not left or plan.status in _OVER:
        return {}
    if plan.estimate.get("tasks") == left:
        return dict(plan.estimate)
    return estimate_of(plan=plan, document=document, states=states)


def plan_standing(plan: Plan) -> PlanProgress:
    """Where the plan stands, with what the rest of it is likely to take."""
    return replace(plan_progress(plan.id), estimate=estimate_left(plan))


def coder_of(models: SessionModels) -> ModelOptions:
    """What carries tasks out in a session."""
    return models.choices.get("coder", models.default)


def coder_of_project(project: Project) -> ModelOptions:
    """What carries tasks out in the project's sessions, unless they say otherwise."""
    try:
        return options_merge("coder", [project_configuration(project), server_configuration()])
    except ApplicationError:
        # What is configured can't be read: its price isn't known.
        return ModelOptions()


def _past(project_id: uuid.UUID) -> list[TaskTook]:
    """What the project's last tasks took that came to an end, all agents that worked on each together."""
    ended = Task.objects.filter(
        feature__project=project_id, status__in=[TaskStatus.DONE, TaskStatus.FAILED], executions__isnull=False
    )
    efforts = {
        task_id: Effort(effort)
        for task_id, effort in ended.order_by("-updated_at")
        .values_list("id", "feature__effort")
        .distinct()[:PAST_TASKS]
    }
    executions = {
        execution_id: (task_id, session_id)
        for execution_id, task_id, session_id in AgentExecution.objects.filter(task__in=efforts).values_list(
            "id", "task_id", "session_id"
        )
    }
    steps: dict[uuid.UUID, int] = defaultdict(int)
    tokens: dict[uuid.UUID, int] = defaultdict(int)
    for call in calls_took({session_id for _, session_id in executions.values()}):
        if call.owner in executions:
            task_id, _ = executions[call.owner]
            steps[task_id] += 1
            tokens[task_id] += call.tokens
    return [TaskTook(effort, steps[task_id], tokens[task_id]) for task_id, effort in efforts.items() if steps[task_id]]


def _coder(plan: Plan) -> ModelOptions:
    session = live_sessions(plan.id).filter(agent_type__in=[AgentType.EXECUTOR, AgentType.CODER]).last()
    if session is not None:
        return coder_of(
            SessionModels.read(session.role_models, model=session.model, base_url=session.base_url, stored=())
        )
    return coder_of_project(plan.project)


def _price(coder: ModelOptions) -> TokenPrice:
    name, base_url = coder.reference
    provider, _, model = name.partition(":")
    if not model:
        return TokenPrice(None)
    output = int(_MILLION * _OUTPUT)
    usd = price_actual(
        provider=provider,
        model=model,
        base_url=base_url,
        input_tokens=_MILLION - output,
        output_tokens=output,
        cached_tokens=int((_MILLION - output) * _CACHED),
    )
    return TokenPrice(None, (name,)) if usd is None else TokenPrice(usd / _MILLION)

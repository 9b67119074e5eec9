"""When a plan is over: before the report is written, and not before nothing more of it can start."""

from __future__ import annotations

from langgraph.runtime import Runtime

from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.lanes_choice import tasks_startable
from apps.agents.nodes.task_rows import tasks_of
from apps.planning.scheduling import SATISFIED
from apps.planning.selectors import plan_progress
from apps.planning.services import plan_end
from apps.planning.types import PlanStatus


async def plan_close(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Have the plan be done or failed; unless a person changed it since the choice, and something can start again."""
    context = runtime.context
    progress = await context.ledger.database.run_in_thread(plan_progress, context.facts.plan_id)
    tasks = tasks_of(context, progress)
    if tasks_startable(tasks):
        return {"way": "tasks"}
    # A follow-up is not all of the plan: what was left before it still is.
    failed = any(task.status not in SATISFIED for task in progress.tasks)
    status = PlanStatus.FAILED if failed else PlanStatus.DONE
    plan_id, version = context.facts.plan_id, progress.version
    ended = await context.ledger.fenced(plan_end, plan_id=plan_id, version=version, status=status)
    return {"way": "report" if ended else "tasks"}


def route_after_close(state: SessionState) -> str:
    return state["way"]

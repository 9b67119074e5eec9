"""Whether the plan is to be looked at again before anything else is done."""

from __future__ import annotations

from collections.abc import Sequence

from apps.agents.nodes.context import RunContext
from apps.planning.types import TaskProgress


async def replan_wanted(context: RunContext, tasks: Sequence[TaskProgress]) -> bool:
    """Whether something has happened that what has not started may have to follow."""
    return False

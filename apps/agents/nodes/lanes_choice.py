"""Whether tasks of the plan are to be worked on side by side."""

from __future__ import annotations

from collections.abc import Sequence

from apps.agents.nodes.context import RunContext
from apps.planning.types import TaskProgress


async def lanes_wanted(context: RunContext, tasks: Sequence[TaskProgress]) -> bool:
    """Whether tasks run side by side already, or two or more can start and the session may do so many at a time."""
    return False

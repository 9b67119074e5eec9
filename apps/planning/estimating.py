"""What a plan is likely to take, as ranges, and from what that is known. Pure: figures come in, figures go out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from apps.planning.document import PlanDoc
from apps.planning.scheduling import SATISFIED
from apps.planning.types import Effort, TaskState

#: Steps and tokens of a task of each effort, where a project has no past of its own to go by.
TYPICAL: Mapping[Effort, tuple[int, int]] = {
    Effort.TRIVIAL: (6, 30_000),
    Effort.SMALL: (12, 90_000),
    Effort.MEDIUM: (24, 250_000),
    Effort.LARGE: (48, 800_000),
}
#: How far around the typical figures a task lies, most times.
_SPREAD = (0.5, 2.0)
#: Fewer tasks than these say nothing of a project.
LEAST_TASKS = 3


@dataclass(frozen=True)
class TaskTook:
    """What a task of the past took, all agents that worked on it together."""

    effort: Effort
    steps: int
    tokens: int


@dataclass(frozen=True)
class TokenPrice:
    """US dollars for a token, input and output mixed as the project uses them; None: nobody knows."""

    usd: Decimal | None
    #: The models whose price is not known.
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Span:
    """From here to there, in two significant digits: more would claim to know."""

    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True)
class Estimate:
    """What is left of a plan is likely to take."""

    tasks: int
    steps: Span
    tokens: Span
    #: None: a price is not known.
    cost_usd: Span | None
    #: From what it is known, in words.
    basis: str

    def as_dict(self) -> dict[str, Any]:
        """As the plan's row keeps it."""
        return {
            "tasks": self.tasks,
            "steps": self.steps.as_dict(),
            "tokens": self.tokens.as_dict(),
            "cost_usd": self.cost_usd.as_dict() if self.cost_usd else None,
            "basis": self.basis,
        }


def plan_estimate(
    document: PlanDoc, states: Mapping[str, TaskState], past: Sequence[TaskTook], price: TokenPrice
) -> Estimate:
    """What the tasks that are neither done nor done without will take.

    By what ``past`` tasks of the project took in comparison with what is typical of their effort, from the first to the
    third quartile; with too few of these, by what is typical.
    """
    efforts = [
        placed.feature.effort
        for placed in document.placed_tasks
        if not placed.task.skipped and states.get(placed.task.key, TaskState()).status not in SATISFIED
    ]
    if len(past) >= LEAST_TASKS:
        steps_by = _quartiles([each.steps / TYPICAL[each.effort][0] for each in past])
        tokens_by = _quartiles([each.tokens / TYPICAL[each.effort][1] for each in past])
        basis = f"from {len(past)} tasks of this project"
    else:
        steps_by = tokens_by = _SPREAD
        basis = "from typical figures"
    steps = sum(TYPICAL[effort][0] for effort in efforts)
    tokens = sum(TYPICAL[effort][1] for effort in efforts)
    spent = (tokens * tokens_by[0], tokens * tokens_by[1])
    cost = None
    if price.usd is not None:
        cost = Span(*(float(round_to(float(price.usd) * each, up=up)) for each, up in zip(spent, (0, 1), strict=True)))
    else:
        basis += f"; the price of {', '.join(price.unknown) or 'the model'} is not known"
    return Estimate(
        tasks=len(efforts),
        # Nobody takes a part of a step.
        steps=Span(
            math.floor(round_to(steps * steps_by[0], up=False)), math.ceil(round_to(steps * steps_by[1], up=True))
        ),
        tokens=Span(round_to(spent[0], up=False), round_to(spent[1], up=True)),
        cost_usd=cost,
        basis=basis,
    )


def round_to(value: float, *, up: bool | int, digits: int = 2) -> float:
    """The value in so many significant digits, outwards, so that the range still holds it."""
    if value <= 0:
        return 0
    unit = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
    # 2.4000000000000004 of a unit is 2.4 of it.
    count = round(value / unit, 6)
    rounded = (math.ceil(count) if up else math.floor(count)) * unit
    return round(rounded) if unit >= 1 else round(rounded, 12)


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third

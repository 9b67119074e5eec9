"""Finding what doesn't hold in a plan when it is made, rather than when it runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from apps.core.errors import InvalidInput
from apps.planning.document import PlanDoc


@dataclass(frozen=True)
class Problem:
    """Something in a plan that can't be: where (``tasks.KEY.files``), what kind, in words, and what to do about it."""

    where: str
    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class PlanRefused(InvalidInput):
    """The plan can't be carried out as it is."""

    code = "plan_refused"


class Grounding(Protocol):
    """What the plan is held against: the repository as it is at the start, and what can be run there."""

    def file_exists(self, path: str) -> bool:
        """Whether a file or folder of the commit has this path."""

    def files_like(self, path: str) -> Sequence[str]:
        """Paths that may have been meant, the likeliest first; at most a few."""

    def check_problem(self, command: str, made: Collection[str]) -> str:
        """Why the command can't be run as a check once the files ``made`` are there; empty: it can."""


def plan_problems(document: PlanDoc, grounding: Grounding | None) -> list[Problem]:
    """All that doesn't hold, in the plan's order; without a ``grounding`` only what the document itself shows."""
    raise NotImplementedError


def problems_refuse(problems: Sequence[Problem]) -> None:
    """Raises PlanRefused, with every problem, unless there are none."""
    if problems:
        raise PlanRefused(
            "; ".join(str(problem) for problem in problems[:5]) + ("; …" if len(problems) > 5 else ""),
            next_step="change the plan as said, and send it again",
            problems=[
                {"where": each.where, "code": each.code, "message": each.message, "hint": each.hint}
                for each in problems
            ],
        )

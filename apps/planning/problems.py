"""What can be wrong with a plan, in words and by codes; and what a plan is held against."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from apps.core.errors import InvalidInput


@dataclass(frozen=True)
class Problem:
    """Something in a plan that can't be: where (``tasks.KEY.files``), what kind, in words, and what to do about it."""

    where: str
    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def as_dict(self) -> dict[str, str]:
        return {"where": self.where, "code": self.code, "message": self.message, "hint": self.hint}


class PlanRefused(InvalidInput):
    """The plan can't be carried out as it is; ``extra["problems"]`` has each reason."""

    code = "plan_refused"


class Grounding(Protocol):
    """What a plan is held against: the repository as it is at the start, and what can be run there."""

    def file_exists(self, path: str) -> bool:
        """Whether a file or folder of the commit has this path; with a slash at its end, whether a folder has."""

    def files_like(self, path: str) -> Sequence[str]:
        """Paths that may have been meant, the likeliest first; at most a few."""

    def check_problem(self, command: str, made: Collection[str]) -> str:
        """Why the command can't be run as a check; empty: it can, or nobody can tell.

        ``made`` are the files that are there by then beside the repository's, and those of it that may have changed.
        """


def problems_refuse(problems: Sequence[Problem]) -> None:
    """Raises PlanRefused, with every problem, unless there are none."""
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise PlanRefused(
            "; ".join(str(problem) for problem in problems[:5]) + more,
            next_step="change the plan as said, and send it again",
            problems=[problem.as_dict() for problem in problems],
        )

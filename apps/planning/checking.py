"""Finding what doesn't hold in a plan when it is made, rather than when it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from apps.core.errors import InvalidInput
from apps.planning.document import MAX_DEPTH, MAX_FEATURES, MAX_TASKS, PlanDoc


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
        """Whether a file or folder of the commit has this path."""

    def files_like(self, path: str) -> Sequence[str]:
        """Paths that may have been meant, the likeliest first; at most a few."""

    def check_problem(self, command: str, made: Collection[str]) -> str:
        """Why the command can't be run as a check once the files ``made`` are there; empty: it can."""


def plan_problems(document: PlanDoc, grounding: Grounding | None) -> list[Problem]:
    """All that doesn't hold, in the plan's order; without a ``grounding`` only what the document itself shows."""
    problems = [*_sizes(document), *_keys(document), *_dependencies(document)]
    if not any(problem.code in ("missing_dependency", "duplicate_key") for problem in problems):
        problems += _cycles(document)
    return problems


def problems_refuse(problems: Sequence[Problem]) -> None:
    """Raises PlanRefused, with every problem, unless there are none."""
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise PlanRefused(
            "; ".join(str(problem) for problem in problems[:5]) + more,
            next_step="change the plan as said, and send it again",
            problems=[problem.as_dict() for problem in problems],
        )


def _sizes(document: PlanDoc) -> Iterator[Problem]:
    if not document.tasks:
        yield Problem("features", "no_task", "a plan needs at least one task")
    for name, count, most in (
        ("features", len(document.placed_features), MAX_FEATURES),
        ("tasks", len(document.placed_tasks), MAX_TASKS),
    ):
        if count > most:
            yield Problem("features", "too_large", f"a plan has at most {most} {name}, this one has {count}")
    if any(len(placed.within) >= MAX_DEPTH for placed in document.placed_features):
        yield Problem("features", "too_large", f"features are nested at most {MAX_DEPTH} deep")


def _keys(document: PlanDoc) -> Iterator[Problem]:
    keys = Counter(placed.feature.key for placed in document.placed_features)
    keys += Counter(placed.task.key for placed in document.placed_tasks)
    for key, count in keys.items():
        if count > 1:
            message = f"the key {key} is used {count} times"
            yield Problem(key, "duplicate_key", message, "give each feature and each task a key of its own")


def _dependencies(document: PlanDoc) -> Iterator[Problem]:
    for kind, known, items in (
        ("features", set(document.features_by_key), [placed.feature for placed in document.placed_features]),
        ("tasks", set(document.tasks), [placed.task for placed in document.placed_tasks]),
    ):
        for item in items:
            where = f"{kind}.{item.key}.depends_on"
            for key in item.depends_on:
                if key == item.key:
                    yield Problem(where, "cycle", f"{item.key} depends on itself", "leave it out")
                elif key not in known:
                    message = f"{item.key} depends on {key}, and the plan has no such {kind.removesuffix('s')}"
                    yield Problem(where, "missing_dependency", message, f"known are {', '.join(sorted(known)[:20])}")
    for placed in document.placed_features:
        around = {feature.key for feature in placed.within}
        for key in placed.feature.depends_on:
            if key in around:
                message = f"{placed.feature.key} depends on {key}, which it is a part of"
                yield Problem(f"features.{placed.feature.key}.depends_on", "cycle", message, "leave it out")


def _cycles(document: PlanDoc) -> Iterator[Problem]:
    """One problem for each cycle, at the first of its tasks in the plan's order."""
    found = cycles_find(document.needs)
    for cycle in found:
        shown = " → ".join([*cycle, cycle[0]])
        yield Problem(f"tasks.{cycle[0]}.depends_on", "cycle", f"tasks wait for each other: {shown}", "leave one out")


def cycles_find(needs: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """The cycles that a walk in order meets, each from its first key on in the direction of what is needed."""
    cycles: list[tuple[str, ...]] = []
    done: set[str] = set()
    for start in needs:
        path: list[str] = []
        # Depth first without recursion: a plan may be one long chain.
        stack: list[tuple[str, Iterator[str]]] = []
        if start not in done:
            path.append(start)
            stack.append((start, iter(needs[start])))
        while stack:
            key, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                done.add(key)
                path.pop()
                stack.pop()
            elif following in path:
                cycles.append(tuple(path[path.index(following) :]))
            elif following not in done:
                path.append(following)
                stack.append((following, iter(needs[following])))
    return cycles

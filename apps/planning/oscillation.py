"""Whether a revision leads back to where the plan was already: by what is left to do, whatever it is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from apps.planning.document import PlanDoc, TaskDoc
from apps.planning.types import TaskState, TaskStatus, VersionSource

#: What is past, in a former version as in the one that may follow.
_PAST = frozenset({TaskStatus.DONE, TaskStatus.RUNNING})


@dataclass(frozen=True)
class Version:
    """A version of a plan as it was made."""

    number: int
    source: VersionSource
    document: PlanDoc


def version_like(document: PlanDoc, states: Mapping[str, TaskState], versions: Sequence[Version]) -> int | None:
    """The first of the versions that ``document`` comes back to, with the tasks as far as ``states`` says.

    What ``document`` would have carried out from now on is compared with what of each version was never finished: the
    tasks that failed since count as a part of that, so a plan that does what failed once more is the same plan. Of a
    plan that leaves nothing to do none is like it.
    """
    begun = {key for key, state in states.items() if state.started}
    left = left_key(document, begun)
    if not left:
        return None
    past = {key for key, state in states.items() if state.status in _PAST}
    return next((each.number for each in versions if left_key(each.document, past) == left), None)


def versions_standing(versions: Sequence[Version]) -> list[Version]:
    """Those that led to the present one: what a rewind took back is no place where the plan has been."""
    standing: list[Version] = []
    for version in versions:
        if version.source is VersionSource.REWIND:
            former = [place for place, each in enumerate(standing) if each.document == version.document]
            if former:
                standing = standing[: former[-1] + 1]
                continue
        standing.append(version)
    return standing


def left_key(document: PlanDoc, past: Collection[str]) -> str:
    """A digest of the tasks that are not ``past`` and not done without; empty where there are none.

    Of each: title, instructions, who carries it out, files, checks, and which of the others it needs, by their place.
    Keys are left out, since whoever plans the same anew may choose others.
    """
    left = [task for key, task in document.tasks.items() if key not in past and not task.skipped]
    places = {task.key: place for place, task in enumerate(left)}
    said = [_task_said(task, [places[key] for key in document.needs[task.key] if key in places]) for task in left]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest() if said else ""


def _task_said(task: TaskDoc, needs: Sequence[int]) -> list[object]:
    return [
        _plain(task.title),
        _plain(task.instructions),
        task.agent_type.value,
        sorted(needs),
        sorted(task.files),
        sorted(task.creates),
        sorted(_plain(check.command) for check in task.checks),
    ]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()

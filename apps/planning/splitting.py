"""Splitting a task into several: who takes over what it needed, and on whom depends what needed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apps.planning.document import TaskDoc
from apps.planning.operations import SplitPart


@dataclass(frozen=True)
class Split:
    parts: tuple[TaskDoc, ...]
    #: Keys of those that no other part follows.
    last: tuple[str, ...]


def task_split(task: TaskDoc, parts: Sequence[SplitPart], keys: Sequence[str]) -> Split:
    """The parts in their order, under these keys.

    A part that depends on no other part depends on what the task did. Whatever a part doesn't say of itself is the
    task's; what the task makes is the first part's, its checks are the last one's.
    """
    own = set(keys)
    needs: list[tuple[str, ...]] = []
    for number, part in enumerate(parts):
        if "depends_on" in part.model_fields_set:
            chosen = list(part.depends_on)
        else:
            chosen = [keys[number - 1]] if number else []
        if not own & set(chosen):
            chosen += [key for key in task.depends_on if key not in chosen]
        needs.append(tuple(dict.fromkeys(chosen)))
    followed = {key for needed in needs for key in needed}
    made = tuple(
        task.model_copy(
            update={
                "instructions": "",
                "creates": task.creates if number == 0 else (),
                "checks": task.checks if number == len(parts) - 1 else (),
                **part.given("key", "depends_on"),
                "key": key,
                "depends_on": needed,
            }
        )
        for number, (part, key, needed) in enumerate(zip(parts, keys, needs, strict=True))
    )
    return Split(made, tuple(key for key in keys if key not in followed) or (keys[-1],))

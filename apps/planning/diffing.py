"""What is different between two versions of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc

Kind = Literal["added", "removed", "changed", "moved"]
What = Literal["plan", "feature", "task"]


@dataclass(frozen=True)
class Change:
    """One difference. ``field``, ``before`` and ``after`` are of a change; a move tells where it was and is."""

    kind: Kind
    what: What
    key: str
    title: str
    field: str = ""
    before: Any = None
    after: Any = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_diff(before: PlanDoc, after: PlanDoc) -> tuple[Change, ...]:
    """The changes from one to the other: of the plan, then of features and tasks in the order of ``after``.

    What was removed comes last; a key that names a task in place of a feature is removed and added. A feature or task
    that stands elsewhere is moved: into another feature, or past others that stay in order (the least of these that
    explain the new order).
    """
    return tuple(_changes(before, after))


@dataclass(frozen=True)
class _Item:
    what: What
    doc: FeatureDoc | TaskDoc
    parent: str


def _changes(before: PlanDoc, after: PlanDoc) -> Iterator[Change]:
    for name in ("summary", "intent"):
        was, now = _plain(getattr(before, name)), _plain(getattr(after, name))
        if was != now:
            yield Change("changed", "plan", "", after.summary, name, was, now)
    former, present = _items(before), _items(after)
    moved = _moved(former, present)
    for key, item in present.items():
        known = former.get(key)
        if known is None or known.what != item.what:
            yield Change("added", item.what, key, item.doc.title, after={"in": item.parent})
            continue
        if key in moved:
            yield Change(
                "moved", item.what, key, item.doc.title, before={"in": known.parent}, after={"in": item.parent}
            )
        for name in type(item.doc).model_fields:
            if name in ("key", "tasks", "features"):
                continue
            was, now = _plain(getattr(known.doc, name)), _plain(getattr(item.doc, name))
            if was != now:
                yield Change("changed", item.what, key, item.doc.title, name, was, now)
    for key, item in former.items():
        if key not in present or present[key].what != item.what:
            yield Change("removed", item.what, key, item.doc.title, before={"in": item.parent})


def _items(document: PlanDoc) -> dict[str, _Item]:
    """Features and tasks by key, in order, each with the key of what it is in. A task is no feature of that name."""
    items: dict[str, _Item] = {}
    for placed in document.placed_features:
        items[placed.feature.key] = _Item("feature", placed.feature, placed.within[-1].key if placed.within else "")
    for placed_task in document.placed_tasks:
        items[placed_task.task.key] = _Item("task", placed_task.task, placed_task.feature.key)
    return items


def _moved(former: Mapping[str, _Item], present: Mapping[str, _Item]) -> set[str]:
    same = {key: item for key, item in present.items() if key in former and former[key].what == item.what}
    moved = {key for key, item in same.items() if former[key].parent != item.parent}
    groups: dict[tuple[str, str], list[str]] = {}
    for key, item in same.items():
        if key not in moved:
            groups.setdefault((item.what, item.parent), []).append(key)
    place = {key: index for index, key in enumerate(former)}
    for keys in groups.values():
        moved |= set(keys) - _longest_in_order(keys, place)
    return moved


def _longest_in_order(keys: list[str], place: Mapping[str, int]) -> set[str]:
    """The most of the keys whose places grow: those that can be said to have stayed."""
    best: list[list[str]] = []
    for key in keys:
        longest: list[str] = []
        for chain in best:
            if place[chain[-1]] < place[key] and len(chain) > len(longest):
                longest = chain
        best.append([*longest, key])
    return set(sorted(best, key=len)[-1]) if best else set()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return getattr(value, "value", value)

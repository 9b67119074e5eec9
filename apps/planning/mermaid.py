"""A plan as a picture: a flowchart in Mermaid's language, which forges and consoles draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from apps.planning.document import FeatureDoc, PlanDoc
from apps.planning.types import TaskStatus

#: What Mermaid takes in one picture unless its page is set up otherwise: characters, and lines between things.
MAX_LENGTH, MAX_EDGES = 50_000, 500
#: What of a title is shown; less where the picture would be too long.
_TITLES = (80, 40, 20, 8)
#: How each status is drawn; the words say it too.
_CLASSES = {
    TaskStatus.PENDING: "fill:#f6f8fa,stroke:#8c959f,color:#1f2328",
    TaskStatus.RUNNING: "fill:#ddf4ff,stroke:#0969da,color:#1f2328,stroke-width:3px",
    TaskStatus.DONE: "fill:#dafbe1,stroke:#1a7f37,color:#1f2328",
    TaskStatus.FAILED: "fill:#ffebe9,stroke:#cf222e,color:#1f2328",
    TaskStatus.BLOCKED: "fill:#fff8c5,stroke:#9a6700,color:#1f2328",
    TaskStatus.SKIPPED: "fill:#ffffff,stroke:#8c959f,color:#8c959f,stroke-dasharray:4 3",
}
#: Characters that mean nothing in a quoted label; letters and digits of any script don't either.
_HARMLESS = frozenset(" .,_/()-+=!?'·…")


def plan_to_mermaid(document: PlanDoc, *, statuses: Mapping[str, TaskStatus] | None = None) -> str:
    """A box for each feature, within that it is in, its tasks in it, and an arrow from what comes first.

    Nothing that a title says can be taken for Mermaid's language, and the picture stays within what Mermaid takes:
    titles are cut, arrows that others imply left out first, and how many are missing is written under it.
    """
    edges = _edges(document)
    if len(edges) > MAX_EDGES:
        edges = _reduced(edges)
    left_out = max(0, len(edges) - MAX_EDGES + 1) if len(edges) > MAX_EDGES else 0
    kept = edges[: len(edges) - left_out]
    text = ""
    for length in _TITLES:
        text = "\n".join(_lines(document, statuses or {}, kept, left_out, length)) + "\n"
        if len(text) <= MAX_LENGTH:
            break
    return text


def _lines(
    document: PlanDoc, statuses: Mapping[str, TaskStatus], edges: list[tuple[str, str]], left_out: int, length: int
) -> Iterator[str]:
    yield "flowchart TD"
    names = _names(document)
    for feature in document.features:
        yield from _feature(feature, names, statuses, length, depth=1)
    for first, then in edges:
        yield f"  {names[first]} --> {names[then]}"
    if left_out:
        yield f'  more["{left_out} more arrows are not drawn"]'
    for status, style in _CLASSES.items():
        drawn = [names[key] for key in document.tasks if _status(document, key, statuses) is status]
        if drawn:
            yield f"  classDef {status.value} {style}"
            # Long lists are cut by some renderers' lines: a few at a time.
            for start in range(0, len(drawn), 50):
                yield f"  class {','.join(drawn[start : start + 50])} {status.value}"


def _feature(
    feature: FeatureDoc, names: Mapping[str, str], statuses: Mapping[str, TaskStatus], length: int, *, depth: int
) -> Iterator[str]:
    margin = "  " * depth
    yield f'{margin}subgraph {names[_feature_name(feature.key)]}["{_label(feature.key, feature.title, length)}"]'
    for task in feature.tasks:
        label = _label(task.key, task.title, length)
        status = statuses.get(task.key)
        if task.skipped and status is None:
            status = TaskStatus.SKIPPED
        told = "" if status in (None, TaskStatus.PENDING) else f"<br/>({status.value})"
        yield f'{margin}  {names[task.key]}["{label}{told}"]'
    for inner in feature.features:
        yield from _feature(inner, names, statuses, length, depth=depth + 1)
    yield f"{margin}end"


def _status(document: PlanDoc, key: str, statuses: Mapping[str, TaskStatus]) -> TaskStatus:
    default = TaskStatus.SKIPPED if document.tasks[key].skipped else TaskStatus.PENDING
    return statuses.get(key, default)


def _feature_name(key: str) -> str:
    """A feature's name among those of tasks: no key has a blank."""
    return f"feature {key}"


def _names(document: PlanDoc) -> dict[str, str]:
    """Names of our own making: a key may be one of Mermaid's words."""
    names = {key: f"t{number}" for number, key in enumerate(document.tasks, 1)}
    names |= {_feature_name(key): f"f{number}" for number, key in enumerate(document.features_by_key, 1)}
    return names


def _edges(document: PlanDoc) -> list[tuple[str, str]]:
    """From what comes first to what follows, each once. None from what there isn't, or between what holds the other."""
    found: dict[tuple[str, str], None] = {}
    around = {placed.feature.key: {each.key for each in placed.within} for placed in document.placed_features}
    for placed in document.placed_features:
        own = placed.feature.key
        for key in placed.feature.depends_on:
            if key in around and key != own and key not in around[own] and own not in around[key]:
                found[_feature_name(key), _feature_name(own)] = None
    for placed_task in document.placed_tasks:
        for key in placed_task.task.depends_on:
            if key in document.tasks and key != placed_task.task.key:
                found[key, placed_task.task.key] = None
    return list(found)


def _reduced(edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without those that a longer way says as well. Where they go round in circles, all stay."""
    after: dict[str, set[str]] = {}
    for first, then in edges:
        after.setdefault(first, set()).add(then)
    reach: dict[str, set[str]] = {}

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = list(after.get(start, ()))
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting += after.get(key, ())
        return found

    for key in after:
        reach[key] = reached(key)
    if any(key in keys for key, keys in reach.items()):
        return edges
    return [
        (first, then)
        for first, then in edges
        if not any(then in reach.get(other, ()) for other in after[first] if other != then)
    ]


def _label(key: str, title: str, length: int) -> str:
    shown = " ".join("".join(character if character.isprintable() else " " for character in title).split())
    shown = shown if len(shown) <= length else f"{shown[: length - 1].rstrip()}…"
    return _escaped(f"{key} · {shown}")


def _escaped(text: str) -> str:
    """As entities, in Mermaid's way: no character is left that means something to it, to Markdown or to HTML."""
    return "".join(
        character if (character.isalnum() and character != "ﬂ") or character in _HARMLESS else f"#{ord(character)};"
        for character in text
    )

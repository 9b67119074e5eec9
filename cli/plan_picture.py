"""A plan's tasks as boxes, those that can start first at the top, and arrows to what waits for them.

Tasks stand in layers, each below all that it needs. Arrows run in bands between the layers; one that passes a layer by
runs through it beside the boxes. What doesn't fit the width is listed layer by layer instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.text import Text

from cli.live import TASK_MARKS
from cli.plan_resources import PlanTask
from cli.text import text_clean, text_line

_GAP = 2
_WIDEST, _NARROWEST = 34, 14
#: Arms of a line's character: up, right, down, left.
_UP, _RIGHT, _DOWN, _LEFT = 1, 2, 4, 8
_JOINTS = {
    _UP: "│",
    _DOWN: "│",
    _UP | _DOWN: "│",
    _LEFT: "─",
    _RIGHT: "─",
    _LEFT | _RIGHT: "─",
    _DOWN | _RIGHT: "╭",
    _DOWN | _LEFT: "╮",
    _UP | _RIGHT: "╰",
    _UP | _LEFT: "╯",
    _UP | _DOWN | _RIGHT: "├",
    _UP | _DOWN | _LEFT: "┤",
    _DOWN | _LEFT | _RIGHT: "┬",
    _UP | _LEFT | _RIGHT: "┴",
    _UP | _DOWN | _LEFT | _RIGHT: "┼",
}


def picture_lines(tasks: Sequence[PlanTask], *, width: int, plain: bool) -> Iterator[Text]:
    """The picture, or where it would be too wide or can't be drawn, the layers as lists."""
    layers = layers_of(tasks)
    drawn = None if plain else _Picture.of(tasks, layers, width)
    yield from drawn.lines() if drawn is not None else _listed(layers, width=width, plain=plain)


def layers_of(tasks: Sequence[PlanTask]) -> list[list[PlanTask]]:
    """The tasks, each in the layer after the last of what it needs. What waits for itself stands in the last."""
    known = {task.key: task for task in tasks}
    depth: dict[str, int] = {}
    left = list(tasks)
    while left:
        ready = [task for task in left if all(key in depth or key not in known for key in task.needs)]
        for task in ready or left:
            depth[task.key] = 1 + max((depth[key] for key in task.needs if key in depth), default=-1)
        left = [task for task in left if task.key not in depth]
    layers: list[list[PlanTask]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for task in tasks:
        layers[depth[task.key]].append(task)
    return [layer for layer in layers if layer]


def arrows_of(tasks: Sequence[PlanTask]) -> list[tuple[str, str]]:
    """From what is needed to what needs it; what follows from two others of them is left out."""
    needs = {task.key: [key for key in task.needs if key in {other.key for other in tasks}] for task in tasks}
    beyond: dict[str, set[str]] = {}

    def all_of(key: str, around: frozenset[str] = frozenset()) -> set[str]:
        if key not in beyond:
            found: set[str] = set()
            for needed in needs[key]:
                if needed not in around:
                    found |= {needed} | all_of(needed, around | {key})
            beyond[key] = found
        return beyond[key]

    return [
        (needed, key)
        for key, direct in needs.items()
        for needed in direct
        if not any(needed in all_of(other) for other in direct if other != needed)
    ]


def _listed(layers: Sequence[Sequence[PlanTask]], *, width: int, plain: bool) -> Iterator[Text]:
    for number, layer in enumerate(layers, start=1):
        yield Text(f"{number}." if number > 1 else "1. at once", style="bold")
        for task in layer:
            mark, style, plain_mark = TASK_MARKS.get(task.status, TASK_MARKS["pending"])
            after = f" <- {', '.join(task.needs)}" if task.needs else ""
            line = Text(f"   {plain_mark if plain else mark} ", style=style)
            room = max(width - 5, _NARROWEST) if width else 0
            line.append(_words(task, f"({task.status}){after}", room), style=style)
            yield line


def _words(task: PlanTask, standing: str, width: int) -> str:
    """On one line; a title is cut rather than what the task waits for. ``width`` 0: whole."""
    named = f"{task.key} {task.title}"
    if not width:
        return " ".join(text_clean(f"{named} {standing}").split())
    standing = text_line(standing, width=max(width - _NARROWEST - 1, 1))
    return f"{text_line(named, width=max(width - cell_len(standing) - 1, 1))} {standing}"


@dataclass(frozen=True)
class _Box:
    """A task's place in its layer; without a task, a line that passes the layer by."""

    name: str
    task: PlanTask | None
    left: int
    width: int

    @property
    def middle(self) -> int:
        return self.left + self.width // 2


@dataclass
class _Picture:
    rows: list[list[_Box]]
    #: Between a row and the next: from which box of the one to which of the other.
    bands: list[list[tuple[str, str]]] = field(default_factory=list)

    @classmethod
    def of(cls, tasks: Sequence[PlanTask], layers: Sequence[Sequence[PlanTask]], width: int) -> _Picture | None:
        """None: it doesn't fit the width."""
        depth = {task.key: at for at, layer in enumerate(layers) for task in layer}
        known = {task.key: task for task in tasks}
        order: list[list[str]] = [[task.key for task in layer] for layer in layers]
        bands: list[list[tuple[str, str]]] = [[] for _ in layers[1:]]
        for start, end in arrows_of(tasks):
            before = start
            for at in range(depth[start] + 1, depth[end]):
                passing = f"{start}>{end}"
                order[at].append(passing)
                bands[at - 1].append((before, passing))
                before = passing
            if depth[start] < depth[end]:
                bands[depth[end] - 1].append((before, end))
        for at, band in enumerate(bands):
            _order(order[at + 1], order[at], band)
        rows = []
        for names in order:
            boxes = sum(name in known for name in names)
            free = width - _GAP * (len(names) - 1) - (len(names) - boxes)
            each = min(_WIDEST, free // boxes) if boxes else _WIDEST
            if each < _NARROWEST:
                return None
            rows.append(_row(names, known, each))
        return cls(rows, bands)

    def lines(self) -> Iterator[Text]:
        for at, row in enumerate(self.rows):
            yield from _drawn(row)
            if at < len(self.bands):
                yield from _band(self.bands[at], row, self.rows[at + 1])


def _order(names: list[str], above: Sequence[str], band: Sequence[tuple[str, str]]) -> None:
    """Below what leads to it, so that few arrows cross."""
    place = {name: at for at, name in enumerate(above)}
    leading: dict[str, list[int]] = {}
    for start, end in band:
        leading.setdefault(end, []).append(place[start])
    own = {name: float(at) for at, name in enumerate(names)}
    names.sort(key=lambda name: sum(leading[name]) / len(leading[name]) if name in leading else own[name])


def _row(names: Sequence[str], known: Mapping[str, PlanTask], most: int) -> list[_Box]:
    row, left = [], 0
    for name in names:
        task = known.get(name)
        width = 1
        if task is not None:
            longest = max(len(task.key) + 4, cell_len(text_clean(task.title)), len(_after(task)))
            width = max(min(most, longest + 4), _NARROWEST)
        row.append(_Box(name, task, left, width))
        left += width + _GAP
    return row


def _drawn(row: Sequence[_Box]) -> Iterator[Text]:
    for level in range(4):
        line = Text()
        for box in row:
            line.append(" " * (box.left - line.cell_len))
            if box.task is None:
                line.append("│", style="dim")
            else:
                _box_level(line, box.task, box.width, level)
        yield line


def _after(task: PlanTask) -> str:
    return f"← {', '.join(task.needs)}" if task.needs else ""


def _box_level(line: Text, task: PlanTask, width: int, level: int) -> None:
    mark, style, _ = TASK_MARKS.get(task.status, TASK_MARKS["pending"])
    if level == 0:
        name = f" {mark} {text_line(task.key, width=width - 7)} "
        line.append(f"╭─{name}{'─' * (width - 3 - cell_len(name))}╮", style=style)
    elif level == 3:
        line.append(f"╰{'─' * (width - 2)}╯", style=style)
    else:
        shown = text_line(task.title if level == 1 else _after(task), width=width - 4)
        line.append("│ ", style=style)
        line.append(shown + " " * (width - 4 - cell_len(shown)))
        line.append(" │", style=style)


def _band(band: Sequence[tuple[str, str]], above: Sequence[_Box], below: Sequence[_Box]) -> Iterator[Text]:
    """The arrows between two rows: down to a track of its own for each that leads aside, along it, and down."""
    starts = {box.name: box.middle for box in above}
    ends = {box.name: box.middle for box in below}
    aside = list(dict.fromkeys(start for start, end in band if starts[start] != ends[end]))
    height = 1 + len(aside)
    width = max([*starts.values(), *ends.values()], default=0) + 1
    arms = [[0] * width for _ in range(height)]
    for start, end in band:
        first, last = starts[start], ends[end]
        track = aside.index(start) if first != last else height
        for level in range(height):
            # Before its track it runs below where it starts, after it above where it ends.
            if level < track:
                arms[level][first] |= _UP | _DOWN
            elif level > track:
                arms[level][last] |= _UP | _DOWN
        if first != last:
            arms[track][first] |= _UP
            arms[track][last] |= _DOWN
            step = 1 if last > first else -1
            for column in range(first, last, step):
                arms[track][column] |= _RIGHT if step > 0 else _LEFT
                arms[track][column + step] |= _LEFT if step > 0 else _RIGHT
    for level, row in enumerate(arms):
        heads = {ends[end] for _, end in band if ">" not in end} if level == height - 1 else set()
        drawn = ("▼" if at in heads else _JOINTS.get(cell, " ") for at, cell in enumerate(row))
        yield Text("".join(drawn).rstrip(), style="dim")

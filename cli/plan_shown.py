"""A plan at a terminal: as a tree, with where each task is and what it is about; plain where nothing can be drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from cli.live import TASK_MARKS
from cli.plan_resources import PlanFeature, PlanProgress, PlanTask
from cli.text import money_format, text_clean, text_line

#: The narrowest that a line's words may get.
_LEAST = 20


@dataclass(frozen=True)
class _Guides:
    """What the tree is drawn with: of a child that others follow, of the last one, and below either."""

    branch: str
    last: str
    through: str
    nothing: str


_LINES = _Guides("├─ ", "└─ ", "│  ", "   ")
_PLAIN = _Guides("  ", "  ", "  ", "  ")


def plan_print(plan: PlanProgress, *, console: Console) -> None:
    """The whole plan. Where it is read by a program: no lines are drawn, and none is cut."""
    drawn = console.is_terminal
    ascii_only = not drawn or not (console.encoding or "").lower().startswith("utf")
    width = console.width if drawn else 0
    for line in plan_lines(plan, width=width, guides=_PLAIN if ascii_only else _LINES, plain=ascii_only):
        console.print(line, soft_wrap=True)


def plan_lines(plan: PlanProgress, *, width: int, guides: _Guides, plain: bool) -> Iterator[Text]:
    """Line by line; ``width`` 0: as long as they are."""
    yield Text(_fitted(plan.summary, width), style="bold")
    yield Text(text_clean(", ".join(_figures(plan))), style="dim")
    if plan.status == "waiting":
        yield Text(f"It waits for approval, in version {plan.version}.", style="yellow")
    yield Text("")
    top = [at for at, feature in enumerate(plan.features) if feature.depth == 0]
    for at in top:
        yield from _feature(plan.features, at, "", "", width=width, guides=guides, plain=plain)


def _figures(plan: PlanProgress) -> list[str]:
    figures = [f"plan {plan.id[:8]}", f"version {plan.version}", plan.status, f"{plan.done} of {plan.total} done"]
    figures += [plan.intent.replace("_", " ")] if plan.intent else []
    return figures + estimate_told(plan)


def estimate_told(plan: PlanProgress) -> list[str]:
    """What it is likely to take, where somebody has guessed."""
    steps, tokens, cost = (_span(plan.estimate.get(name)) for name in ("steps", "tokens", "cost_usd"))
    told = [f"{_between(*steps, _count)} steps"] if steps else []
    told += [f"{_between(*tokens, _count)} tokens"] if tokens else []
    told += [_between(*cost, money_format)] if cost else []
    return [f"likely {told[0]}", *told[1:]] if told else []


def _span(value: Any) -> tuple[float, float] | None:
    """What is guessed: a number, or from ``low`` to ``high``."""
    low, high = (value.get("low"), value.get("high")) if isinstance(value, dict) else (value, value)
    return (float(low), float(high)) if isinstance(low, (int, float)) and isinstance(high, (int, float)) else None


def _between(low: float, high: float, shown: Callable[[float], str]) -> str:
    return shown(low) if shown(low) == shown(high) else f"{shown(low)} to {shown(high)}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _feature(
    features: list[PlanFeature], at: int, first: str, rest: str, *, width: int, guides: _Guides, plain: bool
) -> Iterator[Text]:
    feature = features[at]
    yield _marked(first, feature.status, f"{feature.key} {feature.title}".strip(), width, plain, heading=True)
    inner = _within(features, at)
    more = bool(feature.tasks or inner)
    if feature.blocked_reason:
        yield _below(rest + (guides.through if more else guides.nothing), f"held: {feature.blocked_reason}", width)
    for place, task in enumerate(feature.tasks):
        last = place + 1 == len(feature.tasks) and not inner
        head = rest + (guides.last if last else guides.branch)
        yield from _task(task, head, rest + (guides.nothing if last else guides.through), width, plain)
    for place, below in enumerate(inner):
        last = place + 1 == len(inner)
        head, beneath = (guides.last, guides.nothing) if last else (guides.branch, guides.through)
        yield from _feature(features, below, rest + head, rest + beneath, width=width, guides=guides, plain=plain)


def _within(features: list[PlanFeature], at: int) -> list[int]:
    """The features right within this one: those one deeper, up to the next that isn't in it."""
    depth, found = features[at].depth, []
    for place in range(at + 1, len(features)):
        if features[place].depth <= depth:
            break
        if features[place].depth == depth + 1:
            found.append(place)
    return found


def _task(task: PlanTask, first: str, rest: str, width: int, plain: bool) -> Iterator[Text]:
    again = f" (attempt {task.attempts})" if task.attempts > 1 else ""
    commit = f" {task.commit[:10]}" if task.commit and task.status == "done" else ""
    kind = "" if task.type == "code" else f" [{task.type}]"
    yield _marked(first, task.status, f"{task.key} {task.title}{kind}{again}{commit}".strip(), width, plain)
    # Of what is past, nobody has to know any more what it was to touch.
    if task.status in ("done", "skipped"):
        return
    if task.blocked_reason:
        yield _below(rest, f"blocked: {task.blocked_reason}", width, style="yellow")
    files = [*task.files, *(f"{path} (new)" for path in task.creates)]
    for name, values in (("needs", task.needs), ("files", files)):
        if values:
            yield _below(rest, f"{name} {', '.join(values)}", width)
    for check in task.checks:
        yield _below(rest, f"check {check}", width)


def _marked(first: str, status: str, words: str, width: int, plain: bool, *, heading: bool = False) -> Text:
    mark, style, plain_mark = TASK_MARKS.get(status, TASK_MARKS["pending"])
    # Where no colour and no sign tells it, the word does.
    told = f" ({status})" if plain or status in ("blocked", "skipped") else ""
    room = width and max(width - len(first) - len(told) - 2, _LEAST)
    line = Text(first, style="dim")
    line.append(f"{plain_mark if plain else mark} ", style=style)
    line.append(_fitted(words, room), style="bold" if heading else "dim" if status == "skipped" else "")
    line.append(told, style=style)
    return line


def _below(rest: str, words: str, width: int, *, style: str = "dim") -> Text:
    line = Text(f"{rest}  ", style="dim")
    line.append(_fitted(words, width and max(width - len(rest) - 2, _LEAST)), style=style)
    return line


def _fitted(words: str, width: int) -> str:
    """On one line; ``width`` 0: whole."""
    return text_line(words, width=width) if width else " ".join(text_clean(words).split())

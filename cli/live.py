"""The live view: a panel that is updated in place, or a line an event where nothing can be updated in place."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cli.resources import Event
from cli.state import CheckState, SessionState, ToolState, argument_short, places_short
from cli.state_plan import TaskState
from cli.text import duration_format, money_format, text_clean, text_line

_TASKS_SHOWN = 8
_TEXT_LINES = 3
_PLACES_SHOWN = 3
_TOOLS_SHOWN = 3
_LABEL_WIDTH = 32
#: How a task that is at this status is marked: sign, style, and sign of a terminal without such characters.
TASK_MARKS = {
    "pending": ("○", "dim", "-"),
    "running": ("▸", "bold cyan", ">"),
    "done": ("✓", "green", "+"),
    "failed": ("✗", "red", "x"),
    "blocked": ("■", "yellow", "!"),
    "skipped": ("∅", "dim", "/"),
}
#: What a mark alone doesn't make clear.
_TOLD = ("blocked", "skipped")
_STATUS_STYLES = {"completed": "green", "failed": "red", "cancelled": "yellow", "paused": "yellow"}


class SessionView(Protocol):
    """Shows a session while it goes on."""

    def event_show(self, event: Event) -> None:
        """An event has just been applied to the state."""

    def refresh(self) -> None:
        """Time has passed, or a delta has come."""

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""

    def suspended(self) -> AbstractContextManager[None]:
        """The terminal is needed for a question meanwhile."""


@contextmanager
def view_open(state: SessionState, *, console: Console, elapsed_s: float = 0.0) -> Iterator[SessionView]:
    """The view that suits the console."""
    if view_is_live(console):
        view = PanelView(state, console=console, elapsed_s=elapsed_s)
        with view.shown():
            yield view
    else:
        yield LineView(state, console=console)


def view_is_live(console: Console) -> bool:
    """Whether something can be updated in place here, and is wanted to be."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb"
    return console.is_terminal and not plain


class PanelView:
    """One compact panel, updated in place."""

    def __init__(self, state: SessionState, *, console: Console, elapsed_s: float = 0.0) -> None:
        self._state = state
        self._console = console
        self._clock = _Clock(elapsed_s)
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        self.refresh()
        try:
            yield
        finally:
            self._stop()

    def event_show(self, event: Event) -> None:
        """The panel is drawn from the state; nothing is kept of single events."""

    def refresh(self) -> None:
        """It redraws itself by the clock; after an interruption it comes back with the first news."""
        if self._live is None:
            self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=8)
            self._live.start()

    def note(self, text: str) -> None:
        self._console.print(Text(text_clean(text), style="dim"))

    @contextmanager
    def suspended(self) -> Iterator[None]:
        self._stop()
        yield

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> RenderableType:
        return StatePanel(self._state, elapsed_s=self._clock.elapsed())


class StatePanel:
    """A session's state as a panel that fits the width it is given."""

    def __init__(self, state: SessionState, *, elapsed_s: float) -> None:
        self._state = state
        self._elapsed_s = elapsed_s

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        state = self._state
        width = min(options.max_width - 2, 110) - 4
        plain = options.ascii_only
        parts: list[RenderableType] = [
            Text(text_line(state.goal, width=width * 2), style="bold"),
            self._figures(),
        ]
        if state.tasks or state.plan.summary:
            parts += [Text(""), *self._plan(width, plain)]
        activity = self._activity(width, plain)
        if activity:
            parts += [Text(""), *activity]
        if state.checks:
            parts += [Text(""), checks_table(list(state.checks.values()), plain=plain)]
        yield Panel(
            Group(*parts),
            title=Text(f" archon {state.session_id[:8]} "),
            title_align="left",
            subtitle=Text(f" {state.doing} "),
            subtitle_align="right",
            border_style=_STATUS_STYLES.get(state.status, "cyan"),
            box=box.ASCII if plain else box.ROUNDED,
            # Two columns are left free: an echoed ^C would otherwise wrap, and the panel lose its place.
            width=min(options.max_width - 2, 110),
        )

    def _figures(self) -> Text:
        state = self._state
        steps = f"step {state.steps}" + (f" of {state.limit_steps}" if state.limit_steps else "")
        cost = money_format(state.cost_usd, priced=state.priced)
        if state.limit_cost_usd is not None:
            cost += f" of {money_format(state.limit_cost_usd)}"
        figures = [duration_format(self._elapsed_s), steps, f"{state.tokens:,} tokens", cost]
        return Text(" | ".join([*figures, text_line(state.model, width=40)] if state.model else figures), style="dim")

    def _plan(self, width: int, plain: bool) -> list[Text]:
        state = self._state
        current = next((at for at, task in enumerate(state.tasks) if task.status == "running"), 0)
        first = max(min(current - 2, len(state.tasks) - _TASKS_SHOWN), 0)
        lines = [Text(text_line(state.plan.summary, width=width), style="italic")] if state.plan.summary else []
        if first:
            lines.append(Text(f"  … {first} before", style="dim"))
        lines += [_task_line(task, width, plain) for task in state.tasks[first : first + _TASKS_SHOWN]]
        left = len(state.tasks) - first - _TASKS_SHOWN
        if left > 0:
            lines.append(Text(f"  … {left} more", style="dim"))
        return lines

    def _activity(self, width: int, plain: bool) -> list[Text]:
        state = self._state
        lines: list[Text] = []
        if state.located and state.status == "running":
            places = ", ".join(state.located[:_PLACES_SHOWN])
            lines.append(Text(text_line(f"likely: {places}", width=width), style="dim"))
        if state.text.strip() and state.status == "running":
            wrapped = [part for line in state.text.splitlines() for part in textwrap.wrap(line, max(width, 8))]
            lines += [Text(line, style="dim italic") for line in wrapped[-_TEXT_LINES:]]
        lines += [self._tool(tool, width, plain) for tool in list(state.tools.values())[-_TOOLS_SHOWN:]]
        if state.question is not None:
            lines.append(Text(text_line(f"? {state.question.text}", width=width * 2), style="yellow"))
        if state.approval is not None:
            asked = f"? may it run {state.approval.name} {argument_short(state.approval.arguments)}"
            lines.append(Text(text_line(f"{asked} ({state.approval.risk})", width=width * 2), style="yellow"))
        if state.plan_waits:
            asked = f"? may it carry out the plan (version {state.plan_waits}): archon approve {state.session_id[:8]}"
            lines.append(Text(text_line(asked, width=width * 2), style="yellow"))
        return lines

    def _tool(self, tool: ToolState, width: int, plain: bool) -> Text:
        title = self._state.plan.title_of(tool.task)
        whose = f" [{text_line(title, width=_LABEL_WIDTH)}]" if title else ""
        argument = text_line(tool.argument, width=max(width - len(tool.name) - 3 - len(whose), 8))
        return Text.assemble((f"{'>' if plain else '▸'} {tool.name} ", "cyan"), argument, (whose, "dim"))


def _task_line(task: TaskState, width: int, plain: bool) -> Text:
    mark, style, plain_mark = TASK_MARKS.get(task.status, TASK_MARKS["pending"])
    more = f" (attempt {task.attempt})" if task.attempt > 1 else f" ({task.status})" if task.status in _TOLD else ""
    title = text_line(task.title, width=max(width - len(more) - 4, 8))
    return Text(f"  {plain_mark if plain else mark} {title}{more}", style=style)


def checks_table(checks: list[CheckState], *, plain: bool) -> Table:
    """What each check said before and after, with the number of tests where it is known."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False)
    table.add_column("check", overflow="fold")
    table.add_column("before", no_wrap=True)
    table.add_column("after", no_wrap=True)
    for check in checks:
        table.add_row(
            Text(text_line(check.name, width=200)),
            _check_cell(check.before, check.tests_before, plain),
            _check_cell(check.after, check.tests_after, plain),
        )
    return table


def _check_cell(result: str | None, tests: int | None, plain: bool) -> Text:
    if result is None:
        return Text("-" if plain else "–", style="dim")
    count = f" ({tests} test{'' if tests == 1 else 's'})" if tests is not None else ""
    mark, style = {"passed": ("✓ ", "green"), "flaky": ("~ ", "yellow")}.get(result, ("✗ ", "red"))
    return Text(f"{'' if plain else mark}{result}{count}", style=style)


class LineView:
    """A line for each event that tells a person something."""

    def __init__(self, state: SessionState, *, console: Console) -> None:
        self._state = state
        self._console = console
        self._first: float | None = None
        self._beside: set[str] = set()

    def event_show(self, event: Event) -> None:
        moment = event.created_at.timestamp()
        self._first = moment if self._first is None else self._first
        line = event_line(event)
        if line:
            self._print(f"{duration_format(moment - self._first):>7}  {self._whose(event)}{line}")

    def refresh(self) -> None:
        """Lines are only written when there is something to say."""

    def note(self, text: str) -> None:
        self._print(f"{'':>7}  {text_clean(text)}")

    @contextmanager
    def suspended(self) -> Iterator[None]:
        yield

    def _whose(self, event: Event) -> str:
        """Where tasks are worked on side by side, the one that the event tells of."""
        task = str(event.payload.get("task") or "")
        if event.type == "PhaseChanged" and task:
            # Only a task beside others has phases of its own.
            self._beside.add(task)
        if task not in self._beside or event.type == "TaskStarted":
            return ""
        title = self._state.plan.title_of(task)
        return f"[{text_line(title, width=_LABEL_WIDTH)}] " if title else ""

    def _print(self, line: str) -> None:
        # One event, one line, however narrow: these are read by other programs, too.
        self._console.print(Text(line), soft_wrap=True)


def event_line(event: Event) -> str:
    """The event in one line; empty when it tells a person nothing."""
    payload = event.payload

    def said(name: str, width: int = 160) -> str:
        return text_line(str(payload.get(name) or ""), width=width)

    match event.type:
        case "SessionQueued":
            return "queued"
        case "SessionStarted":
            attempt = payload.get("attempt") or 1
            return "started" if attempt == 1 else f"taken up again (attempt {attempt})"
        case "PhaseChanged":
            return f"phase: {said('phase')}"
        case "EnvironmentPrepared":
            cached = ", from the cache" if payload.get("cached") else ""
            return f"environment ready ({said('ecosystem') or 'nothing to install'}{cached})"
        case "ChecksFinished":
            state = SessionState(session_id="", goal="")
            state.event_apply(event)
            stage = "before" if payload.get("stage") == "before" else "after"
            results = (f"{text_line(c.name, width=60)} {getattr(c, stage) or 'not run'}" for c in state.checks.values())
            return f"checks {stage}: {'; '.join(results) or 'none found'}"
        case "CodeLocated":
            places = places_short(payload.get("hits"))
            return f"likely: {text_line(', '.join(places[:_PLACES_SHOWN]), width=400)}" if places else ""
        case "PlanCreated":
            state = SessionState(session_id="", goal="")
            state.event_apply(event)
            titles = text_line("; ".join(task.title for task in state.tasks), width=400)
            return f"plan: {said('summary')} ({len(state.tasks)} task{'' if len(state.tasks) == 1 else 's'}: {titles})"
        case "MessageReceived":
            return f"message: {said('text', 400)}"
        case "SessionReopened":
            return "goes on"
        case "SourceFetched":
            return f"read: {said('title')}"
        case "PlanExtended":
            return f"plan: {said('feature')}"
        case "PlanRevised":
            return f"plan, version {payload.get('version')}: {said('reason', 400)}"
        case "PlanKept":
            return f"plan kept: {said('reason', 400)}"
        case "TaskStarted":
            return f"task: {said('title')}"
        case "ModelReplied":
            return f"{said('role') or 'model'}: {said('text')}" if said("text") else ""
        case "ToolStarted":
            return f"tool: {said('name')} {argument_short(payload.get('arguments'))}".rstrip()
        case "ToolFinished":
            return "" if payload.get("ok", True) else f"tool failed: {said('name')}: {said('summary')}"
        case "ToolStopped":
            return f"tool stopped: {said('name')}"
        case "SteeringReceived":
            return f"said: {said('text', 400)}"
        case "SteeringDelivered":
            return "what was said is heard"
        case "SessionRewound":
            return f"taken back to step {payload.get('to_seq')}: {said('summary')}"
        case "QuestionAsked":
            return f"question: {said('text', 400)}"
        case "QuestionAnswered":
            return "question answered"
        case "ApprovalRequested":
            return f"may it run: {said('name')} {argument_short(payload.get('arguments'))} ({said('risk')})"
        case "ApprovalDecided":
            return f"decided: {said('decision')}" + (f": {said('message', 400)}" if said("message") else "")
        case "PlanApprovalRequested":
            note = f": {said('note', 400)}" if said("note") else ""
            return f"may it carry out the plan, version {payload.get('version')}{note}"
        case "PlanApproved":
            return f"plan approved: version {payload.get('version')}"
        case "PlanRejected":
            return f"plan sent back: {said('comment', 400)}" if said("comment") else "plan rejected"
        case "GoalAnswered":
            places = [str(each.get("path")) for each in payload.get("citations") or () if isinstance(each, dict)]
            return "answered" + (f", from {text_line(', '.join(dict.fromkeys(places)), width=400)}" if places else "")
        case "AutonomyChanged":
            return f"autonomy: {said('autonomy')}"
        case "TaskVerified":
            return f"task {'verified' if payload.get('passed') else 'not verified: its checks fail'}"
        case "ReviewStarted":
            return f"review {payload.get('round')}"
        case "ReviewFinished":
            return review_line(payload)
        case "ReviewDecided":
            return f"the review was decided on: {said('decision')}"
        case "AgentLimitReached":
            return f"the {said('role')} has taken all its {said('limit')}: {payload.get('spent')}"
        case "TaskMerged":
            return "" if payload.get("fast_forward") else "merged with what other tasks have done"
        case "MergeConflicted":
            return merge_line(payload)
        case "TaskCommitted":
            return f"committed {said('commit')[:12]}"
        case "TaskFailed":
            return f"task failed: {said('reason')}"
        case "TaskBlocked":
            return f"task blocked: {said('reason', 400)}"
        case "SessionPaused":
            reason = payload.get("reason")
            message = str(reason.get("message") or "") if isinstance(reason, dict) else ""
            return f"paused: {text_line(message, width=400)}" if message else "paused"
        case "SessionResumed" | "SessionCancelled":
            return event.type.removeprefix("Session").lower()
        case "SessionReported":
            heading = str(payload.get("summary") or "").strip().partition("\n")[0]
            return f"report: {text_line(heading.lstrip('# '), width=400)}"
        case "SessionCompleted":
            return f"completed: {said('outcome')}"
        case "SessionPublished":
            return f"pushed as {said('branch')}" + (f": {said('url', 400)}" if said("url") else "")
        case "PublishFailed":
            return f"not pushed: {said('message', 400)}"
        case "SessionFailed":
            return f"failed: {said('message', 400)}"
    return ""


def merge_line(payload: dict[str, Any]) -> str:
    """Why a task's work could not be merged, and goes back to its agent."""
    files = [str(path) for path in payload.get("files") or ()]
    more = f" and {len(files) - _PLACES_SHOWN} more" if len(files) > _PLACES_SHOWN else ""
    where = (
        f"others changed the same in {', '.join(files[:_PLACES_SHOWN])}{more}" if files else "the checks fail on both"
    )
    return f"not merged yet: {text_line(where, width=400)}"


def review_line(payload: dict[str, Any]) -> str:
    """What a review came to, and what is open of what it found."""
    found = [each for each in payload.get("findings") or () if isinstance(each, dict) and not each.get("resolved")]
    places = [f"{each.get('path')}:{each.get('line')} {each.get('severity')}" for each in found[:_PLACES_SHOWN]]
    more = ", …" if len(found) > _PLACES_SHOWN else ""
    told = f": {', '.join(places)}{more}" if places else ""
    return text_line(f"review {payload.get('round')}: {payload.get('verdict')}{told}", width=400)


class _Clock:
    """Counts on from what the server said, by this machine's own clock: the two need not agree."""

    def __init__(self, elapsed_s: float) -> None:
        self._base = elapsed_s
        self._start = time.monotonic()

    def elapsed(self) -> float:
        return self._base + time.monotonic() - self._start

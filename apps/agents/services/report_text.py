"""What was done, why, and what not, in words: a report of a session, fit for the description of a pull request.

Plain functions over facts. What others wrote passes through ``markdown_safe``; what is long is folded away, and left
out, the least telling first, where all of it would be more than a forge takes.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from apps.agents.services import markdown_safe as safe
from apps.agents.services.report_types import (
    NOT_DONE,
    FindingFact,
    ModelFact,
    ProjectCheckFact,
    ReportFacts,
    TaskFact,
)

#: What a report has room for, in characters; the forge with the least takes 65,536.
REPORT_LIMIT = 60_000
_SHORT = 10

_OUTCOMES = {
    "verified": "the server ran the checks on the final commit, and they passed",
    "unverified": "no check vouches for the result",
    "failing": "the server's checks on the final commit do not pass, or a task was not done",
}
_STATUSES = {"running": "under way", "pending": "not begun", "done": "done", "failed": "failed"}


@dataclass(frozen=True)
class _Room:
    """How much of each kind is told."""

    goal: int
    result: int
    output: int
    names: int
    tasks: int
    folded: bool = True


#: Tried in this order until the report fits.
_ROOMS = (
    _Room(goal=4_000, result=4_000, output=4_000, names=50, tasks=200),
    _Room(goal=2_000, result=1_500, output=1_500, names=20, tasks=200),
    _Room(goal=1_000, result=600, output=500, names=10, tasks=200),
    _Room(goal=500, result=0, output=0, names=5, tasks=100, folded=False),
    _Room(goal=200, result=0, output=0, names=3, tasks=25, folded=False),
)


def report_markdown(facts: ReportFacts, *, limit: int = REPORT_LIMIT) -> str:
    """All of it, in at most so many characters."""
    text = ""
    for room in _ROOMS:
        text = _Report(facts, room).text()
        if len(text) <= limit:
            return text
    # Nothing that spans lines is left by now, so that it may end after any.
    cut = text[: max(limit - 80, 0)].rpartition("\n")[0]
    return f"{cut}\n\n… the rest has no room here"


def report_brief(facts: ReportFacts) -> str:
    """The same in a few lines, without escapes: for terminals, agents, and the session's row."""
    if facts.answer:
        return facts.answer + _models_line(facts)
    title = facts.summary or facts.goal
    lines = [f"# {title}", "", f"Outcome: **{facts.outcome}**" + _in_brackets("; ".join(facts.reasons))]
    for feature in facts.features:
        lines += ["", f"#{'#' * min(feature.depth + 1, 5)} {feature.title}", ""]
        for task in feature.tasks:
            mark = "x" if task.status == "done" else " "
            commit = f" ({task.commit[:_SHORT]})" if task.commit else ""
            told = task.result
            if task.status in NOT_DONE:
                told = f"{task.status}" + (f", {task.reason}" if task.reason else "")
            lines.append(f"- [{mark}] {task.title}{commit}" + (f": {told}" if told else ""))
            lines += [f"  - open finding, {_finding_place(finding)}: {finding.comment}" for finding in _open(task)]
    if facts.files:
        lines += ["", "Files changed: " + ", ".join(f"`{path}`" for path in facts.files)]
    return "\n".join(lines) + _models_line(facts)


def report_title(facts: ReportFacts, *, limit: int = 120) -> str:
    """What a pull request of it is called: the goal's first line."""
    first = next((line.strip() for line in safe.clean(facts.goal).splitlines() if line.strip()), "")
    return safe.head(" ".join(first.lstrip("#").split()), limit) or "Changes by Archon"


class _Report:
    def __init__(self, facts: ReportFacts, room: _Room) -> None:
        self._facts = facts
        self._room = room

    def text(self) -> str:
        sections = (
            self._opening(),
            self._done(),
            self._not_done(),
            self._checks(),
            self._plan(),
            self._cost(),
            self._trial(),
        )
        return "\n\n".join(section for section in sections if section)

    # --- sections -----------------------------------------------------------------------------------------------------
    def _opening(self) -> str:
        facts = self._facts
        summary, _, more = facts.summary.strip().partition("\n")
        parts = [f"# {safe.inline(safe.head(summary or report_title(facts), 300))}"]
        if not facts.final:
            parts.append(f"*The session is {facts.status.replace('_', ' ')}: this is what there is so far.*")
        parts.append(self._outcome())
        goal = safe.head(facts.goal.strip(), self._room.goal)
        if self._room.folded:
            parts.append(_folded("The goal", safe.quoted(goal)) if len(goal) > 400 else safe.quoted(goal))
        else:
            parts.append(f"> {safe.inline(goal)}")
        if more.strip() and self._room.folded:
            parts.append(safe.block(safe.head(more.strip(), self._room.goal)))
        if facts.answer:
            # An answer is Markdown that was asked for, and leads to no pull request.
            parts.append(safe.head(safe.clean(facts.answer), 10 * self._room.goal))
        return "\n\n".join(parts)

    def _outcome(self) -> str:
        facts = self._facts
        if facts.outcome is None:
            why = [f"- {safe.inline(reason)}" for reason in facts.reasons]
            return "\n".join([f"Outcome: none, the session is {facts.status.replace('_', ' ')}.", "", *why]).strip()
        lines = [f"Outcome: **{facts.outcome}**: {_OUTCOMES.get(facts.outcome, '')}."]
        shown = facts.reasons[: self._room.names]
        if shown:
            lines += ["", *(f"- {safe.inline(safe.head(reason, 600))}" for reason in shown)]
        return "\n".join(lines)

    def _done(self) -> str:
        facts = self._facts
        if not facts.tasks:
            return ""
        lines = ["## What was planned" if facts.agent_type == "planner" else "## What was done"]
        left = self._room.tasks
        for feature in facts.features:
            tasks = feature.tasks[: max(left, 0)]
            left -= len(feature.tasks)
            if not tasks and (feature.tasks or feature.depth):
                continue
            title = safe.inline(safe.head(feature.title, 200))
            lines += ["", f"#{'#' * min(feature.depth + 2, 5)} {title}", ""]
            lines += [self._task_line(task) for task in tasks]
            if self._room.folded:
                lines += [line for task in tasks for line in self._task_folded(task)]
        if left < 0:
            lines += ["", f"… and {-left} more tasks"]
        return "\n".join(lines)

    def _not_done(self) -> str:
        facts = self._facts
        tasks = [task for task in facts.tasks if task.status in NOT_DONE]
        lines = [
            f"- **{safe.inline(task.key)}** {safe.inline(safe.head(task.title, 200))}: {task.status}"
            + (f", {safe.inline(safe.head(task.reason, 600))}" if task.reason else "")
            for task in tasks[: self._room.tasks]
        ]
        for dropped in facts.dropped[: self._room.tasks]:
            why = f", {safe.inline(safe.head(dropped.reason, 600))}" if dropped.reason else ""
            title = safe.inline(safe.head(dropped.title, 200))
            lines.append(f"- **{safe.inline(dropped.key)}** {title}: left out by version {dropped.version}{why}")
        return "\n".join(["## What was not done", "", *lines]) if lines else ""

    def _checks(self) -> str:
        facts = self._facts
        if not facts.checks:
            return ""
        lines = ["## Checks", "", "| check | before | after | tests before | tests after |", "|---|---|---|---|---|"]
        for check in facts.checks[: self._room.tasks]:
            cells = (safe.code(check.name, cell=True), check.before or "not run", check.after or "not run")
            counts = (f"{check.tests_before or ''}", f"{check.tests_after or ''}")
            lines.append(f"| {' | '.join((*cells, *counts))} |")
        for check in facts.checks:
            kinds = (
                ("newly failing", check.newly_failing),
                ("failing as before", check.still_failing),
                ("gone or skipped", check.disappeared),
                ("fixed", check.fixed),
                ("flaky", check.flaky),
            )
            told = [self._named(kind, names) for kind, names in kinds if names]
            if told:
                lines += ["", f"{safe.code(check.name)}:", "", *(f"- {line}" for line in told)]
        if facts.changed_tests:
            lines += ["", self._named("Changed tests", facts.changed_tests)]
        if facts.changed_check_config:
            lines += ["", self._named("Changed configuration of checks", facts.changed_check_config)]
        if self._room.folded:
            for check in facts.checks:
                if check.after not in ("passed", None) and check.output.strip():
                    lines += ["", self._output_folded(check)]
        return "\n".join(lines)

    def _plan(self) -> str:
        facts = self._facts
        if facts.plan_version is None or not facts.tasks:
            return ""
        approved = f", version {facts.approved_version} approved by a person" if facts.approved_version else ""
        lines = ["## Plan", "", f"Version {facts.plan_version}{approved}."]
        if len(facts.versions) > 1:
            lines += ["", "| version | by | changes | why |", "|---|---|---|---|"]
            for version in facts.versions[-self._room.names :]:
                counted = {"added": version.added, "removed": version.removed, "changed": version.changed}
                changes = ", ".join(f"{count} {kind}" for kind, count in counted.items() if count)
                source = version.source.replace("_", " ")
                reason = safe.inline(safe.head(version.reason, 300), cell=True)
                lines.append(f"| {version.number} | {source} | {changes} | {reason} |")
        return "\n".join(lines)

    def _cost(self) -> str:
        spending = self._facts.spending
        tokens = spending.input_tokens + spending.output_tokens
        figures = [
            f"{spending.steps:,} steps",
            f"{tokens:,} tokens ({spending.cached_share:.0%} of the input cached)",
            _money(spending.cost_usd, priced=spending.priced),
        ]
        if spending.seconds is not None:
            figures.append(f"{spending.seconds // 60} min {spending.seconds % 60:02} s")
        lines = ["## Cost", "", ", ".join(figures) + "."]
        if spending.models:
            lines += ["", "| model | calls | input | cached | output | cost |", "|---|---|---|---|---|---|"]
            for model in spending.models[: self._room.names]:
                failed = f" ({model.failed} failed)" if model.failed else ""
                cells = (
                    f"{safe.code(model.name, cell=True)}{' (estimated)' if model.estimated else ''}",
                    f"{model.calls:,}{failed}",
                    f"{model.input_tokens:,}",
                    f"{model.cached_share:.0%}",
                    f"{model.output_tokens:,}",
                    _money(model.cost_usd, priced=model.priced),
                )
                lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def _trial(self) -> str:
        facts = self._facts
        if not facts.head_commit or facts.head_commit == facts.base_commit:
            return ""
        base = f"{safe.code(facts.base_branch)} at {safe.code(facts.base_commit[:_SHORT])}"
        lines = ["## Try it", "", f"{safe.code(facts.head_commit[:_SHORT])} on top of {base}:", ""]
        if facts.published_branch:
            branch = shlex.quote(facts.published_branch)
            commands = [f"git fetch origin {branch}", "git switch --detach FETCH_HEAD"]
        else:
            commands = [f"archon fetch {facts.session_id}", f"git switch {facts.branch}"]
        return "\n".join([*lines, safe.fenced("\n".join(commands))])

    # --- a task -------------------------------------------------------------------------------------------------------
    def _task_line(self, task: TaskFact) -> str:
        mark = "x" if task.status == "done" else " "
        commit = f" ({safe.code(task.commit[:_SHORT])})" if task.commit else ""
        status = "" if task.status == "done" else f": {_STATUSES.get(task.status, task.status)}"
        title = safe.inline(safe.head(task.title, 200))
        return f"- [{mark}] **{safe.inline(task.key)}** {title}{commit}{status}"

    def _task_folded(self, task: TaskFact) -> list[str]:
        parts: list[str] = []
        if task.result.strip():
            parts.append(safe.block(safe.head(task.result.strip(), self._room.result)))
        if task.files:
            parts.append(self._named("Files", task.files))
        for check in task.checks:
            state = "passed" if check.passed else f"failed (exit code {check.exit_code})"
            parts.append(f"Check {safe.code(check.name)}: {state}")
            if not check.passed and check.output.strip():
                parts.append(safe.fenced(safe.tail(check.output, self._room.output)))
        if task.findings:
            found = task.findings[: self._room.names]
            parts.append("Review:\n\n" + "\n".join(_finding_line(finding, self._room.result) for finding in found))
        if not parts:
            return []
        return ["", _folded(f"{task.key} {safe.head(task.title, 80)}: {_task_counts(task)}", "\n\n".join(parts))]

    # --- shared -------------------------------------------------------------------------------------------------------
    def _named(self, kind: str, names: Sequence[str]) -> str:
        shown = ", ".join(safe.code(safe.head(name, 200)) for name in names[: self._room.names])
        more = f" and {len(names) - self._room.names} more" if len(names) > self._room.names else ""
        return f"{kind} ({len(names)}): {shown}{more}"

    def _output_folded(self, check: ProjectCheckFact) -> str:
        how = f"exit code {check.exit_code}" if check.exit_code is not None else "stopped"
        return _folded(
            f"{check.name}: the end of its output ({how})", safe.fenced(safe.tail(check.output, self._room.output))
        )


def _folded(title: str, content: str) -> str:
    """``content`` behind a line that opens it; the empty lines have it read as Markdown."""
    return f"<details><summary>{safe.html_text(title)}</summary>\n\n{content}\n\n</details>"


def _task_counts(task: TaskFact) -> str:
    attempts = f"{task.attempts} attempt{'' if task.attempts == 1 else 's'}"
    counts = [_STATUSES.get(task.status, task.status), attempts]
    if task.files:
        counts.append(f"{len(task.files)} file{'' if len(task.files) == 1 else 's'}")
    if task.checks:
        failed = sum(not check.passed for check in task.checks)
        counts.append(
            f"{failed} of {len(task.checks)} checks failing" if failed else f"{len(task.checks)} checks passed"
        )
    if task.findings:
        left = len(_open(task))
        counts.append(f"{len(task.findings)} findings, " + (f"{left} open" if left else "all resolved"))
    return ", ".join(counts)


def _finding_line(finding: FindingFact, room: int) -> str:
    state = "resolved" if finding.resolved else "**open**"
    comment = safe.inline(safe.head(finding.comment, room))
    return f"- {safe.inline(finding.severity)}, {state}, {safe.code(_finding_place(finding))}: {comment}"


def _finding_place(finding: FindingFact) -> str:
    return f"{finding.path}:{finding.line}" if finding.line else finding.path


def _open(task: TaskFact) -> list[FindingFact]:
    return [finding for finding in task.findings if not finding.resolved]


def _money(dollars: float, *, priced: bool) -> str:
    # Spelt out: forges read what stands between two signs of money as mathematics.
    return f"{dollars:.4f} USD" if priced else f"more than {dollars:.4f} USD" if dollars else "price unknown"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _models_line(facts: ReportFacts) -> str:
    """Which models were called, and what that cost, as a last paragraph."""
    told = [_model_told(model) for model in facts.spending.models]
    return "\n\nModels: " + "; ".join(told) if told else ""


def _model_told(model: ModelFact) -> str:
    calls = f"{model.calls} call{'' if model.calls == 1 else 's'}" + (
        f", {model.failed} failed" if model.failed else ""
    )
    tokens = f"{model.input_tokens + model.output_tokens:,} tokens" + (" (estimated)" if model.estimated else "")
    cached = f", {model.cached_share:.0%} of the input cached" if model.cached_tokens else ""
    cost = f"${model.cost_usd:.4f}" if model.priced else "price unknown"
    return f"`{model.name}` ({calls}, {tokens}{cached}, {cost})"

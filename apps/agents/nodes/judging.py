"""The server's own word on a task's commit: the project's checks, and the commands by which the task is done.

Both run on a clean checkout of the commit, in fresh sandboxes that no agent has touched; the exit codes come from
outside of them. No model is asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.agents.nodes.baseline import Baseline, baseline_open, checks_observe
from apps.agents.nodes.context import RunContext
from apps.agents.types import Event
from apps.core.errors import InvalidInput
from apps.core.storable import json_storable, text_storable
from apps.planning.types import TaskAgent, TaskProgress, TaskStatus
from apps.projects.checks import CheckReport, CheckSpec, Verification
from apps.projects.checks.detection import command_runner
from apps.projects.environment import EnvironmentSetupFailed

#: Tests of each kind that are listed by name in what is kept of a verification.
LISTED_TESTS = 200
#: What is kept of an acceptance check's output, from its end.
OUTPUT_KEPT = 8_000
#: The effect of the last look at every task's checks.
FINAL_EFFECT = "acceptance-final"


@dataclass(frozen=True)
class Acceptance:
    """What came of one of a task's own checks."""

    command: str
    name: str
    passed: bool
    exit_code: int | None
    output: str
    #: Why it did not pass.
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = json_storable(dataclasses.asdict(self))
        return plain

    def __str__(self) -> str:
        named = f"{self.name} (`{self.command}`)" if self.name else f"`{self.command}`"
        return f"{named}: {'passed' if self.passed else f'FAILED: {self.reason}'}"


@dataclass(frozen=True)
class TaskJudged:
    """All that the server found out about a task's commit."""

    verification: Verification
    acceptance: tuple[Acceptance, ...] = ()

    @property
    def accepted(self) -> bool:
        """The task's own checks hold."""
        return all(each.passed for each in self.acceptance)

    @property
    def outcome(self) -> str:
        return self.verification.outcome if self.accepted else "failing"

    @property
    def reasons(self) -> tuple[str, ...]:
        failed = [f"the task's own check does not hold: {each}" for each in self.acceptance if not each.passed]
        return (*self.verification.reasons, *failed)

    @property
    def told(self) -> str:
        """In words for the agent whose commit it is."""
        parts = [checks_observe(self.verification.reports).text]
        if self.acceptance:
            parts.append("The task's own checks:\n" + "\n".join(map(_acceptance_told, self.acceptance)))
        if self.reasons:
            parts.append("The server's verdict: " + " ".join(self.reasons))
        return text_storable("\n".join(parts))


async def commit_judge_task(context: RunContext, task: TaskProgress, commit: str, *, apart: bool = False) -> TaskJudged:
    """The project's checks and the task's own on a commit, wherever the context's site is.

    Of a task without checks of its own it is :func:`commit_judge`. Where what the commit needs can't be set up, nothing
    is run and all of it fails. ``apart``: the worktree doesn't hold the commit.
    """
    baseline = await baseline_open(context)
    judged = await commit_judge(context, baseline, commit, apart=apart)
    return TaskJudged(judged, await acceptance_run(context, task.acceptance, commit, in_worktree=not apart))


async def acceptance_run(
    context: RunContext, checks: Sequence[Mapping[str, Any]], commit: str, *, in_worktree: bool = True
) -> tuple[Acceptance, ...]:
    """Run checks of tasks (``{command, name}``) on a commit, in the environment that it asks for.

    ``in_worktree``: the commit is what the worktree holds.
    """
    if not checks:
        return ()
    folder = context.site.subfolder
    specs = [CheckSpec(each["command"], each["command"], command_runner(each["command"]), folder) for each in checks]
    try:
        reports = await context.site.acceptance_run(commit, specs, in_worktree=in_worktree)
    except (EnvironmentSetupFailed, InvalidInput):
        return tuple(_not_run(check) for check in checks)
    return tuple(_acceptance(check, report) for check, report in zip(checks, reports, strict=True))


async def commit_judge(context: RunContext, baseline: Baseline, commit: str, *, apart: bool = False) -> Verification:
    """The server's checks on a commit. What cannot be installed any more fails, with the set-up's own words.

    ``apart``: the worktree doesn't hold it, so what it needs installed is looked up in the commit itself.
    """
    try:
        spec = (await context.site.requirements_of(commit))[0] if apart else None
        return await context.site.verify(commit=commit, specs=baseline.specs, before=baseline.before, spec=spec)
    except EnvironmentSetupFailed as error:
        reason = f"the environment that the commit asks for cannot be set up: {error.message}"
        return Verification("failing", (reason,), (), ())
    except InvalidInput as error:
        # The folder that the work was to be in is gone.
        return Verification("failing", (error.message,), (), ())


async def acceptance_final(
    context: RunContext, tasks: Sequence[TaskProgress], head: str, *, key: str
) -> Mapping[str, Any]:
    """Whether every finished task's checks still hold on the last commit: ``{commit, reasons}``; once for each key.

    Each command is run once, however many tasks have it, and not at all where the last task's verification has just
    run it on this commit. A task that came later may have undone what an earlier one did, and so may the commits that
    the work was put onto.
    """
    if (known := await context.ledger.effect_find(key)) is not None:
        return known
    done = [task for task in tasks if task.status is TaskStatus.DONE and task.agent_type is TaskAgent.CODER]
    just_run = {check["command"] for task in done if task.commit == head for check in task.acceptance}
    wanted: dict[str, list[TaskProgress]] = {}
    named: dict[str, Mapping[str, Any]] = {}
    for task in done:
        for check in task.acceptance:
            if check["command"] not in just_run:
                wanted.setdefault(check["command"], []).append(task)
                named.setdefault(check["command"], check)
    if not wanted:
        return await context.ledger.effect_record(key, result={"commit": head, "reasons": []})
    found = await acceptance_run(context, [named[command] for command in wanted], head, in_worktree=False)
    checked = [
        {"task": str(task.id), "key": task.key, **told} for each, told in _told(found) for task in wanted[each.command]
    ]
    reasons = [
        f"task {', '.join(task.key for task in wanted[each.command])}: its check no longer holds at the end: {each}"
        for each in found
        if not each.passed
    ]
    event = Event("AcceptanceChecked", {"commit": head, "checks": checked})
    return await context.ledger.effect_record(key, event, result={"commit": head, "reasons": reasons})


def acceptance_brief(found: Iterable[Acceptance]) -> list[dict[str, Any]]:
    """Acceptance checks as events carry them: with less of their output."""
    return [told for _, told in _told(found)]


def checks_present(verification: Verification) -> list[dict[str, Any]]:
    """What the checks said before and after, as the session's row keeps it and the API shows it."""
    reports = {report.name: report for report in verification.reports}
    presented = []
    for comparison in verification.comparisons:
        report = reports.get(comparison.name)
        presented.append(
            {
                **{
                    # A change can break every test of 26,000; the counts tell it as well.
                    key: value[:LISTED_TESTS] if isinstance(value, tuple) else value
                    for key, value in dataclasses.asdict(comparison).items()
                },
                "command": report.command if report else "",
                "exit_code": report.exit_code if report else None,
                "output": report.output[-8000:] if report else "",
            }
        )
    plain: list[dict[str, Any]] = json_storable(presented)
    return plain


def _told(found: Iterable[Acceptance]) -> list[tuple[Acceptance, dict[str, Any]]]:
    return [(each, {**each.as_dict(), "output": each.output[-4000:]}) for each in found]


def _acceptance(check: Mapping[str, Any], report: CheckReport) -> Acceptance:
    return Acceptance(
        command=check["command"],
        name=check.get("name", ""),
        passed=report.passed,
        exit_code=report.exit_code,
        output=report.output[-OUTPUT_KEPT:],
        reason=report.reason,
    )


def _not_run(check: Mapping[str, Any]) -> Acceptance:
    reason = "it was not run: what the commit needs can't be set up"
    return Acceptance(check["command"], check.get("name", ""), False, None, "", reason)


def _acceptance_told(each: Acceptance) -> str:
    return str(each) if each.passed else f"{each}\n{each.output}".rstrip()

"""What a session found before anything was changed: what to install, how to check, and what the checks said."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langgraph.runtime import Runtime

from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.materials import sources_fetch
from apps.agents.tools.base import Observation, text_cut
from apps.agents.types import Event
from apps.core.storable import json_storable
from apps.projects.checks import CheckReport, CheckSpec
from apps.projects.environment import EnvironmentSpec

BASELINE_EFFECT = "baseline"


@dataclass(frozen=True)
class Baseline:
    environment: EnvironmentSpec
    specs: tuple[CheckSpec, ...]
    before: tuple[CheckReport, ...]

    def as_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = json_storable(dataclasses.asdict(self))
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Baseline:
        return cls(
            environment=EnvironmentSpec(**plain["environment"]),
            specs=tuple(CheckSpec(**spec) for spec in plain["specs"]),
            before=tuple(CheckReport(**report) for report in plain["before"]),
        )


async def baseline_open(context: RunContext) -> Baseline:
    """The session's baseline: from its row, or found now; the environment is open afterwards."""
    known = await context.ledger.effect_find(context.facts.base_key(BASELINE_EFFECT))
    if known is not None:
        baseline = Baseline.from_dict(known)
        await context.site.environment_open(baseline.environment, untouched=False)
        return baseline
    base_key = context.facts.base_key
    preparing = Event("PhaseChanged", {"phase": "preparing"})
    await context.ledger.effect_record(base_key("phase:preparing"), preparing, result={})
    # The worktree of a session that is put onto another commit has an agent's changes in it.
    untouched = not context.facts.rebases
    if untouched:
        environment_spec, check_specs = await context.site.requirements()
    else:
        environment_spec, check_specs = await context.site.requirements_of(context.facts.base_commit)
    environment = await context.site.environment_open(environment_spec, untouched=untouched)
    prepared = {
        "ecosystem": environment_spec.ecosystem,
        "cached": environment.cached,
        "seconds": round(environment.seconds, 2),
    }
    await context.ledger.effect_record(base_key("environment"), Event("EnvironmentPrepared", prepared), result={})
    before = await context.site.checks_run(context.facts.base_commit, check_specs, rerun_failing=True)
    baseline = Baseline(environment_spec, check_specs, before)
    await context.ledger.effect_record(
        base_key(BASELINE_EFFECT),
        Event(
            "ChecksFinished",
            {"stage": "before", "commit": context.facts.base_commit, "checks": checks_brief(before)},
        ),
        result=baseline.as_dict(),
    )
    return baseline


async def prepare(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Make the worktree, install what the project needs, and see what the checks say before anything changes."""
    if runtime.context.facts.sources_waiting:
        await sources_fetch(runtime.context)
    await baseline_open(runtime.context)
    # Now, so that all of its agents are told the same, and only one writes it down.
    await runtime.context.instructions()
    facts = runtime.context.facts
    if facts.rebase:
        return {"way": "rebase"}
    if facts.turn:
        return {"way": "follow_up"}
    return {"way": "plan" if facts.plan_given else "goal"}


def route_after_prepare(state: SessionState) -> str:
    return state["way"]


def checks_brief(reports: tuple[CheckReport, ...]) -> list[dict[str, Any]]:
    """Check reports as events carry them: without each test's name."""
    return [
        {
            "name": report.name,
            "command": report.command,
            "passed": report.passed,
            "passes_again": report.passes_again,
            "exit_code": report.exit_code,
            "tests": len(report.tests),
            "failing": [
                name
                for name, result in report.tests.items()
                if result in ("failed", "error") and name not in report.flaky
            ][:50],
            "flaky": list(report.flaky)[:50],
            "seconds": round(report.seconds, 2),
            "output": json_storable(report.output[-4000:]),
        }
        for report in reports
    ]


def checks_observe(reports: tuple[CheckReport, ...]) -> Observation:
    """Check reports in words for a model."""
    if not reports:
        return Observation("this repository has no checks that the server can find", summary="no checks")
    parts = []
    for report in reports:
        counts = f", {len(report.tests)} tests" if report.tests else ""
        reason = f": {report.reason}" if report.reason else ""
        parts.append(f"{report.name}: {'passed' if report.passed else 'FAILED'}{counts} (`{report.command}`){reason}")
        failing = [
            name for name, result in report.tests.items() if result in ("failed", "error") and name not in report.flaky
        ]
        if failing:
            parts.append("failing: " + ", ".join(failing[:20]))
        if report.flaky:
            parts.append("flaky, failed and passed on this same commit: " + ", ".join(report.flaky[:20]))
        if not report.passed:
            parts.append(report.output[-8000:])
    summary = "; ".join(f"{report.name} {'passed' if report.passed else 'failed'}" for report in reports)
    return Observation(text_cut("\n".join(parts)), ok=all(report.passed for report in reports), summary=summary)

"""``archon doctor``: what is configured, found and missing, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cli import doctor_checks, doctor_services, doctor_vectors
from cli.doctor_finding import Finding, State
from config.bootstrap import environment_read
from integrations.embedded import ServicesUnavailable

_MARKS = {State.OK: ("ok", "green"), State.MISSING: ("missing", "yellow"), State.PROBLEM: ("problem", "bold red")}
_CHECKS: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
    ("Installation", doctor_checks.installation),
    ("State", doctor_checks.state),
    ("Services", doctor_services.services),
    ("Sandbox", doctor_checks.sandbox),
    ("Toolchains", doctor_checks.toolchains),
    ("Models", doctor_checks.models),
    ("Vectors", doctor_vectors.vectors),
    ("Settings", doctor_checks.settings),
)


def doctor(
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Show what is configured, found and missing, and what to do. No secret is printed. Exit code 1: a problem."""
    console = Console(highlight=False, stderr=json_output)
    findings: list[tuple[str, Finding]] = []
    try:
        environment_read()
    except ServicesUnavailable as error:
        findings.append(("State", Finding("home", State.PROBLEM, error.message, error.next_step)))
    for group, check in _CHECKS:
        if not json_output:
            console.print(Text(group, style="bold"))
        for finding in check():
            findings.append((group, finding))
            if not json_output:
                _print(console, finding)
    healthy = all(finding.state is not State.PROBLEM for _, finding in findings)
    if json_output:
        entries = [{"group": group, **asdict(finding)} for group, finding in findings]
        print(json.dumps({"ok": healthy, "findings": entries}, indent=2))
    else:
        console.print("Everything that is needed is there." if healthy else "There are problems; see above.")
    raise typer.Exit(0 if healthy else 1)


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def _print(console: Console, finding: Finding) -> None:
    mark, style = _MARKS[finding.state]
    console.print(Text.assemble("  ", (f"{mark:<8}", style), f"{finding.name:<24} ", finding.detail), soft_wrap=True)
    if finding.next_step and finding.state is not State.OK:
        console.print(Text(f"{' ' * 35}→ {finding.next_step}"), soft_wrap=True)

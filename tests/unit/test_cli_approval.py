"""What a person at a terminal is shown of a call, and what their answer comes to."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from cli.approval_call import Decision, approval_show, arguments_read
from cli.errors import CliError
from cli.follow import approval_ask, plan_approval_ask
from cli.plan_approval import PlanDecision, plan_approval_show
from cli.resources import Approval, Estimate, PlanApproval, PlanApprovalTask, Span

APPROVAL = Approval(
    call="6f1d9f0e-0000-4000-8000-000000000001",
    name="run_command",
    arguments={"command": "rm -rf build\x1b[2K\u202e; ls", "timeout_s": 5},
    risk="delete",
    reasons=["delete: rm -rf build"],
    digest="d" * 64,
)

PLAN = PlanApproval(
    plan="6f1d9f0e-0000-4000-8000-000000000002",
    version=3,
    summary="Sort \x1b[2Kthem",
    tasks=[
        PlanApprovalTask(key="T1", title="Sort", feature="Order", files=[f"f{n}" for n in range(7)], status="done"),
        PlanApprovalTask(key="T2", title="Pin", feature="Order", needs=["T1"], checks=["make test"]),
    ],
    estimate=Estimate(
        tasks=1, steps=Span(low=3, high=12), tokens=Span(low=9000, high=40000), basis="from typical figures"
    ),
)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the person types, line after line; then they press Ctrl-C."""
    lines: list[str] = []

    def typed(*_: object) -> str:
        if not lines:
            raise KeyboardInterrupt
        return lines.pop(0)

    monkeypatch.setattr("builtins.input", typed)
    yield lines
    assert not lines


def console() -> Console:
    return Console(file=io.StringIO(), width=100)


@pytest.mark.parametrize(
    ("typed", "decision"),
    [
        (["y"], Decision("approve")),
        (["", "perhaps", "YES"], Decision("approve")),
        (["a"], Decision("approve", always_minutes=480)),
        (["n", "not that"], Decision("reject", message="not that")),
        (["n", ""], Decision("reject")),
        (["e", "nonsense", "e", '{"command": "ls"}'], Decision("edit", arguments={"command": "ls"})),
        ([], None),
        (["n"], None),
    ],
)
def test_an_answer_is_a_decision_and_leaving_is_none(
    answers: list[str], typed: list[str], decision: Decision | None
) -> None:
    answers += typed
    assert approval_ask(console(), APPROVAL) == decision


def test_all_of_the_call_is_shown_and_nothing_of_it_commands_the_terminal() -> None:
    shown = console()
    approval_show(APPROVAL, console=shown)
    assert isinstance(shown.file, io.StringIO)
    text = shown.file.getvalue()
    assert "rm -rf build" in text and "timeout_s: 5" in text and "delete" in text
    assert "\x1b" not in text and "\u202e" not in text


def test_arguments_are_one_json_object() -> None:
    assert arguments_read('{"a": 1}') == {"a": 1}
    for wrong in ("[]", "ls", "@/nowhere/at/all"):
        with pytest.raises(CliError):
            arguments_read(wrong)


@pytest.mark.parametrize(
    ("typed", "decision"),
    [
        (["", "y"], PlanDecision(approve=True)),
        (["no", "Smaller, please."], PlanDecision(approve=False, comment="Smaller, please.")),
        (["n", ""], PlanDecision(approve=False)),
        (["n"], None),
        ([], None),
    ],
)
def test_an_answer_to_a_plan_is_a_decision(answers: list[str], typed: list[str], decision: PlanDecision | None) -> None:
    answers += typed
    assert plan_approval_ask(console(), PLAN) == decision


def test_a_plan_is_shown_with_what_it_takes() -> None:
    shown = console()
    plan_approval_show(PLAN, console=shown)
    assert isinstance(shown.file, io.StringIO)
    text = shown.file.getvalue()
    assert "version 3" in text and "\x1b" not in text
    assert "T1  Sort (in f0, f1, f2, f3, f4 and 2 more; done)" in text
    assert "T2  Pin (after T1; checked by make test)" in text
    assert "likely 3 to 12 steps, 9,000 to 40,000 tokens, at an unknown price (from typical figures)" in text

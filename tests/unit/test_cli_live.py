"""The live view shows what the events say, fits its terminal, and never lets a model command it."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from cli.live import LineView, StatePanel, event_line, view_is_live
from cli.resources import Event
from cli.state import SessionState
from cli.text import duration_format, money_format, text_clean, text_line

START = datetime(2026, 1, 1, tzinfo=UTC)
CHECK = {"name": "unittest", "command": "python -m unittest", "exit_code": 1, "tests": 25, "output": ""}


def events_of(*described: tuple[str, dict[str, Any]]) -> list[Event]:
    return [
        Event(seq=seq, type=kind, payload=payload, created_at=START + timedelta(seconds=seq))
        for seq, (kind, payload) in enumerate(described, start=1)
    ]


def usage(tokens: int, cost: float) -> dict[str, Any]:
    return {"input_tokens": tokens, "output_tokens": 1, "cost_usd": cost}


MERGES = events_of(
    ("TaskMerged", {"task": "t1", "commit": "c1", "fast_forward": True}),
    ("TaskMerged", {"task": "t2", "commit": "c2", "fast_forward": False}),
    ("MergeConflicted", {"task": "t3", "files": ["a.py", "\x1b[2Jb.py"], "round": 1, "reasons": []}),
    ("MergeConflicted", {"task": "t3", "files": [], "round": 2, "reasons": ["a check fails"]}),
)
STORY = events_of(
    ("SessionCreated", {"goal": "Mend it"}),
    ("SessionStarted", {"worker": "w", "attempt": 1}),
    ("PhaseChanged", {"phase": "preparing"}),
    ("ChecksFinished", {"stage": "before", "commit": "c0", "checks": [{**CHECK, "passed": False}]}),
    ("PhaseChanged", {"phase": "planning"}),
    (
        "CodeLocated",
        {
            "commit": "c0",
            "hits": [
                {"path": "money.py", "score": 9.0, "functions": [{"start_line": 3, "end_line": 9}]},
                {"path": "tax.py", "score": 1.0, "functions": []},
            ],
            "notes": [],
        },
    ),
    ("ModelReplied", {"role": "planner", "text": "I read the tests.", "usage": usage(1000, 0.01)}),
    ("PlanCreated", {"summary": "Mend allocate", "features": ["Cents"], "tasks": ["Sort them", "Pin it"]}),
    ("PhaseChanged", {"phase": "coding"}),
    ("TaskStarted", {"task": "t1", "title": "Sort them", "attempt": 1}),
    ("TaskCommitted", {"task": "t1", "commit": "c1", "files": ["money.py"]}),
    ("TaskStarted", {"task": "t2", "title": "Pin it", "attempt": 1}),
    ("ModelReplied", {"role": "coder", "text": "Now a test.", "usage": usage(2000, 0.02)}),
    ("ToolStarted", {"call": "x", "name": "edit_file", "arguments": {"path": "tests/test_money.py", "old_text": "a"}}),
)
END = events_of(
    *((event.type, event.payload) for event in STORY),
    ("ToolFinished", {"call": "x", "name": "edit_file", "ok": True, "summary": "changed", "seconds": 0.1}),
    ("ChecksFinished", {"stage": "after", "commit": "c2", "checks": [{**CHECK, "passed": True, "tests": 26}]}),
    ("TaskCommitted", {"task": "t2", "commit": "c2", "files": ["tests/test_money.py"]}),
    ("SessionReported", {"summary": "All done", "outcome": "verified", "files_changed": ["money.py"]}),
    ("SessionCompleted", {"outcome": "verified"}),
)


def state_of(events: list[Event]) -> SessionState:
    state = SessionState(
        session_id="6f1d9f0e-1", goal="Mend it", model="openai:gpt-5", limit_cost_usd=5.0, limit_steps=200
    )
    for event in events:
        state.event_apply(event)
    return state


def shown(state: SessionState, *, width: int = 100, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(StatePanel(state, elapsed_s=72))
    return capture.get()


def test_shows_plan_tool_figures_and_checks() -> None:
    text = shown(state_of(STORY))
    assert "✓ Sort them" in text
    assert "▸ Pin it" in text
    assert "edit_file tests/test_money.py" in text
    assert "likely: money.py:3-9, tax.py" in text
    assert "Now a test." in text
    assert "1:12 | step 2 of 200 | 3,002 tokens | $0.03 of $5.00 | openai:gpt-5" in text
    assert "✗ failed (25 tests)" in text
    assert "coding" in text


def test_shows_the_end() -> None:
    text = shown(state_of(END))
    assert "completed, verified" in text
    assert "✓ passed (26 tests)" in text
    assert "edit_file" not in text


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_fits_the_terminal(width: int) -> None:
    state = state_of(STORY)
    state.delta_apply("a very long line of text " * 40, speaker=("e", 4))
    assert max(len(line) for line in shown(state, width=width).splitlines()) <= width


def test_speaks_ascii_where_nothing_else_is_understood() -> None:
    shown(state_of(STORY), encoding="ascii").replace("…", "").encode("ascii")


def test_any_beginning_of_the_story_can_be_shown() -> None:
    for length in range(len(END) + 1):
        assert "Mend it" in shown(state_of(END[:length]))


def test_events_that_make_no_sense_change_nothing() -> None:
    for kind in {event.type for event in END}:
        shown(state_of(events_of((kind, {}))))
    assert state_of(events_of(("SomethingNew", {"a": 1}))).events == 1


def test_text_cannot_command_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2Jhello\r\u202eworld\x9b1m[bold]"
    assert text_clean(evil) == "]0;owned[2Jhelloworld1m[bold]"
    state = state_of(
        events_of(
            ("ModelReplied", {"text": evil}),
            ("PlanCreated", {"summary": evil, "tasks": [evil]}),
            ("SessionStarted", {}),
            ("ToolStarted", {"name": "run_command", "arguments": {"command": evil}}),
            ("QuestionAsked", {"question": "q", "text": evil}),
        )
    )
    state.delta_apply(evil, speaker=("e", 4))
    assert not {"\x1b", "\x9b", "\r", "\x07", "\u202e"} & set(shown(state))


def test_deltas_are_replaced_by_the_reply() -> None:
    state = state_of(STORY[:2])
    state.delta_apply("I re", speaker=("e", 2))
    state.delta_apply("ad", speaker=("e", 2))
    assert state.text == "I read"
    (replied,) = events_of(("ModelReplied", {"execution": "e", "step": 2, "text": "I read the tests."}))
    state.event_apply(replied)
    assert state.text == "I read the tests."
    # The last piece comes late.
    state.delta_apply(" tests.", speaker=("e", 2))
    assert state.text == "I read the tests."
    state.delta_apply("Next", speaker=("e", 4))
    assert state.text == "Next"


def test_the_text_of_two_steps_does_not_run_together() -> None:
    """The second step's may come before the event that ends the first, and one agent's before another's."""
    state = state_of(STORY[:2])
    state.delta_apply("That is all.", speaker=("e", 2))
    state.delta_apply("Now", speaker=("e", 4))
    assert state.text == "Now"
    state.delta_apply("Hello", speaker=("other", 4))
    assert state.text == "Hello"


def test_a_task_is_taken_up_again() -> None:
    again = ("TaskStarted", {"task": "t2", "title": "Pin it", "attempt": 2})
    text = shown(state_of(events_of(*((event.type, event.payload) for event in STORY), again)))
    assert "Pin it (attempt 2)" in text


def test_without_a_terminal_each_event_is_a_line() -> None:
    file = io.StringIO()
    console = Console(file=file, width=40)
    assert not view_is_live(console)
    view = LineView(state_of([]), console=console)
    for event in END:
        view.event_show(event)
    lines = file.getvalue().splitlines()
    assert len(lines) == sum(1 for event in END if event_line(event))
    assert "   0:01  started" in lines
    assert "   0:03  checks before: unittest failed" in lines
    assert any("tool: edit_file tests/test_money.py" in line for line in lines)


def test_a_question_waits_until_it_is_answered() -> None:
    asked = ("QuestionAsked", {"question": "q1", "text": "Which?", "choices": ["a", "b"]})
    state = state_of(events_of(asked))
    assert state.question is not None and state.question.choices == ["a", "b"]
    assert state_of(events_of(asked, ("QuestionAnswered", {"question": "q1", "answer": "a"}))).question is None


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (3661, "1:01:01"), (-3, "0:00")])
def test_durations(seconds: float, text: str) -> None:
    assert duration_format(seconds) == text


@pytest.mark.parametrize(("dollars", "text"), [(0, "$0.00"), (0.00421, "$0.0042"), (1.3, "$1.30")])
def test_money(dollars: float, text: str) -> None:
    assert money_format(dollars) == text


def test_lines_are_cut_to_their_width() -> None:
    assert text_line("a\nb   c", width=5) == "a b c"
    assert text_line("abcdef", width=4) == "abc…"


def test_a_pause_tells_its_reason() -> None:
    reason = {"code": "budget_exceeded", "message": "the limit of 30 model calls is reached", "next_step": "Raise it."}
    paused = Event(seq=9, type="SessionPaused", payload={"reason": reason}, created_at=datetime.now(UTC))
    assert event_line(paused) == "paused: the limit of 30 model calls is reached"
    assert event_line(paused.model_copy(update={"payload": {"reason": None}})) == "paused"


def test_a_plan_that_waits_is_told_with_what_to_type() -> None:
    created = {"summary": "Sort", "features": ["Order"], "tasks": ["Sort them"]}
    waits = events_of(("PlanCreated", created), ("PlanApprovalRequested", {"plan": "p", "version": 1, "note": ""}))
    state = state_of(waits)
    assert (state.status, state.doing) == ("waiting_approval", "waiting for your approval")
    assert "archon approve 6f1d9f0e" in shown(state)
    added = {"kind": "added", "what": "task", "key": "T2", "title": "Pin", "after": {"in": "F1"}}
    revised = {"version": 2, "reason": "all", "source": "planner", "changes": [added], "by": None}
    story = [
        *((event.type, event.payload) for event in waits),
        ("PlanRejected", {"version": 1, "comment": "all of them", "by": "u"}),
        ("PlanRevised", revised),
        ("PlanApprovalRequested", {"plan": "p", "version": 2, "note": ""}),
        ("PlanApproved", {"plan": "p", "version": 2, "by": "u"}),
    ]
    state = state_of(events_of(*story))
    assert (state.status, [task.title for task in state.tasks]) == ("running", ["Sort them", "Pin"])
    assert "archon approve" not in shown(state)
    assert [event_line(event) for event in events_of(*story)][1:] == [
        "may it carry out the plan, version 1",
        "plan sent back: all of them",
        "plan, version 2: all",
        "may it carry out the plan, version 2",
        "plan approved: version 2",
    ]
    answered = events_of(("GoalAnswered", {"text": "t", "citations": [{"path": "a.py"}, {"path": "a.py"}]}))
    assert event_line(answered[0]) == "answered, from a.py"


def test_the_plan_follows_what_people_change_of_it() -> None:
    state = SessionState(session_id="s", goal="g")

    def change(
        kind: str, key: str, title: str, field: str = "", before: Any = None, after: Any = None
    ) -> dict[str, Any]:
        told = {"kind": kind, "what": "task", "key": key, "title": title, "field": field}
        return {**told, "before": before, "after": after}

    changes = [
        change("added", "T4", "Late"),
        change("changed", "T2", "Second, better", "title", "Second", "Second, better"),
        change("changed", "T3", "Third", "skipped", False, True),
        {"kind": "changed", "what": "plan", "key": "", "title": "", "field": "summary", "before": "a", "after": "b"},
    ]
    held = [change("changed", "T4", "Late", "blocked_reason", "", "not yet")]
    for event in events_of(
        ("PlanCreated", {"summary": "a", "features": ["F"], "tasks": ["First", "Second", "Third"]}),
        ("TaskStarted", {"task": "id-1", "title": "First", "attempt": 1}),
        ("PlanRevised", {"plan": "p", "version": 2, "reason": "r", "source": "person", "changes": changes, "by": "u"}),
        ("TaskStarted", {"task": "id-2", "title": "Second, better", "attempt": 1, "key": "T2"}),
        ("ToolStarted", {"call": "x", "name": "read_file", "arguments": {"path": "a"}}),
        ("ToolStarted", {"call": "y", "name": "edit_file", "arguments": {"path": "b"}}),
        ("ToolFinished", {"call": "x", "name": "read_file", "ok": True, "summary": "", "seconds": 0.1}),
        ("TaskCommitted", {"task": "id-1", "commit": "c1", "files": []}),
        ("PlanRevised", {"plan": "p", "version": 3, "reason": "r", "source": "person", "changes": held, "by": "u"}),
    ):
        state.event_apply(event)
    assert (state.plan.summary, state.plan.version) == ("b", 3)
    assert [(task.title, task.status) for task in state.tasks] == [
        ("First", "done"),
        ("Second, better", "running"),
        ("Third", "skipped"),
        ("Late", "blocked"),
    ]
    assert [tool.name for tool in state.tools.values()] == ["edit_file"]
    text = shown(state, width=80)
    assert "Late (blocked)" in text and "Third (skipped)" in text and "edit_file b" in text and "read_file" not in text
    gone = [change("removed", "T4", "Late"), change("changed", "T3", "Third", "skipped", True, False)]
    for event in events_of(("PlanRevised", {"plan": "p", "version": 4, "changes": gone, "reason": "enough"})):
        assert event_line(event) == "plan, version 4: enough"
        state.event_apply(event)
    assert [task.status for task in state.tasks] == ["done", "running", "pending"]


def test_what_two_models_write_at_once_stays_apart() -> None:
    state = SessionState(session_id="s", goal="g")
    for text, speaker in (("He", ("a", 2)), ("Good", ("b", 2)), ("llo", ("a", 2)), ("bye", ("b", 2))):
        state.delta_apply(text, speaker=speaker)
    assert state.text == "Goodbye"
    state.delta_apply(".", speaker=("a", 2))
    assert state.text == "Hello."


def test_merges_of_tasks_side_by_side() -> None:
    lines = [event_line(event) for event in MERGES]
    assert lines[:2] == ["", "merged with what other tasks have done"]
    assert lines[2].startswith("not merged yet: others changed the same in a.py, ") and "\x1b" not in lines[2]
    assert lines[3] == "not merged yet: the checks fail on both"


def test_lines_of_tasks_side_by_side_say_whose_they_are() -> None:
    file = io.StringIO()
    state = SessionState(session_id="s", goal="g")
    view = LineView(state, console=Console(file=file, width=200))
    for event in events_of(
        ("SessionStarted", {"worker": "w", "attempt": 1}),
        ("PlanCreated", {"summary": "Both.", "features": ["F"], "tasks": ["First", "Second"]}),
        ("PhaseChanged", {"phase": "coding", "task": "id-1"}),
        ("TaskStarted", {"task": "id-1", "title": "First", "attempt": 1}),
        ("PhaseChanged", {"phase": "coding", "task": "id-2"}),
        ("TaskStarted", {"task": "id-2", "title": "Second", "attempt": 1}),
        ("ModelReplied", {"execution": "x", "role": "coder", "step": 2, "text": "Look.", "task": "id-2"}),
        ("ToolStarted", {"call": "c", "name": "edit_file", "arguments": {"path": "b"}, "task": "id-2"}),
        ("TaskVerified", {"task": "id-1", "attempt": 1, "passed": True, "checks": [], "reasons": []}),
        ("ReviewStarted", {"task": "id-9", "round": 1}),
        ("SessionReported", {"summary": "Done."}),
    ):
        state.event_apply(event)
        view.event_show(event)
    said = [line[9:] for line in file.getvalue().splitlines()]
    assert said == [
        "started",
        "plan: Both. (2 tasks: First; Second)",
        "phase: coding",
        "task: First",
        "phase: coding",
        "task: Second",
        "[Second] coder: Look.",
        "[Second] tool: edit_file b",
        "[First] task verified",
        "review 1",
        "report: Done.",
    ]
    text = shown(state, width=80)
    assert "edit_file b [Second]" in text and "2 tasks side by side" in text

"""What counts as going round in circles, and what doesn't."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from apps.agents.services.loop_guard import Loop, loop_find, warned_since
from apps.agents.services.server_words import server_says

Step = tuple[str, dict[str, Any], str, bool]
LIMIT = 5


def conversation(*steps: Step | BaseMessage) -> list[BaseMessage]:
    said: list[BaseMessage] = [SystemMessage("rules"), HumanMessage("the goal")]
    for number, step in enumerate(steps):
        if isinstance(step, BaseMessage):
            said.append(step)
            continue
        name, arguments, result, ok = step
        said.append(
            AIMessage("", tool_calls=[{"type": "tool_call", "id": f"c{number}", "name": name, "args": arguments}])
        )
        said.append(ToolMessage(result, tool_call_id=f"c{number}", name=name, status="success" if ok else "error"))
    return said


def reads(path: str, result: str = "text", ok: bool = True) -> Step:
    return ("read_file", {"path": path}, result, ok)


def find(*steps: Step | BaseMessage) -> Loop | None:
    return loop_find(conversation(*steps), limit=LIMIT)


@pytest.mark.parametrize(("count", "kind"), [(2, None), (3, "same_call"), (5, "same_call")])
def test_the_same_call_with_the_same_result(count: int, kind: str | None) -> None:
    loop = find(reads("b"), *[reads("a")] * count)
    assert (loop.kind if loop else None) == kind
    assert (loop.is_over if loop else False) is (count >= LIMIT)
    if loop:
        assert (loop.repeats, loop.position) == (count, 4)


def test_ping_pong() -> None:
    loop = find(*[reads("a"), reads("b")] * 5)
    assert loop is not None and (loop.kind, loop.repeats, loop.is_over) == ("ping_pong", 5, True)
    assert find(*[reads("a"), reads("b")] * 2) is None


def test_another_result_is_no_loop() -> None:
    assert find(*[reads("a", f"version {number}") for number in range(20)]) is None


def test_seconds_and_ids_make_no_difference() -> None:
    def step(number: int) -> Step:
        return ("run_command", {"command": "make"}, f"no\n[exit code 2, {number}.5 s; id c{number}]", True)

    loop = find(*[step(number) for number in range(5)])
    assert loop is not None and loop.is_over


def test_waiting_for_a_command_is_no_loop() -> None:
    def waits(number: int) -> Step:
        return ("command_output", {"id": "c3", "wait_s": 10}, f"[id c3, running for {number}.0 s; bytes 0 to 0]", True)

    assert find(*[waits(number) for number in range(50)]) is None
    ended = ("command_output", {"id": "c3", "wait_s": 10}, "[id c3, exit code 0, 1.0 s; bytes 0 to 0]", True)
    loop = find(*[waits(number) for number in range(50)], *[ended] * 5)
    assert loop is not None and loop.is_over
    # Waiting in between doesn't hide what is done again and again.
    hidden = find(*[step for number in range(5) for step in (reads("a"), waits(number))])
    assert hidden is not None and hidden.is_over


def test_checks_after_each_edit_are_no_loop() -> None:
    steps: list[Step] = []
    for number in range(12):
        steps.append(("edit_file", {"path": "a", "old_text": f"{number}", "new_text": f"{number + 1}"}, "edited", True))
        steps.append(("run_checks", {}, "pytest: FAILED", False))
    assert find(*steps) is None


def test_the_same_edit_and_check_over_and_over_is_one() -> None:
    there = ("edit_file", {"path": "a", "old_text": "1", "new_text": "2"}, "edited", True)
    back = ("edit_file", {"path": "a", "old_text": "2", "new_text": "1"}, "edited", True)
    checks: Step = ("run_checks", {}, "pytest: FAILED in 0.21s", False)
    loop = find(*[there, checks, back, checks] * 5)
    assert loop is not None and (loop.kind, loop.is_over) == ("ping_pong", True)


def test_the_same_error_whatever_is_tried() -> None:
    steps = [("edit_file", {"path": "a", "old_text": str(n)}, "old_text isn't in a", False) for n in range(10)]
    assert find(*steps[:7]) is None
    warned = find(*steps[:8])
    assert warned is not None and (warned.kind, warned.is_over) == ("same_error", False)
    loop = find(*steps)
    assert loop is not None and (loop.kind, loop.is_over) == ("same_error", True)


def test_errors_of_all_kinds() -> None:
    steps = [reads(f"f{n}", f"no such file f{n}", ok=False) for n in range(20)]
    loop = find(*steps)
    assert loop is not None and (loop.kind, loop.repeats, loop.is_over) == ("errors", 20, True)
    assert find(*steps[:10], reads("there"), *steps[10:]) is None


@pytest.mark.parametrize("word", [HumanMessage("try c"), server_says("loop_pause", "you were stopped")])
def test_a_person_s_word_begins_the_count_anew(word: BaseMessage) -> None:
    assert find(*[reads("a")] * 4, word, *[reads("a")] * 2) is None
    loop = find(*[reads("a")] * 4, word, *[reads("a")] * 3)
    assert loop is not None and loop.repeats == 3


def test_the_server_s_own_words_do_not() -> None:
    warning = server_says("loop_warning", "you repeat yourself")
    steps = conversation(*[reads("a")] * 3, warning, *[reads("a")] * 2)
    loop = loop_find(steps, limit=LIMIT)
    assert loop is not None and loop.is_over and warned_since(steps, loop)
    plain = [AIMessage("hm"), server_says("nudge", "go on")]
    again: list[Step | BaseMessage] = [reads("a"), *plain]
    mixed = find(*again * 5)
    assert mixed is not None and mixed.is_over


def test_one_warning_is_enough_for_one_loop() -> None:
    first: Sequence[Step | BaseMessage] = [*[reads("a")] * 3, server_says("loop_warning", "you repeat yourself")]
    other = conversation(*first, reads("b"), *[reads("c")] * 3)
    loop = loop_find(other, limit=LIMIT)
    assert loop is not None and not warned_since(other, loop)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=60))
def test_no_step_is_said_to_repeat_that_does_not(paths: list[str]) -> None:
    loop = find(*[reads(path) for path in paths])
    if loop is not None:
        assert loop.kind in ("same_call", "ping_pong") and loop.repeats >= 3
        begun = (loop.position - 2) // 2
        repeated = paths[begun:]
        assert len(repeated) % loop.repeats == 0
        once = repeated[: len(repeated) // loop.repeats]
        assert repeated == once * loop.repeats


def test_calls_that_cannot_be_read_repeat_as_well() -> None:
    broken = {"type": "invalid_tool_call", "id": "x", "name": "edit_file", "args": "{", "error": "cut off"}
    said: list[BaseMessage] = [SystemMessage("rules"), HumanMessage("the goal")]
    for _ in range(5):
        said.append(AIMessage("", invalid_tool_calls=[broken]))
        said.append(ToolMessage("cut off", tool_call_id="x", name="edit_file", status="error"))
    loop = loop_find(said, limit=LIMIT)
    assert loop is not None and loop.is_over

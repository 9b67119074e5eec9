"""Reading what a model answered: every form of one plan is that plan, and no answer breaks the reading."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.agents.tools.plan_answers import answer_open
from apps.agents.tools.plan_judging import TOLD, plan_judge, plan_read, problems_text
from apps.planning.document import PlanDoc
from apps.planning.problems import Problem
from apps.planning.types import TaskState, TaskStatus
from tests.unit.plan_documents import TEXTS

TASK = {"title": "Mend { it } ```", "instructions": 'Say "no":\n```json\n{"a": 1}\n```'}
ANSWER: dict[str, Any] = {"summary": "s", "features": [{"title": "F", "tasks": [TASK, {"title": "u"}]}]}
WORDS = st.sampled_from(
    ["", "Here it is: ", "I looked at {cart} and [x].\n\n", 'It said "no" {.\n', "`{}` is empty.\n"]
)


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS, st.sampled_from(["", "```", "```json", "~~~"]), st.sampled_from([None, 2]))
def test_an_answer_is_the_same_whatever_is_around_it(front: str, back: str, fence: str, indent: int | None) -> None:
    plain = json.dumps(ANSWER, indent=indent)
    text = f"{front}\n{fence}\n{plain}\n{fence[:3]}\n{back}" if fence else f"{front}{plain}{back}"
    opened = answer_open(text)
    assert opened.arguments == ANSWER
    assert opened.mended == (("fences",) if fence else ()) + (("prose",) if (front + back).strip() else ())
    assert plan_read(text) == plan_read(ANSWER)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_answer_that_is_cut_is_no_plan(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(["", "The plan:\n", "```json\n"])) + json.dumps(ANSWER)
    start = text.index("{")
    cut = text[: data.draw(st.integers(start + 1, len(text) - 1))]
    assert [problem.code for problem in answer_open(cut).problems] == ["truncated_json"]


@settings(max_examples=200, deadline=None)
@given(TEXTS | st.lists(st.sampled_from(list('{}[]":,\\ \n') + ["null", "1", '"a"']), max_size=30).map("".join))
def test_no_text_breaks_the_reading(text: str) -> None:
    read = plan_read(text)
    assert read if isinstance(read, list) else isinstance(read, PlanDoc)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_object_breaks_the_reading(data: st.DataObject) -> None:
    """The answer with any of its members replaced by something else."""
    values: st.SearchStrategy[Any] = (
        st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([]) | st.just({}) | st.just([{}])
    )
    answer = json.loads(json.dumps(ANSWER | {"intent": "bug"}))
    places = [answer, answer["features"][0], answer["features"][0]["tasks"][0]]
    place = data.draw(st.sampled_from(places))
    members = ["key", "depends_on", "files", "checks", "parent", "type", "agent_type", "priority", "x", *place]
    place[data.draw(st.sampled_from(members))] = data.draw(values)
    read = plan_read(answer)
    problems = plan_judge(read, None) if isinstance(read, PlanDoc) else read
    assert isinstance(read, PlanDoc) or problems
    assert all(problem.where and problem.code and problem.message for problem in problems)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, '{"a": ' + "9" * 10_000 + "}"])
def test_what_would_break_a_reader_of_json_is_told(text: str) -> None:
    problems = plan_read(text)
    assert isinstance(problems, list) and problems[0].code in ("not_json", "truncated_json")


def test_places_are_told_of_what_no_plan_takes() -> None:
    answer = {
        "summary": "s",
        "features": [
            {"title": "F", "key": "no key", "tasks": [{"title": "a"}, {"title": "b", "instructions": "x" * 50_001}]},
            {"title": "G", "tasks": [{"title": "c", "depends_on": ["the first"]}]},
        ],
    }
    problems = plan_read(answer)
    assert isinstance(problems, list)
    assert [(problem.where, problem.code) for problem in problems] == [
        ("features.0.key", "bad_key"),
        ("features.0.tasks.1.instructions", "too_large"),
        ("features.1.tasks.0.depends_on.0", "bad_key"),
    ]


def test_a_model_is_told_where_and_what_to_do() -> None:
    problems = [Problem(f"tasks.T{n}", "cycle", f"T{n} is wrong", "mend it") for n in range(TOLD + 3)]
    text = problems_text(problems)
    assert "- tasks.T0: T0 is wrong; mend it\n" in text and f"T{TOLD} " not in text and "- and 3 more" in text
    assert "hand over the whole plan" in text


def test_the_same_work_is_asked_for_once_unless_it_was_begun() -> None:
    read = plan_read({"summary": "s", "features": [{"title": "F", "tasks": [{"title": "a"}, {"title": "A "}]}]})
    assert isinstance(read, PlanDoc)
    assert [problem.code for problem in plan_judge(read, None)] == ["duplicate_task"]
    states = {"T1": TaskState(TaskStatus.FAILED, attempts=3)}
    assert plan_judge(read, None, before=read, states=states) == []

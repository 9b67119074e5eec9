"""A revision that leads back to where the plan was is known for it, whatever its tasks are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.oscillation import Version, left_key, version_like, versions_standing
from apps.planning.types import TaskAgent, TaskState, TaskStatus, VersionSource

DONE, FAILED, RUNNING = TaskState(TaskStatus.DONE, 1), TaskState(TaskStatus.FAILED, 3), TaskState(TaskStatus.RUNNING, 1)


def task(key: str, title: str = "", *needs: str, **more: object) -> TaskDoc:
    return TaskDoc.model_validate({"key": key, "title": title or key, "depends_on": needs, **more})


def plan(*tasks: TaskDoc, key: str = "F1") -> PlanDoc:
    return PlanDoc(summary="s", features=(FeatureDoc(key=key, title="f", tasks=tasks),))


def history(*documents: PlanDoc) -> list[Version]:
    source = VersionSource.REPLAN
    return [Version(number, source, document) for number, document in enumerate(documents, 1)]


@st.composite
def plans(draw: st.DrawFn) -> PlanDoc:
    """A plan whose tasks need some of those before them; few titles, so that some are alike."""
    tasks: list[TaskDoc] = []
    for number in range(draw(st.integers(1, 6))):
        needs = draw(st.lists(st.sampled_from([each.key for each in tasks]), unique=True, max_size=3)) if tasks else []
        checks = [CheckDoc(command=each) for each in draw(st.lists(st.sampled_from(["a", "b"]), max_size=2))]
        tasks.append(
            task(f"T{number}", draw(st.sampled_from("xy")), *needs, checks=checks, skipped=draw(st.booleans()))
        )
    return plan(*tasks)


@given(plans())
def test_keys_tell_nothing(document: PlanDoc) -> None:
    names = {key: f"N{number}" for number, key in enumerate(document.tasks)}
    renamed = document.tasks_map(
        lambda each: each.model_copy(
            update={"key": names[each.key], "depends_on": tuple(names[key] for key in each.depends_on)}
        )
    )
    past = [key for number, key in enumerate(document.tasks) if number % 3 == 0]
    assert left_key(renamed, {names[key] for key in past}) == left_key(document, past)


@given(plans(), st.data())
def test_what_is_told_of_a_task_tells(document: PlanDoc, data: st.DataObject) -> None:
    left = [each for each in document.tasks.values() if not each.skipped]
    if not left:
        assert left_key(document, ()) == ""
        return
    chosen = data.draw(st.sampled_from(left)).key
    change: dict[str, Any] = data.draw(
        st.sampled_from(
            [
                {"title": "another"},
                {"instructions": "otherwise"},
                {"agent_type": TaskAgent.RESEARCHER},
                {"files": ("a.py",)},
                {"creates": ("b.py",)},
                {"checks": (CheckDoc(command="c"),)},
                {"skipped": True},
            ]
        )
    )
    changed = document.tasks_map(lambda each: each.model_copy(update=change) if each.key == chosen else each)
    assert left_key(changed, ()) != left_key(document, ())


@given(plans(), st.data())
def test_the_same_task_in_the_place_of_one_that_failed_is_the_same_plan(document: PlanDoc, data: st.DataObject) -> None:
    """However far the plan has come: what failed is done once more, under another key, and the rest is as it was."""
    states: dict[str, TaskState] = {}
    for key in document.tasks:
        ready = all(states.get(need) == DONE or document.tasks[need].skipped for need in document.needs[key])
        if ready and not document.tasks[key].skipped and data.draw(st.booleans()):
            states[key] = data.draw(st.sampled_from([DONE, DONE, FAILED]))
    failed = {key: f"{key}b" for key, state in states.items() if state == FAILED}
    if not failed:
        return
    tasks: list[TaskDoc] = []
    for each in document.tasks.values():
        needs = tuple(failed.get(key, key) for key in each.depends_on)
        if each.key in failed:
            tasks += [
                each.model_copy(update={"skipped": True}),
                each.model_copy(update={"key": failed[each.key], "depends_on": needs}),
            ]
        else:
            tasks.append(each if each.key in states else each.model_copy(update={"depends_on": needs}))
    assert version_like(plan(*tasks), states, history(document)) == 1


def _round(*plans_then: tuple[PlanDoc, Mapping[str, TaskState]]) -> int | None:
    """What the last of these comes back to, where each was made after the one before it."""
    documents = [document for document, _ in plans_then]
    document, states = plans_then[-1]
    return version_like(document, states, history(*documents[:-1]))


def test_there_and_back_again_over_several_revisions() -> None:
    first = plan(task("T1"), task("T2", "by hand"), task("T3", "use it", "T2"))
    second = plan(
        task("T1"), task("T2", "by hand", skipped=True), task("T4", "by a library"), task("T3", "use it", "T4")
    )
    states = {"T1": DONE, "T2": FAILED}
    assert _round((first, {}), (second, states)) is None
    third = plan(
        task("T1"),
        task("T2", "by hand", skipped=True),
        task("T4", "by a library", skipped=True),
        task("T5", "By  hand"),
        task("T6", "use it", "T5"),
    )
    assert _round((first, {}), (second, states), (third, {**states, "T4": FAILED})) == 1
    fourth = plan(
        *third.tasks.values(),
        task("T7", "by a library"),
        task("T8", "use it", "T7"),
    ).tasks_map(lambda each: each.model_copy(update={"skipped": True}) if each.key in ("T5", "T6") else each)
    states = {**states, "T4": FAILED, "T5": FAILED}
    assert _round((first, {}), (second, {}), (third, {}), (fourth, states)) == 2


def test_going_on_is_no_going_back() -> None:
    first = plan(task("T1"), task("T2"), task("T3", "", "T2"))
    # Done without what failed, what is left was never all that was left.
    without = plan(task("T1"), task("T2", skipped=True), task("T3"))
    assert version_like(without, {"T1": DONE, "T2": FAILED}, history(first)) is None
    nothing = plan(task("T1"), task("T2", skipped=True), task("T3", skipped=True))
    assert version_like(nothing, {"T1": DONE}, history(nothing)) is None
    # What was left out comes back as it was.
    left_out = plan(task("T1"), task("T2"), task("T3", "", "T2", skipped=True))
    assert version_like(first, {"T1": DONE}, history(first, left_out)) == 1
    # Dependencies count by what they do, features' own included.
    apart = plan(task("T1"), task("T2"), task("T3"))
    assert version_like(apart, {"T1": DONE}, history(first)) is None
    nested = PlanDoc(
        summary="s",
        features=(
            FeatureDoc(key="A", title="a", tasks=(task("T1"), task("T2"))),
            FeatureDoc(key="B", title="b", depends_on=("A",), tasks=(task("T3"),)),
        ),
    )
    assert version_like(nested, {"T1": DONE}, history(first)) == 1
    assert version_like(nested, {"T1": RUNNING}, history(first)) == 1


@pytest.mark.parametrize(
    ("made", "standing"),
    [
        ("AB", [1, 2]),
        ("ABa", [1]),
        ("ABaB", [1, 4]),
        ("ABCb", [1, 2]),
        ("ABCbCa", [1]),
        ("ABAa", [1, 2, 3]),
        ("Ax", [1, 2]),
    ],
)
def test_what_a_rewind_took_back_was_never_there(made: str, standing: Sequence[int]) -> None:
    """Each letter is a version; a small one is a rewind to the large one."""
    versions = [
        Version(
            number,
            VersionSource.REWIND if letter.islower() else VersionSource.REPLAN,
            plan(task("T1", letter.upper())),
        )
        for number, letter in enumerate(made, 1)
    ]
    assert [version.number for version in versions_standing(versions)] == list(standing)

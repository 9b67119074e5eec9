"""Operations on plans: whatever is done, keys stay unique and nothing depends on what there isn't."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.core.errors import InvalidInput
from apps.planning.checking import plan_problems
from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.editing import operations_apply, operations_read
from apps.planning.protection import revision_problems
from apps.planning.types import TaskStatus
from tests.unit.plan_documents import plans, states_of

PLAN = PlanDoc(
    summary="s",
    features=(
        FeatureDoc(
            key="F1",
            title="Parse",
            tasks=(
                TaskDoc(key="T1", title="Lexer", files=("lex.py",)),
                TaskDoc(
                    key="T2",
                    title="Grammar",
                    depends_on=("T1",),
                    files=("a.py", "b.py"),
                    creates=("c.py",),
                    checks=(CheckDoc(command="pytest"),),
                ),
            ),
            features=(
                FeatureDoc(key="F3", title="Errors", tasks=(TaskDoc(key="T4", title="Words", depends_on=("T2",)),)),
            ),
        ),
        FeatureDoc(key="F2", title="Print", depends_on=("F1",), tasks=(TaskDoc(key="T3", title="Printer"),)),
    ),
)


def edited(*operations: dict[str, Any], plan: PlanDoc = PLAN) -> PlanDoc:
    return operations_apply(plan, operations_read(operations))


def refused(*operations: dict[str, Any]) -> str:
    with pytest.raises(InvalidInput) as error:
        edited(*operations)
    return error.value.message


def outline(plan: PlanDoc) -> list[str]:
    """Features, then tasks, as paths of keys."""
    features = ["/".join([*(f.key for f in each.within), each.feature.key]) for each in plan.placed_features]
    return features + ["/".join([*(f.key for f in each.within), each.task.key]) for each in plan.placed_tasks]


def test_words_are_changed() -> None:
    plan = edited(
        {"op": "update_plan", "summary": "Another"},
        {"op": "update_feature", "key": "F3", "priority": "high", "description": "All of them."},
        {
            "op": "update_task",
            "key": "T3",
            "instructions": "Print it.",
            "checks": [{"command": "true"}],
            "depends_on": ["T4", "T4"],
        },
        {"op": "skip_task", "key": "T1"},
        {"op": "hold", "key": "T4", "reason": "not yet"},
        {"op": "hold", "key": "F2", "reason": "nor this"},
    )
    assert plan.summary == "Another" and plan.features_by_key["F3"].description == "All of them."
    task = plan.tasks["T3"]
    assert (task.title, task.instructions, task.checks[0].command, task.depends_on) == (
        "Printer",
        "Print it.",
        "true",
        ("T4",),
    )
    assert plan.tasks["T1"].skipped and plan.tasks["T4"].blocked_reason == "not yet"
    assert plan.features_by_key["F2"].blocked_reason == "nor this"
    back = edited(
        {"op": "unskip_task", "key": "T1"}, {"op": "release", "key": "T4"}, {"op": "release", "key": "F2"}, plan=plan
    )
    assert not back.tasks["T1"].skipped and not back.tasks["T4"].blocked_reason
    assert not back.features_by_key["F2"].blocked_reason


def test_things_are_added_where_it_is_said() -> None:
    plan = edited(
        {"op": "add_feature", "title": "First", "before": "F1"},
        {"op": "add_feature", "title": "Within", "parent": "F1"},
        {"op": "add_feature", "title": "Beside", "before": "F3", "key": "beside"},
        {"op": "add_task", "title": "x", "after": "T1"},
        {"op": "add_task", "title": "y", "feature": "F4"},
        {"op": "add_task", "title": "z", "before": "T3", "depends_on": ["T1"]},
    )
    assert outline(plan) == [
        *("F4", "F1", "F1/beside", "F1/F3", "F1/F5", "F2"),
        *("F4/T6", "F1/T1", "F1/T5", "F1/T2", "F1/F3/T4", "F2/T7", "F2/T3"),
    ]


def test_things_are_moved() -> None:
    assert outline(edited({"op": "move_task", "key": "T3", "before": "T1"}))[3:] == [
        "F1/T3",
        "F1/T1",
        "F1/T2",
        "F1/F3/T4",
    ]
    assert outline(edited({"op": "move_task", "key": "T1", "feature": "F2"}))[3:] == [
        "F1/T2",
        "F1/F3/T4",
        "F2/T3",
        "F2/T1",
    ]
    assert outline(edited({"op": "move_feature", "key": "F3", "parent": ""}))[:3] == ["F1", "F2", "F3"]
    assert outline(edited({"op": "move_feature", "key": "F2", "before": "F3"}))[:3] == ["F1", "F1/F2", "F1/F3"]
    assert outline(edited({"op": "move_feature", "key": "F1", "after": "F2"}))[:3] == ["F2", "F1", "F1/F3"]


def test_what_others_depend_on_is_removed_only_with_these_dependencies() -> None:
    assert "T2 depends on what would be removed" in refused({"op": "remove_task", "key": "T1"})
    plan = edited({"op": "remove_task", "key": "T1", "cascade": True})
    assert "T1" not in plan.tasks and plan.tasks["T2"].depends_on == ()
    assert "F2 depends on" in refused({"op": "remove_feature", "key": "F1"})
    plan = edited({"op": "remove_feature", "key": "F1", "cascade": True})
    assert outline(plan) == ["F2", "F2/T3"] and plan.features_by_key["F2"].depends_on == ()
    # What is removed with it may have depended on it.
    assert outline(edited({"op": "remove_feature", "key": "F2"}))[:2] == ["F1", "F1/F3"]


def test_a_key_that_was_there_before_is_not_given_anew() -> None:
    plan = edited({"op": "remove_task", "key": "T3"}, {"op": "add_task", "title": "x", "feature": "F2"})
    assert outline(plan)[-1] == "F2/T5"


def test_a_task_is_split_in_steps() -> None:
    plan = edited(
        {"op": "split_task", "key": "T2", "parts": [{"title": "Rules"}, {"title": "Tree", "files": ["b.py"]}]}
    )
    first, last = plan.tasks["T5"], plan.tasks["T6"]
    assert (first.title, first.depends_on, first.files, first.creates, first.checks) == (
        "Rules",
        ("T1",),
        ("a.py", "b.py"),
        ("c.py",),
        (),
    )
    assert (last.title, last.depends_on, last.files, last.creates) == ("Tree", ("T5",), ("b.py",), ())
    assert last.checks == PLAN.tasks["T2"].checks and plan.tasks["T4"].depends_on == ("T6",)
    assert outline(plan)[3:7] == ["F1/T1", "F1/T5", "F1/T6", "F1/F3/T4"]


def test_a_task_is_split_side_by_side() -> None:
    parts = [
        {"title": "Base", "key": "T2"},
        {"title": "Left", "key": "left", "depends_on": ["T2"]},
        {"title": "Right", "key": "right", "depends_on": ["T2"]},
        {"title": "Alone", "key": "alone", "depends_on": []},
    ]
    plan = edited({"op": "split_task", "key": "T2", "parts": parts})
    assert plan.tasks["T2"].depends_on == plan.tasks["alone"].depends_on == ("T1",)
    assert plan.tasks["T4"].depends_on == ("left", "right", "alone")
    assert plan_problems(plan, None) == []


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        ({"op": "update_task", "key": "T9", "title": "x"}, "operations[1]: the plan has no task T9"),
        ({"op": "update_task", "key": "F1", "title": "x"}, "operations[1]: the plan has no task F1"),
        ({"op": "update_task", "key": "T1"}, "operations[1]: it changes nothing"),
        ({"op": "update_task", "key": "T1", "title": ""}, "operations[1].title: "),
        ({"op": "update_task", "key": "T1", "title": None}, "operations[1].title: "),
        ({"op": "update_task", "key": "T1", "checks": [{"cmd": "x"}]}, "operations[1].checks.0"),
        ({"op": "update_task", "key": "T1", "depends_on": ["T7"]}, "operations[1]: T1 depends on T7, and the"),
        ({"op": "update_feature", "key": "F1", "depends_on": ["T1"]}, "operations[1]: F1 depends on T1, and the"),
        ({"op": "add_task", "title": "x"}, "operations[1]: say which feature it belongs to"),
        ({"op": "add_task", "title": "x", "feature": "F1", "key": "F2"}, "operations[1]: there is F2 already"),
        ({"op": "add_task", "title": "x", "feature": "F2", "before": "T1"}, "operations[1]: T1 is in F1, not in F2"),
        ({"op": "add_task", "title": "x", "before": "T1", "after": "T2"}, "operations[1]: give before or after"),
        ({"op": "move_task", "key": "T1"}, "operations[1]: say where to"),
        ({"op": "move_task", "key": "T1", "after": "T1"}, "operations[1]: T1 can't be put next to itself"),
        ({"op": "move_feature", "key": "F1", "parent": "F3"}, "operations[1]: F1 can't be put to F3"),
        ({"op": "hold", "key": "T1", "reason": ""}, "operations[1].reason: "),
        ({"op": "split_task", "key": "T1", "parts": [{"title": "x"}]}, "operations[1].parts: "),
        ({"op": "split_task", "key": "T1", "parts": [{"title": "x", "key": "T2"}, {"title": "y"}]}, "there is T2"),
        ({"op": "rename", "key": "T1"}, "operations[1]: "),
        ({"key": "T1"}, "operations[1]: "),
    ],
)  # fmt: skip
def test_errors_name_the_operation(operation: dict[str, Any], told: str) -> None:
    assert told in refused({"op": "skip_task", "key": "T1"}, operation)


def test_a_dependency_may_be_added_after_what_depends_on_it() -> None:
    plan = edited(
        {"op": "update_task", "key": "T1", "depends_on": ["new"]},
        {"op": "add_task", "title": "x", "feature": "F1", "key": "new"},
    )
    assert plan.tasks["T1"].depends_on == ("new",)


def _operation(random: Random, plan: PlanDoc) -> dict[str, Any]:
    """One of any kind, of what there is or of what there isn't."""
    tasks, features = [*plan.tasks, "T99"], [*plan.features_by_key, "F99"]

    def some(keys: list[str]) -> list[str]:
        return random.choices(keys[:-1] or keys, k=random.randint(0, 2))

    def place(keys: list[str]) -> dict[str, Any]:
        return {random.choice(["before", "after"]): random.choice(keys)} if random.random() < 0.5 else {}

    task, feature = random.choice(tasks), random.choice(features)
    return random.choice(
        [
            {"op": "update_plan", "summary": "other"},
            {"op": "add_feature", "title": "n", "depends_on": some(features), **place(features)},
            {"op": "add_feature", "title": "n", "parent": random.choice(features)},
            {"op": "update_feature", "key": feature, "depends_on": some(features)},
            {"op": "remove_feature", "key": feature, "cascade": random.random() < 0.7},
            {"op": "move_feature", "key": feature, "parent": random.choice(["", *features]), **place(features)},
            {"op": "add_task", "title": "n", "depends_on": some(tasks), "feature": feature},
            {"op": "add_task", "title": "n", **place(tasks), "key": random.choice(["", "new", *tasks])},
            {"op": "update_task", "key": task, "depends_on": some(tasks), "title": "other"},
            {"op": "remove_task", "key": task, "cascade": random.random() < 0.7},
            {"op": "move_task", "key": task, "feature": feature},
            {"op": "move_task", "key": task, **place(tasks)},
            {"op": random.choice(["skip_task", "unskip_task"]), "key": task},
            {"op": "hold", "key": random.choice([task, feature]), "reason": "r"},
            {"op": "release", "key": random.choice([task, feature])},
            {"op": "split_task", "key": task, "parts": [{"title": "p"}, {"title": "q"}]},
            {"op": "split_task", "key": task, "parts": [{"title": "p", "depends_on": some(tasks)}] * 3},
        ]
    )  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(plans(), st.integers(0, 2**32))
def test_any_operations_leave_a_plan_in_order(plan: PlanDoc, seed: int) -> None:
    random = Random(seed)
    for _ in range(12):
        try:
            after = edited(*(_operation(random, plan) for _ in range(random.choice([1, 1, 3]))), plan=plan)
        except InvalidInput as error:
            assert error.message.startswith("operations[")
            continue
        keys = [each.feature.key for each in after.placed_features] + [each.task.key for each in after.placed_tasks]
        assert len(keys) == len(set(keys))
        assert all(key in after.tasks for task in after.tasks.values() for key in task.depends_on)
        assert all(key in after.features_by_key for each in after.features_by_key.values() for key in each.depends_on)
        assert PlanDoc.read(after.as_dict()) == after
        plan = after


@settings(max_examples=80, deadline=None)
@given(plans(), st.integers(0, 2**32))
def test_what_was_begun_is_protected_from_any_operations(plan: PlanDoc, seed: int) -> None:
    """Where a revision is let through, nothing that was done is lost, and what runs or failed is still there."""
    random = Random(seed)
    states = states_of(plan, random)
    for _ in range(12):
        try:
            after = edited(_operation(random, plan), plan=plan)
        except InvalidInput:
            continue
        lost = [
            key
            for key, state in states.items()
            if key not in after.tasks or (state.status is TaskStatus.DONE and after.tasks[key] != plan.tasks[key])
        ]
        problems = revision_problems(plan, after, states)
        if problems:
            assert {problem.code for problem in problems} <= {"started", "depends_on_failed"}
            continue
        assert not lost
        for key, state in states.items():
            changed = {name for name, value in after.tasks[key] if value != getattr(plan.tasks[key], name)}
            allowed = {
                TaskStatus.RUNNING: {"title", "instructions", "files", "creates", "checks"},
                TaskStatus.FAILED: {"skipped"},
            }
            assert changed <= allowed.get(state.status, set())
        plan = after

"""What a planner hands over is fitted into the plan that is there: nothing that was begun is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apps.planning.checking import Problem, plan_problems
from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.protection import revision_problems
from apps.planning.revising import feature_fill, feature_hold, key_next, plan_mend, started_keep
from apps.planning.types import TaskState, TaskStatus


def task(key: str, *needs: str, title: str = "") -> TaskDoc:
    return TaskDoc(key=key, title=title or key, depends_on=needs)


def plan(*features: FeatureDoc) -> PlanDoc:
    return PlanDoc(summary="s", features=features)


def feature(key: str, *tasks: TaskDoc, within: tuple[FeatureDoc, ...] = (), needs: tuple[str, ...] = ()) -> FeatureDoc:
    return FeatureDoc(key=key, title=key, tasks=tasks, features=within, depends_on=needs)


DONE, FAILED, FRESH = TaskState(TaskStatus.DONE, 1), TaskState(TaskStatus.FAILED, 3), TaskState()


def test_tasks_that_were_begun_come_back_as_they_were() -> None:
    before = plan(
        feature("F1", task("T1"), task("T2", "T1")), feature("F2", task("T3"), within=(feature("F3", task("T4")),))
    )
    states = {"T1": DONE, "T2": FAILED, "T4": DONE}
    after = plan(feature("F1", task("T2", title="other words"), task("T5", "T1")))
    kept = started_keep(before, after, states)
    assert [(placed.feature.key, placed.task.title) for placed in kept.placed_tasks] == [
        ("F3", "T4"),
        ("F1", "T1"),
        ("F1", "T2"),
        ("F1", "T5"),
    ]
    assert not plan_problems(kept, None) and not revision_problems(before, kept, states)


def test_a_feature_is_filled_and_keys_that_are_taken_give_way() -> None:
    before = plan(feature("F1", task("T1"), within=(feature("F2", task("T2")),)), feature("F3", task("T3", "T1")))
    handed = plan(feature("F1", task("T1", "T3"), task("T9", "T1")))
    filled = feature_fill(before, "F2", handed)
    assert {key: (each.depends_on) for key, each in filled.tasks.items()} == {
        "T1": (), "T2": (), "T4": ("T3",), "T9": ("T4",), "T3": ("T1",),
    }  # fmt: skip
    several = feature_fill(before, "F2", plan(feature("F1", task("T7")), feature("F9", task("T8"), needs=("F1",))))
    assert [each.key for each in several.features_by_key["F2"].features] == ["F4", "F9"]
    assert several.features_by_key["F9"].depends_on == ("F4",)
    assert not plan_problems(filled, None) and not plan_problems(several, None)


def test_a_feature_of_its_own_holds_what_is_handed_over() -> None:
    root = feature("F0")
    assert [each.key for each in feature_hold(root, plan(feature("F1", task("T1")))).tasks] == ["T1"]
    assert [each.key for each in feature_hold(root, plan(feature("F1"), feature("F2"))).features] == ["F1", "F2"]


def test_free_keys_count_on() -> None:
    assert key_next("T1", {"T1", "T2"}) == "T3"
    assert key_next("parse", {"parse"}) == "parse-1"


def test_files_and_checks_that_do_not_hold_are_left_out() -> None:
    odd = TaskDoc(key="T.1", title="t", files=("a",), creates=("b",), checks=(CheckDoc(command="x"),))
    problems = [Problem("tasks.T.1.files", "missing_file", "no a"), Problem("tasks.T.1.checks.0", "check", "no x")]
    mended = plan_mend(plan(feature("F1", odd, task("T2"))), problems).tasks["T.1"]
    assert (mended.files, mended.creates, mended.checks) == ((), ("b",), ())


KEYS = [f"T{number}" for number in range(6)]
NEEDS = st.lists(st.sampled_from([*KEYS, "T99"]), max_size=4, unique=True).map(tuple)


@given(
    st.lists(NEEDS, min_size=6, max_size=6),
    st.lists(st.sampled_from(["F1", "F2", "F7"]), max_size=2),
    st.integers(1, 5),
)
def test_whatever_depends_on_what_the_best_of_it_holds(
    needs: list[tuple[str, ...]], between: list[str], cut: int
) -> None:
    tasks = [task(key, *each) for key, each in zip(KEYS, needs, strict=True)]
    broken = plan(feature("F1", *tasks[:cut], needs=tuple(between)), feature("F2", *tasks[cut:], needs=("F1",)))
    mended = plan_mend(broken, plan_problems(broken, None))
    assert not plan_problems(mended, None)
    assert list(mended.tasks) == KEYS
    whole = plan_problems(broken, None)
    assert whole or mended == broken, "what holds stays as it is"

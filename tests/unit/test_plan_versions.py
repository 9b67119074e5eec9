"""What was different between two versions, in words; and an earlier one put back around what was begun since."""

from __future__ import annotations

from apps.planning.checking import plan_problems
from apps.planning.diff_text import changes_brief, changes_text
from apps.planning.diffing import plan_diff
from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.protection import revision_problems
from apps.planning.restoring import plan_restored
from apps.planning.types import TaskState, TaskStatus

DONE, RUNNING = TaskState(TaskStatus.DONE, 1), TaskState(TaskStatus.RUNNING, 1)


def task(key: str, *needs: str, **more: object) -> TaskDoc:
    return TaskDoc.model_validate({"key": key, "title": f"Do {key}", "depends_on": needs, **more})


def plan(*features: FeatureDoc, summary: str = "s") -> PlanDoc:
    return PlanDoc(summary=summary, features=features)


FORMER = plan(
    FeatureDoc(key="F1", title="One", tasks=(task("T1"), task("T2", "T1"))),
    FeatureDoc(key="F2", title="Two", tasks=(task("T3"),)),
)


def test_changes_in_words() -> None:
    after = plan(
        FeatureDoc(
            key="F1",
            title="One",
            tasks=(
                task("T2", instructions="First.\nThird.\n", files=["a.py", "c.py"], skipped=True),
                task("T4", checks=[CheckDoc(command="pytest -q", name="tests")]),
            ),
        ),
        FeatureDoc(key="F2", title="Two", blocked_reason="not yet", tasks=(task("T1"),)),
        summary="t",
    )
    before = FORMER.tasks_map(
        lambda each: (
            each.model_copy(update={"instructions": "First.\nSecond.\n", "files": ("a.py", "b.py")})
            if each.key == "T2"
            else each
        )
    )
    changes = [change.as_dict() for change in plan_diff(before, after)]
    assert changes_text(changes).splitlines() == [
        "~ plan: summary",
        "    -s",
        "    +t",
        "~ feature F2: blocked_reason",
        "    +not yet",
        "~ task T2: instructions",
        "     First.",
        "    -Second.",
        "    +Third.",
        "~ task T2: depends_on",
        "    -T1",
        "~ task T2: files",
        "     a.py",
        "    -b.py",
        "    +c.py",
        "~ task T2: skipped",
        "    -no",
        "    +yes",
        "+ task T4 Do T4 (in F1)",
        "> task T1 Do T1 (from F1 to F2)",
        "- task T3 Do T3 (was in F2)",
    ]
    assert changes_brief(changes) == (
        "the plan's summary was changed; feature F2 is held; task T2 was changed; and 4 more"
    )
    assert changes_text([]) == changes_brief([]) == ""


def test_a_line_that_looks_like_a_heading_of_a_diff_is_kept() -> None:
    before = plan(FeatureDoc(key="F1", title="f", tasks=(task("T1", instructions="-- a\n@@ b"),)))
    after = plan(FeatureDoc(key="F1", title="f", tasks=(task("T1", instructions="++ c"),)))
    told = changes_text(change.as_dict() for change in plan_diff(before, after)).splitlines()
    assert told[1:] == ["    --- a", "    -@@ b", "    +++ c"]


def test_an_earlier_version_comes_back_around_what_was_begun() -> None:
    now = plan(
        FeatureDoc(key="F1", title="One, better", tasks=(task("T1"), task("T2", "T1", title="Otherwise"))),
        FeatureDoc(
            key="F3",
            title="Three",
            depends_on=("F1",),
            features=(FeatureDoc(key="F4", title="Four", tasks=(task("T5"), task("T6", "T5"), task("T7"))),),
        ),
    )
    states = {"T1": DONE, "T2": RUNNING, "T6": RUNNING}
    restored = plan_restored(FORMER, now, states)
    assert [(placed.task.key, [each.key for each in placed.within]) for placed in restored.placed_tasks] == [
        ("T1", ["F1"]),
        ("T2", ["F1"]),
        ("T3", ["F2"]),
        ("T5", ["F3", "F4"]),
        ("T6", ["F3", "F4"]),
    ], "T5 comes along, since T6 depends on it; T7 is as if it had never been"
    assert restored.tasks["T2"].title == "Otherwise", "it was begun"
    assert restored.features_by_key["F1"].title == "One"
    assert not plan_problems(restored, None) and not revision_problems(now, restored, states)
    assert plan_restored(FORMER, now, {}) == FORMER
    assert plan_restored(FORMER, FORMER, states) == FORMER

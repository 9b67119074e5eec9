"""What a revision comes to: what has not started is handed over anew, what was begun stays by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from apps.agents.tools.plan_revising import Revision, revision_of
from apps.agents.tools.replanning import RevisePlanArguments
from apps.planning.checking import plan_problems
from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.protection import revision_problems
from apps.planning.types import Effort, TaskState, TaskStatus, TaskType

CHECKS = (CheckDoc(command="test -e two"),)
#: T1 is done, T2 failed, T3 needs it, T4 stands apart in a feature within another.
BEFORE = PlanDoc(
    summary="s",
    features=(
        FeatureDoc(
            key="F1",
            title="First",
            tasks=(
                TaskDoc(key="T1", title="One"),
                TaskDoc(key="T2", title="Two", depends_on=("T1",)),
                TaskDoc(key="T3", title="Three", instructions="do it", depends_on=("T2",), checks=CHECKS),
            ),
        ),
        FeatureDoc(
            key="F2",
            title="Second",
            features=(FeatureDoc(key="F3", title="Inner", tasks=(TaskDoc(key="T4", title="Four"),)),),
        ),
    ),
)
STATES = {"T1": TaskState(TaskStatus.DONE, 1, "", "c"), "T2": TaskState(TaskStatus.FAILED, 3)}


def revised(*features: Mapping[str, Any], before: PlanDoc = BEFORE, within: str | None = None, **more: Any) -> Revision:
    arguments = RevisePlanArguments.model_validate({"reason": "r", "features": features, **more})
    # As it is kept and read again when it is written down.
    arguments = RevisePlanArguments.model_validate(arguments.model_dump(mode="json", exclude_unset=True))
    return revision_of(arguments, before, STATES, within=within)


def holds(revision: Revision, before: PlanDoc = BEFORE) -> PlanDoc:
    assert not revision.problems, [str(each) for each in revision.problems]
    document = revision.document
    assert not [*plan_problems(document, None), *revision_problems(before, document, STATES)]
    return document


def codes(revision: Revision) -> set[str]:
    return {problem.code for problem in revision.problems}


def shape(document: PlanDoc) -> dict[str, list[str]]:
    return {
        placed.feature.key: [task.key + "-" * task.skipped for task in placed.feature.tasks]
        for placed in document.placed_features
    }


def test_what_stays_is_named_and_what_replaces_is_whole() -> None:
    document = holds(
        revised(
            {"key": "F1", "tasks": [{"title": "Two anew", "replaces": "T2", "instructions": "x"}, {"key": "T3"}]},
            {"key": "F3", "tasks": [{"key": "T4"}]},
        )
    )
    assert shape(document) == {"F1": ["T1", "T2-", "T5", "T3"], "F2": [], "F3": ["T4"]}
    assert document.tasks["T3"] == BEFORE.tasks["T3"].model_copy(update={"depends_on": ("T5",)})
    assert document.tasks["T5"].depends_on == ()
    assert document.features[1] == BEFORE.features[1]


def test_a_task_that_is_there_keeps_what_is_not_said_of_it() -> None:
    document = holds(
        revised(
            {"key": "F1", "effort": "large", "tasks": [{"key": "T3", "depends_on": [], "type": "docs"}]},
            {"key": "F1", "tasks": [{"key": "T4", "title": "Four more", "checks": [], "instructions": ""}]},
        )
    )
    changed = {"depends_on": (), "type": TaskType.DOCS}
    assert document.tasks["T3"] == BEFORE.tasks["T3"].model_copy(update=changed)
    assert document.tasks["T4"].title == "Four more"
    # The feature within which nothing is left goes, and so does the one around it.
    assert shape(document) == {"F1": ["T1", "T2", "T3", "T4"]}
    assert document.features[0].effort is Effort.LARGE


def test_the_same_again_is_the_same() -> None:
    assert holds(revised({"key": "F3", "tasks": [{"key": "T4"}]}, {"key": "F1", "tasks": [{"key": "T3"}]})) != BEFORE
    again = revised({"key": "F1", "tasks": [{"key": "T1"}, {"key": "T3"}]}, {"key": "F3", "tasks": [{"key": "T4"}]})
    assert holds(again) == BEFORE


def test_what_is_dropped_is_done_without_and_can_come_back() -> None:
    dropped = holds(revised({"key": "F1", "tasks": [{"key": "T3", "depends_on": []}]}, drop=["T2", "F2"], summary="n"))
    assert shape(dropped) == {"F1": ["T1", "T2-", "T3"], "F2": [], "F3": ["T4-"]}
    assert dropped.summary == "n"
    kept = {"key": "F1", "tasks": [{"key": "T3"}]}
    assert shape(holds(revised(kept, {"key": "F3", "tasks": [{"key": "T4"}]}, before=dropped), dropped)) == {
        "F1": ["T1", "T2-", "T3"],
        "F2": [],
        "F3": ["T4"],
    }
    # Not named again, it stays dropped: there is nothing to be said of it.
    assert holds(revised(kept, before=dropped), dropped) == dropped


def test_new_features_come_where_they_were_named() -> None:
    document = holds(
        revised(
            {"title": "New", "key": "N", "tasks": [{"title": "A", "depends_on": ["T1"]}, {"title": "B"}]},
            {"key": "F3", "tasks": [{"key": "T4"}]},
            {"title": "In it", "parent": "N", "depends_on": ["F3"], "tasks": [{"title": "C", "depends_on": []}]},
            drop=["T3"],
        )
    )
    assert shape(document) == {"F1": ["T1", "T2", "T3-"], "F2": [], "F3": ["T4"], "N": ["T5", "T6"], "F4": ["T7"]}
    assert document.needs["T6"] == ("T5",)
    assert document.needs["T7"] == ("T4",)


@pytest.mark.parametrize(
    ("features", "more", "code"),
    [
        ([{"key": "F1", "tasks": [{"key": "T3"}]}], {}, "left_out"),
        ([{"key": "F1", "tasks": [{"key": "T3"}, {"key": "T3"}]}], {"drop": ["T4"]}, "duplicate_key"),
        ([{"key": "F1", "tasks": [{"key": "T3"}]}], {"drop": ["T3", "T4"]}, "kept_and_dropped"),
        ([], {"drop": ["T1", "T3", "T4"]}, "started"),
        ([{"key": "F1", "tasks": [{"key": "T1", "title": "Another"}]}], {"drop": ["T3", "T4"]}, "started"),
        ([], {"drop": ["T3", "T4", "T9"]}, "unknown_task"),
        ([{"key": "F1", "tasks": [{"key": "T9"}]}], {"drop": ["T3", "T4"]}, "no_title"),
        ([{"key": "F9", "tasks": [{"key": "T3"}]}], {"drop": ["T4"]}, "no_title"),
        ([{"title": "F", "tasks": [{"title": "x", "replaces": "T1"}]}], {"drop": ["T3", "T4"]}, "not_failed"),
        ([{"title": "F", "tasks": [{"title": "x", "replaces": "T9"}]}], {"drop": ["T3", "T4"]}, "unknown_task"),
        ([{"title": "F", "parent": "T1", "tasks": [{"key": "T3"}]}], {"drop": ["T4"]}, "no_parent"),
        (
            [{"key": "F2", "parent": "F3", "tasks": [{"key": "T4"}]}, {"key": "F1", "tasks": [{"key": "T3"}]}],
            {},
            "cycle",
        ),
    ],
)
def test_what_cannot_be_followed_is_said(features: list[Any], more: dict[str, Any], code: str) -> None:
    assert code in codes(revised(*features, **more))


def test_what_needed_a_failed_task_has_to_say_what_it_needs() -> None:
    revision = revised({"key": "F1", "tasks": [{"key": "T3"}, {"key": "T4"}]}, drop=["T2"])
    assert not revision.problems
    assert [each.code for each in revision_problems(BEFORE, revision.document, STATES)] == ["depends_on_failed"]


def test_a_follow_up_is_revised_by_itself() -> None:
    own = FeatureDoc(
        key="follow-up-1",
        title="More",
        tasks=(TaskDoc(key="follow-up-1.1", title="a"), TaskDoc(key="follow-up-1.2", title="b")),
    )
    before = BEFORE.model_copy(update={"features": (*BEFORE.features, own)})
    revision = revised(
        {"title": "More still", "tasks": [{"title": "c", "depends_on": []}]},
        before=before,
        within="follow-up-1",
        drop=["follow-up-1.1", "follow-up-1.2"],
    )
    document = holds(revision, before)
    assert shape(document)["follow-up-1"] == ["follow-up-1.1-", "follow-up-1.2-", "T5"]
    assert document.features[:2] == before.features[:2]
    past = revised({"key": "F1", "tasks": [{"key": "T3"}]}, before=before, within="follow-up-1", drop=["follow-up-1"])
    assert codes(past) == {"started"}

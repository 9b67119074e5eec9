"""What is told of the difference between two versions: all of it, and nothing that isn't there."""

from __future__ import annotations

from hypothesis import given, settings

from apps.planning.diffing import plan_diff
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from tests.unit.plan_documents import plans


def _places(plan: PlanDoc) -> dict[str, tuple[str, str]]:
    features = {
        each.feature.key: ("feature", each.within[-1].key if each.within else "") for each in plan.placed_features
    }
    return features | {each.task.key: ("task", each.feature.key) for each in plan.placed_tasks}


def _fields(plan: PlanDoc) -> dict[str, dict[str, object]]:
    items = {**plan.features_by_key, **plan.tasks}
    return {key: {n: v for n, v in item if n not in ("key", "tasks", "features")} for key, item in items.items()}


@settings(max_examples=150, deadline=None)
@given(plans(), plans())
def test_every_difference_is_told(before: PlanDoc, after: PlanDoc) -> None:
    assert plan_diff(before, before) == ()
    changes = plan_diff(before, after)
    assert (changes == ()) == (before == after)
    was, now = _places(before), _places(after)
    told = {(change.kind, change.what, change.key, change.field) for change in changes}
    assert {(what, key) for kind, what, key, _ in told if kind == "added"} == {
        (now[key][0], key) for key in now if was.get(key, ("",))[0] != now[key][0]
    }
    assert {(what, key) for kind, what, key, _ in told if kind == "removed"} == {
        (was[key][0], key) for key in was if now.get(key, ("",))[0] != was[key][0]
    }
    moved = {key for kind, _, key, _ in told if kind == "moved"}
    assert {key for key in was if key in now and was[key] != now[key]} <= moved <= set(was) & set(now)
    former, present = _fields(before), _fields(after)
    assert {(key, name) for kind, what, key, name in told if kind == "changed" and what != "plan"} == {
        (key, name)
        for key in former.keys() & present.keys()
        for name in former[key]
        if former[key][name] != present[key][name]
    }


def _plan(*features: FeatureDoc) -> PlanDoc:
    return PlanDoc(summary="s", features=features)


def _feature(key: str, tasks: str) -> FeatureDoc:
    return FeatureDoc(key=key, title=key, tasks=tuple(TaskDoc(key=each, title=each) for each in tasks))


def test_the_fewest_are_said_to_have_moved() -> None:
    changes = plan_diff(_plan(_feature("F", "abcde")), _plan(_feature("F", "bcdea")))
    assert [(change.kind, change.key) for change in changes] == [("moved", "a")]
    changes = plan_diff(_plan(_feature("F", "ab"), _feature("G", "c")), _plan(_feature("F", "b"), _feature("G", "ca")))
    assert [(change.kind, change.key, change.before, change.after) for change in changes] == [
        ("moved", "a", {"in": "F"}, {"in": "G"})
    ]


def test_a_key_that_names_another_kind_is_removed_and_added() -> None:
    changes = plan_diff(_plan(_feature("F", "ab")), _plan(_feature("F", "a"), _feature("b", "")))
    assert [(change.kind, change.what, change.key) for change in changes] == [
        ("added", "feature", "b"),
        ("removed", "task", "b"),
    ]

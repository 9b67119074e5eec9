"""Cycles are found where there are any, and nowhere else."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apps.planning.checking import plan_problems
from apps.planning.cycles import cycles_find
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from tests.unit.plan_documents import plans


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    keys = "abcdefg"[: draw(st.integers(0, 7))]
    edges = draw(st.lists(st.tuples(st.sampled_from(keys), st.sampled_from(keys + "z")), max_size=14)) if keys else []
    return {key: [other for one, other in edges if one == key] for key in keys}


def _on_a_cycle(needs: dict[str, list[str]]) -> set[str]:
    """Keys that lead back to themselves, by trying what can be reached until nothing is added."""
    reached = {key: set(needed) for key, needed in needs.items()}
    for _ in needs:
        for key, other in product(needs, needs):
            if other in reached[key]:
                reached[key] |= reached[other]
    return {key for key in needs if key in reached[key]}


@settings(max_examples=300, deadline=None)
@given(graphs())
@example({"a": ["a"]})
@example({"a": ["b", "b"], "b": ["a"]})
def test_cycles_are_those_that_there_are(needs: dict[str, list[str]]) -> None:
    found = cycles_find(needs, most=100)
    for cycle in found:
        assert len(set(cycle)) == len(cycle)
        assert all(following in needs[key] for key, following in zip(cycle, (*cycle[1:], cycle[0]), strict=True))
    circular = _on_a_cycle(needs)
    assert bool(found) == bool(circular)
    assert {key for cycle in found for key in cycle} <= circular
    # Without the last step of each there is none left.
    cut = {(cycle[-1], cycle[0]) for cycle in found}
    rest = {key: [other for other in needed if (key, other) not in cut] for key, needed in needs.items()}
    assert not _on_a_cycle(rest)


def test_long_chains_and_rings_are_no_matter() -> None:
    chain = {str(number): [str(number + 1)] for number in range(20_000)}
    assert cycles_find(chain) == []
    ring = chain | {"19999": ["0"]}
    assert [len(cycle) for cycle in cycles_find(ring)] == [20_000]
    dense = {str(one): [str(other) for other in range(60) if other != one] for one in range(60)}
    assert len(cycles_find(dense, most=5)) == 5


def _plan(*features: FeatureDoc) -> PlanDoc:
    return PlanDoc(summary="s", features=features)


def _feature(key: str, *tasks: TaskDoc, needs: str = "", inner: tuple[FeatureDoc, ...] = ()) -> FeatureDoc:
    return FeatureDoc(key=key, title=key, tasks=tasks, depends_on=tuple(needs.split()), features=inner)


def _task(key: str, needs: str = "") -> TaskDoc:
    return TaskDoc(key=key, title=key, depends_on=tuple(needs.split()))


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (_plan(_feature("F", _task("a", "b"), _task("b", "a"))), "a needs b, which needs a"),
        (
            _plan(_feature("A", _task("a"), needs="B"), _feature("B", _task("b"), needs="A")),
            "A needs B, which needs A",
        ),
        (
            _plan(_feature("A", _task("a", "b")), _feature("B", _task("b"), needs="A")),
            "A holds a, which needs b, which is in B, which needs A",
        ),
        (
            _plan(_feature("A", inner=(_feature("A1", _task("a")),), needs="B"), _feature("B", _task("b"), needs="A1")),
            "A needs B, which needs A1, which is in A",
        ),
        (
            _plan(_feature("A", needs="B"), _feature("B", _task("b"), needs="A")),
            "A needs B, which needs A",
        ),
    ],
)
def test_cycles_are_told_as_sentences(plan: PlanDoc, told: str) -> None:
    problems = plan_problems(plan, None)
    assert [problem.code for problem in problems] == ["cycle"]
    assert problems[0].message.endswith(told), problems[0].message


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(0, 2**32))
def test_plans_that_hold_have_none_until_one_is_made(plan: PlanDoc, seed: int) -> None:
    assert plan_problems(plan, None) == []
    random = Random(seed)
    key = random.choice(list(plan.tasks))
    if needed := plan.needs[key]:
        other = random.choice(needed)
        ring = plan.tasks_map(
            lambda task: task.model_copy(update={"depends_on": (*task.depends_on, key)}) if task.key == other else task
        )
        assert "cycle" in {problem.code for problem in plan_problems(ring, None)}

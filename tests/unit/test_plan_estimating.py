"""Estimates are ranges, hold what the past was, and say what they are made from."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.estimating import LEAST_TASKS, TYPICAL, TaskTook, TokenPrice, plan_estimate, round_to
from apps.planning.types import Effort, TaskState, TaskStatus

FREE = TokenPrice(Decimal(0))


def plan(*efforts: Effort) -> PlanDoc:
    features = tuple(
        FeatureDoc(key=f"F{place}", title="f", effort=effort, tasks=(TaskDoc(key=f"T{place}", title="t"),))
        for place, effort in enumerate(efforts)
    )
    return PlanDoc(summary="s", features=features)


def test_without_a_past_typical_figures_tell() -> None:
    made = plan_estimate(plan(Effort.SMALL, Effort.LARGE), {}, [], TokenPrice(Decimal("0.000001")))
    assert (made.tasks, made.basis) == (2, "from typical figures")
    steps, tokens = (TYPICAL[Effort.SMALL][each] + TYPICAL[Effort.LARGE][each] for each in (0, 1))
    assert made.steps.low <= steps <= made.steps.high and made.tokens.low <= tokens <= made.tokens.high
    assert made.cost_usd is not None
    assert made.cost_usd.as_dict() == pytest.approx({"low": 0.44, "high": 1.8})


def test_a_past_is_gone_by_whatever_effort_its_tasks_were_of() -> None:
    # Each task took half of what is typical.
    past = [TaskTook(effort, steps // 2, tokens // 2) for effort, (steps, tokens) in TYPICAL.items()]
    made = plan_estimate(plan(Effort.MEDIUM), {}, past, FREE)
    assert made.basis == "from 4 tasks of this project"
    assert (made.steps.low, made.steps.high) == (12, 12) and (made.tokens.low, made.tokens.high) == (120_000, 130_000)


def test_what_is_done_or_done_without_takes_nothing() -> None:
    document = plan(Effort.SMALL, Effort.SMALL, Effort.SMALL)
    skipped = document.tasks_map(lambda task: task.model_copy(update={"skipped": task.key == "T1"}))
    states = {"T0": TaskState(TaskStatus.DONE, 1), "T2": TaskState(TaskStatus.FAILED, 3)}
    assert plan_estimate(skipped, states, [], FREE).tasks == 1


def test_an_unknown_price_is_said() -> None:
    made = plan_estimate(plan(Effort.SMALL), {}, [], TokenPrice(None, ("openai:odd",)))
    assert made.cost_usd is None and made.basis.endswith("the price of openai:odd is not known")
    assert made.as_dict()["cost_usd"] is None


@given(st.lists(st.builds(TaskTook, st.sampled_from(Effort), st.integers(1, 500), st.integers(1, 10**7)), max_size=30))
def test_ranges_are_ranges(past: list[TaskTook]) -> None:
    made = plan_estimate(plan(Effort.TRIVIAL, Effort.MEDIUM), {}, past, FREE)
    assert all(steps == int(steps) for steps in (made.steps.low, made.steps.high)), "nobody takes a part of a step"
    assert 0 <= made.steps.low <= made.steps.high and 0 <= made.tokens.low <= made.tokens.high
    assert made.basis.startswith("from typical" if len(past) < LEAST_TASKS else f"from {len(past)} tasks")


@given(st.floats(1e-9, 1e12))
def test_rounding_goes_outwards_and_leaves_two_digits(value: float) -> None:
    low, high = round_to(value, up=False), round_to(value, up=True)
    assert low <= value * (1 + 1e-6) and high >= value * (1 - 1e-6) and high <= low * 1.2

"""A budget cannot be passed, whoever spends from it at once and whoever dies while spending."""

from __future__ import annotations

import asyncio
import random
import uuid
from decimal import Decimal
from typing import Any

import hypothesis
import pytest
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st

from apps.authentication.models import User
from apps.core.errors import InvalidInput, LimitReached, NotFound
from apps.projects.models import Project
from apps.usage import ledger
from apps.usage.errors import BudgetExceeded
from apps.usage.models import Budget, ModelCall
from apps.usage.selectors import budget_get, budget_list, usage_summary
from apps.usage.services import budget_create, budget_raise, reservations_expire
from apps.usage.types import Limits, Usage
from tests.integration.usage_scene import Scene, scene

pytestmark = pytest.mark.django_db(transaction=True)

#: A dollar a million tokens in, ten out.
READING, WRITING = Decimal(1) / 10**6, Decimal(10) / 10**6


def demand(on: Scene, *, key: str, read: int = 100, written: int = 1000, close: int | None = None) -> ledger.Demand:
    return ledger.Demand(
        scope_id=on.scope_id,
        key=key,
        role="coder",
        provider="p",
        model="m",
        output_tokens=written,
        input_ceiling=lambda: read,
        input_close=lambda: read if close is None else close,
        price=lambda given, made: given * READING + made * WRITING,
    )


async def settle(
    on: Scene, reservation: ledger.Reservation, read: int, written: int, *, state: str = "settled"
) -> None:
    cost = read * READING + written * WRITING
    async with on.database.pool.connection() as connection:
        await ledger.settle(connection, reservation, Usage(read, written), cost, state=state)


def make_budget(**limits: Any) -> uuid.UUID:
    scope_id = uuid.uuid4()
    budget_create(scope_id=scope_id, project=Project.objects.create(name="p"), user=None, limits=Limits(**limits))
    return scope_id


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("limits", "fit"),
    [({"steps": 7}, 7), ({"tokens": 1100 * 5}, 5), ({"cost_usd": Decimal("0.0101") * 6}, 6)],
)
async def test_calls_at_once_get_exactly_what_fits(limits: dict[str, Any], fit: int) -> None:
    async with scene(**limits) as on:
        outcomes = await asyncio.gather(
            *(ledger.reserve(on.database, demand(on, key=str(n))) for n in range(30)), return_exceptions=True
        )
        budget = await on.budget()
    assert sum(isinstance(outcome, ledger.Reservation) for outcome in outcomes) == fit
    refusals = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert all(isinstance(refusal, BudgetExceeded) for refusal in refusals)
    assert {refusal.limit for refusal in refusals if isinstance(refusal, BudgetExceeded)} == set(limits)
    assert budget.reserved_steps == fit


@hypothesis.settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    cost=st.integers(0, 120_000),
    tokens=st.integers(0, 12_000),
    steps=st.integers(0, 20),
)
def test_no_interleaving_passes_a_limit(seed: int, cost: int, tokens: int, steps: int) -> None:
    """Workers reserve, settle, fail, die and come back in any order; after each step the sums keep the limits."""
    chance = random.Random(seed)
    limit = Decimal(cost) / 10**6

    async def work(on: Scene, worker: int) -> None:
        for turn in range(6):
            key = f"{worker}-{turn}" if chance.random() < 0.8 else f"shared-{chance.randrange(3)}"
            read, written = chance.randrange(1, 900), chance.randrange(1, 1500)
            try:
                held = await ledger.reserve(
                    on.database, demand(on, key=key, read=read * 3, close=read, written=written)
                )
            except BudgetExceeded:
                continue
            await asyncio.sleep(0)
            fate = chance.random()
            if fate < 0.6:
                await settle(on, held, chance.randint(0, held.input_tokens), chance.randint(0, held.output_tokens))
            elif fate < 0.8:
                await settle(on, held, 0, 0, state="failed")
            # Otherwise the worker dies with the reservation open.
            budget = await on.budget()
            assert budget.cost_usd + budget.reserved_cost_usd <= limit
            assert budget.input_tokens + budget.output_tokens + budget.reserved_tokens <= tokens
            assert budget.steps + budget.reserved_steps <= steps

    async def run() -> None:
        async with scene(cost_usd=limit, tokens=tokens, steps=steps) as on:
            await asyncio.gather(*(work(on, worker) for worker in range(5)))
            await on.database.run_in_thread(lambda: reservations_expire(scope_id=on.scope_id))
            budget = await on.budget()
            calls = [call for call in await on.calls() if call.budget_id == on.scope_id]
        # The books agree: the budget is the sum of its calls, and nothing is held any more.
        assert [budget.reserved_cost_usd, budget.reserved_tokens, budget.reserved_steps] == [0] * 3
        assert budget.cost_usd == sum((call.cost_usd for call in calls), Decimal(0))
        assert budget.input_tokens == sum(call.input_tokens for call in calls)
        assert budget.output_tokens == sum(call.output_tokens for call in calls)

    asyncio.run(run())


@pytest.mark.asyncio
async def test_a_reply_is_held_shorter_when_only_that_fits() -> None:
    async with scene(tokens=1000) as on:
        held = await ledger.reserve(on.database, demand(on, key="1", read=400, close=300, written=1000))
        assert (held.input_tokens, held.output_tokens) == (300, 700)
    async with scene(cost_usd="0.005") as on:
        held = await ledger.reserve(on.database, demand(on, key="1", read=1000, written=1000))
        assert held.output_tokens == 400
    async with scene(tokens=400) as on:
        with pytest.raises(BudgetExceeded):  # 100 tokens are left: too few to say anything
            await ledger.reserve(on.database, demand(on, key="1", read=300, written=1000))
        assert (await ledger.reserve(on.database, demand(on, key="2", read=300, written=50))).output_tokens == 50


@pytest.mark.asyncio
async def test_a_refusal_names_the_limit_and_what_to_do() -> None:
    async with scene(cost_usd="0.01") as on:
        await settle(on, await ledger.reserve(on.database, demand(on, key="1", written=900)), 100, 900)
        with pytest.raises(LimitReached) as caught:
            await ledger.reserve(on.database, demand(on, key="2"))
    assert "the limit of 0.01 US dollars is reached: 0.0091 are spent" in caught.value.message
    assert "cost_usd" in caught.value.next_step
    assert caught.value.extra["limit"] == "cost_usd"


@pytest.mark.asyncio
async def test_what_a_dead_process_held_counts_as_spent() -> None:
    async with scene(tokens=10_000) as on:
        dead = await ledger.reserve(on.database, demand(on, key="1"))
        alive = await ledger.reserve(on.database, demand(on, key="1"))
        budget, calls = await on.budget(), await on.calls()
        assert [(call.state, call.attempt, call.estimated) for call in calls] == [
            ("lost", 1, True),
            ("reserved", 2, False),
        ]
        assert (budget.input_tokens, budget.output_tokens, budget.steps, budget.estimated) == (100, 1000, 1, True)
        assert (budget.reserved_tokens, budget.reserved_steps) == (1100, 1)
        # The dead one was only slow: what it really took replaces what was counted for it.
        await settle(on, dead, 50, 5)
        await settle(on, alive, 60, 6)
        budget = await on.budget()
    assert (budget.input_tokens, budget.output_tokens, budget.steps) == (110, 11, 2)
    assert [budget.reserved_tokens, budget.reserved_steps, budget.reserved_cost_usd] == [0] * 3


@pytest.mark.asyncio
async def test_a_slow_process_and_its_successor_settle_at_once() -> None:
    """The budget's row is never computed from what it was before the loss."""
    async with scene() as on:
        for turn in range(40):
            slow = await ledger.reserve(on.database, demand(on, key=str(turn)))
            next_one, _ = await asyncio.gather(
                ledger.reserve(on.database, demand(on, key=str(turn))), settle(on, slow, 1, 0)
            )
            await settle(on, next_one, 0, 1)
        budget = await on.budget()
    assert (budget.input_tokens, budget.output_tokens, budget.steps) == (40, 40, 80)
    assert [budget.reserved_tokens, budget.reserved_steps, budget.reserved_cost_usd] == [0] * 3


@pytest.mark.asyncio
async def test_a_refusal_keeps_what_was_lost_counted() -> None:
    async with scene(steps=1) as on:
        await ledger.reserve(on.database, demand(on, key="1"))
        with pytest.raises(BudgetExceeded):
            await ledger.reserve(on.database, demand(on, key="1"))
        budget = await on.budget()
    assert (budget.steps, budget.reserved_steps) == (1, 0)


@pytest.mark.asyncio
async def test_settling_twice_counts_once() -> None:
    async with scene() as on:
        held = await ledger.reserve(on.database, demand(on, key="1"))
        await settle(on, held, 10, 1)
        await settle(on, held, 99, 9)
        budget = await on.budget()
    assert (budget.input_tokens, budget.output_tokens, budget.steps) == (10, 1, 1)


@pytest.mark.asyncio
async def test_one_key_at_the_same_moment_makes_attempts_and_loses_nothing() -> None:
    async with scene(steps=100) as on:
        held = await asyncio.gather(*(ledger.reserve(on.database, demand(on, key="same")) for _ in range(8)))
        for reservation in held:
            await settle(on, reservation, 1, 1)
        budget, calls = await on.budget(), await on.calls()
    assert sorted(call.attempt for call in calls) == list(range(1, 9))
    assert (budget.steps, budget.reserved_steps, budget.input_tokens) == (8, 0, 8)


@pytest.mark.asyncio
async def test_without_a_budget_nothing_is_reserved() -> None:
    async with scene() as on:
        on.scope_id = uuid.uuid4()
        with pytest.raises(NotFound):
            await ledger.reserve(on.database, demand(on, key="1"))


def test_the_database_itself_refuses_negative_sums() -> None:
    scope_id = make_budget(steps=1)
    for column in ("spent_cost_usd", "reserved_tokens", "reserved_steps"):
        with pytest.raises(IntegrityError), transaction.atomic():
            Budget.objects.filter(scope_id=scope_id).update(**{column: -1})


def test_limits_can_be_raised_and_not_lowered() -> None:
    scope_id = make_budget(cost_usd=Decimal(1), steps=5)
    assert budget_raise(scope_id=scope_id, cost_usd=Decimal(2)).limits == Limits(Decimal(2), None, 5)
    with pytest.raises(InvalidInput):
        budget_raise(scope_id=scope_id, steps=4)
    with pytest.raises(InvalidInput):
        budget_raise(scope_id=scope_id, tokens=4)  # there was no limit
    with pytest.raises(InvalidInput):
        make_budget(tokens=-1)
    with pytest.raises(NotFound):
        budget_raise(scope_id=uuid.uuid4(), steps=4)


def test_summaries_say_who_spent_what() -> None:
    user = User.objects.create_user("a@example.com")
    project = Project.objects.create(name="p")
    mine, other = uuid.uuid4(), make_budget()
    budget_create(scope_id=mine, project=project, user=user, limits=Limits())
    for scope_id, model, cost in (
        (mine, "small", "0.1"),
        (mine, "large", "2"),
        (mine, "large", "3"),
        (other, "x", "9"),
    ):
        ModelCall.objects.create(
            budget_id=scope_id,
            key=uuid.uuid4().hex,
            attempt=1,
            role="coder",
            provider="p",
            model=model,
            state="settled",
            reserved_cost_usd=0,
            reserved_input_tokens=0,
            reserved_output_tokens=0,
            input_tokens=10,
            cost_usd=Decimal(cost),
        )
    for lines in (
        usage_summary(scope_id=mine),
        usage_summary(project_id=project.id),
        usage_summary(user_id=user.id),
    ):
        assert [(line.model, line.calls, line.input_tokens, line.cost_usd) for line in lines] == [
            ("large", 2, 20, Decimal(5)),
            ("small", 1, 10, Decimal("0.1")),
        ]
    assert set(budget_list([mine, other, uuid.uuid4()])) == {mine, other}
    assert budget_get(mine).limits == Limits()

"""A call counts in its session, its project and its user, and passes the limits of none, whoever else spends."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import hypothesis
import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from apps.authentication.models import User
from apps.core.database import AsyncDatabase
from apps.projects.models import Project
from apps.usage import ledger
from apps.usage.allowances import allowance_set, allowance_state
from apps.usage.errors import BudgetExceeded
from apps.usage.models import Allowance, Budget, ModelCall
from apps.usage.services import budget_create, reservations_expire
from apps.usage.types import AllowanceLimits, AllowanceScope, Limits, Usage

pytestmark = pytest.mark.django_db(transaction=True)

#: A dollar a million tokens in, ten out.
READING, WRITING = Decimal(1) / 10**6, Decimal(10) / 10**6


@dataclass
class Place:
    """Two projects and two users, and a session of each user in each project."""

    database: AsyncDatabase
    projects: list[Project]
    users: list[User]
    sessions: list[uuid.UUID]

    async def reserve(self, session: int, key: str, **tokens: int) -> ledger.Reservation:
        return await ledger.reserve(self.database, demand(self.sessions[session], key, **tokens))

    async def settle(self, held: ledger.Reservation, read: int, written: int, *, state: str = "settled") -> None:
        cost = read * READING + written * WRITING
        async with self.database.transaction() as connection:
            await ledger.settle(connection, held, Usage(read, written), cost, state=state)

    async def limit(self, scope: AllowanceScope, number: int, **limits: Any) -> None:
        owner = self.projects[number].id if scope == "project" else self.users[number].id
        given = AllowanceLimits(**limits)
        await self.database.run_in_thread(lambda: allowance_set(scope=scope, owner_id=owner, limits=given))

    async def allowances(self) -> list[Allowance]:
        return await self.database.run_in_thread(lambda: list(Allowance.objects.order_by("id")))

    async def allowance(self, scope: AllowanceScope, number: int) -> Allowance:
        owner = self.projects[number].id if scope == "project" else self.users[number].id
        return await self.database.run_in_thread(lambda: Allowance.objects.get(**{f"{scope}_id": owner}))


def demand(session: uuid.UUID, key: str, *, read: int = 100, written: int = 1000) -> ledger.Demand:
    return ledger.Demand(
        scope_id=session,
        key=key,
        role="coder",
        provider="p",
        model="m",
        output_tokens=written,
        input_ceiling=lambda: read,
        input_close=lambda: read,
        price=lambda given, made: given * READING + made * WRITING,
    )


@asynccontextmanager
async def place(limits: Limits | None = None) -> AsyncIterator[Place]:
    database = AsyncDatabase(max_connections=8)
    await database.open()

    def make() -> Place:
        projects = [Project.objects.create(name=f"p{number}") for number in range(2)]
        users = [User.objects.create_user(f"{uuid.uuid4().hex}@example.com") for _ in range(2)]
        sessions = []
        for project in projects:
            for user in users:
                sessions.append(uuid.uuid4())
                budget_create(scope_id=sessions[-1], project=project, user=user, limits=limits or Limits())
        return Place(database, projects, users, sessions)

    try:
        yield await database.run_in_thread(make)
    finally:
        await database.close()


def assert_books_agree() -> None:
    """Every sum is that of the calls; nothing that has been counted is lost, and nothing is counted twice."""
    for allowance in Allowance.objects.filter(counted=True):
        whose = {"project": allowance.project_id} if allowance.project_id else {"user": allowance.user_id}
        calls = list(ModelCall.objects.filter(budget__in=Budget.objects.filter(**whose)))
        assert sums_of(calls) == [
            allowance.spent_cost_usd, allowance.spent_tokens, allowance.spent_steps,
            allowance.reserved_cost_usd, allowance.reserved_tokens, allowance.reserved_steps,
        ]  # fmt: skip
        today = [call for call in calls if call.started_at.date() == allowance.day]
        assert sums_of(today) == [
            allowance.day_spent_cost_usd, allowance.day_spent_tokens, allowance.day_spent_steps,
            allowance.day_reserved_cost_usd, allowance.day_reserved_tokens, allowance.day_reserved_steps,
        ]  # fmt: skip


def sums_of(calls: list[ModelCall]) -> list[Any]:
    held = [call for call in calls if call.state == "reserved"]
    over = [call for call in calls if call.state != "reserved"]
    counted = [call for call in over if call.state != "failed" or call.input_tokens + call.output_tokens]
    return [
        sum((call.cost_usd for call in over), Decimal(0)),
        sum(call.input_tokens + call.output_tokens for call in over),
        len(counted),
        sum((call.reserved_cost_usd for call in held), Decimal(0)),
        sum(call.reserved_input_tokens + call.reserved_output_tokens for call in held),
        len(held),
    ]


def assert_kept(allowance: Allowance) -> None:
    for period in ("", "day_"):
        for unit in ("cost_usd", "tokens", "steps"):
            limit = getattr(allowance, f"limit_{period}{unit}")
            spent, held = (getattr(allowance, f"{period}{state}_{unit}") for state in ("spent", "reserved"))
            assert limit is None or spent + held <= limit, (period, unit, spent, held, limit)


LIMITS = st.builds(
    Limits,
    cost_usd=st.none() | st.integers(0, 150_000).map(lambda number: Decimal(number) / 10**6),
    tokens=st.none() | st.integers(0, 15_000),
    steps=st.none() | st.integers(0, 25),
)


@hypothesis.settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 2**32), limits=st.lists(LIMITS, min_size=5, max_size=5))
def test_calls_of_several_sessions_pass_no_limit_of_any_scope(seed: int, limits: list[Limits]) -> None:
    """Workers reserve, settle, fail, die and come back at once, some before and some after the limits are set."""
    chance = random.Random(seed)
    session, project, project_day, user, user_day = limits

    async def work(on: Place, worker: int, turns: int) -> None:
        for turn in range(turns):
            number = chance.randrange(4)
            key = f"{worker}-{turn}-{turns}" if chance.random() < 0.8 else f"shared-{chance.randrange(3)}"
            try:
                held = await on.reserve(number, key, read=chance.randrange(1, 900), written=chance.randrange(1, 1500))
            except BudgetExceeded:
                continue
            await asyncio.sleep(0)
            fate = chance.random()
            if fate < 0.6:
                await on.settle(held, chance.randint(0, held.input_tokens), chance.randint(0, held.output_tokens))
            elif fate < 0.8:
                await on.settle(held, 0, 0, state="failed")
            # Otherwise the worker dies with the reservation open.
            if turns > 2:
                for allowance in await on.allowances():
                    assert_kept(allowance)

    async def run() -> None:
        async with place(session) as on:
            # Spent while there are no limits: counts as well, once there are; so these are far away at first.
            await asyncio.gather(
                *(work(on, worker, 2) for worker in range(2)),
                on.limit("project", 0, total=Limits(tokens=10**9)),
                on.limit("user", 1, day=Limits(steps=10**6)),
            )
            await on.database.run_in_thread(assert_books_agree)
            spent = [await on.allowance("project", 0), await on.allowance("user", 1)]
            await on.limit("project", 0, total=raised(project, spent[0], ""), day=raised(project_day, spent[0], "day_"))
            await on.limit("user", 1, total=raised(user, spent[1], ""), day=raised(user_day, spent[1], "day_"))
            await asyncio.gather(*(work(on, worker, 4) for worker in range(5)))
            await on.database.run_in_thread(assert_books_agree)
            for scope_id in on.sessions:
                await on.database.run_in_thread(reservations_expire, scope_id=scope_id)
            await on.database.run_in_thread(assert_books_agree)
            for allowance in await on.allowances():
                assert_kept(allowance)
                assert (allowance.reserved_cost_usd, allowance.reserved_tokens, allowance.reserved_steps) == (0, 0, 0)

    asyncio.run(run())


def raised(limits: Limits, spent: Allowance, prefix: str) -> Limits:
    """So much more than is spent already."""

    def on_top(limit: Any, unit: str) -> Any:
        if limit is None:
            return None
        return limit + sum(getattr(spent, f"{prefix}{state}_{unit}") for state in ("spent", "reserved"))

    return Limits(on_top(limits.cost_usd, "cost_usd"), on_top(limits.tokens, "tokens"), on_top(limits.steps, "steps"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("scope", "limits", "fit"),
    [
        ("project", {"total": Limits(steps=7)}, 7),
        ("project", {"day": Limits(tokens=1100 * 5)}, 5),
        ("user", {"total": Limits(cost_usd=Decimal("0.0101") * 6)}, 6),
        ("user", {"day": Limits(steps=3)}, 3),
    ],
)
async def test_of_calls_at_once_exactly_those_that_fit_are_made(
    scope: AllowanceScope, limits: dict[str, Limits], fit: int
) -> None:
    async with place() as on:
        await on.limit(scope, 0, **limits)
        # Sessions 0 and 1 are of project 0, sessions 0 and 2 of user 0.
        pair = (0, 1) if scope == "project" else (0, 2)
        outcomes = await asyncio.gather(
            *(on.reserve(pair[number % 2], str(number)) for number in range(30)), return_exceptions=True
        )
        assert sum(isinstance(outcome, ledger.Reservation) for outcome in outcomes) == fit
        refusals = [outcome for outcome in outcomes if isinstance(outcome, BudgetExceeded)]
        assert len(refusals) == 30 - fit
        period = next(iter(limits))
        assert {(refusal.scope, refusal.period) for refusal in refusals} == {(scope, period)}
        # The others spend from something else.
        await on.reserve(3, "elsewhere")
        await on.database.run_in_thread(assert_books_agree)


@pytest.mark.asyncio
async def test_a_refusal_names_the_scope_what_is_spent_and_what_to_do() -> None:
    async with place() as on:
        await on.limit("project", 0, day=Limits(cost_usd=Decimal("0.02")))
        await on.settle(await on.reserve(0, "1"), 100, 900)
        await on.reserve(1, "2")
        with pytest.raises(BudgetExceeded) as caught:
            await on.reserve(1, "3")
    error, project = caught.value, on.projects[0].id
    assert error.message == (
        "the project's limit of 0.02 US dollars a day is reached: 0.0091 are spent and 0.0101 are held for calls under"
        " way, and the next call needs up to 0.00266"
    )
    assert f"./archon limits set --project {project} --day-cost-usd AMOUNT" in error.next_step
    assert "after midnight UTC" in error.next_step
    told = {name: error.extra[name] for name in ("scope", "period", "owner", "limit", "maximum", "spent")}
    assert told == {
        "scope": "project", "period": "day", "owner": str(project), "limit": "cost_usd", "maximum": "0.02",
        "spent": "0.0091",
    }  # fmt: skip


@pytest.mark.asyncio
async def test_a_shorter_reply_is_asked_for_where_only_that_fits_into_every_scope() -> None:
    async with place(Limits(tokens=5000)) as on:
        await on.limit("project", 0, total=Limits(tokens=1000))
        await on.limit("user", 0, day=Limits(tokens=800))
        assert (await on.reserve(0, "1")).output_tokens == 700
        assert (await on.reserve(1, "1", read=50, written=150)).output_tokens == 150
        with pytest.raises(BudgetExceeded) as caught:
            await on.reserve(1, "2")
        assert caught.value.scope == "project"
        await on.database.run_in_thread(assert_books_agree)


@pytest.mark.asyncio
async def test_what_a_dead_process_held_counts_in_every_scope_until_it_settles_after_all() -> None:
    async with place() as on:
        await on.limit("project", 0, total=Limits(tokens=10_000))
        await on.limit("user", 0, day=Limits(tokens=10_000))
        dead = await on.reserve(0, "1")
        alive = await on.reserve(0, "1")
        for allowance in (await on.allowance("project", 0), await on.allowance("user", 0)):
            assert (allowance.spent_tokens, allowance.spent_steps, allowance.reserved_tokens) == (1100, 1, 1100)
            assert (allowance.day_spent_tokens, allowance.day_reserved_tokens) == (1100, 1100)
        await on.settle(dead, 50, 5)
        await on.settle(alive, 60, 6)
        for allowance in (await on.allowance("project", 0), await on.allowance("user", 0)):
            assert (allowance.spent_tokens, allowance.spent_steps, allowance.reserved_tokens) == (121, 2, 0)
        await on.database.run_in_thread(assert_books_agree)


@pytest.mark.asyncio
async def test_a_new_day_begins_with_nothing_spent_and_yesterdays_calls_stay_yesterdays() -> None:
    async with place() as on:
        await on.limit("user", 0, day=Limits(steps=2), total=Limits(steps=4))
        await on.settle(await on.reserve(0, "1"), 10, 1)
        late = await on.reserve(0, "2")
        with pytest.raises(BudgetExceeded):
            await on.reserve(0, "3")
        # A night goes by.
        await on.database.run_in_thread(_a_day_earlier)
        await on.reserve(2, "3")
        allowance = await on.allowance("user", 0)
        assert (allowance.day_spent_steps, allowance.day_reserved_steps) == (0, 1)
        await on.settle(late, 10, 1)
        allowance = await on.allowance("user", 0)
        assert (allowance.day_spent_steps, allowance.day_reserved_steps, allowance.spent_steps) == (0, 1, 2)
        await on.reserve(0, "4")
        with pytest.raises(BudgetExceeded) as caught:
            await on.reserve(0, "5")
        assert caught.value.period == "total"
        await on.database.run_in_thread(assert_books_agree)
        # The clock goes back: the day that was reached stays, and so does its limit.
        await on.limit("user", 0, day=Limits(steps=2))
        await on.database.run_in_thread(_a_day_later)
        with pytest.raises(BudgetExceeded):
            await on.reserve(0, "6")
        await on.limit("user", 0, day=Limits(steps=3))
        await on.reserve(0, "6")
        await on.database.run_in_thread(assert_books_agree)


def _a_day_earlier() -> None:
    _days_move("-")


def _a_day_later() -> None:
    _days_move("+")


def _days_move(sign: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE usage_modelcall SET started_at = started_at {sign} interval '1 day'")
        cursor.execute(f"UPDATE usage_allowance SET day = day {sign} 1")


@pytest.mark.asyncio
async def test_limits_count_what_was_spent_before_they_were_set_and_only_once() -> None:
    async with place() as on:
        await on.settle(await on.reserve(0, "1"), 10, 1)
        await on.settle(await on.reserve(1, "1"), 10, 1)
        await on.reserve(1, "2")
        before = await on.database.run_in_thread(lambda: allowance_state(Allowance(project_id=on.projects[0].id)))
        for _ in range(2):
            await on.limit("project", 0, total=Limits(steps=4))
        allowance = await on.allowance("project", 0)
        after = await on.database.run_in_thread(lambda: allowance_state(allowance))
        assert (before.total, before.day) == (after.total, after.day)
        assert (after.total.steps, after.total.tokens, after.total.reserved_tokens) == (2, 22, 1100)
        # A session that is begun now counts from its start.
        on.sessions.append(uuid.uuid4())
        await on.database.run_in_thread(
            lambda: budget_create(scope_id=on.sessions[-1], project=on.projects[0], user=on.users[0], limits=Limits())
        )
        await on.reserve(4, "1")
        with pytest.raises(BudgetExceeded):
            await on.reserve(4, "2")
        # Without limits it goes on counting, so that a limit that comes later finds all of it.
        await on.limit("project", 0)
        await on.reserve(4, "2")
        await on.database.run_in_thread(assert_books_agree)


@pytest.mark.asyncio
async def test_a_project_that_is_deleted_leaves_its_users_sums() -> None:
    async with place() as on:
        await on.limit("user", 0, total=Limits(steps=2))
        await on.settle(await on.reserve(0, "1"), 10, 1)
        await on.database.run_in_thread(on.projects[0].delete)
        await on.reserve(2, "1")
        with pytest.raises(BudgetExceeded):
            await on.reserve(2, "2")
        assert not await on.database.run_in_thread(Budget.objects.filter(scope_id=on.sessions[0]).exists)

"""Reserving and settling, in SQL.

The rows of the session's budget and of its project's and user's allowances are where concurrent calls meet. A
reservation locks them, looks whether the worst case fits into each, and holds it in all or in none: in one statement,
so that two calls cannot both take the last of anything. ``ledger_statements`` has the order of the locks.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import errors

from apps.core.cancellation import uninterrupted
from apps.core.database import AsyncDatabase, Connection
from apps.core.errors import NotFound

from . import ledger_statements as sql
from .amounts import allowances_of, lost_amounts, lost_move
from .rooms import Price, money, reply_fitting, rooms_of
from .types import Usage

logger = logging.getLogger(__name__)

_NOTHING: dict[str, Any] = {name: 0 for unit in ("cost_usd", "tokens", "steps") for name in (unit, f"held_{unit}")}


@dataclass(frozen=True)
class Demand:
    """The most that a call may take. ``price`` gives US dollars for input and output tokens, None: no price known."""

    scope_id: uuid.UUID
    key: str
    role: str
    provider: str
    model: str
    output_tokens: int
    #: A number that the input cannot pass, for nothing.
    input_ceiling: Callable[[], int]
    #: A smaller number that it should not pass, for some CPU; asked for when the ceiling does not fit.
    input_close: Callable[[], int]
    price: Price


@dataclass(frozen=True)
class Reservation:
    """What is held for one call."""

    id: int
    input_tokens: int
    output_tokens: int


async def reserve(database: AsyncDatabase, demand: Demand) -> Reservation:
    """Hold the worst case of a call in every scope that it counts in, in one round trip as a rule.

    What an earlier call of the same key still holds is counted as spent, since its process is gone. A reply is held
    shorter where only that fits. Raises :class:`BudgetExceeded`.
    """
    tokens = demand.input_ceiling()
    async with database.pool.connection() as connection:
        try:
            cursor = await connection.execute(sql.RESERVE, _parameters(demand, tokens, demand.output_tokens))
            row = await cursor.fetchone()
        except errors.UniqueViolation:  # the same key, at the same moment
            row = None
    if row is not None:
        return Reservation(id=row["id"], input_tokens=tokens, output_tokens=demand.output_tokens)
    held = await _reserve_closely(database, demand, tokens, last=False)
    if held is None:
        # Counting takes CPU, so not with the budget's row locked.
        held = await _reserve_closely(database, demand, min(tokens, demand.input_close()), last=True)
    assert held is not None
    return held


async def settle(
    connection: Connection,
    reservation: Reservation,
    usage: Usage,
    cost: Decimal,
    *,
    state: str,
    error: str = "",
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Put what a call took in the place of what was held for it; a call that is settled already stays as it is.

    Inside a transaction of the caller's. ``meanwhile`` writes what belongs with it: after the session's own budget, and
    before the allowances that many sessions share, so that these are locked for a moment only.
    """
    counted = state == "settled" or usage.input_tokens + usage.output_tokens > 0
    parameters = {
        "id": reservation.id,
        "state": state,
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cached": usage.cached_tokens,
        "cache_write": usage.cache_write_tokens,
        "cost": money(cost),
        "priced": usage.priced,
        "estimated": usage.estimated,
        # Postgres takes every character but one.
        "error": error.replace("\x00", "")[:2000],
        "steps": int(counted),
    }
    cursor = await connection.execute(sql.SETTLE, parameters)
    if meanwhile is not None:
        await meanwhile()
    settled = await cursor.fetchone()
    spent: dict[str, Any] = {
        "cost_usd": parameters["cost"],
        "tokens": usage.input_tokens + usage.output_tokens,
        "steps": parameters["steps"],
    }
    if settled is not None:
        held = {"held_cost_usd": settled["held_cost_usd"], "held_tokens": settled["held_tokens"], "held_steps": 1}
        await _book(connection, allowances_of(settled), settled["day"], **spent, **held)
        return
    cursor = await connection.execute(sql.LOST, {"id": reservation.id})
    lost = await cursor.fetchone()
    if lost is None:
        cursor = await connection.execute(sql.STATE, {"id": reservation.id})
        row = await cursor.fetchone()
        if row is None or row["state"] == "reserved":
            logger.error("the call %s is not settled: its reservation is not to be seen", reservation.id)
        return
    cursor = await connection.execute(sql.LOCK, {"scope": lost["scope_id"]})
    budget = await cursor.fetchone()
    assert budget is not None
    await connection.execute(sql.FINISH_LOST, parameters)
    counted_for_it = {
        "scope": lost["scope_id"],
        "held_cost": lost["reserved_cost_usd"],
        "held_input": lost["reserved_input_tokens"],
        "held_output": lost["reserved_output_tokens"],
    }
    await connection.execute(sql.CORRECT, parameters | counted_for_it)
    await _book(
        connection,
        allowances_of(budget),
        lost["day"],
        cost_usd=spent["cost_usd"] - lost["reserved_cost_usd"],
        tokens=spent["tokens"] - lost["reserved_input_tokens"] - lost["reserved_output_tokens"],
        steps=spent["steps"] - 1,
    )


async def is_settled(connection: Connection, reservation: Reservation) -> bool:
    """Whether the call was settled with a reply; locks its row, inside a transaction of the caller's."""
    cursor = await connection.execute(sql.STATE, {"id": reservation.id})
    row = await cursor.fetchone()
    return row is not None and row["state"] == "settled"


async def _book(connection: Connection, allowances: list[int], day: datetime.date | None, **amounts: Any) -> None:
    if allowances:
        await connection.execute(sql.BOOK, {**_NOTHING, **amounts, "allowances": allowances, "day": day})


async def reserve_or_return(
    database: AsyncDatabase, demand: Demand, give_back: Callable[[Reservation], Awaitable[None]]
) -> Reservation:
    """A reservation that no cancellation leaves behind: one that was made by then is given back."""
    held: list[Reservation] = []

    async def hold() -> None:
        held.append(await reserve(database, demand))

    try:
        await uninterrupted(hold())
    except asyncio.CancelledError:
        for reservation in held:
            await give_back(reservation)
        raise
    return held[0]


async def _reserve_closely(database: AsyncDatabase, demand: Demand, tokens: int, *, last: bool) -> Reservation | None:
    """With what an earlier call of the key holds out of the way, and shorter if it is the ``last`` look: or None."""
    async with database.transaction() as connection:
        cursor = await connection.execute(sql.LOSE, {"scope": demand.scope_id, "key": demand.key})
        lost = await cursor.fetchall()
        cursor = await connection.execute(sql.LOCK, {"scope": demand.scope_id})
        budget = await cursor.fetchone()
        if budget is None:
            raise NotFound(f"there is no budget of {demand.scope_id}")
        ids = allowances_of(budget)
        allowances: list[dict[str, Any]] = []
        if ids:
            cursor = await connection.execute(sql.LOCK_ALLOWANCES, {"allowances": ids})
            allowances = await cursor.fetchall()
        for row in lost:
            await connection.execute(sql.MOVE, {"scope": demand.scope_id, **lost_move(row)})
            await _book(connection, ids, row["day"], **lost_amounts(row))
        # Where the clock went back, the call belongs to the day that was reached already.
        day = max((each for row in allowances for each in (row["today"], row["day"]) if each), default=None)
        # What was lost moved from one sum to the other, so that the room left is the same.
        output, refused = reply_fitting(
            rooms=rooms_of(budget, allowances, day=day),
            input_tokens=tokens,
            output_tokens=demand.output_tokens,
            price=demand.price,
        )
        if not last and (refused or output < demand.output_tokens):
            return None
        if not refused:
            held = _parameters(demand, tokens, output) | {"day": day}
            if ids:
                await connection.execute(sql.ROLL, {"allowances": ids, "day": day})
                await _book(
                    connection, ids, day, held_cost_usd=-held["cost"], held_tokens=-held["tokens"], held_steps=-1
                )
            cursor = await connection.execute(sql.HOLD, held)
            made = await cursor.fetchone()
            assert made is not None
            return Reservation(id=made["id"], input_tokens=tokens, output_tokens=output)
    # After the commit: what was lost stays counted.
    raise refused


def _parameters(demand: Demand, tokens: int, output: int) -> dict[str, Any]:
    return {
        "scope": demand.scope_id,
        "key": demand.key,
        "role": demand.role,
        "provider": demand.provider,
        "model": demand.model,
        "cost": money(demand.price(tokens, output) or Decimal(0)),
        "input": tokens,
        "output": output,
        "tokens": tokens + output,
    }

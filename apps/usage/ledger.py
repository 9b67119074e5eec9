"""Reserving and settling, in SQL.

The budget's row is the one place where concurrent calls meet. A reservation is one conditional UPDATE of it, so that
two calls cannot both take the last of it; locks are always taken in the order call, budget, new call.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Any

from psycopg import errors

from apps.core.database import AsyncDatabase, Connection
from apps.core.errors import NotFound

from .errors import BudgetExceeded
from .types import Usage

#: A reply that could not even have this many tokens (or the specification's own limit) is not asked for.
MIN_OUTPUT_TOKENS = 256
_SMALLEST_AMOUNT = Decimal("1e-9")

# The usual case, in one round trip: the first call of this key, and all of it fits.
_RESERVE = """
WITH budget AS (
    UPDATE usage_budget
       SET reserved_cost_usd = reserved_cost_usd + %(cost)s,
           reserved_tokens = reserved_tokens + %(tokens)s,
           reserved_steps = reserved_steps + 1
     WHERE scope_id = %(scope)s
       AND (limit_cost_usd IS NULL OR spent_cost_usd + reserved_cost_usd + %(cost)s <= limit_cost_usd)
       AND (limit_tokens IS NULL
            OR spent_input_tokens + spent_output_tokens + reserved_tokens + %(tokens)s <= limit_tokens)
       AND (limit_steps IS NULL OR spent_steps + reserved_steps + 1 <= limit_steps)
       AND NOT EXISTS (SELECT FROM usage_modelcall WHERE scope_id = %(scope)s AND key = %(key)s)
    RETURNING scope_id
)
INSERT INTO usage_modelcall
       (scope_id, key, attempt, role, provider, model, state, reserved_cost_usd, reserved_input_tokens,
        reserved_output_tokens)
SELECT scope_id, %(key)s, 1, %(role)s, %(provider)s, %(model)s, 'reserved', %(cost)s, %(input)s, %(output)s
  FROM budget
RETURNING id
"""
_LOSE = """
UPDATE usage_modelcall
   SET state = 'lost', estimated = true, input_tokens = reserved_input_tokens, output_tokens = reserved_output_tokens,
       cost_usd = reserved_cost_usd, finished_at = now()
 WHERE scope_id = %(scope)s AND key = %(key)s AND state = 'reserved'
RETURNING reserved_cost_usd, reserved_input_tokens, reserved_output_tokens
"""
_LOCK = """
SELECT limit_cost_usd, limit_tokens, limit_steps, spent_cost_usd,
       spent_input_tokens + spent_output_tokens AS spent_tokens, spent_steps,
       reserved_cost_usd, reserved_tokens, reserved_steps
  FROM usage_budget WHERE scope_id = %(scope)s FOR UPDATE
"""
_MOVE = """
UPDATE usage_budget
   SET spent_cost_usd = spent_cost_usd + %(cost)s, spent_input_tokens = spent_input_tokens + %(input)s,
       spent_output_tokens = spent_output_tokens + %(output)s, spent_steps = spent_steps + %(steps)s,
       reserved_cost_usd = reserved_cost_usd - %(cost)s, reserved_tokens = reserved_tokens - %(input)s - %(output)s,
       reserved_steps = reserved_steps - %(steps)s, estimated = true
 WHERE scope_id = %(scope)s
"""
_HOLD = """
WITH budget AS (
    UPDATE usage_budget
       SET reserved_cost_usd = reserved_cost_usd + %(cost)s, reserved_tokens = reserved_tokens + %(tokens)s,
           reserved_steps = reserved_steps + 1
     WHERE scope_id = %(scope)s
)
INSERT INTO usage_modelcall
       (scope_id, key, attempt, role, provider, model, state, reserved_cost_usd, reserved_input_tokens,
        reserved_output_tokens)
SELECT %(scope)s, %(key)s::varchar,
       (SELECT coalesce(max(attempt), 0) + 1 FROM usage_modelcall
         WHERE scope_id = %(scope)s AND key = %(key)s::varchar),
       %(role)s, %(provider)s, %(model)s, 'reserved', %(cost)s, %(input)s, %(output)s
RETURNING id
"""
_FINISH = """
    UPDATE usage_modelcall
       SET state = %(state)s, input_tokens = %(input)s, output_tokens = %(output)s, cached_tokens = %(cached)s,
           cache_write_tokens = %(cache_write)s, cost_usd = %(cost)s, priced = %(priced)s,
           estimated = %(estimated)s, error = %(error)s, finished_at = now()
"""
_SETTLE = f"""
WITH call AS ({_FINISH}
     WHERE id = %(id)s AND state = 'reserved'
    RETURNING scope_id, reserved_cost_usd AS held_cost, reserved_input_tokens + reserved_output_tokens AS held_tokens
)
UPDATE usage_budget
   SET spent_cost_usd = spent_cost_usd + %(cost)s,
       spent_input_tokens = spent_input_tokens + %(input)s,
       spent_output_tokens = spent_output_tokens + %(output)s,
       spent_cached_tokens = spent_cached_tokens + %(cached)s,
       spent_cache_write_tokens = spent_cache_write_tokens + %(cache_write)s,
       spent_steps = spent_steps + %(steps)s,
       reserved_cost_usd = reserved_cost_usd - held_cost,
       reserved_tokens = reserved_tokens - held_tokens,
       reserved_steps = reserved_steps - 1,
       estimated = estimated OR %(estimated)s,
       unpriced = unpriced OR NOT %(priced)s
  FROM call WHERE usage_budget.scope_id = call.scope_id
"""
# A call that was given up for lost, and settles after all, takes back what was counted for it. Not in one statement:
# that could compute from the budget as it was before the loss, and Postgres checks constraints on such a row, too.
_LOST = """
SELECT scope_id, reserved_cost_usd, reserved_input_tokens, reserved_output_tokens
  FROM usage_modelcall WHERE id = %(id)s AND state = 'lost' FOR UPDATE
"""
_FINISH_LOST = f"{_FINISH} WHERE id = %(id)s"
_CORRECT = """
UPDATE usage_budget
   SET spent_cost_usd = spent_cost_usd + %(cost)s - %(held_cost)s,
       spent_input_tokens = spent_input_tokens + %(input)s - %(held_input)s,
       spent_output_tokens = spent_output_tokens + %(output)s - %(held_output)s,
       spent_cached_tokens = spent_cached_tokens + %(cached)s,
       spent_cache_write_tokens = spent_cache_write_tokens + %(cache_write)s,
       spent_steps = spent_steps + %(steps)s - 1,
       unpriced = unpriced OR NOT %(priced)s
 WHERE scope_id = %(scope)s
"""


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
    price: Callable[[int, int], Decimal | None]


@dataclass(frozen=True)
class Reservation:
    """What is held for one call."""

    id: int
    input_tokens: int
    output_tokens: int


async def reserve(database: AsyncDatabase, demand: Demand) -> Reservation:
    """Hold the worst case of a call, in one round trip as a rule.

    What an earlier call of the same key still holds is counted as spent, since its process is gone. A reply is held
    shorter where only that fits. Raises :class:`BudgetExceeded`.
    """
    tokens = demand.input_ceiling()
    async with database.pool.connection() as connection:
        try:
            cursor = await connection.execute(_RESERVE, _parameters(demand, tokens, demand.output_tokens))
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
    connection: Connection, reservation: Reservation, usage: Usage, cost: Decimal, *, state: str, error: str = ""
) -> None:
    """Put what a call took in the place of what was held for it; a call that is settled already stays as it is."""
    counted = state == "settled" or usage.input_tokens + usage.output_tokens > 0
    parameters = {
        "id": reservation.id,
        "state": state,
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cached": usage.cached_tokens,
        "cache_write": usage.cache_write_tokens,
        "cost": _money(cost),
        "priced": usage.priced,
        "estimated": usage.estimated,
        # Postgres takes every character but one.
        "error": error.replace("\x00", "")[:2000],
        "steps": int(counted),
    }
    cursor = await connection.execute(_SETTLE, parameters)
    if cursor.rowcount:
        return
    async with connection.transaction():
        cursor = await connection.execute(_LOST, {"id": reservation.id})
        lost = await cursor.fetchone()
        if lost is None:
            return
        await connection.execute(_LOCK, {"scope": lost["scope_id"]})
        await connection.execute(_FINISH_LOST, parameters)
        held = {
            "scope": lost["scope_id"],
            "held_cost": lost["reserved_cost_usd"],
            "held_input": lost["reserved_input_tokens"],
            "held_output": lost["reserved_output_tokens"],
        }
        await connection.execute(_CORRECT, parameters | held)


async def _reserve_closely(database: AsyncDatabase, demand: Demand, tokens: int, *, last: bool) -> Reservation | None:
    """With what an earlier call of the key holds out of the way, and shorter if it is the ``last`` look: or None."""
    async with database.transaction() as connection:
        cursor = await connection.execute(_LOSE, {"scope": demand.scope_id, "key": demand.key})
        lost = await cursor.fetchall()
        cursor = await connection.execute(_LOCK, {"scope": demand.scope_id})
        budget = await cursor.fetchone()
        if budget is None:
            raise NotFound(f"there is no budget of {demand.scope_id}")
        if lost:
            held_cost = sum((row["reserved_cost_usd"] for row in lost), Decimal(0))
            held_input = sum(row["reserved_input_tokens"] for row in lost)
            held_output = sum(row["reserved_output_tokens"] for row in lost)
            await connection.execute(
                _MOVE,
                {
                    "scope": demand.scope_id,
                    "cost": held_cost,
                    "input": held_input,
                    "output": held_output,
                    "steps": len(lost),
                },
            )
        # What was lost moved from one sum to the other, so that the room left is the same.
        output, refused = _fitting(demand, budget, tokens)
        if not last and (refused or output < demand.output_tokens):
            return None
        if not refused:
            cursor = await connection.execute(_HOLD, _parameters(demand, tokens, output))
            row = await cursor.fetchone()
            assert row is not None
            return Reservation(id=row["id"], input_tokens=tokens, output_tokens=output)
    # After the commit: what was lost stays counted.
    raise refused


def _money(value: Decimal) -> Decimal:
    """Rounded up to the columns' precision, here rather than there: what is held has to equal what is let go."""
    return value.quantize(_SMALLEST_AMOUNT, rounding=ROUND_UP)


def _parameters(demand: Demand, tokens: int, output: int) -> dict[str, Any]:
    return {
        "scope": demand.scope_id,
        "key": demand.key,
        "role": demand.role,
        "provider": demand.provider,
        "model": demand.model,
        "cost": _money(demand.price(tokens, output) or Decimal(0)),
        "input": tokens,
        "output": output,
        "tokens": tokens + output,
    }


def _fitting(demand: Demand, budget: dict[str, Any], tokens: int) -> tuple[int, BudgetExceeded | None]:
    """How long a reply fits, or why none does."""
    output = demand.output_tokens
    least = min(MIN_OUTPUT_TOKENS, output)
    if (
        budget["limit_steps"] is not None
        and budget["spent_steps"] + budget["reserved_steps"] + 1 > budget["limit_steps"]
    ):
        return 0, _exceeded("steps", budget, 1)
    if budget["limit_tokens"] is not None:
        room = budget["limit_tokens"] - budget["spent_tokens"] - budget["reserved_tokens"]
        output = min(output, room - tokens)
        if output < least:
            return 0, _exceeded("tokens", budget, tokens + least)
    if budget["limit_cost_usd"] is not None:
        left = budget["limit_cost_usd"] - budget["spent_cost_usd"] - budget["reserved_cost_usd"]
        whole, reading = demand.price(tokens, output), demand.price(tokens, 0)
        if whole is not None and reading is not None and _money(whole) > left:
            writing = (whole - reading) / output
            output = int((left - reading) / writing) if writing > 0 else 0
            if output < least or _money(demand.price(tokens, output) or Decimal(0)) > left:
                return 0, _exceeded("cost_usd", budget, demand.price(tokens, least))
    return output, None


def _exceeded(limit: Any, budget: dict[str, Any], needed: Any) -> BudgetExceeded:
    def shown(value: Any) -> Any:
        return Decimal(f"{value:.6f}".rstrip("0").rstrip(".")) if isinstance(value, Decimal) else value

    return BudgetExceeded(
        limit=limit,
        maximum=shown(budget[f"limit_{limit}"]),
        spent=shown(budget[f"spent_{limit}"]),
        reserved=shown(budget[f"reserved_{limit}"]),
        needed=shown(needed),
    )

"""The statements of the ledger.

Rows are locked in one order: calls, the session's budget, (the session's head, by whoever settles,) allowances by their
ids. A call belongs to the day (UTC) on which it began; an allowance holds the sums of one day, and moves on to the next
with the first call that is reserved on it.
"""

from __future__ import annotations

_UNITS = ("cost_usd", "tokens", "steps")
#: What a reservation adds, by unit.
_HELD = {"cost_usd": "%(cost)s", "tokens": "%(tokens)s", "steps": "1"}
_TODAY = "(now() AT TIME ZONE 'UTC')::date"


def _of_today(column: str) -> str:
    """A sum of the day as it is today: one of another day is over."""
    return f"CASE WHEN a.day = {_TODAY} THEN a.{column} ELSE 0 END"


_FITS_ALLOWANCE = " AND ".join(
    [f"(a.day IS NULL OR a.day <= {_TODAY})"]
    + [
        f"(a.limit_{unit} IS NULL OR a.spent_{unit} + a.reserved_{unit} + {_HELD[unit]} <= a.limit_{unit})"
        for unit in _UNITS
    ]
    + [
        f"(a.limit_day_{unit} IS NULL OR {_of_today(f'day_spent_{unit}')} + {_of_today(f'day_reserved_{unit}')}"
        f" + {_HELD[unit]} <= a.limit_day_{unit})"
        for unit in _UNITS
    ]
)
_HOLD_ALLOWANCE = ", ".join(
    [f"day = {_TODAY}"]
    + [f"reserved_{unit} = a.reserved_{unit} + {_HELD[unit]}" for unit in _UNITS]
    + [f"day_spent_{unit} = {_of_today(f'day_spent_{unit}')}" for unit in _UNITS]
    + [f"day_reserved_{unit} = {_of_today(f'day_reserved_{unit}')} + {_HELD[unit]}" for unit in _UNITS]
)
_COLUMNS = (
    "scope_id, key, attempt, role, provider, model, state, reserved_cost_usd, reserved_input_tokens,"
    " reserved_output_tokens"
)

# The usual case, in one round trip: the first call of this key, and all of it fits everywhere. Rows are locked before
# any of them is changed, since a statement that has changed one can't be told to leave the others.
RESERVE = f"""
WITH budget AS MATERIALIZED (
    SELECT scope_id, project_allowance_id, user_allowance_id
      FROM usage_budget
     WHERE scope_id = %(scope)s
       AND (limit_cost_usd IS NULL OR spent_cost_usd + reserved_cost_usd + %(cost)s <= limit_cost_usd)
       AND (limit_tokens IS NULL
            OR spent_input_tokens + spent_output_tokens + reserved_tokens + %(tokens)s <= limit_tokens)
       AND (limit_steps IS NULL OR spent_steps + reserved_steps + 1 <= limit_steps)
       AND NOT EXISTS (SELECT FROM usage_modelcall WHERE scope_id = %(scope)s AND key = %(key)s)
       FOR NO KEY UPDATE
), allowance AS MATERIALIZED (
    SELECT a.id
      FROM budget, usage_allowance AS a
     WHERE a.id IN (budget.project_allowance_id, budget.user_allowance_id) AND {_FITS_ALLOWANCE}
     ORDER BY a.id
       FOR NO KEY UPDATE OF a
), verdict AS MATERIALIZED (
    SELECT scope_id FROM budget
     WHERE (SELECT count(*) FROM allowance) = num_nonnulls(project_allowance_id, user_allowance_id)
), held AS (
    UPDATE usage_budget
       SET reserved_cost_usd = reserved_cost_usd + %(cost)s,
           reserved_tokens = reserved_tokens + %(tokens)s,
           reserved_steps = reserved_steps + 1
      FROM verdict WHERE usage_budget.scope_id = verdict.scope_id
), held_above AS (
    UPDATE usage_allowance AS a SET {_HOLD_ALLOWANCE}
      FROM verdict, allowance WHERE a.id = allowance.id
)
INSERT INTO usage_modelcall ({_COLUMNS})
SELECT scope_id, %(key)s, 1, %(role)s, %(provider)s, %(model)s, 'reserved', %(cost)s, %(input)s, %(output)s
  FROM verdict
RETURNING id
"""
LOSE = """
UPDATE usage_modelcall
   SET state = 'lost', estimated = true, input_tokens = reserved_input_tokens, output_tokens = reserved_output_tokens,
       cost_usd = reserved_cost_usd, finished_at = now()
 WHERE scope_id = %(scope)s AND (%(key)s::varchar IS NULL OR key = %(key)s) AND state = 'reserved'
RETURNING reserved_cost_usd, reserved_input_tokens, reserved_output_tokens,
          (started_at AT TIME ZONE 'UTC')::date AS day
"""
LOCK = """
SELECT project_allowance_id, user_allowance_id, limit_cost_usd, limit_tokens, limit_steps, spent_cost_usd,
       spent_input_tokens + spent_output_tokens AS spent_tokens, spent_steps,
       reserved_cost_usd, reserved_tokens, reserved_steps
  FROM usage_budget WHERE scope_id = %(scope)s FOR NO KEY UPDATE
"""
LOCK_ALLOWANCES = f"""
SELECT *, {_TODAY} AS today FROM usage_allowance WHERE id = ANY(%(allowances)s) ORDER BY id FOR NO KEY UPDATE
"""
#: To the next day, on rows that are locked.
ROLL = f"""
UPDATE usage_allowance
   SET day = %(day)s,
       {", ".join(f"day_{state}_{unit} = 0" for state in ("spent", "reserved") for unit in _UNITS)}
 WHERE id = ANY(%(allowances)s) AND day IS DISTINCT FROM %(day)s
"""
#: What a call of that day adds to what is spent, and takes from what is held.
BOOK = f"""
WITH locked AS MATERIALIZED (
    SELECT id FROM usage_allowance WHERE id = ANY(%(allowances)s) ORDER BY id FOR NO KEY UPDATE
)
UPDATE usage_allowance AS a
   SET {", ".join(
       f"spent_{unit} = a.spent_{unit} + %({unit})s, reserved_{unit} = a.reserved_{unit} - %(held_{unit})s,"
       f" day_spent_{unit} = a.day_spent_{unit} + CASE WHEN a.day = %(day)s THEN %({unit})s ELSE 0 END,"
       f" day_reserved_{unit} = a.day_reserved_{unit} - CASE WHEN a.day = %(day)s THEN %(held_{unit})s ELSE 0 END"
       for unit in _UNITS
   )}
  FROM locked WHERE a.id = locked.id
"""
MOVE = """
UPDATE usage_budget
   SET spent_cost_usd = spent_cost_usd + %(cost)s, spent_input_tokens = spent_input_tokens + %(input)s,
       spent_output_tokens = spent_output_tokens + %(output)s, spent_steps = spent_steps + %(steps)s,
       reserved_cost_usd = reserved_cost_usd - %(cost)s, reserved_tokens = reserved_tokens - %(input)s - %(output)s,
       reserved_steps = reserved_steps - %(steps)s, estimated = true
 WHERE scope_id = %(scope)s
"""
HOLD = f"""
WITH budget AS (
    UPDATE usage_budget
       SET reserved_cost_usd = reserved_cost_usd + %(cost)s, reserved_tokens = reserved_tokens + %(tokens)s,
           reserved_steps = reserved_steps + 1
     WHERE scope_id = %(scope)s
)
INSERT INTO usage_modelcall ({_COLUMNS}, started_at)
SELECT %(scope)s, %(key)s::varchar,
       (SELECT coalesce(max(attempt), 0) + 1 FROM usage_modelcall
         WHERE scope_id = %(scope)s AND key = %(key)s::varchar),
       %(role)s, %(provider)s, %(model)s, 'reserved', %(cost)s, %(input)s, %(output)s,
       greatest(now(), %(day)s::date::timestamp AT TIME ZONE 'UTC')
RETURNING id
"""
_FINISH = """
    UPDATE usage_modelcall
       SET state = %(state)s, input_tokens = %(input)s, output_tokens = %(output)s, cached_tokens = %(cached)s,
           cache_write_tokens = %(cache_write)s, cost_usd = %(cost)s, priced = %(priced)s,
           estimated = %(estimated)s, error = %(error)s, finished_at = now()
"""
SETTLE = f"""
WITH call AS ({_FINISH}
     WHERE id = %(id)s AND state = 'reserved'
    RETURNING scope_id, reserved_cost_usd AS held_cost_usd,
              reserved_input_tokens + reserved_output_tokens AS held_tokens,
              (started_at AT TIME ZONE 'UTC')::date AS day
)
UPDATE usage_budget
   SET spent_cost_usd = spent_cost_usd + %(cost)s,
       spent_input_tokens = spent_input_tokens + %(input)s,
       spent_output_tokens = spent_output_tokens + %(output)s,
       spent_cached_tokens = spent_cached_tokens + %(cached)s,
       spent_cache_write_tokens = spent_cache_write_tokens + %(cache_write)s,
       spent_steps = spent_steps + %(steps)s,
       reserved_cost_usd = reserved_cost_usd - held_cost_usd,
       reserved_tokens = reserved_tokens - held_tokens,
       reserved_steps = reserved_steps - 1,
       estimated = estimated OR %(estimated)s,
       unpriced = unpriced OR NOT %(priced)s
  FROM call WHERE usage_budget.scope_id = call.scope_id
RETURNING project_allowance_id, user_allowance_id, held_cost_usd, held_tokens, day
"""
#: How a call stands; waits for whoever is settling it at the moment.
STATE = "SELECT state FROM usage_modelcall WHERE id = %(id)s FOR NO KEY UPDATE"
# A call that was given up for lost, and settles after all, takes back what was counted for it. Not in one statement:
# that could compute from the budget as it was before the loss, and Postgres checks constraints on such a row, too.
LOST = """
SELECT scope_id, reserved_cost_usd, reserved_input_tokens, reserved_output_tokens,
       (started_at AT TIME ZONE 'UTC')::date AS day
  FROM usage_modelcall WHERE id = %(id)s AND state = 'lost' FOR UPDATE
"""
FINISH_LOST = f"{_FINISH} WHERE id = %(id)s"
CORRECT = """
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

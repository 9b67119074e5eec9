"""Rows of the ledger as the amounts that its statements add and take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def allowances_of(budget: Mapping[str, Any]) -> list[int]:
    """The allowances that the budget's spending counts in as well."""
    return [one for one in (budget["project_allowance_id"], budget["user_allowance_id"]) if one is not None]


def lost_move(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a call whose process died, for the budget: all that was held counts as spent."""
    return {
        "cost": row["reserved_cost_usd"],
        "input": row["reserved_input_tokens"],
        "output": row["reserved_output_tokens"],
        "steps": 1,
    }


def lost_amounts(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same for allowances."""
    amounts = {
        "cost_usd": row["reserved_cost_usd"],
        "tokens": row["reserved_input_tokens"] + row["reserved_output_tokens"],
        "steps": 1,
    }
    return amounts | {f"held_{unit}": amount for unit, amount in amounts.items()}

"""Budgets from the ORM's side. Calls themselves go through ``gateway``; which models, ``choices`` decides."""

from __future__ import annotations

import uuid
from decimal import Decimal

from django.db import transaction
from django.db.models import F, Sum
from django.db.models.functions import Now

from apps.authentication.models import User
from apps.core.errors import InvalidInput, NotFound
from apps.projects.models import Project

from .models import Budget, CallState, ModelCall
from .selectors import budget_state
from .types import BudgetState, Limits


def budget_create(*, scope_id: uuid.UUID, project: Project, user: User | None, limits: Limits) -> BudgetState:
    """Open a budget, with nothing spent. Raises :class:`InvalidInput` for a limit below zero."""
    _check(limits)
    budget = Budget.objects.create(
        scope_id=scope_id,
        project=project,
        user=user,
        limit_cost_usd=limits.cost_usd,
        limit_tokens=limits.tokens,
        limit_steps=limits.steps,
    )
    return budget_state(budget)


@transaction.atomic
def budget_raise(
    *, scope_id: uuid.UUID, cost_usd: Decimal | None = None, tokens: int | None = None, steps: int | None = None
) -> BudgetState:
    """Set higher limits; one that is None stays. Raises :class:`InvalidInput` where that would lower a limit."""
    budget = Budget.objects.select_for_update().filter(scope_id=scope_id).first()
    if budget is None:
        raise NotFound(f"there is no budget of {scope_id}")
    wanted = {"limit_cost_usd": cost_usd, "limit_tokens": tokens, "limit_steps": steps}
    changed = {name: value for name, value in wanted.items() if value is not None}
    for name, value in changed.items():
        present = getattr(budget, name)
        if present is None or value < present:
            raise InvalidInput(f"{name} is {present} and can only be raised, not set to {value}")
        setattr(budget, name, value)
    budget.save(update_fields=list(changed))
    return budget_state(budget)


@transaction.atomic
def reservations_expire(*, scope_id: uuid.UUID) -> int:
    """Count what is still reserved as spent, and say how many calls that were.

    For a scope that nobody works on any more (its process died, or it has ended): the vendor may have charged for the
    calls that were under way. One that settles after all corrects itself.
    """
    calls = ModelCall.objects.select_for_update().filter(budget_id=scope_id, state=CallState.RESERVED)
    ids = list(calls.values_list("id", flat=True))
    if not ids:
        return 0
    lost = ModelCall.objects.filter(id__in=ids)
    held = lost.aggregate(
        cost=Sum("reserved_cost_usd"), read=Sum("reserved_input_tokens"), written=Sum("reserved_output_tokens")
    )
    lost.update(
        state=CallState.LOST,
        estimated=True,
        input_tokens=F("reserved_input_tokens"),
        output_tokens=F("reserved_output_tokens"),
        cost_usd=F("reserved_cost_usd"),
        finished_at=Now(),
    )
    Budget.objects.filter(scope_id=scope_id).update(
        spent_cost_usd=F("spent_cost_usd") + held["cost"],
        spent_input_tokens=F("spent_input_tokens") + held["read"],
        spent_output_tokens=F("spent_output_tokens") + held["written"],
        spent_steps=F("spent_steps") + len(ids),
        reserved_cost_usd=F("reserved_cost_usd") - held["cost"],
        reserved_tokens=F("reserved_tokens") - held["read"] - held["written"],
        reserved_steps=F("reserved_steps") - len(ids),
        estimated=True,
    )
    return len(ids)


def _check(limits: Limits) -> None:
    for name, value in (("cost_usd", limits.cost_usd), ("tokens", limits.tokens), ("steps", limits.steps)):
        if value is not None and value < 0:
            raise InvalidInput(f"the limit of {name} cannot be below zero")

"""Reading what was spent."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal

from django.db.models import Count, Sum

from apps.core.errors import NotFound

from .models import Budget, ModelCall
from .types import BudgetState, Limits, UsageLine


def budget_get(scope_id: uuid.UUID) -> BudgetState:
    """The budget as it is now. Raises :class:`NotFound`."""
    budget = Budget.objects.filter(scope_id=scope_id).first()
    if budget is None:
        raise NotFound(f"there is no budget of {scope_id}")
    return budget_state(budget)


def budget_list(scope_ids: list[uuid.UUID]) -> dict[uuid.UUID, BudgetState]:
    """Several budgets by one query, for lists of sessions."""
    return {budget.scope_id: budget_state(budget) for budget in Budget.objects.filter(scope_id__in=scope_ids)}


def usage_summary(
    *,
    scope_id: uuid.UUID | None = None,
    project_id: uuid.UUID | None = None,
    user_id: uuid.UUID | None = None,
    since: datetime | None = None,
) -> list[UsageLine]:
    """What each model took, the dearest first, within everything that is given."""
    calls = ModelCall.objects.all()
    if scope_id is not None:
        calls = calls.filter(budget_id=scope_id)
    if project_id is not None:
        calls = calls.filter(budget__project_id=project_id)
    if user_id is not None:
        calls = calls.filter(budget__user_id=user_id)
    if since is not None:
        calls = calls.filter(started_at__gte=since)
    rows = calls.values("provider", "model").annotate(
        calls=Count("id"),
        read=Sum("input_tokens"),
        written=Sum("output_tokens"),
        cached=Sum("cached_tokens"),
        cache_write=Sum("cache_write_tokens"),
        cost=Sum("cost_usd"),
    )
    return [
        UsageLine(
            provider=row["provider"],
            model=row["model"],
            calls=row["calls"],
            input_tokens=row["read"],
            output_tokens=row["written"],
            cached_tokens=row["cached"],
            cache_write_tokens=row["cache_write"],
            cost_usd=row["cost"],
        )
        for row in rows.order_by("-cost", "provider", "model")
    ]


def budget_state(budget: Budget) -> BudgetState:
    return BudgetState(
        scope_id=budget.scope_id,
        limits=Limits(cost_usd=budget.limit_cost_usd, tokens=budget.limit_tokens, steps=budget.limit_steps),
        input_tokens=budget.spent_input_tokens,
        output_tokens=budget.spent_output_tokens,
        cached_tokens=budget.spent_cached_tokens,
        cache_write_tokens=budget.spent_cache_write_tokens,
        cost_usd=Decimal(budget.spent_cost_usd),
        steps=budget.spent_steps,
        reserved_cost_usd=Decimal(budget.reserved_cost_usd),
        reserved_tokens=budget.reserved_tokens,
        reserved_steps=budget.reserved_steps,
        estimated=budget.estimated,
        unpriced=budget.unpriced,
    )

"""Reading what was spent."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, DurationField, ExpressionWrapper, F, OuterRef, Q, Subquery, Sum
from django.db.models.expressions import Combinable

from apps.core.errors import NotFound

from .models import Budget, CallState, ModelCall
from .types import BudgetState, CallTook, Limits, RoleUsage, UsageLine

_SUMS: dict[str, Any] = {
    "calls": Count("id"),
    "failed": Count("id", filter=Q(state=CallState.FAILED)),
    "read": Sum("input_tokens"),
    "written": Sum("output_tokens"),
    "cached": Sum("cached_tokens"),
    "cache_write": Sum("cache_write_tokens"),
    "cost": Sum("cost_usd"),
    "unpriced": Count("id", filter=Q(priced=False)),
    "guessed": Count("id", filter=Q(estimated=True)),
}


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
    rows = calls.values("provider", "model").annotate(**_SUMS)
    return sorted((_line(row) for row in rows), key=_dearest_first)


def usage_by_model(scope_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[UsageLine]]:
    """What each model took within each of several scopes, the dearest first; one query."""
    rows = ModelCall.objects.filter(budget_id__in=scope_ids).values("budget_id", "provider", "model")
    found: dict[uuid.UUID, list[UsageLine]] = {scope_id: [] for scope_id in scope_ids}
    for row in rows.annotate(**_SUMS):
        found[row["budget_id"]].append(_line(row))
    return {scope_id: sorted(lines, key=_dearest_first) for scope_id, lines in found.items()}


def calls_took(scope_ids: Collection[uuid.UUID]) -> list[CallTook]:
    """Every call that was answered within these scopes, by the owner that its key begins with."""
    rows = ModelCall.objects.filter(budget_id__in=scope_ids, state=CallState.SETTLED)
    return [
        CallTook(owner, read + written)
        for key, read, written in rows.values_list("key", "input_tokens", "output_tokens")
        if (owner := _owner_read(key)) is not None
    ]


def _owner_read(key: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(key.partition(":")[0])
    except ValueError:
        return None


def usage_by_role(scope_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[RoleUsage]]:
    """What each role took within each of several scopes, by name; one query."""
    rows = ModelCall.objects.filter(budget_id__in=scope_ids).values("budget_id", "role")
    found: dict[uuid.UUID, list[RoleUsage]] = {scope_id: [] for scope_id in scope_ids}
    for row in rows.annotate(**_SUMS).order_by("role"):
        found[row["budget_id"]].append(RoleUsage(role=row["role"], **_share(row)))
    return found


def _dearest_first(line: UsageLine) -> tuple[Decimal, str, str]:
    return -line.cost_usd, line.provider, line.model


def _line(row: Mapping[str, Any]) -> UsageLine:
    return UsageLine(provider=row["provider"], model=row["model"], **_share(row))


def _share(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "calls": row["calls"],
        "failed": row["failed"],
        "input_tokens": row["read"],
        "output_tokens": row["written"],
        "cached_tokens": row["cached"],
        "cache_write_tokens": row["cache_write"],
        "cost_usd": row["cost"],
        "priced": row["unpriced"] == 0,
        "estimated": row["guessed"] > 0,
    }


def answering_model(*, scope: str, key: Combinable) -> tuple[Subquery, Subquery]:
    """Provider and model that answered a call, for rows of another table: by its column with the scope, and the key."""
    settled = ModelCall.objects.filter(budget_id=OuterRef(scope), key=key, state=CallState.SETTLED).order_by("-attempt")
    return Subquery(settled.values("provider")[:1]), Subquery(settled.values("model")[:1])


def calls_seconds(*, scope_id: uuid.UUID, key_begins: str, since: datetime) -> float:
    """How long the calls of models have taken that were made for keys which begin so, and since then."""
    took = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())
    calls = ModelCall.objects.filter(budget_id=scope_id, key__startswith=key_begins, started_at__gte=since)
    spent = calls.aggregate(sum=Sum(took))["sum"]
    return float(spent.total_seconds()) if spent else 0.0


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

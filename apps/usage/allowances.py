"""Limits of projects and users: who may set them, and how their sums come to be those of all their sessions.

Sessions that nobody limits must not wait for each other, so an allowance counts nothing until it has a limit. Then
budgets come to it one by one, each with what it has spent so far under its own lock, and stay.
"""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, F, Q, Sum, Value
from django.db.models.functions import Coalesce

from apps.authentication.models import User
from apps.core.errors import InvalidInput, NotFound, PermissionDenied
from apps.projects.models import Project
from apps.projects.selectors import project_get_for_user

from . import ledger_statements as sql
from .models import Allowance, Budget, CallState, ModelCall
from .types import AllowanceLimits, AllowanceScope, AllowanceState, Limits, Spent

#: What a budget brings with it: all of it, and that of its calls which began on the allowance's day.
_ADD = """
WITH day AS (
    SELECT coalesce(sum(cost_usd) FILTER (WHERE state <> 'reserved'), 0) AS spent_cost_usd,
           coalesce(sum(input_tokens + output_tokens) FILTER (WHERE state <> 'reserved'), 0) AS spent_tokens,
           count(*) FILTER (WHERE state IN ('settled', 'lost') OR state = 'failed' AND input_tokens + output_tokens > 0)
               AS spent_steps,
           coalesce(sum(reserved_cost_usd) FILTER (WHERE state = 'reserved'), 0) AS reserved_cost_usd,
           coalesce(sum(reserved_input_tokens + reserved_output_tokens) FILTER (WHERE state = 'reserved'), 0)
               AS reserved_tokens,
           count(*) FILTER (WHERE state = 'reserved') AS reserved_steps
      FROM usage_modelcall
     WHERE scope_id = %(scope)s AND (started_at AT TIME ZONE 'UTC')::date = %(day)s
)
UPDATE usage_allowance AS a
   SET spent_cost_usd = a.spent_cost_usd + budget.spent_cost_usd,
       spent_tokens = a.spent_tokens + budget.spent_input_tokens + budget.spent_output_tokens,
       spent_steps = a.spent_steps + budget.spent_steps,
       reserved_cost_usd = a.reserved_cost_usd + budget.reserved_cost_usd,
       reserved_tokens = a.reserved_tokens + budget.reserved_tokens,
       reserved_steps = a.reserved_steps + budget.reserved_steps,
       day_spent_cost_usd = a.day_spent_cost_usd + day.spent_cost_usd,
       day_spent_tokens = a.day_spent_tokens + day.spent_tokens,
       day_spent_steps = a.day_spent_steps + day.spent_steps,
       day_reserved_cost_usd = a.day_reserved_cost_usd + day.reserved_cost_usd,
       day_reserved_tokens = a.day_reserved_tokens + day.reserved_tokens,
       day_reserved_steps = a.day_reserved_steps + day.reserved_steps
  FROM usage_budget AS budget, day
 WHERE a.id = %(allowance)s AND budget.scope_id = %(scope)s
"""


_FAILED_AND_COUNTED = Q(state=CallState.FAILED) & (Q(input_tokens__gt=0) | Q(output_tokens__gt=0))


@dataclass(frozen=True)
class AllowancesAbove:
    """What a session counts in, beside its own budget; the rows are locked."""

    project: Allowance
    user: Allowance | None


def limits_check(limits: Limits) -> None:
    """Raises :class:`InvalidInput` for a limit below zero."""
    for name, value in (("cost_usd", limits.cost_usd), ("tokens", limits.tokens), ("steps", limits.steps)):
        if value is not None and value < 0:
            raise InvalidInput(f"the limit of {name} cannot be below zero")


def allowances_lock(*, project_id: uuid.UUID, user_id: uuid.UUID | None) -> AllowancesAbove:
    """The allowances of a project and a user, made where they are missing, locked until the transaction ends."""
    Allowance.objects.bulk_create(
        [Allowance(project_id=project_id), *([Allowance(user_id=user_id)] if user_id else [])], ignore_conflicts=True
    )
    locked = Allowance.objects.select_for_update(no_key=True).order_by("id")
    rows = list(locked.filter(Q(project_id=project_id) | Q(user_id=user_id, user_id__isnull=False)))
    return AllowancesAbove(
        project=next(row for row in rows if row.project_id == project_id),
        user=next((row for row in rows if row.user_id is not None), None),
    )


def allowance_set(*, scope: AllowanceScope, owner_id: uuid.UUID, limits: AllowanceLimits) -> Allowance:
    """Set the limits of a project or a user, whole. What was spent before counts from now on as well."""
    for each in (limits.total, limits.day):
        limits_check(each)
    if limits.sessions is not None and limits.sessions < 0:
        raise InvalidInput("the limit of sessions cannot be below zero")
    owner = {f"{scope}_id": owner_id}
    Allowance.objects.bulk_create([Allowance(**owner)], ignore_conflicts=True)
    allowance = Allowance.objects.get(**owner)
    if limits.total != Limits() or limits.day != Limits():
        _count_begin(allowance, scope)
    with transaction.atomic():
        allowance = Allowance.objects.select_for_update(no_key=True).get(id=allowance.id)
        for prefix, given in (("limit_", limits.total), ("limit_day_", limits.day)):
            for unit in ("cost_usd", "tokens", "steps"):
                setattr(allowance, prefix + unit, getattr(given, unit))
        allowance.limit_sessions = limits.sessions
        names = [f"limit_{period}{unit}" for period in ("", "day_") for unit in ("cost_usd", "tokens", "steps")]
        allowance.save(update_fields=[*names, "limit_sessions", "updated_at"])
    return allowance


def _count_begin(allowance: Allowance, scope: AllowanceScope) -> None:
    """Have every budget of the project or the user count here. Done again, it does what was left undone."""
    with transaction.atomic():
        # Whoever makes a budget holds this row, so that none is made in between without counting.
        Allowance.objects.select_for_update(no_key=True).get(id=allowance.id)
        Allowance.objects.filter(id=allowance.id).update(counted=True)
    left = Budget.objects.filter(
        **{f"{scope}_allowance__isnull": True, scope: allowance.project_id or allowance.user_id}
    )
    for scope_id in list(left.values_list("scope_id", flat=True)):
        _budget_count(allowance, scope, scope_id)


@transaction.atomic
def _budget_count(allowance: Allowance, scope: AllowanceScope, scope_id: uuid.UUID) -> None:
    # A call moves with its budget, so neither changes while this is locked.
    column = f"{scope}_allowance"
    budget = Budget.objects.select_for_update(no_key=True).filter(scope_id=scope_id).first()
    if budget is None or getattr(budget, f"{column}_id") is not None:
        return
    setattr(budget, column, allowance)
    budget.save(update_fields=[column])
    with connection.cursor() as cursor:
        cursor.execute(sql.LOCK_ALLOWANCES, {"allowances": [allowance.id]})
        names = [each.name for each in cursor.description or ()]
        row: dict[str, Any] = dict(zip(names, cursor.fetchone() or (), strict=True))
        day = max(each for each in (row["today"], row["day"]) if each)
        cursor.execute(sql.ROLL, {"allowances": [allowance.id], "day": day})
        cursor.execute(_ADD, {"allowance": allowance.id, "scope": scope_id, "day": day})


def allowance_state(allowance: Allowance) -> AllowanceState:
    """The limits, and what is spent and held; of an allowance that counts nothing yet, by the budgets themselves."""
    limits = AllowanceLimits(
        total=Limits(allowance.limit_cost_usd, allowance.limit_tokens, allowance.limit_steps),
        day=Limits(allowance.limit_day_cost_usd, allowance.limit_day_tokens, allowance.limit_day_steps),
        sessions=allowance.limit_sessions,
    )
    if not allowance.counted:
        return AllowanceState(limits, *_sums_of_rows(allowance))
    today = datetime.datetime.now(datetime.UTC).date()
    return AllowanceState(limits, _sums(allowance, ""), _sums(allowance, "day_") if allowance.day == today else Spent())


def _sums(allowance: Allowance, prefix: str) -> Spent:
    columns = [f"{prefix}{state}_{unit}" for state in ("spent", "reserved") for unit in ("cost_usd", "tokens", "steps")]
    return Spent(*(getattr(allowance, column) for column in columns))


def _sums_of_rows(allowance: Allowance) -> tuple[Spent, Spent]:
    owned = Q(project_id=allowance.project_id) if allowance.project_id else Q(user_id=allowance.user_id)
    zero = Value(Decimal(0))
    total = Budget.objects.filter(owned).aggregate(
        cost_usd=Coalesce(Sum("spent_cost_usd"), zero),
        tokens=Coalesce(Sum(F("spent_input_tokens") + F("spent_output_tokens")), 0),
        steps=Coalesce(Sum("spent_steps"), 0),
        reserved_cost_usd=Coalesce(Sum("reserved_cost_usd"), zero),
        reserved_tokens=Coalesce(Sum("reserved_tokens"), 0),
        reserved_steps=Coalesce(Sum("reserved_steps"), 0),
    )
    midnight = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    held = Q(state=CallState.RESERVED)
    calls = ModelCall.objects.filter(budget__in=Budget.objects.filter(owned), started_at__gte=midnight)
    day = calls.aggregate(
        cost_usd=Coalesce(Sum("cost_usd", filter=~held), zero),
        tokens=Coalesce(Sum(F("input_tokens") + F("output_tokens"), filter=~held), 0),
        steps=Count("id", filter=Q(state__in=[CallState.SETTLED, CallState.LOST]) | _FAILED_AND_COUNTED),
        reserved_cost_usd=Coalesce(Sum("reserved_cost_usd", filter=held), zero),
        reserved_tokens=Coalesce(Sum(F("reserved_input_tokens") + F("reserved_output_tokens"), filter=held), 0),
        reserved_steps=Count("id", filter=held),
    )
    return Spent(**total), Spent(**day)


def allowance_get_for_user(*, user: User, scope: AllowanceScope, owner_id: uuid.UUID, write: bool = False) -> Allowance:
    """The allowance of a project or user, as it is (unsaved: there never was one), if this user may see it.

    Projects: whoever is in them; an owner may write. Users: themselves and staff; staff may write. Staff may do both
    for every project too. Raises NotFound, PermissionDenied.
    """
    if scope == "project":
        if not (user.is_staff and Project.objects.filter(id=owner_id).exists()):
            project_get_for_user(user=user, project_id=owner_id, manage=write)
    elif owner_id != user.id and not (user.is_staff and User.objects.filter(id=owner_id).exists()):
        raise NotFound("There is no such user, or you may not see their limits.")
    elif write and not user.is_staff:
        raise PermissionDenied(
            "Only an administrator sets the limits of users.",
            next_step="ask an administrator; your projects' limits are yours to set",
        )
    owner = {f"{scope}_id": owner_id}
    return Allowance.objects.filter(**owner).first() or Allowance(**owner)

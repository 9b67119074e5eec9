"""Budgets from the ORM's side. Calls themselves go through ``gateway``; which models, ``choices`` decides."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from apps.authentication.models import User
from apps.core.errors import InvalidInput, NotFound
from apps.projects.models import Project

from . import ledger_statements as sql
from .allowances import allowances_lock, limits_check
from .amounts import allowances_of, lost_amounts, lost_move
from .models import Budget, CallState, ModelCall
from .selectors import budget_state
from .types import BudgetState, Limits

_STANDING = uuid.UUID("0d5d1f0a-8a3c-4c83-9a60-2f6c2f2f1a57")


@transaction.atomic
def budget_create(*, scope_id: uuid.UUID, project: Project, user: User | None, limits: Limits) -> BudgetState:
    """Open a budget, with nothing spent. Raises :class:`InvalidInput` for a limit below zero."""
    limits_check(limits)
    above = allowances_lock(project_id=project.id, user_id=user.id if user else None)
    budget = Budget.objects.create(
        scope_id=scope_id,
        project=project,
        user=user,
        project_allowance=above.project if above.project.counted else None,
        user_allowance=above.user if above.user and above.user.counted else None,
        limit_cost_usd=limits.cost_usd,
        limit_tokens=limits.tokens,
        limit_steps=limits.steps,
    )
    return budget_state(budget)


def standing_scope(*, project_id: uuid.UUID, user_id: uuid.UUID | None) -> uuid.UUID:
    """The budget of what is called outside of sessions, for a user in a project; opened where there is none.

    It has no limits of its own: those of the project and of the user hold.
    """
    scope_id = uuid.uuid5(_STANDING, f"{project_id}:{user_id or ''}")
    if not Budget.objects.filter(scope_id=scope_id).exists():
        project = Project.objects.filter(id=project_id).first()
        if project is None:
            raise NotFound("There is no such project.")
        user = User.objects.filter(id=user_id).first() if user_id else None
        try:
            budget_create(scope_id=scope_id, project=project, user=user, limits=Limits())
        except IntegrityError:  # somebody else was as quick
            pass
    return scope_id


def budget_lock(*, scope_id: uuid.UUID) -> None:
    """Hold the budget's row until the transaction ends: by whoever goes on to lock the session or its allowances.

    A call that is settled locks in this order; the other way round, the two would wait for each other.
    """
    Budget.objects.select_for_update(no_key=True).filter(scope_id=scope_id).first()


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


def reservations_expire(*, scope_id: uuid.UUID) -> int:
    """Count what is still reserved as spent, in every scope, and say how many calls that were.

    For a session that nobody works on any more (its process died, or it has ended): the vendor may have charged for the
    calls that were under way. One that settles after all corrects itself.
    """
    return calls_expire(scope_id=scope_id, key=None)


@transaction.atomic
def calls_expire(*, scope_id: uuid.UUID, key: str | None) -> int:
    """The same for the calls of one key (None: of all)."""
    with connection.cursor() as cursor:
        cursor.execute(sql.LOSE, {"scope": scope_id, "key": key})
        lost = _rows(cursor)
        if not lost:
            return 0
        cursor.execute(sql.LOCK, {"scope": scope_id})
        allowances = allowances_of(_rows(cursor)[0])
        for row in lost:
            cursor.execute(sql.MOVE, {"scope": scope_id, **lost_move(row)})
            if allowances:
                cursor.execute(sql.BOOK, {"allowances": allowances, "day": row["day"], **lost_amounts(row)})
    return len(lost)


def lost_calls_expire(*, role: str, after: timedelta) -> int:
    """Count as spent what is held for calls of a role that nobody has settled by then, and say how many those were."""
    dead = ModelCall.objects.filter(role=role, state=CallState.RESERVED, started_at__lt=timezone.now() - after)
    return sum(calls_expire(scope_id=scope, key=key) for scope, key in dead.values_list("budget_id", "key")[:1000])


def _rows(cursor: Any) -> list[dict[str, Any]]:
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

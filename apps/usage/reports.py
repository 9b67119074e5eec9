"""Who spent what: calls summed up by session, project, user, day or model, as far as somebody may see them."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from django.db.models import CharField, Count, F, Max, Q, QuerySet, Sum, Value
from django.db.models.functions import Cast, Coalesce, Concat, TruncDate

from apps.authentication.models import User
from apps.core.errors import InvalidInput
from apps.projects.models import Project

from .models import CallState, ModelCall

Grouping = Literal["all", "session", "project", "user", "day", "model"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)

_TEXT = CharField()
#: What stands for a group, and what it is called.
_KEYS: Mapping[Grouping, Any] = {
    "all": Value("all", output_field=_TEXT),
    "session": Cast("budget_id", _TEXT),
    "project": Cast("budget__project_id", _TEXT),
    "user": Coalesce(Cast("budget__user_id", _TEXT), Value("")),
    "day": Cast(TruncDate("started_at", tzinfo=datetime.UTC), _TEXT),
    "model": Concat("provider", Value(":"), "model", output_field=_TEXT),
}
_NAMES: Mapping[Grouping, Any] = {
    "project": Max("budget__project__name"),
    "user": Coalesce(Max("budget__user__email"), Value("")),
}
_SUMS: dict[str, Any] = {
    "calls": Count("id"),
    "failed": Count("id", filter=Q(state=CallState.FAILED)),
    "lost": Count("id", filter=Q(state=CallState.LOST)),
    "read": Sum("input_tokens"),
    "written": Sum("output_tokens"),
    "cached": Sum("cached_tokens"),
    "kept": Sum("cache_write_tokens"),
    "cost": Sum("cost_usd"),
    "held": Sum("reserved_cost_usd", filter=Q(state=CallState.RESERVED)),
    "unpriced": Count("id", filter=Q(priced=False)),
    "guessed": Count("id", filter=Q(estimated=True)),
}


@dataclass(frozen=True)
class UsageQuery:
    """Which calls, and by what they are summed up. Days are of UTC; both ends belong to it."""

    by: Grouping = "project"
    first: datetime.date | None = None
    last: datetime.date | None = None
    project_id: uuid.UUID | None = None
    user_id: uuid.UUID | None = None
    session_id: uuid.UUID | None = None


def usage_report(*, user: User, query: UsageQuery) -> QuerySet[Any, Any]:
    """Rows for ``report_row``: days from the newest, everything else from the dearest.

    Whoever is in a project sees its calls, and everybody their own; staff sees all. Raises InvalidInput for a span that
    ends before it begins.
    """
    calls = ModelCall.objects.all()
    if not user.is_staff:
        own = Project.objects.filter(memberships__user=user)
        calls = calls.filter(Q(budget__project__in=own) | Q(budget__user=user))
    if query.first and query.last and query.last < query.first:
        raise InvalidInput("the last day is before the first", next_step="exchange from and to")
    if query.first is not None:
        calls = calls.filter(started_at__gte=_midnight(query.first))
    # No day comes after the last that there is.
    if query.last is not None and query.last < datetime.date.max:
        calls = calls.filter(started_at__lt=_midnight(query.last + datetime.timedelta(days=1)))
    for column, wanted in (
        ("budget__project_id", query.project_id),
        ("budget__user_id", query.user_id),
        ("budget_id", query.session_id),
    ):
        if wanted is not None:
            calls = calls.filter(**{column: wanted})
    rows: QuerySet[Any, Any] = calls.annotate(group=_KEYS[query.by]).values("group")
    rows = rows.annotate(name=_NAMES.get(query.by, F("group")), **_SUMS)
    return rows.order_by("-group") if query.by == "day" else rows.order_by("-cost", "group")


def report_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """As ``UsageRowSerializer`` renders it."""
    return {
        "key": row["group"],
        "name": row["name"],
        "calls": row["calls"],
        "failed": row["failed"],
        "lost": row["lost"],
        "input_tokens": row["read"],
        "output_tokens": row["written"],
        "cached_tokens": row["cached"],
        "cache_write_tokens": row["kept"],
        "cost_usd": row["cost"],
        "reserved_cost_usd": row["held"] or 0,
        "priced": row["unpriced"] == 0,
        "estimated": row["guessed"] > 0,
    }


def _midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time.min, datetime.UTC)

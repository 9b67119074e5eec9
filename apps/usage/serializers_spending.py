"""Shapes of what was spent, and of the limits on it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rest_framework import serializers

from .models import DIGITS
from .reports import GROUPINGS
from .types import AllowanceLimits, Limits


class UsageQuerySerializer(serializers.Serializer[Any]):
    by = serializers.ChoiceField(choices=GROUPINGS, default="project", help_text="`all`: one row.")
    since = serializers.DateField(required=False, help_text="The first day (UTC).")
    until = serializers.DateField(required=False, help_text="The last day (UTC), which belongs to it.")
    project = serializers.UUIDField(required=False)
    user = serializers.UUIDField(required=False)
    session = serializers.UUIDField(required=False)

    def get_fields(self) -> dict[str, Any]:
        # As people write them in an address; `from` is no name in Python.
        fields = super().get_fields()
        return {{"since": "from", "until": "to"}.get(name, name): field for name, field in fields.items()}


class UsageRowSerializer(serializers.Serializer[Any]):
    key = serializers.CharField(
        help_text="Id of the session, project or user, the day, or PROVIDER:MODEL; empty: a user who is gone."
    )
    name = serializers.CharField(help_text="The project's name, the user's e-mail address, else the key.")
    calls = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Of the calls.")
    lost = serializers.IntegerField(help_text="Of the calls: their process died, and all that was held counts.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField(help_text="Of the input tokens.")
    cache_write_tokens = serializers.IntegerField(help_text="Of the input tokens.")
    cost_usd = serializers.FloatField()
    reserved_cost_usd = serializers.FloatField(help_text="Held for calls that are under way.")
    priced = serializers.BooleanField(help_text="False: the price of a call is not known, and cost_usd too small.")
    estimated = serializers.BooleanField(help_text="Some of the tokens were not counted by the provider.")


class SpendingLimitsSerializer(serializers.Serializer[Any]):
    """None, or left out: no limit."""

    cost_usd = serializers.DecimalField(
        max_digits=DIGITS,
        decimal_places=6,
        min_value=Decimal(0),
        max_value=Decimal(10**8),
        required=False,
        allow_null=True,
        default=None,
        coerce_to_string=False,
        help_text="US dollars.",
    )
    tokens = serializers.IntegerField(
        min_value=0, max_value=10**15, required=False, allow_null=True, default=None, help_text="In and out together."
    )
    steps = serializers.IntegerField(
        min_value=0, max_value=10**12, required=False, allow_null=True, default=None, help_text="Calls of models."
    )


class AllowanceSetSerializer(serializers.Serializer[Any]):
    total = SpendingLimitsSerializer(required=False, help_text="In all, what was spent before included.")
    day = SpendingLimitsSerializer(required=False, help_text="On one day (UTC).")
    sessions = serializers.IntegerField(
        min_value=0,
        max_value=10**6,
        required=False,
        allow_null=True,
        default=None,
        help_text="Sessions at work at once; null: what the server says.",
    )

    def to_internal_value(self, data: Any) -> Any:
        # A misspelt limit would be none, and not say so.
        known = {"": self.fields, "total": SpendingLimitsSerializer().fields, "day": SpendingLimitsSerializer().fields}
        for name, fields in known.items():
            given = data.get(name, {}) if name and isinstance(data, dict) else data
            unknown = sorted(set(map(str, given)) - set(fields)) if isinstance(given, dict) else []
            if unknown:
                problem = f"There is no such limit; there are {', '.join(fields)}."
                raise serializers.ValidationError({f"{name}.{unknown[0]}".strip(".")[:100]: problem})
        return super().to_internal_value(data)


class SpentSerializer(serializers.Serializer[Any]):
    cost_usd = serializers.FloatField()
    tokens = serializers.IntegerField()
    steps = serializers.IntegerField()
    reserved_cost_usd = serializers.FloatField(help_text="Held for calls that are under way, or whose process died.")
    reserved_tokens = serializers.IntegerField()
    reserved_steps = serializers.IntegerField()


class PeriodSerializer(serializers.Serializer[Any]):
    limits = SpendingLimitsSerializer()
    spent = SpentSerializer()


class AllowanceSerializer(serializers.Serializer[Any]):
    scope = serializers.ChoiceField(choices=["project", "user"])
    id = serializers.UUIDField()
    sessions = serializers.IntegerField(
        allow_null=True, help_text="Sessions at work at once; null: no limit of the project, or the server's for users."
    )
    total = PeriodSerializer()
    day = PeriodSerializer()


def limits_of(fields: dict[str, Any]) -> AllowanceLimits:
    """The limits among validated fields."""
    return AllowanceLimits(
        total=Limits(**fields.get("total") or {}),
        day=Limits(**fields.get("day") or {}),
        sessions=fields["sessions"],
    )

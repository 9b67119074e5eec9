"""Shapes that every part of the API shares."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses members that it doesn't know: a misspelt one would choose nothing, and not say so."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = sorted(str(name) for name in set(data) - set(self.fields))
            if unknown:
                known = ", ".join(self.fields)
                raise serializers.ValidationError({unknown[0][:100]: f"There is no such member; there are {known}."})
        return super().to_internal_value(data)


class ProblemSerializer(serializers.Serializer[Any]):
    """RFC 9457 problem details; some problems have further members."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField(help_text="What kind of problem it is, for programs.")
    next_step = serializers.CharField(help_text="What to do about it; may be empty.")
    request_id = serializers.CharField(help_text="Names the request in the server's log.")
    errors = serializers.DictField(  # type: ignore[assignment]  # a field here, whatever the base class has
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="Messages by field name, dotted where nested.",
    )


class HealthSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok"])


class PartSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    ok = serializers.BooleanField()
    detail = serializers.CharField()
    required = serializers.BooleanField(  # type: ignore[assignment]  # a field here, whatever the base class has
        help_text="Whether the server is unready without it."
    )


class ReadinessSerializer(serializers.Serializer[Any]):
    ready = serializers.BooleanField()
    parts = PartSerializer(many=True)

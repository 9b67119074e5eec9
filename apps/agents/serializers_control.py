"""Shapes of steering and of rewinds over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.agents.services.messages import MESSAGE_LIMIT
from apps.agents.services.steps import STEP_EVENTS
from apps.agents.types import SessionStatus

_PAGE = 500


class SteerSerializer(serializers.Serializer[Any]):
    text = serializers.CharField(max_length=MESSAGE_LIMIT)
    key = serializers.CharField(
        max_length=200,
        required=False,
        allow_blank=True,
        default="",
        help_text="As the header Idempotency-Key: the same again is the same message.",
    )


class RewindSerializer(serializers.Serializer[Any]):
    seq = serializers.IntegerField(min_value=1, max_value=2**62, help_text="The event's number: one of steps/.")


class StepQuerySerializer(serializers.Serializer[Any]):
    after = serializers.IntegerField(min_value=0, max_value=2**62, required=False, default=0)
    limit = serializers.IntegerField(min_value=1, max_value=_PAGE, required=False, default=_PAGE)


class StepSerializer(serializers.Serializer[Any]):
    seq = serializers.IntegerField(help_text="By which one goes back to it.")
    type = serializers.ChoiceField(choices=[(kind, kind) for kind in STEP_EVENTS], source="event.type")
    summary = serializers.CharField(help_text="One line for people.")
    turn = serializers.IntegerField(help_text="Which follow-up it belongs to; 0: the goal.")
    problem = serializers.CharField(
        allow_blank=True, help_text="Why its files could not be kept, which rules a rewind to it out; empty: they were."
    )
    created_at = serializers.DateTimeField(source="event.created_at")


class StepPageSerializer(serializers.Serializer[Any]):
    steps = StepSerializer(many=True)
    next_after = serializers.IntegerField(help_text="Ask for what comes after this next.")
    session_status = serializers.ChoiceField(choices=SessionStatus.choices)

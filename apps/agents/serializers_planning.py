"""Shapes of what planners are asked for, and of what people say to plans, over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.agents.serializers import SessionCreateSerializer
from apps.agents.services.plan_approvals import COMMENT_LIMIT
from apps.core.serializers import StrictSerializer
from apps.projects.autonomy import Autonomy


class _PlannerSerializer(SessionCreateSerializer):
    """How a planner's session works: as any session's request, without what is fixed."""

    agent_type = None  # type: ignore[assignment]
    plan = None  # type: ignore[assignment]
    merged = None  # type: ignore[assignment]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return self.limits_fill(attrs)


class PlanGenerateSerializer(_PlannerSerializer):
    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return SessionCreateSerializer.validate(self, {**attrs, "plan": None})


class PlanReviseSerializer(_PlannerSerializer):
    project = None  # type: ignore[assignment]
    goal = None  # type: ignore[assignment]
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="Of the plan as it was seen.")
    comment = serializers.CharField(max_length=COMMENT_LIMIT, help_text="What should be different.")


class FeatureBreakDownSerializer(_PlannerSerializer):
    project = None  # type: ignore[assignment]
    goal = None  # type: ignore[assignment]
    version = serializers.IntegerField(
        min_value=1,
        max_value=2**31 - 1,
        required=False,
        allow_null=True,
        default=None,
        help_text="Of its plan as it was seen; left out: it doesn't matter.",
    )
    comment = serializers.CharField(
        max_length=COMMENT_LIMIT,
        required=False,
        allow_blank=True,
        default="",
        help_text="What the planner should know.",
    )


class PlanApproveSerializer(StrictSerializer):
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="Of the plan as it was seen.")
    autonomy = serializers.ChoiceField(
        choices=Autonomy.choices, required=False, help_text="The session's from now on; where it may only look: needed."
    )


class PlanRejectSerializer(StrictSerializer):
    """Strict above all: without a comment, as with one that is misspelt, the session would be cancelled."""

    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="Of the plan as it was seen.")
    comment = serializers.CharField(
        max_length=COMMENT_LIMIT,
        required=False,
        allow_blank=True,
        default="",
        help_text="The planner makes another version of it; without one the session is cancelled.",
    )

"""Shapes of plans, features and tasks."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, cast

from rest_framework import serializers

from apps.planning.models import Feature, Plan, PlanStatus, Task, TaskStatus
from apps.planning.selectors import feature_statuses


class TaskSerializer(serializers.ModelSerializer[Task]):
    class Meta:
        model = Task
        fields: ClassVar = [
            "id",
            "key",
            "feature",
            "title",
            "instructions",
            "type",
            "agent_type",
            "depends_on",
            "files",
            "creates",
            "checks",
            "position",
            "status",
            "blocked_reason",
            "attempts",
            "result",
            "commit",
            "check_results",
            "findings",
            "session_id",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields


class FeatureSerializer(serializers.ModelSerializer[Feature]):
    status = serializers.SerializerMethodField(help_text="By its tasks, and those of the features within it.")
    tasks = TaskSerializer(many=True, read_only=True)

    class Meta:
        model = Feature
        fields: ClassVar = [
            "id",
            "key",
            "project",
            "plan",
            "parent",
            "title",
            "description",
            "priority",
            "effort",
            "depends_on",
            "status",
            "blocked_reason",
            "position",
            "created_by",
            "tasks",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields

    def get_status(self, feature: Feature) -> TaskStatus:
        # One dict for all that is shown at once: those of a plan are worked out together.
        shown = cast(dict[str, Any], self.context)
        known: dict[uuid.UUID, TaskStatus] = shown.setdefault("feature_statuses", {})
        if feature.id not in known:
            known |= feature_statuses(feature.plan.features.all() if feature.plan else [feature])
        return known[feature.id]


class PlanSerializer(serializers.ModelSerializer[Plan]):
    features = FeatureSerializer(many=True, read_only=True)

    class Meta:
        model = Plan
        fields: ClassVar = [
            "id",
            "project",
            "goal",
            "summary",
            "intent",
            "version",
            "approved_version",
            "status",
            "estimate",
            "features",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields


class PlanFilterSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField(required=False)
    status = serializers.ChoiceField(choices=PlanStatus.choices, required=False)
    q = serializers.CharField(
        max_length=200, required=False, allow_blank=True, default="", help_text="Words of the goal or the summary."
    )


class FeatureFilterSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField(required=False)
    plan = serializers.UUIDField(required=False)


class TaskFilterSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField(required=False)
    plan = serializers.UUIDField(required=False)
    feature = serializers.UUIDField(required=False)
    status = serializers.ChoiceField(choices=TaskStatus.choices, required=False)

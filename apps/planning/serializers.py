"""Shapes of plans, features and tasks."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from apps.planning.models import Feature, Plan, Task, TaskStatus


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
            "blocked_reason",
            "position",
            "created_by",
            "tasks",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields


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


class FeatureFilterSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField(required=False)
    plan = serializers.UUIDField(required=False)


class TaskFilterSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField(required=False)
    plan = serializers.UUIDField(required=False)
    feature = serializers.UUIDField(required=False)
    status = serializers.ChoiceField(choices=TaskStatus.choices, required=False)


class FeatureCreateSerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField()
    plan = serializers.UUIDField(required=False, allow_null=True, default=None)
    title = serializers.CharField(max_length=300)
    description = serializers.CharField(max_length=20_000, required=False, allow_blank=True, default="")


class FeatureUpdateSerializer(serializers.Serializer[Any]):
    title = serializers.CharField(max_length=300, required=False)
    description = serializers.CharField(max_length=20_000, required=False, allow_blank=True)

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
            "feature",
            "title",
            "instructions",
            "position",
            "status",
            "attempts",
            "result",
            "commit",
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
            "project",
            "plan",
            "title",
            "description",
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
            "version",
            "status",
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

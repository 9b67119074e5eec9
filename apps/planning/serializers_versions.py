"""Shapes of how far a plan is, and of its versions."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from apps.planning.models import PlanVersion
from apps.planning.types import Intent, PlanStatus, TaskAgent, TaskStatus, TaskType


class ProgressTaskSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    key = serializers.CharField(allow_blank=True, help_text="What the plan calls it.")
    title = serializers.CharField()
    type = serializers.ChoiceField(choices=TaskType.choices)
    agent_type = serializers.ChoiceField(choices=TaskAgent.choices)
    status = serializers.ChoiceField(choices=TaskStatus.choices)
    blocked_reason = serializers.CharField(allow_blank=True)
    attempts = serializers.IntegerField()
    commit = serializers.CharField(allow_blank=True)
    needs = serializers.ListField(
        child=serializers.CharField(), help_text="Keys of the tasks before it, those of its features' dependencies too."
    )
    files = serializers.ListField(child=serializers.CharField())
    creates = serializers.ListField(child=serializers.CharField())
    checks = serializers.ListField(child=serializers.CharField(), help_text="Commands that tell whether it is done.")


class ProgressFeatureSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    key = serializers.CharField(allow_blank=True)
    title = serializers.CharField()
    depth = serializers.IntegerField(help_text="How many features it is in.")
    status = serializers.ChoiceField(choices=TaskStatus.choices)
    blocked_reason = serializers.CharField(allow_blank=True)
    tasks = ProgressTaskSerializer(many=True)


class ProgressPlanSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    summary = serializers.CharField()
    status = serializers.ChoiceField(choices=PlanStatus.choices)
    intent = serializers.ChoiceField(choices=Intent.choices)
    version = serializers.IntegerField()
    approved_version = serializers.IntegerField(allow_null=True)
    estimate = serializers.DictField(
        help_text="What is left of it is likely to take; empty: nothing is left, or nobody has guessed."
    )
    done = serializers.IntegerField(help_text="Tasks that are done.")
    total = serializers.IntegerField(help_text="Tasks that are to be done: those that are skipped don't count.")
    features = ProgressFeatureSerializer(many=True, help_text="Each before those within it.")


class ChangeSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=["added", "removed", "changed", "moved"])
    what = serializers.ChoiceField(choices=["plan", "feature", "task"])
    key = serializers.CharField(allow_blank=True)
    title = serializers.CharField(allow_blank=True)
    field = serializers.CharField(allow_blank=True, help_text="What of it was changed.")
    before = serializers.JSONField()
    after = serializers.JSONField()


class VersionSerializer(serializers.ModelSerializer[PlanVersion]):
    author_email = serializers.EmailField(source="author.email", default="", help_text="Empty: an agent made it.")
    changes = ChangeSerializer(many=True, help_text="What is different from the version before.")

    class Meta:
        model = PlanVersion
        fields: ClassVar = [
            "number",
            "reason",
            "source",
            "author",
            "author_email",
            "session_id",
            "changes",
            "created_at",
        ]
        read_only_fields = fields


class VersionDetailSerializer(VersionSerializer):
    document = serializers.JSONField(help_text="The whole plan as it was.")

    class Meta(VersionSerializer.Meta):
        fields: ClassVar = [*VersionSerializer.Meta.fields, "document"]
        read_only_fields = fields


class VersionDiffSerializer(serializers.Serializer[Any]):
    # "from" is a word of Python's.
    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {
            "from": serializers.IntegerField(source="first"),
            "to": serializers.IntegerField(source="last"),
            "changes": ChangeSerializer(many=True),
            "text": serializers.CharField(allow_blank=True, help_text="The same in words."),
        }


class VersionDiffQuerySerializer(serializers.Serializer[Any]):
    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {
            "from": serializers.IntegerField(
                min_value=1, max_value=2**31 - 1, required=False, help_text="Default: the version before `to`."
            ),
            "to": serializers.IntegerField(
                min_value=1, max_value=2**31 - 1, required=False, help_text="Default: the newest."
            ),
        }

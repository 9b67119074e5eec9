"""Shapes of what people change in plans, over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.core.serializers import StrictSerializer
from apps.planning.document import (
    COMMAND_LENGTH,
    MAX_CHECKS,
    MAX_FILES,
    MAX_TASKS,
    PATH_LENGTH,
    TEXT_LENGTH,
    TITLE_LENGTH,
)
from apps.planning.operations import MAX_OPERATIONS
from apps.planning.serializers_versions import ProgressPlanSerializer
from apps.planning.types import Effort, Priority, TaskAgent, TaskType

#: Of what is sent as Markdown; a request's own limit is smaller as a rule.
_MARKDOWN_LENGTH = 5_000_000
_GOAL_LENGTH = 100_000
_REASON_LENGTH = 2_000
_KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class ChangeFields(serializers.Serializer[Any]):
    """What comes with every change of a plan."""

    version = serializers.IntegerField(
        min_value=1,
        max_value=2**31 - 1,
        required=False,
        allow_null=True,
        default=None,
        help_text="The version that you saw: a conflict (plan_changed) once there is a newer one. Default: whichever.",
    )
    reason = serializers.CharField(
        max_length=_REASON_LENGTH,
        required=False,
        allow_blank=True,
        default="",
        help_text="Kept with the version. Default: what was changed.",
    )


class ChangeSerializer(ChangeFields, StrictSerializer):
    """A change whose address says all of it."""


class PlanEditSerializer(ChangeFields, StrictSerializer):
    operations = serializers.ListField(
        child=serializers.DictField(),
        min_length=1,
        max_length=MAX_OPERATIONS,
        help_text="Done in turn, all of them or none: each {op, …}, see docs/reference/plans.md.",
    )


def _keys() -> serializers.ListField:
    return serializers.ListField(
        child=serializers.RegexField(_KEY_PATTERN), max_length=MAX_TASKS, required=False, help_text="Keys."
    )


def _paths(help_text: str) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(max_length=PATH_LENGTH), max_length=MAX_FILES, required=False, help_text=help_text
    )


class CheckRequestSerializer(StrictSerializer):
    command = serializers.CharField(max_length=COMMAND_LENGTH, help_text="Exit code 0: the task is done.")
    name = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class FeatureFields(serializers.Serializer[Any]):
    description = serializers.CharField(max_length=TEXT_LENGTH, required=False, allow_blank=True)
    priority = serializers.ChoiceField(choices=Priority.choices, required=False)
    effort = serializers.ChoiceField(choices=Effort.choices, required=False)
    depends_on = _keys()
    blocked_reason = serializers.CharField(
        max_length=2_000, required=False, allow_blank=True, help_text="Nothing of it starts until this is empty."
    )


class PlaceFields(serializers.Serializer[Any]):
    """Where it stands among others of its kind; at most one of these."""

    before = serializers.RegexField(_KEY_PATTERN, required=False, help_text="The key of the one that comes next.")
    after = serializers.RegexField(_KEY_PATTERN, required=False, help_text="The key of the one before.")


class FeatureCreateSerializer(FeatureFields, PlaceFields, ChangeFields, StrictSerializer):
    project = serializers.UUIDField()
    plan = serializers.UUIDField(
        required=False, allow_null=True, default=None, help_text="Without one it has title, description and size alone."
    )
    parent = serializers.UUIDField(  # type: ignore[assignment]  # a field here, whatever the base class has
        required=False, allow_null=True, help_text="The feature of the same plan that it is a part of."
    )
    key = serializers.RegexField(_KEY_PATTERN, required=False, help_text="Default: the next that is free.")
    title = serializers.CharField(max_length=TITLE_LENGTH)


class FeatureUpdateSerializer(FeatureFields, PlaceFields, ChangeFields, StrictSerializer):
    title = serializers.CharField(max_length=TITLE_LENGTH, required=False)
    parent = serializers.UUIDField(  # type: ignore[assignment]  # a field here, whatever the base class has
        required=False, allow_null=True, help_text="null: it is a part of none."
    )


class TaskWorkFields(serializers.Serializer[Any]):
    instructions = serializers.CharField(max_length=TEXT_LENGTH, required=False, allow_blank=True)
    type = serializers.ChoiceField(choices=TaskType.choices, required=False)
    agent_type = serializers.ChoiceField(choices=TaskAgent.choices, required=False)
    depends_on = _keys()
    files = _paths("Paths that it is expected to touch.")
    creates = _paths("Paths that it makes.")
    checks = serializers.ListField(child=CheckRequestSerializer(), max_length=MAX_CHECKS, required=False)


class TaskFields(TaskWorkFields):
    blocked_reason = serializers.CharField(
        max_length=2_000, required=False, allow_blank=True, help_text="It doesn't start until this is empty."
    )


class TaskCreateSerializer(TaskFields, PlaceFields, ChangeFields, StrictSerializer):
    feature = serializers.UUIDField()
    key = serializers.RegexField(_KEY_PATTERN, required=False, help_text="Default: the next that is free.")
    title = serializers.CharField(max_length=TITLE_LENGTH)


class TaskUpdateSerializer(TaskFields, PlaceFields, ChangeFields, StrictSerializer):
    title = serializers.CharField(max_length=TITLE_LENGTH, required=False)
    feature = serializers.UUIDField(required=False, help_text="The one that it moves into, of the same plan.")


class RemoveSerializer(ChangeFields, StrictSerializer):
    cascade = serializers.BooleanField(
        required=False, default=False, help_text="What depends on it ceases to, rather than keeping it from going."
    )


class TaskPartSerializer(TaskWorkFields, StrictSerializer):
    key = serializers.RegexField(
        _KEY_PATTERN, required=False, help_text="Default: the next that is free; the split task's own may go on."
    )
    title = serializers.CharField(max_length=TITLE_LENGTH)


class TaskSplitSerializer(ChangeFields, StrictSerializer):
    parts = serializers.ListField(
        child=TaskPartSerializer(),
        min_length=2,
        max_length=MAX_TASKS,
        help_text="In order. A part that doesn't say what it depends on depends on the one before.",
    )


class RestoreSerializer(StrictSerializer):
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="The one to go back to.")
    expected = serializers.IntegerField(
        min_value=1,
        max_value=2**31 - 1,
        required=False,
        allow_null=True,
        default=None,
        help_text="The version that you saw, as `version` in other changes.",
    )
    reason = serializers.CharField(max_length=_REASON_LENGTH, required=False, allow_blank=True, default="")


class MarkdownSerializer(serializers.Serializer[Any]):
    markdown = serializers.CharField(trim_whitespace=False)


class MarkdownPutSerializer(ChangeFields, StrictSerializer):
    markdown = serializers.CharField(max_length=_MARKDOWN_LENGTH, trim_whitespace=False)


class PlanImportSerializer(StrictSerializer):
    project = serializers.UUIDField()
    goal = serializers.CharField(
        max_length=_GOAL_LENGTH, required=False, allow_blank=True, default="", help_text="Default: its summary."
    )
    markdown = serializers.CharField(max_length=_MARKDOWN_LENGTH, trim_whitespace=False)


class DiagramSerializer(serializers.Serializer[Any]):
    mermaid = serializers.CharField()


class CarriedOutSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.CharField()


class PlanProgressSerializer(ProgressPlanSerializer):
    sessions = CarriedOutSerializer(many=True, help_text="Those that carry it out or did, the newest first.")

"""Shapes of rules and approvals over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.agents.services.approvals import MESSAGE_LIMIT
from apps.agents.services.policy_rules import ALWAYS_MINUTES, MINUTES
from apps.agents.types import ApprovalDecision, PolicyEffect, Risk
from apps.projects.autonomy import Autonomy

RULE_RISKS = [(value, label) for value, label in Risk.choices if value != Risk.TALK]


class RuleSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    project = serializers.UUIDField(source="project_id", allow_null=True, help_text="null: every project here.")
    effect = serializers.ChoiceField(choices=PolicyEffect.choices)
    tool = serializers.CharField(allow_blank=True)
    path = serializers.CharField(allow_blank=True)
    command = serializers.CharField(allow_blank=True)
    risk = serializers.ChoiceField(choices=RULE_RISKS, allow_blank=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    note = serializers.CharField(allow_blank=True)
    source = serializers.CharField(  # type: ignore[assignment]  # a field of this name is no attribute
        allow_blank=True, help_text="approval:CALL where it comes from an approval."
    )
    created_by = serializers.EmailField(source="created_by.email")
    created_at = serializers.DateTimeField()


class RuleWriteSerializer(serializers.Serializer[Any]):
    """All conditions that are given have to hold; one at least is needed."""

    effect = serializers.ChoiceField(choices=PolicyEffect.choices)
    tool = serializers.CharField(
        max_length=100, required=False, allow_blank=True, help_text="A pattern: run_command, git_*, *_file."
    )
    path = serializers.CharField(
        max_length=500, required=False, allow_blank=True, help_text="A pattern: *.pem, src/**/*.py, secrets/."
    )
    command = serializers.CharField(
        max_length=2000, required=False, allow_blank=True, help_text="A pattern of one command: `git push *`."
    )
    risk = serializers.ChoiceField(choices=RULE_RISKS, required=False, allow_blank=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="null: never.")
    note = serializers.CharField(max_length=500, required=False, allow_blank=True)


class RuleCreateSerializer(RuleWriteSerializer):
    project = serializers.UUIDField(
        required=False, allow_null=True, default=None, help_text="null: the whole server; administrators alone."
    )


class RulePatchSerializer(RuleWriteSerializer):
    effect = serializers.ChoiceField(choices=PolicyEffect.choices, required=False)


class RuleQuerySerializer(serializers.Serializer[Any]):
    project = serializers.UUIDField(required=False, help_text="That project's rules, and the server's.")


class AlwaysSerializer(serializers.Serializer[Any]):
    minutes = serializers.IntegerField(
        min_value=1, max_value=MINUTES, default=ALWAYS_MINUTES, help_text="For how long the rule holds."
    )


class ApproveSerializer(serializers.Serializer[Any]):
    call = serializers.UUIDField()
    decision = serializers.ChoiceField(choices=ApprovalDecision.choices)
    digest = serializers.CharField(max_length=64, help_text="Of the call as it was shown.")
    arguments = serializers.DictField(required=False, help_text="With edit: what to call the tool with instead, whole.")
    message = serializers.CharField(
        max_length=MESSAGE_LIMIT, required=False, allow_blank=True, default="", help_text="With reject: for the model."
    )
    always = AlwaysSerializer(required=False, help_text="With approve: let the same call through from now on.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        edits = attrs["decision"] == ApprovalDecision.EDIT
        if edits != ("arguments" in attrs):
            raise serializers.ValidationError({"arguments": "They belong to the decision edit, and it needs them."})
        if "always" in attrs and attrs["decision"] != ApprovalDecision.APPROVE:
            raise serializers.ValidationError({"always": "Only what is approved can be allowed from now on."})
        return attrs


class AutonomySerializer(serializers.Serializer[Any]):
    autonomy = serializers.ChoiceField(choices=Autonomy.choices)

"""Shapes of handing a session's branch over, over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from apps.agents.models import Publication
from apps.agents.serializers import ReasonSerializer
from apps.agents.services.publishing import TITLE_LENGTH


class PublishSerializer(serializers.Serializer[Any]):
    branch = serializers.CharField(
        max_length=200, required=False, allow_blank=True, default="", help_text="On the origin; default: archon/… ."
    )
    target = serializers.CharField(
        max_length=200,
        required=False,
        allow_blank=True,
        default="",
        help_text="What the pull request is for; default: the branch that the session started from.",
    )
    pull_request = serializers.BooleanField(
        default=False, help_text="Open one, or bring the one that is there up to date."
    )
    title = serializers.CharField(
        max_length=TITLE_LENGTH, required=False, allow_blank=True, default="", help_text="Default: from the goal."
    )
    draft = serializers.BooleanField(
        required=False, allow_null=True, default=None, help_text="Default: unless the outcome is verified."
    )
    allow_failing = serializers.BooleanField(default=False, help_text="Publish although the checks fail.")


class PublicationSerializer(serializers.ModelSerializer[Publication]):
    session = serializers.UUIDField(source="session_id", read_only=True)
    reason = ReasonSerializer(
        allow_null=True, read_only=True, help_text="Why it failed, or is tried again at retry_at."
    )
    number = serializers.IntegerField(allow_null=True, read_only=True, help_text="Of the pull request.")
    url = serializers.CharField(read_only=True, help_text="Of the pull request; empty: there is none.")
    is_draft = serializers.BooleanField(read_only=True)
    pushed_commit = serializers.CharField(read_only=True, help_text="What is on pushed_branch by this session's hand.")
    notice = serializers.CharField(read_only=True, help_text="What came out otherwise than it was asked for.")

    class Meta:
        model = Publication
        fields: ClassVar = [
            *("session", "state", "branch", "target", "commit", "pull_request", "title", "draft"),
            *("pushed_branch", "pushed_commit", "forge", "number", "url", "is_draft", "notice", "reason", "retry_at"),
            *("created_at", "updated_at"),
        ]
        read_only_fields = fields

"""Shapes of attachments, sources and messages over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.agents.services.attachments import MAX_COUNT
from apps.agents.services.messages import MESSAGE_LIMIT
from apps.agents.services.sources import MAX_SOURCES, TEXT_LIMIT
from apps.agents.types import AttachmentKind, SessionOutcome, SessionStatus, SourceKind


class AttachmentUploadSerializer(serializers.Serializer[Any]):
    file = serializers.FileField(help_text="The file; its name counts, what it says it is doesn't.")


class AttachmentSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField(help_text="What it is called below /attachments in the sandbox.")
    kind = serializers.ChoiceField(choices=AttachmentKind.choices, help_text="By its bytes.")
    media_type = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes.")
    sha256 = serializers.CharField()
    session = serializers.UUIDField(source="session_id", allow_null=True)
    created_at = serializers.DateTimeField()


class SourceSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=SourceKind.choices)
    text = serializers.CharField(max_length=TEXT_LIMIT, required=False, allow_blank=True, default="")
    url = serializers.CharField(
        max_length=2000, required=False, allow_blank=True, default="", help_text="On a host of ARCHON_SOURCE_HOSTS."
    )
    attachment = serializers.UUIDField(required=False, allow_null=True, default=None, help_text="An upload's id.")


class GoalMaterialSerializer(serializers.Serializer[Any]):
    """What a goal may come with, or from."""

    attachments = serializers.ListField(
        child=serializers.UUIDField(), max_length=MAX_COUNT, required=False, default=list, help_text="Uploads' ids."
    )
    sources = serializers.ListField(
        child=SourceSerializer(),
        max_length=MAX_SOURCES,
        required=False,
        default=list,
        help_text="Issues and failing CI logs to start from; each with one of text, url and attachment.",
    )


class MoreLimitsSerializer(serializers.Serializer[Any]):
    cost_usd = serializers.DecimalField(
        max_digits=12, decimal_places=6, min_value=0, required=False, coerce_to_string=False, help_text="US dollars."
    )
    tokens = serializers.IntegerField(min_value=1, max_value=10**12, required=False)
    steps = serializers.IntegerField(min_value=1, max_value=10**6, required=False)
    seconds = serializers.IntegerField(min_value=1, max_value=10**7, required=False, help_text="From now on.")


class MessageSendSerializer(serializers.Serializer[Any]):
    text = serializers.CharField(max_length=MESSAGE_LIMIT)
    attachments = serializers.ListField(
        child=serializers.UUIDField(), max_length=MAX_COUNT, required=False, default=list, help_text="Uploads' ids."
    )
    more = MoreLimitsSerializer(required=False, help_text="Added to what the session may spend.")


class FormerSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=SessionStatus.choices)
    outcome = serializers.ChoiceField(choices=SessionOutcome.choices, allow_null=True)
    report = serializers.CharField(allow_blank=True)
    head_commit = serializers.CharField(allow_blank=True)
    merged_commit = serializers.CharField(allow_blank=True)


class MessageSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    turn = serializers.IntegerField()
    text = serializers.CharField()
    former = FormerSerializer(help_text="How the session stood when it came.")
    created_at = serializers.DateTimeField()

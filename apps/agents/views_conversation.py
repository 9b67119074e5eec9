"""Attachments, and messages to sessions that have ended, over HTTP: parse, call one service or selector, render."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.agents import selectors, serializers
from apps.agents import serializers_conversation as shapes
from apps.agents.presenters import session_accepted
from apps.agents.services import attachments, messages
from apps.authentication.bearer import request_user
from apps.core.errors import InvalidInput
from apps.usage.types import Limits

KEY_LENGTH = 200


class AttachmentListView(APIView):
    parser_classes = [MultiPartParser]

    @extend_schema(
        operation_id="agents_attachments_create",
        tags=["agents"],
        request={"multipart/form-data": shapes.AttachmentUploadSerializer},
        responses={201: shapes.AttachmentSerializer},
    )
    def post(self, request: Request) -> Response:
        """Upload a file, to be named in a session's request or in a message. Unused, it is removed after a day."""
        data = shapes.AttachmentUploadSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        file = data.validated_data["file"]
        stored = attachments.attachment_upload(
            user=request_user(request),
            name=file.name or "file",
            declared_type=file.content_type or "",
            chunks=file.chunks(),
        )
        return Response(shapes.AttachmentSerializer(stored).data, status=201)


class AttachmentDetailView(APIView):
    @extend_schema(operation_id="agents_attachments_get", tags=["agents"], responses=shapes.AttachmentSerializer)
    def get(self, request: Request, attachment_id: uuid.UUID) -> Response:
        """One of your uploads."""
        found = attachments.attachment_get_for_user(user=request_user(request), attachment_id=attachment_id)
        return Response(shapes.AttachmentSerializer(found).data)

    @extend_schema(operation_id="agents_attachments_delete", tags=["agents"], responses={204: None})
    def delete(self, request: Request, attachment_id: uuid.UUID) -> Response:
        """Throw away an upload that no session has."""
        attachments.attachment_delete(user=request_user(request), attachment_id=attachment_id)
        return Response(status=204)


class SessionMessagesView(APIView):
    @extend_schema(
        operation_id="agents_sessions_messages_list",
        tags=["agents"],
        responses=shapes.MessageSerializer(many=True),
    )
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """What was said to the session after it had ended, with what it had come to each time."""
        found = messages.message_list(user=request_user(request), session_id=session_id)
        return Response(shapes.MessageSerializer(found, many=True).data)

    @extend_schema(
        operation_id="agents_sessions_messages_send",
        tags=["agents"],
        parameters=[
            OpenApiParameter(
                "Idempotency-Key", str, OpenApiParameter.HEADER, description="The same again is the same message."
            )
        ],
        request=shapes.MessageSendSerializer,
        responses={202: serializers.SessionSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Have a session that has ended go on with this, on the same branch and in the same conversation."""
        selectors.session_get_for_user(user=request_user(request), session_id=session_id, write=True)
        data = shapes.MessageSendSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        key = request.headers.get("Idempotency-Key", "").strip()
        if len(key) > KEY_LENGTH or not key.isprintable():
            raise InvalidInput(f"Idempotency-Key has at most {KEY_LENGTH} printable characters")
        more: dict[str, Any] = dict(fields.get("more") or {})
        seconds = more.pop("seconds", None)
        session = messages.message_send(
            user=request_user(request),
            session_id=session_id,
            text=fields["text"],
            attachment_ids=fields["attachments"],
            more=Limits(**more),
            more_seconds=seconds,
            key=key,
        )
        return session_accepted(session)

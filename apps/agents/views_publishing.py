"""A session's report, and handing its branch over, over HTTP: parse, call one service or selector, render."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.agents import selectors
from apps.agents.serializers_publishing import PublicationSerializer, PublishSerializer
from apps.agents.serializers_report import ReportSerializer
from apps.agents.services import publishing
from apps.agents.services.publishing import PublishRequest
from apps.agents.services.report_facts import report_facts_shown
from apps.agents.services.report_text import report_markdown, report_title
from apps.authentication.bearer import request_user


class MarkdownRenderer(BaseRenderer):
    """Text as it is; what is no text is a problem document."""

    media_type = "text/markdown"
    format = "markdown"
    charset = "utf-8"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        return data.encode() if isinstance(data, str) else JSONRenderer().render(data)


class SessionReportView(APIView):
    renderer_classes = [MarkdownRenderer, JSONRenderer]

    @extend_schema(
        operation_id="agents_sessions_report",
        tags=["agents"],
        responses={(200, "text/markdown"): OpenApiTypes.STR, (200, "application/json"): ReportSerializer},
    )
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """What was done and why, and what not, fit for a pull request. Also while the session runs: as far as it is."""
        selectors.session_get_for_user(user=request_user(request), session_id=session_id)
        facts = report_facts_shown(session_id)
        text = report_markdown(facts)
        if request.accepted_renderer.format == MarkdownRenderer.format:
            return Response(text)
        told = {**dataclasses.asdict(facts), "markdown": text, "title": report_title(facts)}
        return Response(ReportSerializer(told).data)


class SessionPublishView(APIView):
    @extend_schema(operation_id="agents_sessions_publication", tags=["agents"], responses=PublicationSerializer)
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """How the handing over of the session's branch stands."""
        publication = publishing.publication_get(user=request_user(request), session_id=session_id)
        return Response(PublicationSerializer(publication).data)

    @extend_schema(
        operation_id="agents_sessions_publish",
        tags=["agents"],
        request=PublishSerializer,
        responses={202: PublicationSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Push the session's branch to the project's origin, with a pull request if asked for; a worker does it."""
        selectors.session_get_for_user(user=request_user(request), session_id=session_id, write=True)
        data = PublishSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        publication = publishing.session_publish(
            user=request_user(request), session_id=session_id, request=PublishRequest(**data.validated_data)
        )
        location = reverse("agent-session-publish", args=[session_id])
        return Response(PublicationSerializer(publication).data, status=202, headers={"Location": location})

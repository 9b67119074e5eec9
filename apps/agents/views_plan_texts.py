"""Plans as Markdown and as diagrams, over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import IO, Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.agents import serializers_plans as shapes
from apps.agents.services import plan_texts
from apps.authentication.bearer import request_user
from apps.core.errors import InvalidInput
from apps.core.parsers import LimitedJSONParser, body_read
from apps.core.renderers import MarkdownRenderer, TextRenderer
from apps.planning import selectors, serializers


class MarkdownParser(BaseParser):
    """The text itself as the body; what else a change has is said in the address."""

    media_type = "text/markdown"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            text = body_read(stream).decode()
        except UnicodeDecodeError:
            # Read by guesses, a plan's words would be others for good.
            raise InvalidInput("the Markdown is no text in UTF-8", next_step="save it as UTF-8") from None
        asked = parser_context["request"].query_params.dict() if parser_context else {}
        return {**asked, "markdown": text}


class PlanDiagramView(APIView):
    renderer_classes = (JSONRenderer, TextRenderer)

    @extend_schema(
        operation_id="planning_plans_diagram",
        tags=["planning"],
        responses={(200, "application/json"): shapes.DiagramSerializer, (200, "text/plain"): OpenApiTypes.STR},
    )
    def get(self, request: Request, plan_id: uuid.UUID) -> Response:
        """The plan as a Mermaid diagram; with `Accept: text/plain`, its source alone."""
        source = plan_texts.plan_diagram(user=request_user(request), plan_id=plan_id)
        plain = isinstance(request.accepted_renderer, TextRenderer)
        return Response(source if plain else {"mermaid": source})


class PlanMarkdownView(APIView):
    renderer_classes = (MarkdownRenderer, JSONRenderer)
    parser_classes = (LimitedJSONParser, MarkdownParser)

    @extend_schema(
        operation_id="planning_plans_markdown",
        tags=["planning"],
        responses={(200, "text/markdown"): OpenApiTypes.STR, (200, "application/json"): shapes.MarkdownSerializer},
    )
    def get(self, request: Request, plan_id: uuid.UUID) -> Response:
        """The plan as Markdown, to be edited and sent back; with `Accept: application/json`, as a member."""
        text = plan_texts.plan_markdown(user=request_user(request), plan_id=plan_id)
        plain = isinstance(request.accepted_renderer, MarkdownRenderer)
        return Response(text if plain else {"markdown": text})

    @extend_schema(
        operation_id="planning_plans_markdown_put",
        tags=["planning"],
        parameters=[
            OpenApiParameter("version", int, description="As the member, where the body is Markdown."),
            OpenApiParameter("reason", str, description="As the member, where the body is Markdown."),
        ],
        request={"application/json": shapes.MarkdownPutSerializer, "text/markdown": OpenApiTypes.STR},
        responses={(200, "application/json"): serializers.PlanSerializer},
    )
    def put(self, request: Request, plan_id: uuid.UUID) -> Response:
        """Make the plan what the Markdown says, as its next version. What was begun stays, word for word.

        The text says which version it was made from; a `version` that is sent takes the place of that.
        """
        user = request_user(request)
        selectors.plan_get_for_user(user=user, plan_id=plan_id, write=True)
        form = shapes.MarkdownPutSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        fields: dict[str, Any] = form.validated_data
        plan_texts.plan_markdown_put(
            user=user,
            plan_id=plan_id,
            markdown=fields["markdown"],
            expected=fields["version"],
            reason=fields["reason"],
        )
        found = selectors.plan_get_for_user(user=user, plan_id=plan_id)
        return Response(serializers.PlanSerializer(found).data, content_type="application/json")


class PlanImportView(APIView):
    @extend_schema(
        operation_id="planning_plans_import",
        tags=["planning"],
        request=shapes.PlanImportSerializer,
        responses={201: serializers.PlanSerializer},
    )
    def post(self, request: Request) -> Response:
        """Make a plan of Markdown. It waits: nothing carries it out before it is approved."""
        user = request_user(request)
        form = shapes.PlanImportSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        fields: dict[str, Any] = form.validated_data
        plan = plan_texts.plan_import(
            user=user, project_id=fields["project"], goal=fields["goal"], markdown=fields["markdown"]
        )
        found = selectors.plan_get_for_user(user=user, plan_id=plan.id)
        return Response(serializers.PlanSerializer(found).data, status=201)

"""Embedding over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.authentication.bearer import request_user
from apps.projects.selectors import project_get_for_user

from . import serializers
from .services import texts_embed
from .spaces import choice_set, embedders_get, statuses


class EmbedView(APIView):
    @extend_schema(
        operation_id="vector_store_embed",
        tags=["vector-store"],
        request=serializers.EmbedSerializer,
        responses=serializers.EmbeddingsSerializer,
    )
    def post(self, request: Request) -> Response:
        """Vectors of texts, by the server's embedder, a project's or a named one."""
        data = serializers.EmbedSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        made = texts_embed(
            user=request_user(request),
            texts=fields["texts"],
            kind=fields["kind"],
            model=fields["model"],
            dimension=fields["dimension"],
            project_id=fields.get("project"),
        )
        # A field for each number would take longer than embedding does.
        return Response(
            {"model": made.key, "dimension": made.dimension, "embeddings": made.vectors.astype(float).round(6).tolist()}
        )


class EmbeddersView(APIView):
    @extend_schema(
        operation_id="vector_store_embedders_get",
        tags=["vector-store"],
        responses=serializers.EmbeddersSerializer,
    )
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """Which embedders the project has, and how far its vectors are."""
        project_get_for_user(user=request_user(request), project_id=project_id)
        return self._shown(project_id)

    @extend_schema(
        operation_id="vector_store_embedders_set",
        tags=["vector-store"],
        request=serializers.EmbeddersSetSerializer,
        responses=serializers.EmbeddersSerializer,
    )
    def put(self, request: Request, project_id: uuid.UUID) -> Response:
        """Choose others (owners). Everything is embedded anew in the background; the old vectors serve meanwhile."""
        project_get_for_user(user=request_user(request), project_id=project_id, manage=True)
        data = serializers.EmbeddersSetSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        choice_set(project_id=project_id, **data.validated_data)
        return self._shown(project_id)

    def _shown(self, project_id: uuid.UUID) -> Response:
        shown = {**embedders_get(project_id), "spaces": statuses(project_id)}
        return Response(serializers.EmbeddersSerializer(shown).data)

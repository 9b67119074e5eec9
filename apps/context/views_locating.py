"""Locating, the repository map and packed context over HTTP."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.authentication.bearer import request_user
from apps.context import duplicates, maps, places
from apps.context import serializers_locating as serializers
from apps.context.searching.projects import session_check
from apps.context.types import session_files
from apps.projects.models import Project
from apps.projects.selectors import project_get_for_user


class LocateView(APIView):
    @extend_schema(
        operation_id="context_locate",
        tags=["context"],
        request=serializers.LocateRequestSerializer,
        responses=serializers.LocateResultSerializer,
    )
    def post(self, request: Request) -> Response:
        """The files and functions most likely to change for a goal, an issue or a failure; no model is asked."""
        data = serializers.LocateRequestSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        found = places.files_locate(
            project=_project_of(request, fields),
            text=fields["text"],
            files=session_files(fields.get("session")),
            limit=fields["limit"],
        )
        return Response(serializers.LocateResultSerializer(found).data)


class RepositoryMapView(APIView):
    @extend_schema(
        operation_id="context_map",
        tags=["context"],
        request=serializers.MapRequestSerializer,
        responses=serializers.MapResultSerializer,
    )
    def post(self, request: Request) -> Response:
        """The definitions that matter in a project, drawn towards a task, in so many tokens."""
        data = serializers.MapRequestSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        made = maps.repository_map_make(
            project=_project_of(request, fields),
            budget=fields["budget"],
            text=fields["text"],
            files=session_files(fields.get("session")),
        )
        return Response(serializers.MapResultSerializer(made).data)


class PackView(APIView):
    @extend_schema(
        operation_id="context_pack",
        tags=["context"],
        request=serializers.PackRequestSerializer,
        responses=serializers.PackResultSerializer,
    )
    def post(self, request: Request) -> Response:
        """Code for a prompt about a task, in so many tokens, each piece with its source."""
        data = serializers.PackRequestSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        made = maps.context_pack(
            project=_project_of(request, fields),
            text=fields["text"],
            budget=fields["budget"],
            files=session_files(fields.get("session")),
        )
        return Response(serializers.PackResultSerializer(made).data)


class DuplicatesView(APIView):
    @extend_schema(
        operation_id="context_duplicates",
        tags=["context"],
        parameters=[serializers.DuplicatesQuerySerializer],
        responses=serializers.DuplicatesSerializer,
    )
    def get(self, request: Request) -> Response:
        """Runs of equal lines in a project's code, spacing aside."""
        query = serializers.DuplicatesQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        fields: dict[str, Any] = query.validated_data
        made = duplicates.duplicates_make(project=_project_of(request, fields), limit=fields["limit"])
        return Response(serializers.DuplicatesSerializer(made).data)


def _project_of(request: Request, fields: dict[str, Any]) -> Project:
    """The project that is asked about; NotFound where the user may not read it, or the session is another one's."""
    project = project_get_for_user(user=request_user(request), project_id=fields["project"])
    if fields.get("session") is not None:
        session_check(project, fields["session"])
    return project

"""Indexes, files and search over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.authentication.bearer import request_user
from apps.context import adding, jobs, presenters, selectors, serializers
from apps.context.models import CodeIndex
from apps.context.overview import graph_svg, overview_make
from apps.context.searching.projects import projects_search
from apps.context.searching.search import index_view
from apps.context.summaries import summary_want
from apps.context.types import SearchFilters, SearchRequest, session_files
from apps.core.errors import NotFound
from apps.core.pagination import PagedView
from apps.projects.models import Project
from apps.projects.selectors import project_get_for_user


class IndexView(PagedView):
    @extend_schema(
        operation_id="context_index_list",
        tags=["context"],
        parameters=[serializers.JobFilterSerializer],
        responses=serializers.JobSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """The project's jobs of indexing, newest first."""
        return self.page(selectors.job_list(project=_project_of(request)), serializers.JobSerializer)

    @extend_schema(
        operation_id="context_index",
        tags=["context"],
        request=serializers.IndexRequestSerializer,
        responses={202: serializers.JobSerializer},
    )
    def post(self, request: Request) -> Response:
        """Have the default branch indexed; what was read before is not read again."""
        data = serializers.IndexRequestSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        project = project_get_for_user(
            user=request_user(request), project_id=data.validated_data["project"], write=True
        )
        job = jobs.job_want(project=project, rebuild=data.validated_data["rebuild"])
        return Response(
            serializers.JobSerializer(job).data, status=202, headers={"Location": f"/api/context/index/{job.id}/"}
        )


class JobView(APIView):
    @extend_schema(operation_id="context_index_get", tags=["context"], responses=serializers.JobSerializer)
    def get(self, request: Request, job_id: uuid.UUID) -> Response:
        """One job."""
        job = selectors.job_get_for_user(user=request_user(request), job_id=job_id)
        return Response(serializers.JobSerializer(job).data)


class JobCancelView(APIView):
    @extend_schema(
        operation_id="context_index_cancel", tags=["context"], request=None, responses=serializers.JobSerializer
    )
    def post(self, request: Request, job_id: uuid.UUID) -> Response:
        """Stop a job. What it has read stays, and is not read again."""
        job = selectors.job_get_for_user(user=request_user(request), job_id=job_id, write=True)
        return Response(serializers.JobSerializer(jobs.job_cancel(job=job)).data)


class JobEventsView(APIView):
    @extend_schema(
        operation_id="context_index_events",
        tags=["context"],
        parameters=[serializers.EventsQuerySerializer],
        responses=serializers.IndexEventPageSerializer,
    )
    def get(self, request: Request, job_id: uuid.UUID) -> Response:
        """What happened in a job, after an event."""
        job = selectors.job_get_for_user(user=request_user(request), job_id=job_id)
        query = serializers.EventsQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        events = selectors.job_events(job_id=job.id, **query.validated_data)
        return Response(serializers.IndexEventPageSerializer({"events": events}).data)


class FileListView(PagedView):
    @extend_schema(
        operation_id="context_files_list",
        tags=["context"],
        parameters=[serializers.FileFilterSerializer],
        responses=serializers.FileSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Files of the index by path, those that were skipped with the reason."""
        query = serializers.FileFilterSerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked: dict[str, Any] = query.validated_data
        project = project_get_for_user(user=request_user(request), project_id=asked["project"])
        view, _ = index_view(project=project, files=session_files(asked.get("session")))
        files = selectors.files_visible(view)
        if "path" in asked:
            files = files.filter(path__startswith=asked["path"])
        if "language" in asked:
            files = files.filter(language=asked["language"])
        if "state" in asked:
            files = files.filter(state=asked["state"])
        return self.page(files.defer("analysis"), serializers.FileSerializer)

    @extend_schema(
        operation_id="context_files_add",
        tags=["context"],
        request=serializers.FileAddSerializer,
        responses={202: serializers.FileAddedSerializer},
    )
    def post(self, request: Request) -> Response:
        """Put a file into the context that the rules leave out, or that the repository doesn't have; or hide one."""
        data = serializers.FileAddSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        project = project_get_for_user(user=request_user(request), project_id=fields["project"], write=True)
        added, job = adding.file_add(
            project=project, path=fields["path"], content=fields.get("content"), hidden=fields["hidden"]
        )
        return Response(serializers.FileAddedSerializer({"path": added.path, "job": job}).data, status=202)

    @extend_schema(
        operation_id="context_files_restore",
        tags=["context"],
        parameters=[serializers.FilePathSerializer],
        responses={202: serializers.JobSerializer},
    )
    def delete(self, request: Request) -> Response:
        """Have a path be as the repository has it: take out what was added there, show what was hidden."""
        query = serializers.FilePathSerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked: dict[str, Any] = query.validated_data
        project = project_get_for_user(user=request_user(request), project_id=asked["project"], write=True)
        job = adding.path_remove(project=project, path=asked["path"])
        if job is None:
            raise NotFound("Nothing was added or hidden at this path.")
        return Response(serializers.JobSerializer(job).data, status=202)


class FileDetailView(APIView):
    @extend_schema(operation_id="context_files_get", tags=["context"], responses=serializers.FileDetailSerializer)
    def get(self, request: Request, file_id: str) -> Response:
        """One file with its analysis: definitions, imports and dependents, complexity, duplicates, TODOs."""
        file = selectors.file_get_for_user(user=request_user(request), file_id=file_id)
        shown: Any = presenters.file_present(file)
        return Response(serializers.FileDetailSerializer(shown).data)

    @extend_schema(operation_id="context_files_remove", tags=["context"], responses={202: serializers.JobSerializer})
    def delete(self, request: Request, file_id: str) -> Response:
        """Take a file out of the context that was put there by hand."""
        user = request_user(request)
        file = selectors.file_get_for_user(user=user, file_id=file_id)
        project_id = CodeIndex.objects.values_list("project_id", flat=True).get(id=file.index_id)
        project = project_get_for_user(user=user, project_id=project_id, write=True)
        job = adding.file_remove(project=project, file=file)
        return Response(serializers.JobSerializer(job).data, status=202)


class FileSummaryView(APIView):
    @extend_schema(
        operation_id="context_files_summarise",
        tags=["context"],
        request=serializers.SummaryRequestSerializer,
        responses={200: serializers.FileSummarySerializer, 202: serializers.FileSummarySerializer},
    )
    def post(self, request: Request, file_id: str) -> Response:
        """Have a model say what a file is for (202); one that is there already is answered with (200)."""
        user = request_user(request)
        file = selectors.file_get_for_user(user=user, file_id=file_id)
        data = serializers.SummaryRequestSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        project_id = CodeIndex.objects.values_list("project_id", flat=True).get(id=file.index_id)
        project = project_get_for_user(user=user, project_id=project_id, write=True)
        summary = summary_want(project=project, user=user, file=file, model=data.validated_data["model"].strip())
        shown = presenters.summary_present(summary)
        return Response(serializers.FileSummarySerializer(shown).data, status=200 if summary.made_at else 202)


class OverviewView(APIView):
    @extend_schema(
        operation_id="context_overview",
        tags=["context"],
        parameters=[serializers.ProjectQuerySerializer],
        responses=serializers.OverviewSerializer,
    )
    def get(self, request: Request) -> Response:
        """A project's code at large: languages, entry points, which folders import from which, hot spots."""
        project = _project_of(request)
        view, state = index_view(project=project)
        return Response(serializers.OverviewSerializer(overview_make(project=project, view=view, state=state)).data)


class OverviewGraphView(APIView):
    @extend_schema(
        operation_id="context_overview_graph",
        tags=["context"],
        parameters=[serializers.ProjectQuerySerializer],
        responses={(200, "image/svg+xml"): OpenApiResponse(OpenApiTypes.STR)},
    )
    def get(self, request: Request) -> HttpResponse:
        """The picture of which folders import from which."""
        project = _project_of(request)
        view, state = index_view(project=project)
        picture = graph_svg(overview_make(project=project, view=view, state=state).graph)
        return HttpResponse(picture, content_type="image/svg+xml")


class IndexStateView(APIView):
    @extend_schema(
        operation_id="context_state",
        tags=["context"],
        parameters=[serializers.ProjectQuerySerializer],
        responses=serializers.IndexStateSerializer,
    )
    def get(self, request: Request) -> Response:
        """How the project's index stands."""
        return Response(serializers.IndexStateSerializer(presenters.state_present(_project_of(request))).data)


class SearchView(APIView):
    @extend_schema(
        operation_id="vector_store_search",
        tags=["vector-store"],
        request=serializers.SearchRequestSerializer,
        responses=serializers.SearchResultSerializer,
    )
    def post(self, request: Request) -> Response:
        """Find code in your projects, by words, meaning, name or pattern. Each hit was looked up in its file."""
        data = serializers.SearchRequestSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        asked = SearchRequest(
            query=fields["query"],
            mode=fields["mode"],
            limit=fields["limit"],
            filters=SearchFilters(tuple(fields["path"]), tuple(fields["language"]), tuple(fields["kind"])),
            context_lines=fields["context_lines"],
            snippet_lines=fields["snippet_lines"],
            explain=fields["explain"],
        )
        found = projects_search(
            user=request_user(request),
            project_id=fields.get("project"),
            session_id=fields.get("session"),
            request=asked,
        )
        return Response(serializers.SearchResultSerializer(presenters.search_present(found)).data)


def _project_of(request: Request) -> Project:
    query = serializers.ProjectQuerySerializer(data=request.query_params)
    query.is_valid(raise_exception=True)
    return project_get_for_user(user=request_user(request), project_id=query.validated_data["project"])

"""Projects, their repository and their members over HTTP."""

from __future__ import annotations

import uuid

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.authentication.bearer import request_user
from apps.core.errors import Conflict, InvalidInput
from apps.core.pagination import PagedView
from apps.projects import secrets, selectors, serializers, services
from apps.projects.forges import ForgeChanges, forge_state, forge_update
from apps.projects.models import RepositoryState, Role
from apps.projects.repository import branch_list
from apps.projects.sources import SourceChanges, source_remove, source_sync, source_update
from apps.projects.uploads import upload_received

_SOURCE_FIELDS = ("username", "token", "deploy_key", "known_hosts", "sync_minutes")


class ProjectListView(PagedView):
    @extend_schema(operation_id="projects_list", tags=["projects"], responses=serializers.ProjectSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Your projects, newest first."""
        return self.page(selectors.project_list(user=request_user(request)), serializers.ProjectSerializer)

    @extend_schema(
        operation_id="projects_create",
        tags=["projects"],
        request=serializers.ProjectCreateSerializer,
        responses={201: serializers.ProjectSerializer},
    )
    def post(self, request: Request) -> Response:
        """Make a project; its repository comes from an address or a path on the server, or is uploaded afterwards."""
        data = serializers.ProjectCreateSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields = dict(data.validated_data)
        given = {name: fields.pop(name, None) for name in _SOURCE_FIELDS}
        url = fields.pop("repository_url")
        source = SourceChanges(url=url, branch=fields["branch"], **given) if url else None
        if source is None and any(value is not None for value in given.values()):
            raise InvalidInput("The repository has no address to be fetched from.", next_step="send repository_url")
        project = services.project_create(user=request_user(request), source=source, **fields)
        return Response(serializers.ProjectSerializer(project).data, status=201)


class ProjectDetailView(APIView):
    @extend_schema(operation_id="projects_get", tags=["projects"], responses=serializers.ProjectSerializer)
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """One project."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id)
        return Response(serializers.ProjectSerializer(project).data)

    @extend_schema(
        operation_id="projects_replace",
        tags=["projects"],
        request=serializers.ProjectWriteSerializer,
        responses=serializers.ProjectSerializer,
    )
    def put(self, request: Request, project_id: uuid.UUID) -> Response:
        """Set all that can be set; what is not sent becomes empty."""
        return self._write(request, project_id, serializers.ProjectWriteSerializer)

    @extend_schema(
        operation_id="projects_update",
        tags=["projects"],
        request=serializers.ProjectPatchSerializer,
        responses=serializers.ProjectSerializer,
    )
    def patch(self, request: Request, project_id: uuid.UUID) -> Response:
        """Change what is sent and leave the rest."""
        return self._write(request, project_id, serializers.ProjectPatchSerializer)

    @extend_schema(operation_id="projects_delete", tags=["projects"], responses={204: None})
    def delete(self, request: Request, project_id: uuid.UUID) -> Response:
        """Delete the project, its sessions, plans and repository; for owners."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id, manage=True)
        services.project_delete(project=project)
        return Response(status=204)

    def _write(
        self, request: Request, project_id: uuid.UUID, serializer: type[serializers.ProjectWriteSerializer]
    ) -> Response:
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id, write=True)
        data = serializer(data=request.data)
        data.is_valid(raise_exception=True)
        project = services.project_update(project=project, **data.validated_data)
        return Response(serializers.ProjectSerializer(project).data)


class ProjectRepositoryView(APIView):
    @extend_schema(
        operation_id="projects_repository_put",
        tags=["projects"],
        parameters=[serializers.BundleQuerySerializer],
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses=serializers.ProjectSerializer,
    )
    def put(self, request: Request, project_id: uuid.UUID) -> Response:
        """Upload the repository as a git bundle (`git bundle create FILE --all`), or bring it up to date with one."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id, write=True)
        query = serializers.BundleQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        # Django's own request: DRF's stream is empty for a body that comes in chunks, without a Content-Length.
        with upload_received(request._request) as path:
            project = services.project_bundle_import(
                project=project, bundle_path=path, branch=query.validated_data["branch"]
            )
        return Response(serializers.ProjectSerializer(project).data)


class ProjectArchiveView(APIView):
    @extend_schema(
        operation_id="projects_archive_upload",
        tags=["projects"],
        parameters=[serializers.ArchiveQuerySerializer],
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses=serializers.ProjectSerializer,
    )
    def post(self, request: Request, project_id: uuid.UUID) -> Response:
        """Upload the files as an archive (tar.gz, tar.bz2, tar.xz, tar, zip), as a commit on top of what is there."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id, write=True)
        query = serializers.ArchiveQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        with upload_received(request._request, what="archive") as path:
            project = services.project_archive_import(
                project=project, archive_path=path, message=query.validated_data["message"]
            )
        return Response(serializers.ProjectSerializer(project).data)


class ProjectSourceView(APIView):
    @extend_schema(operation_id="projects_source_get", tags=["projects"], responses=serializers.SourceSerializer)
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """Where the repository is fetched from, and how that stands."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id)
        source = selectors.source_get(project)
        if source is None:
            raise Conflict("The project's repository has no source.", next_step="give it one", state="no_source")
        return Response(serializers.SourceSerializer(source).data)

    @extend_schema(
        operation_id="projects_source_update",
        tags=["projects"],
        request=serializers.SourceWriteSerializer,
        responses=serializers.ProjectSerializer,
    )
    def patch(self, request: Request, project_id: uuid.UUID) -> Response:
        """Change the source or give the project one, and have the repository fetched from there; for owners."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id, manage=True)
        data = serializers.SourceWriteSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        project = source_update(project=project, changes=SourceChanges(**data.validated_data))
        return Response(serializers.ProjectSerializer(project).data)

    @extend_schema(operation_id="projects_source_remove", tags=["projects"], responses={204: None})
    def delete(self, request: Request, project_id: uuid.UUID) -> Response:
        """Forget the source with its credentials; the repository stays; for owners."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id, manage=True)
        source_remove(project=project)
        return Response(status=204)


class ProjectForgeView(APIView):
    @extend_schema(operation_id="projects_forge_get", tags=["projects"], responses=serializers.ForgeSerializer)
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """Where the project's pull requests are opened, and whether they can be."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id)
        return Response(serializers.ForgeSerializer(forge_state(project)).data)

    @extend_schema(
        operation_id="projects_forge_set",
        tags=["projects"],
        request=serializers.ForgeWriteSerializer,
        responses=serializers.ForgeSerializer,
    )
    def put(self, request: Request, project_id: uuid.UUID) -> Response:
        """Say where the project's pull requests are opened, and with which token; for owners."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id, manage=True)
        data = serializers.ForgeWriteSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        project = forge_update(project=project, changes=ForgeChanges(**data.validated_data))
        return Response(serializers.ForgeSerializer(forge_state(project)).data)


class ProjectSyncView(APIView):
    @extend_schema(
        operation_id="projects_sync",
        tags=["projects"],
        request=serializers.SyncSerializer,
        responses={202: serializers.ProjectSerializer},
    )
    def post(self, request: Request, project_id: uuid.UUID) -> Response:
        """Fetch the repository again; the workers do so, and `source` tells how it stands."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id, write=True)
        data = serializers.SyncSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        project = source_sync(project=project, force=data.validated_data["force"])
        return Response(serializers.ProjectSerializer(project).data, status=202)


class ProjectBranchesView(APIView):
    @extend_schema(
        operation_id="projects_branches_list", tags=["projects"], responses=serializers.BranchSerializer(many=True)
    )
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """The repository's branches by name, without the sessions' own."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id)
        branches = branch_list(project_id=project.id) if project.repository_state == RepositoryState.READY else {}
        rows = [
            {"name": name, "commit": commit, "default": name == project.default_branch}
            for name, commit in branches.items()
        ]
        return Response(serializers.BranchSerializer(rows, many=True).data)


class SecretListView(PagedView):
    @extend_schema(
        operation_id="projects_secrets_list", tags=["projects"], responses=serializers.SecretSerializer(many=True)
    )
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """The names of the project's secrets; their values are never shown."""
        return self.page(
            secrets.secret_list(user=request_user(request), project_id=project_id), serializers.SecretSerializer
        )

    @extend_schema(
        operation_id="projects_secrets_store",
        tags=["projects"],
        request=serializers.SecretWriteSerializer,
        responses={200: serializers.SecretSerializer, 201: serializers.SecretSerializer},
    )
    def post(self, request: Request, project_id: uuid.UUID) -> Response:
        """Store a secret, in the place of one of that name (200) or as a new one (201)."""
        user = request_user(request)
        selectors.project_get_for_user(user=user, project_id=project_id, write=True)
        data = serializers.SecretWriteSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        secret, is_new = secrets.secret_store(user=user, project_id=project_id, **data.validated_data)
        return Response(serializers.SecretSerializer(secret).data, status=201 if is_new else 200)


class SecretDetailView(APIView):
    @extend_schema(operation_id="projects_secrets_delete", tags=["projects"], responses={204: None})
    def delete(self, request: Request, project_id: uuid.UUID, secret_name: str) -> Response:
        """Forget a secret."""
        secrets.secret_delete(user=request_user(request), project_id=project_id, name=secret_name)
        return Response(status=204)


class MemberListView(PagedView):
    @extend_schema(
        operation_id="projects_members_list", tags=["projects"], responses=serializers.MembershipSerializer(many=True)
    )
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """Who is in the project."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id)
        return self.page(selectors.membership_list(project=project), serializers.MembershipSerializer)

    @extend_schema(
        operation_id="projects_members_add",
        tags=["projects"],
        request=serializers.MemberAddSerializer,
        responses={201: serializers.MembershipSerializer},
    )
    def post(self, request: Request, project_id: uuid.UUID) -> Response:
        """Let a registered user into the project; for owners."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id, manage=True)
        data = serializers.MemberAddSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        membership = services.member_add(
            project=project, email=data.validated_data["email"], role=Role(data.validated_data["role"])
        )
        return Response(serializers.MembershipSerializer(membership).data, status=201)


class MemberDetailView(APIView):
    @extend_schema(
        operation_id="projects_members_update",
        tags=["projects"],
        request=serializers.MemberUpdateSerializer,
        responses=serializers.MembershipSerializer,
    )
    def patch(self, request: Request, project_id: uuid.UUID, user_id: uuid.UUID) -> Response:
        """Give a member another role; for owners."""
        project = selectors.project_get_for_user(user=request_user(request), project_id=project_id, manage=True)
        data = serializers.MemberUpdateSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        membership = services.member_update(project=project, user_id=user_id, role=Role(data.validated_data["role"]))
        return Response(serializers.MembershipSerializer(membership).data)

    @extend_schema(operation_id="projects_members_remove", tags=["projects"], responses={204: None})
    def delete(self, request: Request, project_id: uuid.UUID, user_id: uuid.UUID) -> Response:
        """Take somebody out of the project; for owners, and for oneself."""
        user = request_user(request)
        project = selectors.project_get_for_user(user=user, project_id=project_id, manage=user.id != user_id)
        services.member_remove(project=project, user_id=user_id)
        return Response(status=204)

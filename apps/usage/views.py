"""Models and keys over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.authentication.bearer import request_user
from apps.core.pagination import PagedView
from apps.projects.selectors import project_get_for_user

from . import catalogue, keys, serializers
from .models import KeyScope


class CatalogueView(APIView):
    @extend_schema(
        operation_id="agents_models",
        tags=["models"],
        parameters=[serializers.CatalogueQuerySerializer],
        responses=serializers.CatalogueSerializer,
    )
    def get(self, request: Request) -> Response:
        """What you can have called: providers, defaults by role, known models with their prices."""
        query = serializers.CatalogueQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        fields: dict[str, Any] = query.validated_data
        found = catalogue.catalogue_get(
            user=request_user(request), project_id=fields.get("project"), vendor=fields["vendor"]
        )
        defaults = {
            role: {
                **one.options.model_dump(),
                "configured": one.configured,
                "problem": one.problem,
                "next_step": one.next_step,
            }
            for role, one in found.defaults.items()
        }
        shown = {
            "configured": found.configured,
            "next_step": found.next_step,
            "defaults": defaults,
            "vendors": found.vendors,
            "addresses": found.addresses,
        }
        return Response(serializers.CatalogueSerializer(shown).data)


class ProviderKeyListView(PagedView):
    @extend_schema(
        operation_id="agents_keys_list",
        tags=["models"],
        parameters=[serializers.ProviderKeyQuerySerializer],
        responses=serializers.ProviderKeySerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Keys of providers: yours, your projects', for administrators the server's; never the secrets."""
        query = serializers.ProviderKeyQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        found = keys.provider_key_list(user=request_user(request), project_id=query.validated_data.get("project"))
        return self.page(found, serializers.ProviderKeySerializer)

    @extend_schema(
        operation_id="agents_keys_store",
        tags=["models"],
        request=serializers.ProviderKeyStoreSerializer,
        responses={200: serializers.ProviderKeySerializer, 201: serializers.ProviderKeySerializer},
    )
    def post(self, request: Request) -> Response:
        """Store a key, in the place of one for the same address (200) or as a new one (201)."""
        data = serializers.ProviderKeyStoreSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        user = request_user(request)
        owner = keys.key_owner(user=user, scope=KeyScope(fields["scope"]), project_id=fields["project"])
        key, is_new = keys.provider_key_store(
            user=user, owner=owner, vendor=fields["vendor"], base_url=fields["base_url"], secret=fields["secret"]
        )
        return Response(serializers.ProviderKeySerializer(key).data, status=201 if is_new else 200)


class ProviderKeyDetailView(APIView):
    @extend_schema(operation_id="agents_keys_get", tags=["models"], responses=serializers.ProviderKeySerializer)
    def get(self, request: Request, provider_key_id: uuid.UUID) -> Response:
        """One key, without its secret."""
        key = keys.provider_key_get(user=request_user(request), key_id=provider_key_id)
        return Response(serializers.ProviderKeySerializer(key).data)

    @extend_schema(operation_id="agents_keys_delete", tags=["models"], responses={204: None})
    def delete(self, request: Request, provider_key_id: uuid.UUID) -> Response:
        """Forget a key."""
        keys.provider_key_delete(user=request_user(request), key_id=provider_key_id)
        return Response(status=204)


class ProviderKeyTestView(APIView):
    @extend_schema(
        operation_id="agents_keys_test",
        tags=["models"],
        request=serializers.ProviderKeyTestSerializer,
        responses={202: serializers.ProviderKeySerializer},
    )
    def post(self, request: Request, provider_key_id: uuid.UUID) -> Response:
        """Have a worker try a key. Read the key again until `test_state` is no longer `pending`."""
        # Before the body is looked at: what is wrong with it is nobody's business who may not know of the key.
        keys.provider_key_get(user=request_user(request), key_id=provider_key_id, write=True)
        data = serializers.ProviderKeyTestSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        key = keys.provider_key_test(
            user=request_user(request), key_id=provider_key_id, model=data.validated_data["model"]
        )
        return Response(serializers.ProviderKeySerializer(key).data, status=202)


class ProjectModelsView(APIView):
    @extend_schema(
        operation_id="projects_models_get", tags=["models"], responses=serializers.ModelConfigurationSerializer
    )
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """Which models the project's sessions use unless they say otherwise."""
        project = project_get_for_user(user=request_user(request), project_id=project_id)
        return Response(catalogue.project_configuration(project).model_dump(mode="json", exclude_unset=False))

    @extend_schema(
        operation_id="projects_models_put",
        tags=["models"],
        request=serializers.ModelConfigurationSerializer,
        responses=serializers.ModelConfigurationSerializer,
    )
    def put(self, request: Request, project_id: uuid.UUID) -> Response:
        """Set them, whole; what is not sent is left to the server's settings."""
        project = project_get_for_user(user=request_user(request), project_id=project_id, write=True)
        data = serializers.ModelConfigurationSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        configuration = serializers.configuration_of(data.validated_data)
        stored = catalogue.project_configuration_set(project=project, configuration=configuration)
        return Response(stored.model_dump(mode="json"))

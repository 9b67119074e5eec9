"""Plans, features and tasks over HTTP."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.authentication.bearer import request_user
from apps.core.pagination import PagedView
from apps.planning import selectors, serializers, services
from apps.planning.models import TaskStatus


class PlanListView(PagedView):
    @extend_schema(
        operation_id="planning_plans_list",
        tags=["planning"],
        parameters=[serializers.PlanFilterSerializer],
        responses=serializers.PlanSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Plans of your projects, newest first."""
        query = serializers.PlanFilterSerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        plans = selectors.plan_list(user=request_user(request), project_id=query.validated_data.get("project"))
        return self.page(plans, serializers.PlanSerializer)


class PlanDetailView(APIView):
    @extend_schema(operation_id="planning_plans_get", tags=["planning"], responses=serializers.PlanSerializer)
    def get(self, request: Request, plan_id: uuid.UUID) -> Response:
        """One plan with its features and tasks."""
        plan = selectors.plan_get_for_user(user=request_user(request), plan_id=plan_id)
        return Response(serializers.PlanSerializer(plan).data)


class FeatureListView(PagedView):
    @extend_schema(
        operation_id="planning_features_list",
        tags=["planning"],
        parameters=[serializers.FeatureFilterSerializer],
        responses=serializers.FeatureSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Features of your projects, in the order of their plans."""
        query = serializers.FeatureFilterSerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        features = selectors.feature_list(
            user=request_user(request),
            project_id=query.validated_data.get("project"),
            plan_id=query.validated_data.get("plan"),
        )
        return self.page(features, serializers.FeatureSerializer)

    @extend_schema(
        operation_id="planning_features_create",
        tags=["planning"],
        request=serializers.FeatureCreateSerializer,
        responses={201: serializers.FeatureSerializer},
    )
    def post(self, request: Request) -> Response:
        """Add a feature of your own to a project, or to one of its plans."""
        data = serializers.FeatureCreateSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        feature = services.feature_create(
            user=request_user(request),
            project_id=data.validated_data["project"],
            plan_id=data.validated_data["plan"],
            title=data.validated_data["title"],
            description=data.validated_data["description"],
        )
        return Response(serializers.FeatureSerializer(feature).data, status=201)


class FeatureDetailView(APIView):
    @extend_schema(operation_id="planning_features_get", tags=["planning"], responses=serializers.FeatureSerializer)
    def get(self, request: Request, feature_id: uuid.UUID) -> Response:
        """One feature with its tasks."""
        feature = selectors.feature_get_for_user(user=request_user(request), feature_id=feature_id)
        return Response(serializers.FeatureSerializer(feature).data)

    @extend_schema(
        operation_id="planning_features_update",
        tags=["planning"],
        request=serializers.FeatureUpdateSerializer,
        responses=serializers.FeatureSerializer,
    )
    def patch(self, request: Request, feature_id: uuid.UUID) -> Response:
        """Change a feature that a person added: you, or anybody if you own the project."""
        user = request_user(request)
        feature = selectors.feature_get_for_user(user=user, feature_id=feature_id, write=True)
        data = serializers.FeatureUpdateSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        feature = services.feature_update(user=user, feature=feature, **data.validated_data)
        return Response(serializers.FeatureSerializer(feature).data)

    @extend_schema(operation_id="planning_features_delete", tags=["planning"], responses={204: None})
    def delete(self, request: Request, feature_id: uuid.UUID) -> Response:
        """Delete a feature that a person added: you, or anybody if you own the project."""
        user = request_user(request)
        feature = selectors.feature_get_for_user(user=user, feature_id=feature_id, write=True)
        services.feature_delete(user=user, feature=feature)
        return Response(status=204)


class TaskListView(PagedView):
    @extend_schema(
        operation_id="planning_tasks_list",
        tags=["planning"],
        parameters=[serializers.TaskFilterSerializer],
        responses=serializers.TaskSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Tasks of your projects, in the order of their plans."""
        query = serializers.TaskFilterSerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        status = query.validated_data.get("status")
        tasks = selectors.task_list(
            user=request_user(request),
            project_id=query.validated_data.get("project"),
            plan_id=query.validated_data.get("plan"),
            feature_id=query.validated_data.get("feature"),
            status=TaskStatus(status) if status else None,
        )
        return self.page(tasks, serializers.TaskSerializer)


class TaskDetailView(APIView):
    @extend_schema(operation_id="planning_tasks_get", tags=["planning"], responses=serializers.TaskSerializer)
    def get(self, request: Request, task_id: uuid.UUID) -> Response:
        """One task."""
        task = selectors.task_get_for_user(user=request_user(request), task_id=task_id)
        return Response(serializers.TaskSerializer(task).data)

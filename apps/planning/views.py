"""Reading plans, features and tasks over HTTP. Views of agents change them, since a session may be at work on them."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.authentication.bearer import request_user
from apps.core.pagination import PagedView
from apps.planning import selectors, serializers
from apps.planning.models import PlanStatus, TaskStatus


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
        status = query.validated_data.get("status")
        plans = selectors.plan_list(
            user=request_user(request),
            project_id=query.validated_data.get("project"),
            status=PlanStatus(status) if status else None,
            words=query.validated_data["q"],
        )
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


class FeatureDetailView(APIView):
    @extend_schema(operation_id="planning_features_get", tags=["planning"], responses=serializers.FeatureSerializer)
    def get(self, request: Request, feature_id: uuid.UUID) -> Response:
        """One feature with its tasks."""
        feature = selectors.feature_get_for_user(user=request_user(request), feature_id=feature_id)
        return Response(serializers.FeatureSerializer(feature).data)


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

"""Features and tasks that people add, change and remove, over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.agents import serializers_plans as shapes
from apps.agents.services import plan_parts
from apps.agents.services.plan_parts import Wish
from apps.authentication.bearer import request_user
from apps.planning import selectors, serializers, views
from apps.planning.models import Feature, Task


def _read(kind: type[Any], data: Any) -> tuple[dict[str, Any], Wish]:
    """The fields that were sent, and what every change comes with."""
    form = kind(data=data)
    form.is_valid(raise_exception=True)
    fields: dict[str, Any] = form.validated_data
    return fields, Wish(expected=fields.pop("version"), reason=fields.pop("reason"))


def _removal(request: Request) -> tuple[bool, Wish]:
    fields, wish = _read(shapes.RemoveSerializer, request.query_params.dict())
    return bool(fields["cascade"]), wish


class FeatureListView(views.FeatureListView):
    @extend_schema(
        operation_id="planning_features_create",
        tags=["planning"],
        request=shapes.FeatureCreateSerializer,
        responses={201: serializers.FeatureSerializer},
    )
    def post(self, request: Request) -> Response:
        """Add a feature to one of a project's plans; or to the project, to be broken down."""
        user = request_user(request)
        fields, wish = _read(shapes.FeatureCreateSerializer, request.data)
        feature = plan_parts.feature_add(
            user=user, project_id=fields.pop("project"), plan_id=fields.pop("plan"), fields=fields, wish=wish
        )
        found = selectors.feature_get_for_user(user=user, feature_id=feature.id)
        return Response(serializers.FeatureSerializer(found).data, status=201)


class FeatureView(views.FeatureDetailView):
    @extend_schema(
        operation_id="planning_features_update",
        tags=["planning"],
        request=shapes.FeatureUpdateSerializer,
        responses=serializers.FeatureSerializer,
    )
    def patch(self, request: Request, feature_id: uuid.UUID) -> Response:
        """Change what is given of a feature, or move it."""
        user = request_user(request)
        selectors.feature_get_for_user(user=user, feature_id=feature_id, write=True)
        fields, wish = _read(shapes.FeatureUpdateSerializer, request.data)
        feature: Feature = plan_parts.feature_change(user=user, feature_id=feature_id, fields=fields, wish=wish)
        return Response(serializers.FeatureSerializer(feature).data)

    @extend_schema(
        operation_id="planning_features_delete",
        tags=["planning"],
        parameters=[shapes.RemoveSerializer],
        responses={204: None},
    )
    def delete(self, request: Request, feature_id: uuid.UUID) -> Response:
        """Take a feature out of its plan, with all that is in it. What was begun keeps it there."""
        user = request_user(request)
        selectors.feature_get_for_user(user=user, feature_id=feature_id, write=True)
        cascade, wish = _removal(request)
        plan_parts.feature_remove(user=user, feature_id=feature_id, cascade=cascade, wish=wish)
        return Response(status=204)


class TaskListView(views.TaskListView):
    @extend_schema(
        operation_id="planning_tasks_create",
        tags=["planning"],
        request=shapes.TaskCreateSerializer,
        responses={201: serializers.TaskSerializer},
    )
    def post(self, request: Request) -> Response:
        """Add a task to a feature of a plan, also while a session carries it out."""
        user = request_user(request)
        fields, wish = _read(shapes.TaskCreateSerializer, request.data)
        task = plan_parts.task_add(user=user, feature_id=fields.pop("feature"), fields=fields, wish=wish)
        return Response(serializers.TaskSerializer(task).data, status=201)


class TaskView(views.TaskDetailView):
    @extend_schema(
        operation_id="planning_tasks_update",
        tags=["planning"],
        request=shapes.TaskUpdateSerializer,
        responses=serializers.TaskSerializer,
    )
    def patch(self, request: Request, task_id: uuid.UUID) -> Response:
        """Change what is given of a task, or move it. The agent of one that runs is told."""
        user = request_user(request)
        selectors.task_get_for_user(user=user, task_id=task_id, write=True)
        fields, wish = _read(shapes.TaskUpdateSerializer, request.data)
        task: Task = plan_parts.task_change(user=user, task_id=task_id, fields=fields, wish=wish)
        return Response(serializers.TaskSerializer(task).data)

    @extend_schema(
        operation_id="planning_tasks_delete",
        tags=["planning"],
        parameters=[shapes.RemoveSerializer],
        responses={204: None},
    )
    def delete(self, request: Request, task_id: uuid.UUID) -> Response:
        """Take a task that was not begun out of its plan."""
        user = request_user(request)
        selectors.task_get_for_user(user=user, task_id=task_id, write=True)
        cascade, wish = _removal(request)
        plan_parts.task_remove(user=user, task_id=task_id, cascade=cascade, wish=wish)
        return Response(status=204)


class _SkipView(APIView):
    is_skipped: bool

    def run(self, request: Request, task_id: uuid.UUID) -> Response:
        user = request_user(request)
        selectors.task_get_for_user(user=user, task_id=task_id, write=True)
        _, wish = _read(shapes.ChangeSerializer, request.data)
        task = plan_parts.task_skip(user=user, task_id=task_id, is_skipped=self.is_skipped, wish=wish)
        return Response(serializers.TaskSerializer(task).data)


class TaskSkipView(_SkipView):
    is_skipped = True

    @extend_schema(
        operation_id="planning_tasks_skip",
        tags=["planning"],
        request=shapes.ChangeSerializer,
        responses=serializers.TaskSerializer,
    )
    def post(self, request: Request, task_id: uuid.UUID) -> Response:
        """Do without a task: what needs it doesn't wait for it any more."""
        return self.run(request, task_id)


class TaskUnskipView(_SkipView):
    is_skipped = False

    @extend_schema(
        operation_id="planning_tasks_unskip",
        tags=["planning"],
        request=shapes.ChangeSerializer,
        responses=serializers.TaskSerializer,
    )
    def post(self, request: Request, task_id: uuid.UUID) -> Response:
        """Want a task again that was done without."""
        return self.run(request, task_id)


class TaskSplitView(APIView):
    @extend_schema(
        operation_id="planning_tasks_split",
        tags=["planning"],
        request=shapes.TaskSplitSerializer,
        responses=serializers.TaskSerializer(many=True),
    )
    def post(self, request: Request, task_id: uuid.UUID) -> Response:
        """Put several tasks in the place of one that was not begun; what needs it needs the last of them."""
        user = request_user(request)
        selectors.task_get_for_user(user=user, task_id=task_id, write=True)
        fields, wish = _read(shapes.TaskSplitSerializer, request.data)
        tasks = plan_parts.task_split(user=user, task_id=task_id, parts=fields["parts"], wish=wish)
        return Response(serializers.TaskSerializer(tasks, many=True).data)

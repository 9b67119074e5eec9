"""Plans and what people change in them, over HTTP. What only reads features and tasks is planning's own."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.agents import serializers_plans as shapes
from apps.agents.selectors import plan_sessions
from apps.agents.services import plan_edits
from apps.agents.services.plan_estimates import plan_standing
from apps.authentication.bearer import request_user
from apps.core.pagination import PagedView
from apps.planning import selectors, serializers, serializers_versions, views
from apps.planning.diff_text import changes_text
from apps.planning.diffing import plan_diff
from apps.planning.document import PlanDoc
from apps.planning.editing import operations_read
from apps.planning.models import Plan


def _read(kind: type[Any], data: Any) -> dict[str, Any]:
    form = kind(data=data)
    form.is_valid(raise_exception=True)
    fields: dict[str, Any] = form.validated_data
    return fields


def _plan_answer(user: Any, plan: Plan, *, status: int = 200) -> Response:
    found = selectors.plan_get_for_user(user=user, plan_id=plan.id)
    return Response(serializers.PlanSerializer(found).data, status=status)


class PlanView(views.PlanDetailView):
    @extend_schema(
        operation_id="planning_plans_edit",
        tags=["planning"],
        request=shapes.PlanEditSerializer,
        responses=serializers.PlanSerializer,
    )
    def patch(self, request: Request, plan_id: uuid.UUID) -> Response:
        """Change a plan by operations, all of them or none, also while a session carries it out."""
        user = request_user(request)
        selectors.plan_get_for_user(user=user, plan_id=plan_id, write=True)
        fields = _read(shapes.PlanEditSerializer, request.data)
        plan = plan_edits.plan_edit(
            user=user,
            plan_id=plan_id,
            operations=operations_read(fields["operations"]),
            expected=fields["version"],
            reason=fields["reason"],
        )
        return _plan_answer(user, plan)


class PlanVersionsView(PagedView):
    @extend_schema(
        operation_id="planning_plans_versions",
        tags=["planning"],
        responses=serializers_versions.VersionSerializer(many=True),
    )
    def get(self, request: Request, plan_id: uuid.UUID) -> Response:
        """A plan's versions, newest first: who made each, why, and what it changed."""
        found = selectors.version_list(user=request_user(request), plan_id=plan_id)
        return self.page(found, serializers_versions.VersionSerializer)


class PlanVersionView(APIView):
    @extend_schema(
        operation_id="planning_plans_version",
        tags=["planning"],
        responses=serializers_versions.VersionDetailSerializer,
    )
    def get(self, request: Request, plan_id: uuid.UUID, number: str) -> Response:
        """One version, whole."""
        plan = selectors.plan_get_for_user(user=request_user(request), plan_id=plan_id)
        # What is no number is no version; nor is one that Postgres couldn't hold.
        found = selectors.version_get(plan, int(number) if number.isdecimal() and len(number) < 10 else 0)
        return Response(serializers_versions.VersionDetailSerializer(found).data)


class PlanDiffView(APIView):
    @extend_schema(
        operation_id="planning_plans_diff",
        tags=["planning"],
        parameters=[serializers_versions.VersionDiffQuerySerializer],
        responses=serializers_versions.VersionDiffSerializer,
    )
    def get(self, request: Request, plan_id: uuid.UUID) -> Response:
        """What is different between two versions, for programs and in words."""
        plan = selectors.plan_get_for_user(user=request_user(request), plan_id=plan_id)
        asked = _read(serializers_versions.VersionDiffQuerySerializer, request.query_params)
        last = asked.get("to", plan.version)
        first = asked.get("from", max(last - 1, 1))
        before, after = (PlanDoc.read(selectors.version_get(plan, number).document) for number in (first, last))
        changes = [change.as_dict() for change in plan_diff(before, after)]
        found = {"first": first, "last": last, "changes": changes, "text": changes_text(changes)}
        return Response(serializers_versions.VersionDiffSerializer(found).data)


class PlanRestoreView(APIView):
    @extend_schema(
        operation_id="planning_plans_restore",
        tags=["planning"],
        request=shapes.RestoreSerializer,
        responses=serializers.PlanSerializer,
    )
    def post(self, request: Request, plan_id: uuid.UUID) -> Response:
        """Put an earlier version back, as a new one. What was begun since stays as it is."""
        user = request_user(request)
        selectors.plan_get_for_user(user=user, plan_id=plan_id, write=True)
        fields = _read(shapes.RestoreSerializer, request.data)
        return _plan_answer(user, plan_edits.plan_restore(user=user, plan_id=plan_id, **fields))


class PlanProgressView(APIView):
    @extend_schema(operation_id="planning_plans_progress", tags=["planning"], responses=shapes.PlanProgressSerializer)
    def get(self, request: Request, plan_id: uuid.UUID) -> Response:
        """How far a plan is: what of it is done, runs, can start, is blocked and why."""
        plan = selectors.plan_get_for_user(user=request_user(request), plan_id=plan_id)
        found = plan_standing(plan)
        sessions = shapes.CarriedOutSerializer(plan_sessions(plan_id), many=True).data
        return Response({**serializers_versions.ProgressPlanSerializer(found).data, "sessions": sessions})

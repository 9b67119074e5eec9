"""What was spent, and the limits on it, over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.authentication.bearer import request_user
from apps.core.pagination import PagedView

from . import allowances, serializers_spending
from .reports import UsageQuery, report_row, usage_report
from .types import AllowanceScope


class UsageView(PagedView):
    @extend_schema(
        operation_id="usage_list",
        tags=["usage"],
        parameters=[serializers_spending.UsageQuerySerializer],
        responses=serializers_spending.UsageRowSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """What was spent in your projects and by you, summed up by session, project, user, day or model."""
        data = serializers_spending.UsageQuerySerializer(data=request.query_params)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        query = UsageQuery(
            by=fields["by"],
            first=fields.get("from"),
            last=fields.get("to"),
            project_id=fields.get("project"),
            user_id=fields.get("user"),
            session_id=fields.get("session"),
        )
        found = usage_report(user=request_user(request), query=query)
        rows = [report_row(row) for row in self.paginate_queryset(found) or []]
        return self.get_paginated_response(serializers_spending.UsageRowSerializer(rows, many=True).data)


class _LimitsView(APIView):
    scope: AllowanceScope

    def read(self, request: Request, owner_id: uuid.UUID) -> Response:
        allowance = allowances.allowance_get_for_user(user=request_user(request), scope=self.scope, owner_id=owner_id)
        return self._shown(allowance, owner_id)

    def write(self, request: Request, owner_id: uuid.UUID) -> Response:
        # Before the body is looked at: what is wrong with it is nobody's business who may not know of the limits.
        user = request_user(request)
        allowances.allowance_get_for_user(user=user, scope=self.scope, owner_id=owner_id, write=True)
        data = serializers_spending.AllowanceSetSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        limits = serializers_spending.limits_of(data.validated_data)
        allowance = allowances.allowance_set(scope=self.scope, owner_id=owner_id, limits=limits)
        return self._shown(allowance, owner_id)

    def _shown(self, allowance: Any, owner_id: uuid.UUID) -> Response:
        state = allowances.allowance_state(allowance)
        shown = {
            "scope": self.scope,
            "id": owner_id,
            "sessions": state.limits.sessions,
            "total": {"limits": state.limits.total, "spent": state.total},
            "day": {"limits": state.limits.day, "spent": state.day},
        }
        return Response(serializers_spending.AllowanceSerializer(shown).data)


class ProjectLimitsView(_LimitsView):
    scope = "project"

    @extend_schema(
        operation_id="usage_limits_project_get", tags=["usage"], responses=serializers_spending.AllowanceSerializer
    )
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """What the project's sessions may spend together, and have spent."""
        return self.read(request, project_id)

    @extend_schema(
        operation_id="usage_limits_project_put",
        tags=["usage"],
        request=serializers_spending.AllowanceSetSerializer,
        responses=serializers_spending.AllowanceSerializer,
    )
    def put(self, request: Request, project_id: uuid.UUID) -> Response:
        """Set it, whole; what is not sent has no limit. For owners of the project, and administrators."""
        return self.write(request, project_id)


class UserLimitsView(_LimitsView):
    scope = "user"

    @extend_schema(
        operation_id="usage_limits_user_get", tags=["usage"], responses=serializers_spending.AllowanceSerializer
    )
    def get(self, request: Request, user_id: uuid.UUID) -> Response:
        """What the user's sessions may spend together, and have spent."""
        return self.read(request, user_id)

    @extend_schema(
        operation_id="usage_limits_user_put",
        tags=["usage"],
        request=serializers_spending.AllowanceSetSerializer,
        responses=serializers_spending.AllowanceSerializer,
    )
    def put(self, request: Request, user_id: uuid.UUID) -> Response:
        """Set it, whole; what is not sent has no limit. For administrators."""
        return self.write(request, user_id)

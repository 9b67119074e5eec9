"""Planning that thinks, and people's word on plans: below ``/api/planning/`` beside the plans themselves."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.agents import serializers_planning as shapes
from apps.agents.presenters import session_accepted
from apps.agents.serializers import SessionSerializer
from apps.agents.services import plan_approvals, plan_requests
from apps.agents.services.master_orchestrator import SessionRequest
from apps.agents.types import AgentType
from apps.agents.views import session_request
from apps.authentication.bearer import request_user
from apps.planning.selectors import feature_get_for_user, plan_get_for_user
from apps.planning.serializers import PlanSerializer
from apps.projects.autonomy import Autonomy
from apps.projects.selectors import project_get_for_user


class PlanGenerateView(APIView):
    @extend_schema(
        operation_id="planning_plans_generate",
        tags=["planning"],
        request=shapes.PlanGenerateSerializer,
        responses={202: SessionSerializer},
    )
    def post(self, request: Request) -> Response:
        """Have a planner make a plan for a goal; nothing of it is carried out."""
        data = shapes.PlanGenerateSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        asked = _request(data.validated_data, data.validated_data["project"], goal=data.validated_data["goal"])
        return session_accepted(plan_requests.plan_generate(user=request_user(request), request=asked))


class PlanReviseView(APIView):
    @extend_schema(
        operation_id="planning_plans_revise",
        tags=["planning"],
        request=shapes.PlanReviseSerializer,
        responses={202: SessionSerializer},
    )
    def post(self, request: Request, plan_id: uuid.UUID) -> Response:
        """Have the plan made otherwise: by a planner, or by the session that has it."""
        plan = plan_get_for_user(user=request_user(request), plan_id=plan_id)
        project_get_for_user(user=request_user(request), project_id=plan.project_id, write=True)
        data = shapes.PlanReviseSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        session = plan_requests.plan_revise(
            user=request_user(request),
            plan_id=plan_id,
            version=data.validated_data["version"],
            comment=data.validated_data["comment"],
            request=_request(data.validated_data, plan.project_id),
        )
        return session_accepted(session)


class FeatureBreakDownView(APIView):
    @extend_schema(
        operation_id="planning_features_break_down",
        tags=["planning"],
        request=shapes.FeatureBreakDownSerializer,
        responses={202: SessionSerializer},
    )
    def post(self, request: Request, feature_id: uuid.UUID) -> Response:
        """Have a planner find the tasks of a feature."""
        feature = feature_get_for_user(user=request_user(request), feature_id=feature_id, write=True)
        data = shapes.FeatureBreakDownSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        session = plan_requests.feature_break_down(
            user=request_user(request),
            feature_id=feature_id,
            comment=data.validated_data["comment"],
            version=data.validated_data["version"] or 0,
            request=_request(data.validated_data, feature.project_id),
        )
        return session_accepted(session)


class PlanApproveView(APIView):
    @extend_schema(
        operation_id="planning_plans_approve",
        tags=["planning"],
        request=shapes.PlanApproveSerializer,
        responses=PlanSerializer,
    )
    def post(self, request: Request, plan_id: uuid.UUID) -> Response:
        """Let this version of the plan be carried out; a session that waits with it goes on."""
        plan = plan_get_for_user(user=request_user(request), plan_id=plan_id)
        project_get_for_user(user=request_user(request), project_id=plan.project_id, write=True)
        data = shapes.PlanApproveSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        plan_approvals.plan_approve(
            user=request_user(request),
            plan_id=plan_id,
            version=fields["version"],
            autonomy=Autonomy(fields["autonomy"]) if "autonomy" in fields else None,
        )
        return _plan(request, plan_id)


class PlanRejectView(APIView):
    @extend_schema(
        operation_id="planning_plans_reject",
        tags=["planning"],
        request=shapes.PlanRejectSerializer,
        responses=PlanSerializer,
    )
    def post(self, request: Request, plan_id: uuid.UUID) -> Response:
        """Refuse this version: with a comment the planner makes another one, without one the session is cancelled."""
        plan = plan_get_for_user(user=request_user(request), plan_id=plan_id)
        project_get_for_user(user=request_user(request), project_id=plan.project_id, write=True)
        data = shapes.PlanRejectSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        plan_approvals.plan_reject(
            user=request_user(request),
            plan_id=plan_id,
            version=data.validated_data["version"],
            comment=data.validated_data["comment"],
        )
        return _plan(request, plan_id)


def _request(fields: dict[str, Any], project_id: uuid.UUID, *, goal: str = "") -> SessionRequest:
    return session_request({**fields, "project": project_id, "goal": goal, "agent_type": AgentType.PLANNER})


def _plan(request: Request, plan_id: uuid.UUID) -> Response:
    return Response(PlanSerializer(plan_get_for_user(user=request_user(request), plan_id=plan_id)).data)

"""Rules and approvals over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.agents import selectors, serializers_policy
from apps.agents.presenters import session_accepted, session_present
from apps.agents.serializers import SessionSerializer
from apps.agents.services.approvals import Approval, session_approve, session_autonomy_set
from apps.agents.services.policy_rules import (
    ALWAYS_MINUTES,
    RuleFields,
    policy_rule_create,
    policy_rule_delete,
    policy_rule_get,
    policy_rule_list,
    policy_rule_update,
)
from apps.agents.types import ApprovalDecision, PolicyEffect
from apps.authentication.bearer import request_user
from apps.core.pagination import PagedView
from apps.projects.autonomy import Autonomy


class RuleListView(PagedView):
    @extend_schema(
        operation_id="agents_rules_list",
        tags=["agents"],
        parameters=[serializers_policy.RuleQuerySerializer],
        responses=serializers_policy.RuleSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """The rules that your sessions go by, newest first."""
        query = serializers_policy.RuleQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        rules = policy_rule_list(user=request_user(request), project_id=query.validated_data.get("project"))
        return self.page(rules, serializers_policy.RuleSerializer)

    @extend_schema(
        operation_id="agents_rules_create",
        tags=["agents"],
        request=serializers_policy.RuleCreateSerializer,
        responses={201: serializers_policy.RuleSerializer},
    )
    def post(self, request: Request) -> Response:
        """Allow, ask for or deny calls of a kind from now on."""
        data = serializers_policy.RuleCreateSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = dict(data.validated_data)
        project_id = fields.pop("project")
        fields["effect"] = PolicyEffect(fields["effect"])
        rule = policy_rule_create(user=request_user(request), project_id=project_id, fields=RuleFields(**fields))
        return Response(serializers_policy.RuleSerializer(rule).data, status=201)


class RuleDetailView(APIView):
    @extend_schema(operation_id="agents_rules_get", tags=["agents"], responses=serializers_policy.RuleSerializer)
    def get(self, request: Request, rule_id: uuid.UUID) -> Response:
        """One rule."""
        rule = policy_rule_get(user=request_user(request), rule_id=rule_id)
        return Response(serializers_policy.RuleSerializer(rule).data)

    @extend_schema(
        operation_id="agents_rules_update",
        tags=["agents"],
        request=serializers_policy.RulePatchSerializer,
        responses=serializers_policy.RuleSerializer,
    )
    def patch(self, request: Request, rule_id: uuid.UUID) -> Response:
        """Change a rule."""
        policy_rule_get(user=request_user(request), rule_id=rule_id, write=True)
        data = serializers_policy.RulePatchSerializer(data=request.data, partial=True)
        data.is_valid(raise_exception=True)
        changes: dict[str, Any] = dict(data.validated_data)
        if "effect" in changes:
            changes["effect"] = PolicyEffect(changes["effect"])
        rule = policy_rule_update(user=request_user(request), rule_id=rule_id, changes=changes)
        return Response(serializers_policy.RuleSerializer(rule).data)

    @extend_schema(operation_id="agents_rules_delete", tags=["agents"], responses={204: None})
    def delete(self, request: Request, rule_id: uuid.UUID) -> Response:
        """Forget a rule."""
        policy_rule_delete(user=request_user(request), rule_id=rule_id)
        return Response(status=204)


class SessionApproveView(APIView):
    @extend_schema(
        operation_id="agents_sessions_approve",
        tags=["agents"],
        request=serializers_policy.ApproveSerializer,
        responses={202: SessionSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Approve, edit or reject the call that the session waits with."""
        # Before the body is looked at: what is wrong with it is nobody's business who can't see the session.
        selectors.session_get_for_user(user=request_user(request), session_id=session_id, write=True)
        data = serializers_policy.ApproveSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        approval = Approval(
            call_id=fields["call"],
            decision=ApprovalDecision(fields["decision"]),
            digest=fields["digest"],
            arguments=fields.get("arguments"),
            message=fields["message"],
            always="always" in fields,
            always_minutes=fields.get("always", {}).get("minutes", ALWAYS_MINUTES),
        )
        return session_accepted(session_approve(user=request_user(request), session_id=session_id, approval=approval))


class SessionAutonomyView(APIView):
    @extend_schema(
        operation_id="agents_sessions_autonomy",
        tags=["agents"],
        request=serializers_policy.AutonomySerializer,
        responses=SessionSerializer,
    )
    def put(self, request: Request, session_id: uuid.UUID) -> Response:
        """Let the session's agents do more or less without asking."""
        selectors.session_get_for_user(user=request_user(request), session_id=session_id, write=True)
        data = serializers_policy.AutonomySerializer(data=request.data)
        data.is_valid(raise_exception=True)
        session = session_autonomy_set(
            user=request_user(request), session_id=session_id, autonomy=Autonomy(data.validated_data["autonomy"])
        )
        return Response(SessionSerializer(session_present(session)).data)

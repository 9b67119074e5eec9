"""Steering a session, and taking it back: parse, call one service or selector, render."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.agents import selectors, serializers
from apps.agents import serializers_control as shapes
from apps.agents.presenters import session_accepted
from apps.agents.services import rewind, steering, steps
from apps.agents.views_conversation import KEY_LENGTH
from apps.authentication.bearer import request_user
from apps.core.errors import InvalidInput


class SessionSteerView(APIView):
    @extend_schema(
        operation_id="agents_sessions_steer",
        tags=["agents"],
        parameters=[
            OpenApiParameter(
                "Idempotency-Key", str, OpenApiParameter.HEADER, description="The same again is the same message."
            )
        ],
        request=shapes.SteerSerializer,
        responses={202: serializers.SessionSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Say something to a session that has not ended: its agent hears it before its next step."""
        selectors.session_get_for_user(user=request_user(request), session_id=session_id, write=True)
        data = shapes.SteerSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields: dict[str, Any] = data.validated_data
        key = fields["key"].strip() or request.headers.get("Idempotency-Key", "").strip()
        if len(key) > KEY_LENGTH or not key.isprintable():
            raise InvalidInput(f"a key has at most {KEY_LENGTH} printable characters")
        return session_accepted(
            steering.session_steer(user=request_user(request), session_id=session_id, text=fields["text"], key=key)
        )


class SessionStepsView(APIView):
    @extend_schema(
        operation_id="agents_sessions_steps",
        tags=["agents"],
        parameters=[shapes.StepQuerySerializer],
        responses=shapes.StepPageSerializer,
    )
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """The steps that the session can be taken back to, in order."""
        session = selectors.session_get_for_user(user=request_user(request), session_id=session_id)
        query = shapes.StepQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        after, limit = query.validated_data["after"], query.validated_data["limit"]
        found = steps.step_list(session, after=after, limit=limit)
        page = {"steps": found, "next_after": found[-1].seq if found else after, "session_status": session.status}
        return Response(shapes.StepPageSerializer(page).data)


class SessionRewindView(APIView):
    @extend_schema(
        operation_id="agents_sessions_rewind",
        tags=["agents"],
        request=shapes.RewindSerializer,
        responses={202: serializers.SessionSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Take a session that stands still back to right after a step: files, branch, conversations and plan."""
        selectors.session_get_for_user(user=request_user(request), session_id=session_id, write=True)
        data = shapes.RewindSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        return session_accepted(
            rewind.session_rewind(user=request_user(request), session_id=session_id, seq=data.validated_data["seq"])
        )

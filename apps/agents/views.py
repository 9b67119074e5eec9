"""Sessions over HTTP: parse, call one service or selector, render."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.http import FileResponse, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.agents import selectors, serializers
from apps.agents.models import AgentSession
from apps.agents.presenters import progress_present, session_accepted, session_present, sessions_present
from apps.agents.services import master_orchestrator
from apps.agents.services.master_orchestrator import SessionRequest
from apps.agents.services.plan_work import PlanWork, PlanWorkMode
from apps.agents.services.rebases import session_rebase
from apps.agents.services.sources import SourceRequest
from apps.agents.types import AgentType, Review, SourceKind
from apps.authentication.bearer import request_user
from apps.core.pagination import PagedView
from apps.projects.autonomy import Autonomy
from apps.usage.serializers import configuration_of
from apps.usage.types import Limits


def _session_request(request: Request) -> SessionRequest:
    data = serializers.SessionCreateSerializer(data=request.data)
    data.is_valid(raise_exception=True)
    return session_request(data.validated_data)


def session_request(fields: dict[str, Any]) -> SessionRequest:
    """What was asked for, from what ``SessionCreateSerializer`` has read."""
    limits = fields["limits"]
    plan_id = fields.get("plan")
    work = PlanWork(PlanWorkMode.CARRY_OUT, plan_id=plan_id, merged=fields["merged"]) if plan_id else None
    return SessionRequest(
        plan_work=work,
        project_id=fields["project"],
        goal=fields["goal"],
        agent_type=AgentType(fields["agent_type"]),
        models=configuration_of(fields),
        checks=tuple(fields["checks"]),
        setup_command=fields["setup_command"],
        limits=Limits(cost_usd=limits["cost_usd"], tokens=limits["tokens"], steps=limits["steps"]),
        limit_seconds=limits["seconds"],
        autonomy=Autonomy(fields["autonomy"]) if "autonomy" in fields else None,
        review=Review(fields["review"]) if "review" in fields else None,
        lanes=fields.get("lanes"),
        attachments=tuple(fields["attachments"]),
        secrets=tuple(fields["secrets"]),
        sources=tuple(
            SourceRequest(
                kind=SourceKind(source["kind"]),
                text=source["text"],
                url=source["url"],
                attachment_id=source["attachment"],
            )
            for source in fields["sources"]
        ),
    )


class SessionListView(PagedView):
    @extend_schema(
        operation_id="agents_sessions_list",
        tags=["agents"],
        parameters=[serializers.SessionQuerySerializer],
        responses=serializers.SessionSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Sessions of your projects, newest first."""
        query = serializers.SessionQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        sessions = selectors.session_list_for_user(user=request_user(request)).order_by("-created_at", "id")
        if "project" in query.validated_data:
            sessions = sessions.filter(project_id=query.validated_data["project"])
        if "status" in query.validated_data:
            sessions = sessions.filter(status=query.validated_data["status"])
        page = list(self.paginate_queryset(sessions) or [])
        return self.get_paginated_response(serializers.SessionSerializer(sessions_present(page), many=True).data)

    @extend_schema(
        operation_id="agents_sessions_create",
        tags=["agents"],
        request=serializers.SessionCreateSerializer,
        responses={201: serializers.SessionSerializer},
    )
    def post(self, request: Request) -> Response:
        """Make a session without starting it."""
        session = master_orchestrator.session_start(
            user=request_user(request), request=_session_request(request), execute=False
        )
        return Response(serializers.SessionSerializer(session_present(session)).data, status=201)


class SessionRunView(APIView):
    @extend_schema(
        operation_id="agents_sessions_run",
        tags=["agents"],
        request=serializers.SessionCreateSerializer,
        responses={202: serializers.SessionSerializer},
    )
    def post(self, request: Request) -> Response:
        """Make a session and start it."""
        return session_accepted(
            master_orchestrator.session_start(
                user=request_user(request), request=_session_request(request), execute=True
            )
        )


class SessionDetailView(APIView):
    @extend_schema(operation_id="agents_sessions_get", tags=["agents"], responses=serializers.SessionSerializer)
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """One session."""
        session = selectors.session_get_for_user(user=request_user(request), session_id=session_id)
        return Response(serializers.SessionSerializer(session_present(session)).data)


class _CommandView(APIView):
    """A command without arguments."""

    command: Callable[..., AgentSession]

    def run(self, request: Request, session_id: uuid.UUID) -> Response:
        return session_accepted(type(self).command(user=request_user(request), session_id=session_id))


class SessionExecuteView(_CommandView):
    command = staticmethod(master_orchestrator.session_execute)

    @extend_schema(
        operation_id="agents_sessions_execute",
        tags=["agents"],
        request=None,
        responses={202: serializers.SessionSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Start a pending session."""
        return self.run(request, session_id)


class SessionPauseView(_CommandView):
    command = staticmethod(master_orchestrator.session_pause)

    @extend_schema(
        operation_id="agents_sessions_pause",
        tags=["agents"],
        request=None,
        responses={202: serializers.SessionSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Stop the session where it is, to be resumed."""
        return self.run(request, session_id)


class SessionResumeView(APIView):
    @extend_schema(
        operation_id="agents_sessions_resume",
        tags=["agents"],
        request=serializers.ResumeSerializer,
        responses={202: serializers.SessionSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Go on from where the session was paused; with higher limits, if it has reached one, or other models."""
        data = serializers.ResumeSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        limits: dict[str, Any] = data.validated_data.get("limits", {})
        seconds = limits.pop("seconds", None)
        return session_accepted(
            master_orchestrator.session_resume(
                user=request_user(request),
                session_id=session_id,
                raised=Limits(**limits),
                limit_seconds=seconds,
                models=configuration_of(data.validated_data),
            )
        )


class SessionCancelView(_CommandView):
    command = staticmethod(master_orchestrator.session_cancel)

    @extend_schema(
        operation_id="agents_sessions_cancel",
        tags=["agents"],
        request=None,
        responses={202: serializers.SessionSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """End the session for good."""
        return self.run(request, session_id)


class SessionAnswerView(APIView):
    @extend_schema(
        operation_id="agents_sessions_answer",
        tags=["agents"],
        request=serializers.AnswerSerializer,
        responses={202: serializers.SessionSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Answer the question that the session waits on."""
        # Before the body is looked at: what is wrong with it is nobody's business who can't see the session.
        selectors.session_get_for_user(user=request_user(request), session_id=session_id, write=True)
        data = serializers.AnswerSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        return session_accepted(
            master_orchestrator.session_answer(
                user=request_user(request),
                session_id=session_id,
                question_id=data.validated_data["question"],
                answer=data.validated_data["answer"],
            )
        )


class SessionMergeView(APIView):
    @extend_schema(
        operation_id="agents_sessions_merge",
        tags=["agents"],
        request=serializers.MergeSerializer,
        responses=serializers.SessionSerializer,
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Merge the session's branch into the one it started from, in the server's repository."""
        selectors.session_get_for_user(user=request_user(request), session_id=session_id, write=True)
        data = serializers.MergeSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        session = master_orchestrator.session_merge(
            user=request_user(request), session_id=session_id, allow_failing=data.validated_data["allow_failing"]
        )
        return Response(serializers.SessionSerializer(session_present(session)).data)


class SessionRebaseView(_CommandView):
    command = staticmethod(session_rebase)

    @extend_schema(
        operation_id="agents_sessions_rebase",
        tags=["agents"],
        request=None,
        responses={202: serializers.SessionSerializer},
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Put the session's branch onto the branch that it started from, as that is now, and check it there."""
        return self.run(request, session_id)


class SessionDiscardView(APIView):
    @extend_schema(
        operation_id="agents_sessions_discard",
        tags=["agents"],
        request=None,
        responses=serializers.SessionSerializer,
    )
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Throw the session's branch and files away; its record stays."""
        session = master_orchestrator.session_discard(user=request_user(request), session_id=session_id)
        return Response(serializers.SessionSerializer(session_present(session)).data)


class SessionProgressView(APIView):
    @extend_schema(operation_id="agents_sessions_progress", tags=["agents"], responses=serializers.ProgressSerializer)
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """Where the session is: plan, current tool, spending, checks."""
        session = selectors.session_get_for_user(user=request_user(request), session_id=session_id)
        return Response(serializers.ProgressSerializer(progress_present(session)).data)


class SessionEventsView(APIView):
    @extend_schema(
        operation_id="agents_sessions_events",
        tags=["agents"],
        parameters=[serializers.EventQuerySerializer],
        responses=serializers.EventPageSerializer,
    )
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """What happened, in order, after a number."""
        session = selectors.session_get_for_user(user=request_user(request), session_id=session_id)
        query = serializers.EventQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        after, limit = query.validated_data["after"], query.validated_data["limit"]
        events = selectors.event_list(session_id=session_id, after=after, limit=limit)
        page = {
            "events": events,
            "next_after": events[-1].seq if events else after,
            "last_seq": max(session.head.seq, events[-1].seq if events else 0),
            "session_status": session.status,
        }
        return Response(serializers.EventPageSerializer(page).data)


class SessionDiffView(APIView):
    @extend_schema(operation_id="agents_sessions_diff", tags=["agents"], responses=serializers.DiffSerializer)
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """What the session's branch changes."""
        session = selectors.session_get_for_user(user=request_user(request), session_id=session_id)
        return Response(serializers.DiffSerializer(selectors.session_diff(session)).data)


class SessionPatchView(APIView):
    @extend_schema(
        operation_id="agents_sessions_patch",
        tags=["agents"],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, session_id: uuid.UUID) -> HttpResponseBase:
        """All that the session changed, binary files included: `git apply FILE`."""
        session = selectors.session_get_for_user(user=request_user(request), session_id=session_id)
        path = selectors.session_patch(session)
        patch = path.open("rb")
        path.unlink()
        return FileResponse(
            patch, content_type="application/octet-stream", as_attachment=True, filename=f"{session.id}.patch"
        )


class SessionBundleView(APIView):
    @extend_schema(
        operation_id="agents_sessions_bundle",
        tags=["agents"],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, session_id: uuid.UUID) -> HttpResponseBase:
        """The session's branch as a git bundle: `git fetch FILE BRANCH`."""
        session = selectors.session_get_for_user(user=request_user(request), session_id=session_id)
        path = selectors.session_bundle(session)
        bundle = path.open("rb")
        # Read through the open file from here on; nothing is left behind however the download ends.
        path.unlink()
        return FileResponse(
            bundle, content_type="application/octet-stream", as_attachment=True, filename=f"{session.id}.bundle"
        )

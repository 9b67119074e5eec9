"""Health, readiness, and the pages that document the API."""

from __future__ import annotations

from functools import cache
from typing import Any

from csp.decorators import csp_replace
from django.utils.decorators import method_decorator
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core.readiness import readiness_get
from apps.core.serializers import HealthSerializer, ReadinessSerializer

#: The documentation pages run their own scripts and styles, from this server alone; ReDoc searches in a worker.
_DOCUMENTATION_CSP = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'", "'unsafe-inline'"],
    "img-src": ["'self'", "data:"],
    "font-src": ["'self'", "data:"],
    "connect-src": ["'self'"],
    "worker-src": ["'self'", "blob:"],
    "frame-ancestors": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
}


class HealthView(APIView):
    """Whether this process answers; touches nothing else."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(operation_id="health", tags=["service"], responses=HealthSerializer)
    def get(self, request: Request) -> Response:
        """Liveness: this process answers."""
        return Response({"status": "ok"})


class ReadyView(APIView):
    """Whether this server can do its work."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="ready", tags=["service"], responses={200: ReadinessSerializer, 503: ReadinessSerializer}
    )
    def get(self, request: Request) -> Response:
        """Readiness, part by part: 200 when everything required is there, else 503."""
        readiness = readiness_get()
        return Response(ReadinessSerializer(readiness).data, status=200 if readiness.ready else 503)


class SchemaView(SpectacularAPIView):
    """The OpenAPI document; made once in a process, since it is public and costs a third of a second."""

    def _get_schema_response(self, request: Request) -> Response:
        return Response(_schema())


@cache
def _schema() -> Any:
    return SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]


@method_decorator(csp_replace(_DOCUMENTATION_CSP), name="dispatch")
class SwaggerView(SpectacularSwaggerSplitView):
    """Swagger UI."""


@method_decorator(csp_replace(_DOCUMENTATION_CSP), name="dispatch")
class RedocView(SpectacularRedocView):
    """ReDoc."""

    template_name = "core/redoc.html"

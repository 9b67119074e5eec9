"""How the OpenAPI document is made: what every operation shares."""

from __future__ import annotations

from typing import Any

import uritemplate
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework.permissions import AllowAny

from apps.core.problems import CONTENT_TYPE
from apps.core.serializers import ProblemSerializer


class ArchonSchema(AutoSchema):
    """Adds the problem documents to every operation: those that it can name, and ``default`` for any other."""

    def get_summary(self) -> str | None:
        """The beginning of the description, so that lists of operations say more than paths and methods."""
        first = " ".join(self.get_description().split()).partition(". ")[0].partition("; ")[0]
        return first.rstrip(".") or None

    # Not `get_response_serializers`, which `extend_schema` replaces in a subclass of its own.
    def _get_response_bodies(self, direction: Any = "response") -> Any:
        responses = super()._get_response_bodies(direction)
        for status in self._problem_statuses():
            if status not in responses:
                responses[status] = self._get_response_for_code(  # type: ignore[no-untyped-call]
                    ProblemSerializer, status, [CONTENT_TYPE], direction
                )
        return responses

    def _problem_statuses(self) -> list[str]:
        statuses = ["default"]
        if not any(isinstance(permission, AllowAny) for permission in self.view.get_permissions()):
            statuses.append("401")
        if uritemplate.variables(self.path):
            statuses.append("404")
        if self.method in ("POST", "PUT", "PATCH"):
            statuses.append("400")
        return statuses


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """``Authorization: Bearer`` with an access token or an API key."""

    target_class = "apps.authentication.bearer.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An access token from /api/auth/login/, or an API key (`archon_…`) from /api/auth/keys/.",
        }

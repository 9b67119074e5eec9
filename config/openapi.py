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

    def get_response_serializers(self) -> Any:
        declared = super().get_response_serializers()
        responses: dict[Any, Any] = dict(declared) if isinstance(declared, dict) else {self._success(): declared}
        known = {str(key[0] if isinstance(key, tuple) else key) for key in responses}
        for status in self._problem_statuses():
            if status not in known:
                responses[(status, CONTENT_TYPE)] = ProblemSerializer
        return responses

    def _success(self) -> str:
        return "204" if self.method == "DELETE" else "200"

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

"""A client of the API for tests, which holds every answer against the OpenAPI document."""

from __future__ import annotations

import ipaddress
import random
import re
import uuid
from functools import cache
from typing import Any

import jsonschema
from drf_spectacular.generators import SchemaGenerator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from rest_framework.test import APIClient

from apps.authentication.models import User
from apps.authentication.services.tokens import token_pair_create
from apps.projects.models import Membership, Project, Role

PASSWORD = "correct horse battery staple"


@cache
def openapi_document() -> dict[str, Any]:
    document: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return document


def openapi_path(path: str) -> str | None:
    """The path template of the document that an address matches; literal ones go before parameters."""
    for template in sorted(openapi_document()["paths"], key=lambda template: template.count("{")):
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path):
            return str(template)
    return None


def answer_check(method: str, path: str, response: Any) -> None:
    """Fails unless the document promises this status, media type and body for this request."""
    template = openapi_path(path)
    if template is None:
        assert response.status_code in (308, 404), f"{method} {path} is not in the document"
        return
    operation = openapi_document()["paths"][template].get(method.lower())
    if operation is None:
        assert response.status_code == 405 or method == "OPTIONS", f"{method} {path}: {response.status_code}"
        return
    promised = operation["responses"].get(str(response.status_code))
    if promised is None:
        assert response.status_code >= 400, f"{method} {template} does not promise {response.status_code}"
        promised = operation["responses"]["default"]
    if "content" not in promised:
        assert response.content == b"", f"{method} {template} promises no body"
        return
    media_type = response.headers["Content-Type"].partition(";")[0]
    assert media_type in promised["content"], f"{method} {template}: {media_type} is not promised"
    if not media_type.endswith("json"):
        return
    registry: Registry[Any] = Registry().with_resource(
        "urn:api", Resource.from_contents(openapi_document(), default_specification=DRAFT202012)
    )
    pointer = "/".join(
        part.replace("~", "~0").replace("/", "~1") for part in ("paths", template, method.lower(), "responses")
    )
    key = str(response.status_code) if str(response.status_code) in operation["responses"] else "default"
    reference = f"urn:api#/{pointer}/{key}/content/{media_type.replace('/', '~1')}/schema"
    reference = reference.replace("{", "%7B").replace("}", "%7D")
    jsonschema.Draft202012Validator({"$ref": reference}, registry=registry).validate(response.json())


class CheckedClient(APIClient):
    """Django's client with JSON bodies; checks each answer with :func:`answer_check`."""

    def request(self, **kwargs: Any) -> Any:
        response = super().request(**kwargs)
        answer_check(kwargs["REQUEST_METHOD"], kwargs["PATH_INFO"], response)
        return response


def address_random() -> str:
    """A client address that no other test has used up attempts of."""
    return str(ipaddress.IPv6Address(random.SystemRandom().getrandbits(128)))


def client_make(token: str = "") -> CheckedClient:
    client = CheckedClient(REMOTE_ADDR=address_random())
    client.default_format = "json"
    if token:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def user_make(*, email: str = "", is_staff: bool = False) -> User:
    return User.objects.create_user(email or f"{uuid.uuid4().hex[:12]}@example.org", PASSWORD, is_staff=is_staff)


def client_for(user: User) -> CheckedClient:
    """A client that is signed in as the user."""
    return client_make(token_pair_create(user=user).access)


def project_make(*, owner: User, name: str = "sample", **members: User) -> Project:
    """A project without a repository; ``members`` are users by role (``viewer=somebody``)."""
    project = Project.objects.create(name=name)
    Membership.objects.create(project=project, user=owner, role=Role.OWNER)
    for role, user in members.items():
        Membership.objects.create(project=project, user=user, role=Role(role))
    return project

"""The API's one authentication: ``Authorization: Bearer`` with an access token or an API key."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from apps.authentication.models import User
from apps.authentication.services.credentials import credentials_get
from apps.authentication.types import Credentials
from apps.core.errors import NotAuthenticated, PermissionDenied
from apps.core.problems import CHALLENGE


class BearerAuthentication(BaseAuthentication):
    """Sets ``request.user`` and, as ``request.auth``, the Credentials."""

    def authenticate(self, request: Request) -> tuple[User, Credentials] | None:
        """None without a Bearer header; raises NotAuthenticated for one that is no good."""
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != b"bearer":
            return None
        if len(parts) != 2 or not parts[1].isascii():
            raise NotAuthenticated("The Authorization header is malformed.", next_step="send `Bearer TOKEN`")
        credentials = credentials_get(parts[1].decode("ascii"))
        return credentials.user, credentials

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


def request_user(request: Request) -> User:
    """The signed-in user of a request that has passed ``IsAuthenticated``."""
    assert isinstance(request.user, User)
    return request.user


def request_credentials(request: Request) -> Credentials:
    """By what the user of a request is known."""
    assert isinstance(request.auth, Credentials)
    return request.auth


def request_session(request: Request) -> Credentials:
    """The sign-in behind a request; raises PermissionDenied for an API key, which may not make itself permanent."""
    credentials = request_credentials(request)
    if credentials.kind != "session":
        raise PermissionDenied(
            "An API key may not do this.", next_step="sign in with your password at /api/auth/login/"
        )
    return credentials


def request_address(request: Request) -> str:
    """The client's address as the ASGI server knows it (behind a proxy: if told to trust the proxy's header)."""
    return str(request.META.get("REMOTE_ADDR", "unknown"))

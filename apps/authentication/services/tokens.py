"""JSON Web Tokens: short-lived access tokens and refresh tokens that are good once.

A sign-in starts a family. Each refresh replaces the family's one good refresh token; an older one that is shown again
was stolen or copied, so the whole family ends, its access tokens included. Two refreshes at once with the same token
are the same event: the row lock lets one win, and the other ends the family.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, Literal

import jwt
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from apps.authentication.models import TokenFamily, User
from apps.authentication.secret import secret_hash, secret_make
from apps.authentication.types import Credentials, TokenPair
from apps.core.errors import NotAuthenticated

#: Symmetric ones alone, since JWT_SECRET_KEY is a shared secret; the one in JWT_ALGORITHM is the only one accepted.
ALGORITHMS = ("HS256", "HS384", "HS512")
ISSUER = "archon"
AUDIENCE = "archon-api"
_CLAIMS = ["iss", "aud", "sub", "exp", "iat", "jti", "typ", "fam"]

TokenType = Literal["access", "refresh"]


class TokenInvalid(NotAuthenticated):
    """The token is not one of ours, has expired or was revoked."""

    code = "token_invalid"


def token_pair_create(*, user: User) -> TokenPair:
    """Sign the user in: a new family and its first tokens."""
    family, token = secret_make(32), secret_make(32)
    TokenFamily.objects.create(
        user=user,
        family_hash=secret_hash(family),
        token_hash=secret_hash(token),
        expires_at=timezone.now() + settings.REFRESH_TOKEN_LIFETIME,
    )
    return _pair(user, family, token)


def token_pair_refresh(*, refresh: str) -> TokenPair:
    """Exchange the family's one good refresh token for a new pair. Raises TokenInvalid."""
    claims = _decode(refresh, "refresh")
    token = secret_make(32)
    with transaction.atomic():
        family = (
            TokenFamily.objects.select_for_update(of=("self",))
            .select_related("user")
            .filter(family_hash=secret_hash(claims["fam"]), revoked_at=None)
            .first()
        )
        if family is None or not family.user.is_active or str(family.user_id) != claims["sub"]:
            raise _invalid()
        reused = family.token_hash != secret_hash(claims["jti"])
        if reused:
            family.revoked_at = timezone.now()
        else:
            family.token_hash = secret_hash(token)
            family.expires_at = timezone.now() + settings.REFRESH_TOKEN_LIFETIME
        family.save()
    # Raised after the commit, which must keep the revocation.
    if reused:
        raise TokenInvalid(
            "This refresh token was used before; the sign-in that it came from has ended.", next_step="sign in again"
        )
    return _pair(family.user, claims["fam"], token)


def token_credentials_get(*, access: str) -> Credentials:
    """Who holds this access token; its family must still stand and its user be active. Raises TokenInvalid."""
    claims = _decode(access, "access")
    family = (
        TokenFamily.objects.select_related("user")
        .filter(family_hash=secret_hash(claims["fam"]), revoked_at=None, user__is_active=True)
        .first()
    )
    if family is None or str(family.user_id) != claims["sub"]:
        raise _invalid()
    return Credentials(user=family.user, kind="session", source_id=family.id)


def token_family_revoke(*, family_id: uuid.UUID) -> None:
    """End one sign-in."""
    TokenFamily.objects.filter(id=family_id, revoked_at=None).update(revoked_at=timezone.now())


def token_family_revoke_by_refresh(*, refresh: str) -> None:
    """End the sign-in that a refresh token belongs to. Raises TokenInvalid."""
    claims = _decode(refresh, "refresh")
    TokenFamily.objects.filter(family_hash=secret_hash(claims["fam"]), revoked_at=None).update(
        revoked_at=timezone.now()
    )


def token_families_revoke(*, user: User, except_id: uuid.UUID) -> None:
    """End all sign-ins of a user but one."""
    TokenFamily.objects.filter(user=user, revoked_at=None).exclude(id=except_id).update(revoked_at=timezone.now())


def token_families_prune() -> int:
    """Delete families whose last refresh token has expired; returns how many."""
    # An access token may outlive the refresh token it came with by its own lifetime.
    deleted, _ = TokenFamily.objects.filter(expires_at__lt=timezone.now() - settings.ACCESS_TOKEN_LIFETIME).delete()
    return deleted


def _pair(user: User, family: str, token: str) -> TokenPair:
    return TokenPair(
        access=_encode(user, "access", family, secret_make(32), settings.ACCESS_TOKEN_LIFETIME),
        refresh=_encode(user, "refresh", family, token, settings.REFRESH_TOKEN_LIFETIME),
        user=user,
    )


def _encode(user: User, kind: TokenType, family: str, token: str, lifetime: timedelta) -> str:
    now = timezone.now()
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(user.pk),
        "iat": now,
        "exp": now + lifetime,
        "jti": token,
        "typ": kind,
        "fam": family,
    }
    return jwt.encode(claims, settings.JWT_SECRET_KEY, algorithm=_algorithm())


def _decode(token: str, kind: TokenType) -> dict[str, Any]:
    """The claims of a token that we signed, that is in time and of that kind."""
    algorithm = _algorithm()
    try:
        # Ours name an algorithm and a type and nothing else: a `kid` or a key inside the token is never ours.
        if jwt.get_unverified_header(token) != {"alg": algorithm, "typ": "JWT"}:
            raise _invalid()
        claims: dict[str, Any] = jwt.decode(
            token,
            settings.JWT_SECRET_KEY,
            algorithms=[algorithm],
            issuer=ISSUER,
            audience=AUDIENCE,
            options={"require": _CLAIMS, "strict_aud": True},
        )
    except jwt.ExpiredSignatureError as error:
        raise TokenInvalid("The token has expired.", next_step="refresh it, or sign in again") from error
    except (jwt.PyJWTError, ValueError) as error:
        raise _invalid() from error
    if claims["typ"] != kind or not all(isinstance(claims[name], str) for name in ("sub", "jti", "fam")):
        raise _invalid()
    return claims


def _algorithm() -> str:
    algorithm: str = settings.JWT_ALGORITHM
    if algorithm not in ALGORITHMS or not settings.JWT_SECRET_KEY:
        raise ImproperlyConfigured(f"JWT_ALGORITHM must be one of {', '.join(ALGORITHMS)}, and JWT_SECRET_KEY set")
    return algorithm


def _invalid() -> TokenInvalid:
    return TokenInvalid("The token is not valid here.", next_step="sign in again")

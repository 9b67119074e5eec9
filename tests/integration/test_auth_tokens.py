"""Tokens: only ours, in time, of the right kind, of a sign-in that still stands; an old refresh token ends it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.db import connection

from apps.authentication.models import TokenFamily
from apps.authentication.services.tokens import (
    TokenInvalid,
    token_families_prune,
    token_pair_create,
    token_pair_refresh,
)
from apps.authentication.types import TokenPair
from tests.api import client_make, user_make

Claims = dict[str, Any]


def _status(token: str) -> int:
    return int(client_make(token).get("/api/auth/me/").status_code)


def _claims(pair: TokenPair) -> Claims:
    claims: Claims = jwt.decode(pair.access, options={"verify_signature": False})
    return claims


def _sign(claims: Claims, *, key: str = "", algorithm: str = "HS256", headers: dict[str, Any] | None = None) -> str:
    return jwt.encode(claims, key or settings.JWT_SECRET_KEY, algorithm=algorithm, headers=headers)


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _public_key_as_secret(claims: Claims) -> str:
    """RS/HS confusion: an RSA public key used as the secret of an HMAC."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    import hashlib
    import hmac

    message = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(_plain(claims))}"
    digest = hmac.new(public, message.encode(), hashlib.sha256).digest()
    return f"{message}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _rsa_signed(claims: Claims) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(claims, key, algorithm="RS256")


def _plain(claims: Claims) -> Claims:
    return dict(claims.items())


_FORGERIES: dict[str, Callable[[Claims], str]] = {
    "alg none": lambda claims: f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}.",
    "alg None": lambda claims: f"{_part({'alg': 'None', 'typ': 'JWT'})}.{_part(claims)}.",
    "no signature": lambda claims: _sign(claims).rpartition(".")[0] + ".",
    "another key": lambda claims: _sign(claims, key="x" * 64),
    "another HMAC": lambda claims: _sign(claims, algorithm="HS512"),
    "RS256": _rsa_signed,
    "public key as secret": _public_key_as_secret,
    "foreign kid": lambda claims: _sign(claims, headers={"kid": "../../dev/null"}),
    "key inside": lambda claims: _sign(claims, headers={"jwk": {"kty": "oct", "k": "eA"}}),
    "no exp": lambda claims: _sign({name: value for name, value in claims.items() if name != "exp"}),
    "no family": lambda claims: _sign({name: value for name, value in claims.items() if name != "fam"}),
    "expired": lambda claims: _sign({**claims, "exp": datetime.now(UTC) - timedelta(seconds=5)}),
    "from the future": lambda claims: _sign({**claims, "iat": datetime.now(UTC) + timedelta(hours=1)}),
    "another issuer": lambda claims: _sign({**claims, "iss": "elsewhere"}),
    "another audience": lambda claims: _sign({**claims, "aud": "elsewhere"}),
    "another family": lambda claims: _sign({**claims, "fam": "x" * 32}),
    "another user": lambda claims: _sign({**claims, "sub": str(user_make().id)}),
    "odd claims": lambda claims: _sign({**claims, "fam": ["x"]}),
    "nonsense": lambda claims: "a.b.c",
    "empty": lambda claims: "",
    "spaces": lambda claims: "a b",
}


@pytest.mark.django_db
@pytest.mark.parametrize("forge", _FORGERIES.values(), ids=_FORGERIES.keys())
def test_forged_tokens_are_refused(forge: Callable[[Claims], str]) -> None:
    claims = _claims(token_pair_create(user=user_make()))
    assert _status(_sign(claims)) == 200, "the claims themselves are good"
    client = client_make()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {forge(claims)}")
    assert client.get("/api/auth/me/").status_code == 401


@pytest.mark.django_db
def test_tokens_are_not_interchangeable() -> None:
    pair = token_pair_create(user=user_make())
    assert _status(pair.refresh) == 401
    assert client_make().post("/api/auth/refresh/", {"refresh": pair.access}).status_code == 401


@pytest.mark.django_db
def test_refresh_rotates_and_reuse_ends_the_family() -> None:
    user = user_make()
    first = token_pair_create(user=user)
    other = token_pair_create(user=user)
    second = client_make().post("/api/auth/refresh/", {"refresh": first.refresh}).json()
    third = client_make().post("/api/auth/refresh/", {"refresh": second["refresh"]}).json()
    assert _status(third["access"]) == _status(first.access) == 200
    reused = client_make().post("/api/auth/refresh/", {"refresh": first.refresh})
    assert (reused.status_code, reused.json()["code"]) == (401, "token_invalid")
    assert client_make().post("/api/auth/refresh/", {"refresh": third["refresh"]}).status_code == 401
    assert _status(third["access"]) == _status(first.access) == 401
    assert _status(other.access) == 200, "another sign-in of the same user stands"


@pytest.mark.django_db(transaction=True)
def test_of_two_refreshes_at_once_one_wins_and_the_family_ends() -> None:
    pair = token_pair_create(user=user_make())
    start = threading.Barrier(2)

    def refresh() -> TokenPair | None:
        start.wait()
        try:
            return token_pair_refresh(refresh=pair.refresh)
        except TokenInvalid:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        results = [future.result() for future in [pool.submit(refresh), pool.submit(refresh)]]
    winners = [result for result in results if result is not None]
    assert len(winners) == 1
    assert TokenFamily.objects.get().revoked_at is not None
    assert _status(winners[0].access) == 401


@pytest.mark.django_db
def test_logout_ends_the_sign_in_at_once() -> None:
    pair = token_pair_create(user=user_make())
    assert client_make().post("/api/auth/logout/", {"refresh": pair.refresh}).status_code == 204
    assert _status(pair.access) == 401
    assert client_make().post("/api/auth/refresh/", {"refresh": pair.refresh}).status_code == 401


@pytest.mark.django_db
def test_deactivated_user_is_out_at_once() -> None:
    pair = token_pair_create(user=user_make())
    pair.user.is_active = False
    pair.user.save()
    assert _status(pair.access) == 401
    assert client_make().post("/api/auth/refresh/", {"refresh": pair.refresh}).status_code == 401


@pytest.mark.django_db
def test_no_secret_of_a_token_is_stored() -> None:
    pair = token_pair_create(user=user_make())
    secrets = [
        jwt.decode(token, options={"verify_signature": False})[name]
        for token in (pair.access, pair.refresh)
        for name in ("fam", "jti")
    ]
    row = repr(TokenFamily.objects.values().get())
    assert not any(secret in row for secret in secrets)


@pytest.mark.django_db
def test_expired_families_are_deleted() -> None:
    token_pair_create(user=user_make())
    old = token_pair_create(user=user_make())
    TokenFamily.objects.filter(user=old.user).update(expires_at=datetime.now(UTC) - timedelta(days=1))
    assert token_families_prune() == 1
    assert TokenFamily.objects.count() == 1

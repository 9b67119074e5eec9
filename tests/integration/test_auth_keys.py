"""API keys and WebSocket tickets: shown once, stored hashed, good until they are not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from django.db import connection

from apps.authentication.models import ApiKey, TokenFamily
from apps.authentication.services.credentials import (
    credentials_valid,
    ticket_credentials_get,
    ticket_redeem,
    token_authenticate,
)
from apps.core.errors import NotAuthenticated
from integrations.cache.connection import redis_client
from tests.api import CheckedClient, client_for, client_make, user_make

pytestmark = pytest.mark.django_db


def _key_make(client: CheckedClient, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = client.post("/api/auth/keys/", {"name": "ci", **fields}).json()
    return made


def test_key_is_shown_once_and_works_until_deleted() -> None:
    user = user_make()
    client = client_for(user)
    made = _key_make(client)
    key = made["key"]
    assert key.startswith("archon_")
    assert len(key) == 47
    assert key.startswith(made["prefix"])
    assert token_authenticate(key) == user
    with_key = client_make(key)
    assert with_key.get("/api/auth/me/").json()["id"] == str(user.id)
    listed = client.get("/api/auth/keys/").json()["results"]
    assert listed[0]["last_used_at"] is not None
    assert key not in repr(listed) + repr(ApiKey.objects.values().get())
    assert client.delete(f"/api/auth/keys/{made['id']}/").status_code == 204
    assert with_key.get("/api/auth/me/").status_code == 401


def test_key_expires() -> None:
    client = client_for(user_make())
    past = client.post("/api/auth/keys/", {"name": "x", "expires_at": "2020-01-01T00:00:00Z"})
    assert past.status_code == 400
    made = _key_make(client, expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert client_make(made["key"]).get("/api/auth/me/").status_code == 200
    ApiKey.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert client_make(made["key"]).get("/api/auth/me/").status_code == 401


@pytest.mark.parametrize("value", ["archon_", "archon_" + "x" * 40, "archon_" + "x" * 4000, "archon_" + "\xe9" * 40])
def test_unknown_keys_are_refused(value: str) -> None:
    assert client_make(value).get("/api/auth/me/").status_code == 401


def test_key_of_a_deactivated_user_is_refused() -> None:
    user = user_make()
    key = _key_make(client_for(user))["key"]
    user.is_active = False
    user.save()
    assert client_make(key).get("/api/auth/me/").status_code == 401


def test_key_cannot_make_itself_permanent() -> None:
    key = _key_make(client_for(user_make(is_staff=True)))["key"]
    client = client_make(key)
    assert client.post("/api/auth/keys/", {"name": "more"}).status_code == 403
    assert client.post("/api/auth/invites/", {}).status_code == 403
    change = client.post("/api/auth/password/", {"current_password": "x", "new_password": "y"})
    assert change.status_code == 403


def test_keys_are_their_owners_alone() -> None:
    mine, others = client_for(user_make()), client_for(user_make())
    made = _key_make(mine)
    assert others.get("/api/auth/keys/").json()["count"] == 0
    assert others.delete(f"/api/auth/keys/{made['id']}/").status_code == 404
    assert client_make(made["key"]).get("/api/auth/me/").status_code == 200


def test_ticket_is_good_once() -> None:
    user = user_make()
    answer = client_for(user).post("/api/auth/tickets/").json()
    assert answer["expires_in"] == 30
    assert ticket_redeem(answer["ticket"]) == user
    with pytest.raises(NotAuthenticated):
        ticket_redeem(answer["ticket"])


def test_ticket_expires() -> None:
    ticket = client_for(user_make()).post("/api/auth/tickets/").json()["ticket"]
    keys = list(redis_client().scan_iter("archon:ticket:*"))
    assert all(0 < cast(int, redis_client().ttl(key)) <= 30 for key in keys)
    assert not any(ticket.encode() in key for key in keys)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_redeem_a_ticket_one_is_let_in() -> None:
    ticket = client_for(user_make()).post("/api/auth/tickets/").json()["ticket"]

    def redeem(_: int) -> bool:
        try:
            ticket_redeem(ticket)
        except NotAuthenticated:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(redeem, range(8))).count(True) == 1


def test_ticket_of_a_sign_in_that_has_ended_is_refused() -> None:
    user = user_make()
    ticket = client_for(user).post("/api/auth/tickets/").json()["ticket"]
    TokenFamily.objects.filter(user=user).update(revoked_at=datetime.now(UTC))
    with pytest.raises(NotAuthenticated):
        ticket_redeem(ticket)


def test_credentials_know_when_they_were_revoked() -> None:
    user = user_make()
    client = client_for(user)
    by_session = ticket_credentials_get(client.post("/api/auth/tickets/").json()["ticket"])
    made = _key_make(client)
    by_key = ticket_credentials_get(client_make(made["key"]).post("/api/auth/tickets/").json()["ticket"])
    assert (by_session.kind, by_key.kind) == ("session", "api_key")
    assert credentials_valid(by_session)
    assert credentials_valid(by_key)
    client.delete(f"/api/auth/keys/{made['id']}/")
    TokenFamily.objects.filter(user=user).update(revoked_at=datetime.now(UTC))
    assert not credentials_valid(by_session)
    assert not credentials_valid(by_key)

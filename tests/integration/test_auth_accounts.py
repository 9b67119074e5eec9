"""Registering by the server's rule, signing in within limits, administering."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from apps.authentication.models import Invite, User
from tests.api import PASSWORD, client_for, client_make, user_make

pytestmark = pytest.mark.django_db


def _register(**fields: Any) -> Any:
    return client_make().post("/api/auth/register/", {"email": "new@example.org", "password": PASSWORD, **fields})


def test_register_login_me() -> None:
    made = _register(name="Ada")
    assert made.status_code == 201
    assert made.json()["user"]["email"] == "new@example.org"
    signed_in = client_make().post("/api/auth/login/", {"email": "NEW@Example.org", "password": PASSWORD})
    assert signed_in.status_code == 200
    client = client_make(signed_in.json()["access"])
    assert client.get("/api/auth/me/").json()["name"] == "Ada"
    assert client.patch("/api/auth/me/", {"name": "Ada L.", "is_staff": True}).json()["name"] == "Ada L."
    assert client.get("/api/auth/me/").json()["is_staff"] is False
    assert User.objects.get().password.split("$")[0] == "md5", "the tests' hasher"


def test_production_hashes_with_argon2() -> None:
    from config.settings import base

    assert base.PASSWORD_HASHERS == ["django.contrib.auth.hashers.Argon2PasswordHasher"]


@pytest.mark.parametrize(
    "fields",
    [
        {"email": "no address"},
        {"email": ""},
        {"password": ""},
        {"password": "x" * 300},
    ],
)
def test_invalid_registrations(fields: dict[str, str]) -> None:
    response = _register(**fields)
    assert response.status_code == 400
    assert set(response.json()["errors"]) == set(fields)


@pytest.mark.parametrize("password", ["12345678", "password", "short", "new@example.org"])
def test_weak_passwords_are_refused(password: str) -> None:
    response = _register(password=password)
    assert (response.status_code, response.json()["code"]) == (400, "password_unfit")


def test_address_is_taken_whatever_its_case() -> None:
    assert _register().status_code == 201
    assert _register(email="NEW@EXAMPLE.ORG").status_code == 409


def test_closed_registration(settings: Any) -> None:
    settings.ARCHON_REGISTRATION = "closed"
    response = _register()
    assert (response.status_code, response.json()["code"]) == (403, "registration_closed")


def test_registration_by_invite(settings: Any) -> None:
    settings.ARCHON_REGISTRATION = "invite"
    staff = client_for(user_make(is_staff=True))
    assert _register().json()["code"] == "registration_closed"
    assert _register(invite="guessed").json()["code"] == "invite_invalid"
    bound = staff.post("/api/auth/invites/", {"email": "Other@example.org"}).json()["token"]
    assert _register(invite=bound).json()["code"] == "invite_invalid"
    late = staff.post("/api/auth/invites/", {}).json()
    Invite.objects.filter(id=late["id"]).update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert _register(invite=late["token"]).json()["code"] == "invite_invalid"
    assert not User.objects.filter(email="new@example.org").exists(), "a refused invite makes no account"
    good = staff.post("/api/auth/invites/", {"days": 1}).json()["token"]
    assert _register(invite=good).status_code == 201
    assert _register(email="second@example.org", invite=good).json()["code"] == "invite_invalid"
    listed = staff.get("/api/auth/invites/").json()
    assert listed["count"] == 3
    assert not any(token in repr(listed) for token in (bound, good))


def test_invites_are_for_administrators() -> None:
    assert client_for(user_make()).post("/api/auth/invites/", {}).status_code == 403


def test_login_says_the_same_for_unknown_and_wrong() -> None:
    user = user_make()
    wrong = client_make().post("/api/auth/login/", {"email": user.email, "password": "wrong"}).json()
    unknown = client_make().post("/api/auth/login/", {"email": "nobody@example.org", "password": "wrong"}).json()
    user.is_active = False
    user.save()
    inactive = client_make().post("/api/auth/login/", {"email": user.email, "password": PASSWORD}).json()
    for problem in (wrong, unknown, inactive):
        problem.pop("request_id")
    assert wrong == unknown == inactive
    assert wrong["code"] == "login_failed"


def test_unknown_address_costs_a_hash_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.contrib.auth.hashers import MD5PasswordHasher

    hashed: list[str] = []
    encode = MD5PasswordHasher.encode

    def counted(self: MD5PasswordHasher, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    client_make().post("/api/auth/login/", {"email": "nobody@example.org", "password": "guess"})
    assert hashed == ["guess"]


def test_login_attempts_are_limited_for_the_account_and_the_address() -> None:
    user, client = user_make(), client_make()
    wrong = {"email": user.email, "password": "wrong"}
    statuses = [client.post("/api/auth/login/", wrong).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    refused = client.post("/api/auth/login/", {"email": user.email, "password": PASSWORD})
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    elsewhere = client_make().post("/api/auth/login/", {"email": user.email, "password": PASSWORD})
    assert elsewhere.status_code == 200, "a stranger's attempts don't lock the owner out"


def test_password_change_ends_other_sign_ins() -> None:
    user = user_make()
    here, elsewhere = client_for(user), client_for(user)
    new = "another horse battery staple"
    wrong = here.post("/api/auth/password/", {"current_password": "wrong", "new_password": new})
    assert wrong.status_code == 400
    weak = here.post("/api/auth/password/", {"current_password": PASSWORD, "new_password": "password"})
    assert weak.json()["code"] == "password_unfit"
    done = here.post("/api/auth/password/", {"current_password": PASSWORD, "new_password": new})
    assert done.status_code == 204
    assert here.get("/api/auth/me/").status_code == 200
    assert elsewhere.get("/api/auth/me/").status_code == 401
    assert client_make().post("/api/auth/login/", {"email": user.email, "password": new}).status_code == 200


def test_createsuperuser_without_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_EMAIL", "Root@example.org")
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", interactive=False, verbosity=0)
    user = User.objects.get(email="root@example.org")
    assert user.is_superuser
    assert user.check_password(PASSWORD)


def test_invite_command(settings: Any) -> None:
    settings.ARCHON_REGISTRATION = "invite"
    out = StringIO()
    call_command("invite", stdout=out)
    assert _register(invite=out.getvalue().strip()).status_code == 201


def test_local_account_keeps_a_key_that_is_good(settings: Any, tmp_path: Path) -> None:
    settings.ARCHON_HOME = tmp_path / "home"
    call_command("local_account", stdout=StringIO())
    path = settings.ARCHON_HOME / "cli-token"
    key = path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert client_make(key).get("/api/auth/me/").json()["email"] == "local@localhost"
    call_command("local_account", stdout=StringIO())
    assert path.read_text().strip() == key
    path.write_text("archon_" + "x" * 40)
    call_command("local_account", stdout=StringIO())
    assert client_make(path.read_text().strip()).get("/api/auth/me/").status_code == 200
    assert not User.objects.get().has_usable_password()

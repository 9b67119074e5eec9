"""Stored keys over the API: whose they are, who may know of them, and that nobody sees one again."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import LazySettings
from django.db import connection

from apps.authentication.models import User
from apps.core.encryption import SecretUnreadable
from apps.projects.models import Membership, Project
from apps.usage.choices import ModelConfiguration, choices_make
from apps.usage.keys import stored_keys
from apps.usage.models import ProviderKey
from integrations.llm_providers.credentials import model_resolve
from integrations.llm_providers.errors import ModelNotConfigured
from integrations.llm_providers.vendors import VENDORS
from tests.api import CheckedClient, client_for, project_make, user_make

pytestmark = pytest.mark.django_db

KEYS = "/api/agents/keys/"
CANARY = "sk-canary/+9f3b=ZQ7xw"


@pytest.fixture(autouse=True)
def _no_keys_of_the_environment(settings: LazySettings) -> None:
    for vendor in VENDORS:
        for name in (vendor.key_setting, vendor.base_url_setting):
            if name:
                setattr(settings, name, "")
    settings.ARCHON_MODEL_KEYS = {}


def forms_of(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, quote(secret), quote(secret, safe=""), encoded, encoded.rstrip("="), json.dumps(secret)[1:-1]}


def store(client: CheckedClient, *, status: int = 201, **body: Any) -> dict[str, Any]:
    answer = client.post(KEYS, {"vendor": "openai", "secret": CANARY, **body})
    assert answer.status_code == status, answer.content
    document: dict[str, Any] = answer.json()
    return document


def resolved(user: User, project: Project, name: str, base_url: str = "") -> tuple[str, str]:
    """The key that a session of the user in the project has for a model, and whose it is."""
    spec = model_resolve(name, base_url, stored=stored_keys(user_id=user.id, project_id=project.id))
    return spec.api_key.reveal(), spec.key_source


def test_a_key_is_stored_encrypted_and_never_shown_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    user = user_make()
    client = client_for(user)
    answers = [client.post(KEYS, {"vendor": "openai", "secret": f" {CANARY}\n"})]
    key_id = answers[0].json()["id"]
    assert answers[0].json()["hint"] == CANARY[-4:]
    assert answers[0].json()["address"] == "https://api.openai.com/v1"
    answers += [
        client.get(KEYS),
        client.get(f"{KEYS}{key_id}/"),
        client.post(KEYS, {"vendor": "openai", "secret": CANARY}),
        client.post(KEYS, {"vendor": CANARY, "secret": "x"}),
        client.post(KEYS, {"vendor": "scripted", "secret": CANARY}),
        client.post(KEYS, {"vendor": "openai", "secret": CANARY + " with a blank"}),
        client.post(KEYS, {"vendor": "openai", "secret": CANARY + "ü"}),
        client.post(KEYS, {"vendor": "openai", "secret": CANARY, "scope": "nobody"}),
        client.post(KEYS, {"vendor": "openai", "secret": CANARY, "base_url": "https://elsewhere.example/v1"}),
        client.post(f"{KEYS}{key_id}/test/", {"model": "gpt-5"}),
        client.get("/api/agents/models/"),
        client.delete(f"{KEYS}{key_id}/"),
    ]
    assert [answer.status_code for answer in answers] == [
        201, 200, 200, 200, 400, 400, 400, 400, 400, 400, 202, 200, 204
    ]  # fmt: skip
    seen = "".join(answer.content.decode() for answer in answers) + caplog.text
    assert not [form for form in forms_of(CANARY) if form in seen]
    assert ProviderKey.objects.count() == 0


def test_no_column_of_any_table_holds_the_secret() -> None:
    user = user_make()
    project = project_make(owner=user)
    store(client_for(user), scope="project", project=str(project.id))
    store(client_for(user))
    held = ""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            held += repr(cursor.fetchall())
    assert not [form for form in forms_of(CANARY) if form in held]
    assert resolved(user, project, "openai:gpt-5")[0] == CANARY


def test_project_before_user_before_server_before_environment(settings: LazySettings) -> None:
    staff, user = user_make(is_staff=True), user_make()
    project = project_make(owner=user)
    settings.OPENAI_API_KEY = "sk-environment-0000"
    assert resolved(user, project, "openai:gpt-5") == ("sk-environment-0000", "OPENAI_API_KEY")
    store(client_for(staff), scope="server", secret="sk-server-00000000")
    assert resolved(user, project, "openai:gpt-5")[0] == "sk-server-00000000"
    store(client_for(user), scope="user", secret="sk-user-0000000000")
    assert resolved(user, project, "openai:gpt-5")[0] == "sk-user-0000000000"
    store(client_for(user), scope="project", project=str(project.id), secret="sk-project-0000000")
    key, source = resolved(user, project, "openai:gpt-5")
    assert key == "sk-project-0000000"
    assert source == "the project's stored openai key (…0000)"
    # OpenAI's two protocols share a key, and nobody else has it.
    assert resolved(user, project, "openai-responses:gpt-5")[0] == "sk-project-0000000"
    with pytest.raises(ModelNotConfigured):
        resolved(user, project, "openrouter:openai/gpt-5")


def test_a_key_of_a_project_is_for_its_members_and_a_users_own_for_nobody_else() -> None:
    owner, member, stranger = user_make(), user_make(), user_make()
    project = project_make(owner=owner, member=member)
    store(client_for(owner), scope="project", project=str(project.id), vendor="anthropic", secret="sk-project-0000000")
    store(client_for(owner), vendor="openai", secret="sk-owners-own-0000")
    assert resolved(member, project, "anthropic:claude-sonnet-4-5")[0] == "sk-project-0000000"
    with pytest.raises(ModelNotConfigured):
        resolved(member, project, "openai:gpt-5")
    with pytest.raises(ModelNotConfigured):
        resolved(owner, project_make(owner=owner), "anthropic:claude-sonnet-4-5")
    seen = {name: client_for(user).get(KEYS).json() for name, user in [("m", member), ("s", stranger)]}
    assert [key["vendor"] for key in seen["m"]["results"]] == ["anthropic"]
    assert seen["s"]["results"] == []
    # Once out of the project, neither the key nor its existence.
    Membership.objects.filter(project=project, user=member).delete()
    assert client_for(member).get(KEYS).json()["results"] == []


def test_who_may_store_and_remove() -> None:
    owner, member, viewer, stranger = (user_make() for _ in range(4))
    staff = user_make(is_staff=True)
    project = project_make(owner=owner, member=member, viewer=viewer)
    of_project = {"scope": "project", "project": str(project.id)}
    store(client_for(viewer), status=403, **of_project)
    store(client_for(stranger), status=404, **of_project)
    store(client_for(staff), status=404, **of_project)
    store(client_for(member), status=403, scope="server")
    store(client_for(member), status=400, scope="project")
    store(client_for(member), status=400, scope="user", project=str(project.id))
    key_id = store(client_for(member), status=201, **of_project)["id"]
    # The same address again: the key takes the place of the other, whoever stored that.
    replaced = store(client_for(owner), status=200, **of_project, secret="sk-another-one-1234")
    assert (replaced["id"], replaced["hint"], replaced["created_by"]) == (key_id, "1234", owner.email)
    assert client_for(viewer).get(f"{KEYS}{key_id}/").status_code == 200
    for user, status in ((viewer, 403), (stranger, 404), (staff, 404)):
        assert client_for(user).delete(f"{KEYS}{key_id}/").status_code == status
        assert client_for(user).post(f"{KEYS}{key_id}/test/").status_code == status
    assert client_for(member).delete(f"{KEYS}{key_id}/").status_code == 204
    # The server's keys exist for staff alone.
    server_key = store(client_for(staff), scope="server")["id"]
    assert client_for(owner).get(f"{KEYS}{server_key}/").status_code == 404
    assert server_key not in client_for(owner).get(KEYS).content.decode()
    assert client_for(staff).get(f"{KEYS}{server_key}/").status_code == 200


def test_a_key_goes_to_the_address_that_it_was_stored_for_and_nowhere_else(settings: LazySettings) -> None:
    user = user_make()
    project = project_make(owner=user)
    settings.ARCHON_MODEL_BASE_URLS = ["http://127.0.0.1:*", "https://gateway.example"]
    store(client_for(user), secret="sk-for-openai-0000")
    own = store(client_for(user), secret="sk-for-gateway-000", base_url="HTTPS://Gateway.example:443/v1/")
    assert own["base_url"] == own["address"] == "https://gateway.example/v1"
    assert resolved(user, project, "openai:gpt-5")[0] == "sk-for-openai-0000"
    assert resolved(user, project, "openai:gpt-5", "https://gateway.example/v1")[0] == "sk-for-gateway-000"
    for elsewhere in ("http://127.0.0.1:9/v1", "https://gateway.example/v2", "https://gateway.example/v1/deeper"):
        assert resolved(user, project, "openai:gpt-5", elsewhere) == ("none", "")
    # The operator sends openai models elsewhere from now on: the key stays behind.
    settings.OPENAI_BASE_URL = "https://gateway.example/openai"
    assert resolved(user, project, "openai:gpt-5") == ("none", "")
    settings.OPENAI_BASE_URL = ""
    # What the operator no longer allows is refused, key or no key.
    settings.ARCHON_MODEL_BASE_URLS = []
    assert (
        client_for(user)
        .post(KEYS, {"vendor": "openai", "secret": "x", "base_url": "http://127.0.0.1:9"})
        .json()["code"]
        == "model_refused"
    )


def test_short_keys_give_no_hint_and_local_servers_may_have_one() -> None:
    user = user_make()
    stored = store(client_for(user), vendor="vllm", secret="short-one")
    assert (stored["hint"], stored["address"]) == ("", "http://127.0.0.1:8000/v1")


def test_a_key_under_another_encryption_key_gives_way_to_no_other(settings: LazySettings) -> None:
    user = user_make()
    client, project = client_for(user), project_make(owner=user)
    settings.ARCHON_ENCRYPTION_KEYS = ["the first"]
    store(client)
    settings.ARCHON_ENCRYPTION_KEYS = ["another"]
    settings.OPENAI_API_KEY = "sk-environment"
    places = [ModelConfiguration(model="openai:gpt-5")]
    stored = stored_keys(user_id=user.id, project_id=project.id)
    with pytest.raises(SecretUnreadable, match="the user's stored openai key"):
        choices_make(roles=["coder"], places=places, stored=stored)
    [state] = client.get("/api/agents/models/?vendor=openai").json()["vendors"]
    assert state["configured"] is False
    assert "ARCHON_ENCRYPTION_KEYS" in state["next_step"]
    settings.ARCHON_ENCRYPTION_KEYS = ["another", "the first"]
    assert resolved(user, project, "openai:gpt-5")[0] == CANARY

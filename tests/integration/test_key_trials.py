"""Trying a stored key: by a worker, against a server that answers, refuses, echoes the key, or stays silent."""

from __future__ import annotations

import base64
import socket
from urllib.parse import quote

import pytest
from django.conf import LazySettings
from django.utils import timezone

from apps.authentication.models import User
from apps.usage import key_trial
from apps.usage.key_trial import key_try, secret_blacken
from apps.usage.keys import TEST_PATIENCE, key_owner, provider_key_store, provider_key_test
from apps.usage.models import KeyScope, KeyTest, ProviderKey
from tests.api import client_for, user_make
from tests.loopback.agents import finishes
from tests.loopback.openai_server import OpenAIServer

pytestmark = pytest.mark.django_db

SECRET = "sk-canary/+trial=0000"


def stored(user: User, base_url: str, secret: str = SECRET) -> ProviderKey:
    owner = key_owner(user=user, scope=KeyScope.USER, project_id=None)
    return provider_key_store(user=user, owner=owner, vendor="openai", secret=secret, base_url=base_url)[0]


def tried(user: User, key: ProviderKey, model: str = "") -> ProviderKey:
    """The key after a worker has had its turn."""
    asked = provider_key_test(user=user, key_id=key.id, model=model)
    assert asked.test_requested_at is not None
    key_try(key_id=key.id, requested_at=asked.test_requested_at.isoformat(), model=model)
    key.refresh_from_db()
    assert SECRET not in key.test_message + key.test_next_step
    return key


def test_a_key_that_is_taken_is_good() -> None:
    user = user_make()
    with OpenAIServer(lambda _: finishes(), api_key=SECRET) as server:
        key = tried(user, stored(user, server.base_url))
        assert (key.test_state, key.test_next_step) == (KeyTest.GOOD, "")
        assert f"{server.base_url} takes the key." in key.test_message
        assert key.tested_at is not None
        assert tried(user, key, "loopback").test_state == KeyTest.GOOD
        missing = tried(user, key, "openai:gpt-99")
        assert missing.test_state == KeyTest.BAD
        assert "lists no model 'gpt-99'" in missing.test_message
        assert "loopback" in missing.test_next_step
        # Nothing that costs was asked for.
        assert set(server.paths) == {"/v1/models"}


def test_a_key_that_is_refused_is_bad_and_the_next_step_says_how_to_replace_it() -> None:
    user = user_make()
    with OpenAIServer(lambda _: finishes(), api_key="sk-the-right-one-00") as server:
        key = tried(user, stored(user, server.base_url))
    assert key.test_state == KeyTest.BAD
    assert "refuses the user's stored openai key" in key.test_message
    assert "./archon keys set openai" in key.test_next_step


def test_where_nothing_answers_it_says_so() -> None:
    user = user_make()
    with OpenAIServer(lambda _: finishes()) as server:
        address = server.base_url
    key = tried(user, stored(user, address))
    assert key.test_state == KeyTest.BAD
    assert "no connection" in key.test_message


def test_a_server_that_stays_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_trial, "TEST_SECONDS", 0.2)
    user = user_make()
    # Connections are made by the system, and nobody ever reads from them.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        key = tried(user, stored(user, f"http://127.0.0.1:{listening.getsockname()[1]}/v1"))
    assert key.test_state == KeyTest.BAD
    assert "did not answer" in key.test_message


def test_an_address_that_is_no_longer_allowed_is_not_asked(settings: LazySettings) -> None:
    user = user_make()
    with OpenAIServer(lambda _: finishes()) as server:
        key = stored(user, server.base_url)
        settings.ARCHON_MODEL_BASE_URLS = []
        key = tried(user, key)
        assert server.paths == []
    assert key.test_state == KeyTest.BAD
    assert "ARCHON_MODEL_BASE_URLS" in key.test_next_step


def test_a_result_for_a_key_that_was_replaced_meanwhile_is_dropped() -> None:
    user = user_make()
    with OpenAIServer(lambda _: finishes(), api_key=SECRET) as server:
        key = stored(user, server.base_url, "sk-an-older-one-0000")
        asked = provider_key_test(user=user, key_id=key.id)
        assert asked.test_requested_at is not None
        stored(user, server.base_url)
        key_try(key_id=key.id, requested_at=asked.test_requested_at.isoformat())
        key.refresh_from_db()
        assert (key.test_state, key.test_message) == (KeyTest.UNTESTED, "")
        assert server.paths == []


def test_a_test_that_no_worker_takes_up_ends_all_the_same() -> None:
    user = user_make()
    client = client_for(user)
    key = stored(user, "http://127.0.0.1:9/v1")
    address = f"/api/agents/keys/{key.id}/"
    assert client.post(f"{address}test/", {}).json()["test_state"] == "pending"
    assert client.get(address).json()["test_state"] == "pending"
    ProviderKey.objects.filter(id=key.id).update(test_requested_at=timezone.now() - 2 * TEST_PATIENCE)
    late = client.get(address).json()
    assert (late["test_state"], "no worker" in late["test_message"]) == ("bad", True)


def test_tests_are_limited() -> None:
    user = user_make()
    client, key = client_for(user), stored(user, "http://127.0.0.1:9/v1")
    answers = [client.post(f"/api/agents/keys/{key.id}/test/", {}) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [202] * 10 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0


@pytest.mark.parametrize("form", [SECRET, quote(SECRET, safe=""), base64.b64encode(SECRET.encode()).decode()])
def test_whatever_form_a_secret_comes_back_in_it_is_blackened(form: str) -> None:
    assert secret_blacken(f"no such key: {form}!", SECRET) == "no such key: ***!"

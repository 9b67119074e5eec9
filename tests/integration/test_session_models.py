"""Sessions with several models: by role, with fallbacks, with keys of several people; what they took, and what is said.

Each model is a loopback server that takes one key and no other, and fails the test if it sees one that is not its own.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession
from apps.agents.presenters import session_present
from apps.agents.serializers import SessionSerializer
from apps.agents.services.master_orchestrator import session_resume
from apps.agents.types import AgentType
from apps.authentication.models import User
from apps.core.errors import Conflict
from apps.projects.models import Membership, Project, Role
from apps.usage.choices import ModelConfiguration, configuration_read
from apps.usage.errors import ModelNotAvailable
from apps.usage.keys import key_owner, provider_key_delete, provider_key_store, stored_keys
from apps.usage.models import KeyScope, ModelCall, ProviderKey
from tests.builders import user_build
from tests.integration.session_scene import events_of, project_make, session_make, session_run
from tests.loopback.agents import Agents, call, finishes, plans, says
from tests.loopback.openai_server import OpenAIServer, Reply, Request

pytestmark = pytest.mark.django_db(transaction=True)

FILES = {"data.txt": "x\n"}
CODER = Agents([says(call("write_file", path="a.txt", content="a")), finishes("Wrote it.")])
PLANNER = Agents(planner=[plans("Write a.txt")])


@pytest.fixture
def place() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", FILES)


@contextmanager
def model(answer: Callable[[Request], Reply], *, key: str | None = None) -> Iterator[OpenAIServer]:
    """A model that answers to one key; every other that is shown to it fails the test."""
    with OpenAIServer(answer, api_key=key) as server:
        yield server
        assert server.refused == []
        assert {request.authorization for request in server.requests} <= {f"Bearer {key or 'none'}"}


def key_store(user: User, server: OpenAIServer, secret: str, *, project: Project | None = None) -> ProviderKey:
    scope = KeyScope.PROJECT if project is not None else KeyScope.USER
    owner = key_owner(user=user, scope=scope, project_id=project.id if project is not None else None)
    return provider_key_store(user=user, owner=owner, vendor="openai", secret=secret, base_url=server.base_url)[0]


def run(user: User, project: Project, agent_type: AgentType = AgentType.CODER, **said: Any) -> AgentSession:
    session = session_make(user, project, "", agent_type=agent_type, checks=["true"], models=configuration_read(said))
    return session_run(session.id)


def reason_of(session: AgentSession) -> dict[str, str]:
    assert session.reason is not None
    return dict(session.reason)


def shown(session: AgentSession) -> dict[str, Any]:
    document: dict[str, Any] = SessionSerializer(session_present(session)).data
    return document


def test_each_role_has_its_model_and_each_server_its_own_key(place: tuple[User, Project]) -> None:
    user, project = place
    with model(PLANNER, key="sk-planner-0000000") as planner, model(CODER, key="sk-coder-000000000") as coder:
        key_store(user, planner, "sk-planner-0000000", project=project)
        key_store(user, coder, "sk-coder-000000000")
        session = run(
            user,
            project,
            AgentType.EXECUTOR,
            model=f"openai:gpt-4o-mini@{coder.base_url}",
            temperature=0.2,
            models={"planner": {"model": "openai:gpt-4o", "base_url": planner.base_url, "temperature": 0}},
        )
        assert (session.status, session.outcome) == ("completed", "verified"), session.reason
        assert planner.requests and coder.requests
        assert {request.body["model"] for request in planner.requests} == {"gpt-4o"}
        assert {request.body["temperature"] for request in planner.requests} == {0}
        assert {request.body["temperature"] for request in coder.requests} == {0.2}
    document = shown(session)
    assert (document["model"], document["base_url"]) == ("openai:gpt-4o-mini", coder.base_url)
    assert document["models"]["planner"]["model"] == "openai:gpt-4o"
    by_model = {line["model"]: line for line in document["usage"]["by_model"]}
    assert set(by_model) == {"openai:gpt-4o", "openai:gpt-4o-mini"}
    assert by_model["openai:gpt-4o"]["calls"] == len(planner.requests)
    assert sum(line["input_tokens"] for line in by_model.values()) == document["usage"]["input_tokens"]
    assert all(line["priced"] and line["cost_usd"] > 0 for line in by_model.values())
    replied = {(event.payload["role"], event.payload["model"]) for event in events_of(session.id, "ModelReplied")}
    assert replied == {("planner", "openai:gpt-4o"), ("coder", "openai:gpt-4o-mini")}
    assert "Models: `openai:gpt-4o` (1 call," in session.report
    assert "`openai:gpt-4o-mini` (2 calls," in session.report


def test_the_fallback_answers_where_the_first_fails(place: tuple[User, Project]) -> None:
    user, project = place
    with model(lambda _: Reply(failure="server_error")) as first, model(CODER) as second:
        session = run(
            user,
            project,
            model=f"openai:gpt-4o@{first.base_url}",
            fallbacks=[f"openai:gpt-4o-mini@{second.base_url}"],
        )
        assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    document = shown(session)
    assert document["models"]["coder"]["fallbacks"] == [f"openai:gpt-4o-mini@{second.base_url}"]
    by_model = {line["model"]: line for line in document["usage"]["by_model"]}
    assert by_model["openai:gpt-4o"]["calls"] == by_model["openai:gpt-4o"]["failed"] > 0
    assert (by_model["openai:gpt-4o"]["input_tokens"], by_model["openai:gpt-4o"]["cost_usd"]) == (0, 0.0)
    assert by_model["openai:gpt-4o-mini"]["failed"] == 0
    assert {event.payload["model"] for event in events_of(session.id, "ModelReplied")} == {"openai:gpt-4o-mini"}


def test_a_member_uses_the_projects_key_and_not_another_users(place: tuple[User, Project]) -> None:
    owner, project = place
    member = user_build()
    Membership.objects.create(project=project, user=member, role=Role.MEMBER)
    with model(CODER, key="sk-project-0000000") as server:
        key_store(owner, server, "sk-project-0000000", project=project)
        session = run(member, project, model=f"openai:gpt-4o@{server.base_url}")
        assert session.status == "completed", session.reason
    # The same with the owner's own key: the member's session has none, and the endpoint says so.
    with OpenAIServer(CODER, api_key="sk-owner-000000000") as server:
        key_store(owner, server, "sk-owner-000000000")
        session = run(member, project, model=f"openai:gpt-4o@{server.base_url}")
        assert (session.status, reason_of(session)["code"]) == ("paused", "model_call_failed")
        assert "a request without a key" in reason_of(session)["message"]
        assert server.requests == []
        session = run(owner, project, model=f"openai:gpt-4o@{server.base_url}")
        assert session.status == "completed", session.reason


def test_the_projects_word_holds_unless_the_session_says_otherwise(place: tuple[User, Project]) -> None:
    from apps.usage.catalogue import project_configuration_set

    user, project = place
    with model(CODER) as named, model(CODER) as other:
        said = {"model": f"openai:gpt-4o@{named.base_url}", "temperature": 0.7}
        project_configuration_set(project=project, configuration=configuration_read(said))
        assert run(user, project).status == "completed"
        assert {request.body["temperature"] for request in named.requests} == {0.7}
        session = run(user, project, model=f"openai:gpt-4o@{other.base_url}")
        assert session.status == "completed"
        # It was meant for the project's model.
        assert all("temperature" not in request.body for request in other.requests)
        assert len(named.requests) == len(other.requests)


def test_the_form_of_edits_is_the_one_that_was_asked_for(place: tuple[User, Project]) -> None:
    user, project = place
    with model(CODER) as server:
        address = f"openai:gpt-4o-mini@{server.base_url}"
        assert run(user, project, model=address, edit_format="v4a").status == "completed"
        patched = set(server.requests[-1].tools)
        assert run(user, project, model=address, models={"coder": {"edit_format": "replace"}}).status == "completed"
        replaced = set(server.requests[-1].tools)
    assert ("apply_patch" in patched, "edit_file" in patched) == (True, False)
    assert ("apply_patch" in replaced, "edit_file" in replaced) == (False, True)


def test_a_model_without_tool_calls_is_asked_for_json(place: tuple[User, Project]) -> None:
    user, project = place

    def enveloped(request: Request) -> Reply:
        assert not request.tools and "response_format" in request.body
        calls = [{"name": "finish", "arguments": {"summary": "Nothing to do."}}]
        return Reply(text=json.dumps({"thought": "Done.", "calls": calls}))

    with OpenAIServer(enveloped) as server:
        session = run(user, project, model=f"openai:gpt-4o-mini@{server.base_url}", tool_calls="envelope")
        assert server.requests and server.refused == []
    assert (session.status, session.outcome) == ("completed", "unverified"), session.reason
    assert "Nothing to do." in session.report


def test_a_refused_key_is_told_without_the_key_and_with_what_to_do(place: tuple[User, Project]) -> None:
    user, project = place
    secret = "sk-canary/wrong+0000"

    def echo(request: Request) -> Reply:
        return Reply(failure="unauthorized", message=f"Incorrect API key: {request.authorization} is not known")

    with OpenAIServer(echo) as server:
        key_store(user, server, secret, project=project)
        session = run(user, project, model=f"openai:gpt-4o@{server.base_url}")
    assert (session.status, reason_of(session)["code"]) == ("paused", "model_call_failed")
    assert "refuses the project's stored openai key (…0000)" in reason_of(session)["message"]
    assert "./archon keys set openai" in reason_of(session)["next_step"]
    told = repr(session.reason) + repr([event.payload for event in events_of(session.id)])
    told += repr(list(ModelCall.objects.values()))
    assert secret not in told


def test_a_model_that_does_not_exist_is_told(place: tuple[User, Project]) -> None:
    user, project = place
    with OpenAIServer(lambda _: Reply(failure="not_found")) as server:
        session = run(user, project, model=f"openai:gpt-99@{server.base_url}")
    assert session.status == "paused"
    assert "knows no model 'gpt-99'" in reason_of(session)["message"]
    assert "Check the model's name" in reason_of(session)["next_step"]


def test_a_key_that_is_gone_by_the_start_pauses_the_session_with_what_to_set(
    place: tuple[User, Project], settings: Any
) -> None:
    user, project = place
    settings.ANTHROPIC_API_KEY = settings.ANTHROPIC_BASE_URL = ""
    owner = key_owner(user=user, scope=KeyScope.USER, project_id=None)
    key, _ = provider_key_store(user=user, owner=owner, vendor="anthropic", secret="sk-soon-to-be-gone")
    said = ModelConfiguration(model="anthropic:claude-sonnet-4-5")
    session = session_make(user, project, "", agent_type=AgentType.CODER, checks=["true"], models=said)
    provider_key_delete(user=user, key_id=key.id)
    assert stored_keys(user_id=user.id, project_id=project.id) == ()
    session = session_run(session.id)
    assert (session.status, reason_of(session)["code"]) == ("paused", "model_not_configured")
    assert "ANTHROPIC_API_KEY" in reason_of(session)["next_step"]
    with pytest.raises(ModelNotAvailable):
        session_make(user, project, "", models=said)


def test_a_price_that_is_not_known_is_said_to_be_so(place: tuple[User, Project]) -> None:
    user, project = place
    with model(CODER) as server:
        session = run(user, project, model=f"openai:home-grown@{server.base_url}")
    document = shown(session)
    assert session.status == "completed"
    assert (document["usage"]["priced"], document["usage"]["cost_usd"]) == (False, 0.0)
    assert document["usage"]["by_model"][0]["priced"] is False
    assert "price unknown" in session.report
    assert all(event.payload["usage"]["priced"] is False for event in events_of(session.id, "ModelReplied"))


def test_cached_tokens_and_their_share(place: tuple[User, Project]) -> None:
    user, project = place

    def cached(request: Request) -> Reply:
        reply = CODER(request)
        return Reply(text=reply.text, tool_calls=reply.tool_calls, usage=(1000, 10, 750))

    with model(cached) as server:
        session = run(user, project, model=f"openai:gpt-4o-mini@{server.base_url}")
    usage = shown(session)["usage"]
    assert (usage["cached_tokens"], usage["cached_share"]) == (1500, 0.75)
    assert usage["by_model"][0]["cached_share"] == 0.75
    assert "75% of the input cached" in session.report


def test_a_session_whose_model_fails_goes_on_with_another(place: tuple[User, Project]) -> None:
    user, project = place
    with OpenAIServer(lambda _: Reply(failure="not_found")) as gone, model(CODER) as works:
        session = run(user, project, model=f"openai:gpt-99@{gone.base_url}", effort="low")
        assert session.status == "paused" and (session.reason or {})["details"] == {"kind": "not_found"}
        assert f"./archon resume {session.id} --model PROVIDER:MODEL" in reason_of(session)["next_step"]
        wanted = configuration_read({"model": f"openai:gpt-4o@{works.base_url}"})
        with pytest.raises(ModelNotAvailable):
            session_resume(user=user, session_id=session.id, models=configuration_read({"model": "anthropic:any"}))
        assert session.status == "paused"
        session_resume(user=user, session_id=session.id, models=wanted)
        session = session_run(session.id)
        assert (session.status, session.outcome) == ("completed", "verified"), session.reason
        with pytest.raises(Conflict):
            session_resume(user=user, session_id=session.id, models=wanted)
    assert shown(session)["models"]["coder"]["model"] == "openai:gpt-4o"
    assert shown(session)["models"]["coder"]["effort"] is None, "it was meant for the other model"
    [resumed] = events_of(session.id, "SessionResumed")
    assert resumed.payload == {"models": {"coder": "openai:gpt-4o"}}
    assert {request.model for request in works.requests} == {"gpt-4o"}

"""Rules, autonomy and approvals over HTTP: what is taken, what is refused, and who may."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.utils import timezone

from apps.agents.models import AgentSession, PolicyRule, SessionEvent
from apps.agents.services.policy_rules import policy_load
from apps.projects.models import Membership, Role
from tests.api import client_for, project_make, user_make
from tests.builders import session_build

pytestmark = pytest.mark.django_db
RULES = "/api/agents/rules/"


def post(client: Any, address: str, body: dict[str, Any], method: str = "post") -> Any:
    return getattr(client, method)(address, body, content_type="application/json")


def test_a_rule_is_made_changed_and_forgotten() -> None:
    user = user_make()
    project = project_make(owner=user)
    client = client_for(user)
    until = timezone.now() + datetime.timedelta(hours=1)
    said = {"effect": "deny", "path": "secrets/", "note": "keys", "expires_at": until.isoformat()}
    made = post(client, RULES, {"project": str(project.id), **said})
    assert made.status_code == 201, made.content
    rule = made.json()
    assert (rule["effect"], rule["path"], rule["note"], rule["created_by"]) == ("deny", "secrets/", "keys", user.email)
    assert [row["id"] for row in client.get(RULES, {"project": str(project.id)}).json()["results"]] == [rule["id"]]
    changed = post(client, f"{RULES}{rule['id']}/", {"effect": "ask", "expires_at": None}, "patch").json()
    assert (changed["effect"], changed["expires_at"], changed["path"]) == ("ask", None, "secrets/")
    session = session_build(user=user, project=project)
    assert [(rule.effect, rule.path) for rule in policy_load(session_id=session.id).rules] == [("ask", "secrets/")]
    assert client.delete(f"{RULES}{rule['id']}/").status_code == 204
    assert client.get(f"{RULES}{rule['id']}/").status_code == 404
    assert policy_load(session_id=session.id).rules == ()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"effect": "deny"},
        {"effect": "never", "path": "a"},
        {"effect": "deny", "path": "."},
        {"effect": "deny", "path": "../a"},
        {"effect": "deny", "path": "{a,{b"},
        {"effect": "deny", "risk": "talk"},
        {"effect": "deny", "risk": "huge"},
        {"effect": "deny", "tool": "run command"},
        {"effect": "deny", "tool": "read_file", "command": "ls"},
        {"effect": "deny", "path": "a", "expires_at": "2020-01-01T00:00:00Z"},
        {"effect": "deny", "path": "a", "project": "x"},
        {"effect": "deny", "command": "x" * 2001},
    ],
)
def test_rules_that_say_nothing_or_cannot_hold_are_refused(body: dict[str, Any]) -> None:
    user = user_make()
    refused = post(client_for(user), RULES, {"project": str(project_make(owner=user).id), **body})
    assert refused.status_code == 400, refused.content
    assert not PolicyRule.objects.exists()


def test_rules_of_the_whole_server_are_the_administrators() -> None:
    user, administrator = user_make(), user_make()
    administrator.is_staff = True
    administrator.save()
    body = {"effect": "deny", "risk": "network"}
    assert post(client_for(user), RULES, body).status_code == 403
    rule = post(client_for(administrator), RULES, body).json()
    assert rule["project"] is None
    assert [row["id"] for row in client_for(user).get(RULES).json()["results"]] == [rule["id"]]
    assert post(client_for(user), f"{RULES}{rule['id']}/", {"effect": "allow"}, "patch").status_code == 403
    assert client_for(user).delete(f"{RULES}{rule['id']}/").status_code == 403
    session = session_build(user=user, project=project_make(owner=user))
    assert [rule.risk for rule in policy_load(session_id=session.id).rules] == ["network"]


def test_a_viewer_reads_rules_and_decides_nothing() -> None:
    owner, viewer = user_make(), user_make()
    project = project_make(owner=owner)
    Membership.objects.create(project=project, user=viewer, role=Role.VIEWER)
    rule = post(client_for(owner), RULES, {"project": str(project.id), "effect": "ask", "tool": "*_file"}).json()
    session = session_build(user=owner, project=project)
    client = client_for(viewer)
    assert client.get(f"{RULES}{rule['id']}/").status_code == 200
    assert post(client, RULES, {"project": str(project.id), "effect": "allow", "tool": "*"}).status_code == 403
    assert post(client, f"{RULES}{rule['id']}/", {"effect": "allow"}, "patch").status_code == 403
    assert post(client, f"/api/agents/sessions/{session.id}/approve/", {}).status_code == 403
    assert post(client, f"/api/agents/sessions/{session.id}/autonomy/", {"autonomy": "auto"}, "put").status_code == 403


def test_a_rule_of_another_project_says_nothing() -> None:
    user = user_make()
    other = project_make(owner=user)
    post(client_for(user), RULES, {"project": str(other.id), "effect": "deny", "tool": "*"})
    session = session_build(user=user, project=project_make(owner=user))
    assert policy_load(session_id=session.id).rules == ()


def test_a_rule_that_is_over_is_not_loaded() -> None:
    user = user_make()
    project = project_make(owner=user)
    rule = post(client_for(user), RULES, {"project": str(project.id), "effect": "deny", "tool": "*"}).json()
    PolicyRule.objects.filter(id=rule["id"]).update(expires_at=timezone.now())
    assert policy_load(session_id=session_build(user=user, project=project).id).rules == ()
    # It is still there to be looked at, and its note can be changed.
    assert post(client_for(user), f"{RULES}{rule['id']}/", {"note": "old"}, "patch").json()["note"] == "old"


def test_a_sessions_autonomy_is_changed_and_told() -> None:
    user = user_make()
    session = session_build(user=user, project=project_make(owner=user))
    address = f"/api/agents/sessions/{session.id}/autonomy/"
    client = client_for(user)
    assert post(client, address, {"autonomy": "ask"}, "put").json()["autonomy"] == "ask"
    assert post(client, address, {"autonomy": "ask"}, "put").status_code == 200
    assert post(client, address, {"autonomy": "all"}, "put").status_code == 400
    told = SessionEvent.objects.filter(session=session, type="AutonomyChanged")
    assert [event.payload["autonomy"] for event in told] == ["ask"]


@pytest.mark.parametrize(
    "body",
    [
        {"decision": "approve"},
        {"decision": "maybe", "digest": "x"},
        {"decision": "edit", "digest": "x"},
        {"decision": "approve", "digest": "x", "arguments": {}},
        {"decision": "reject", "digest": "x", "always": {}},
        {"decision": "approve", "digest": "x", "always": {"minutes": 0}},
    ],
)
def test_decisions_that_make_no_sense_are_refused(body: dict[str, Any]) -> None:
    user = user_make()
    session = session_build(user=user, project=project_make(owner=user))
    call = {"call": "6f1d9f0e-0000-4000-8000-000000000001"}
    address = f"/api/agents/sessions/{session.id}/approve/"
    assert post(client_for(user), address, {**call, **body}).status_code == 400
    assert post(client_for(user), address, {**call, "decision": "approve", "digest": "x"}).status_code == 404


def test_a_project_has_a_default_for_its_sessions() -> None:
    user = user_make()
    project = project_make(owner=user)
    client = client_for(user)
    address = f"/api/projects/{project.id}/"
    assert client.get(address).json()["autonomy"] == ""
    assert post(client, address, {"autonomy": "auto-edit"}, "patch").json()["autonomy"] == "auto-edit"
    assert post(client, address, {"autonomy": "none"}, "patch").status_code == 400
    assert post(client, address, {"autonomy": ""}, "patch").json()["autonomy"] == ""
    assert AgentSession._meta.get_field("autonomy").default == "auto"

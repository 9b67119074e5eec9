"""A project's secrets reach the commands that they are named for, and nothing that is written down or shown."""

from __future__ import annotations

import base64
import json
import logging
import re
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from apps.agents.models import AgentSession
from apps.agents.services.master_orchestrator import SessionRequest, session_resume, session_start
from apps.agents.types import AgentType
from apps.authentication.models import User
from apps.core.errors import InvalidInput
from apps.projects.models import Project, ProjectSecret
from apps.projects.secrets import secret_store
from apps.usage.choices import ModelConfiguration
from tests import api
from tests.integration.session_scene import (
    LIMITS,
    entry,
    events_of,
    messages_of,
    project_make,
    recording_write,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

CANARY = "canary/3f+9 of a=token?"
OTHER = "another-canary-8841"
DONE = ("finish", {"summary": "done"})
#: However the value is written: what must be found nowhere.
FORMS = [
    CANARY,
    base64.b64encode(CANARY.encode()).decode()[:-4],
    base64.b64encode(f"x{CANARY}".encode()).decode()[4:-4],
    urllib.parse.quote(CANARY, safe=""),
    urllib.parse.quote_plus(CANARY),
    json.dumps(CANARY)[1:-1],
    CANARY.encode().hex(),
    OTHER,
]
PRINTS = (
    'echo "raw $TOKEN"; printf %s "$TOKEN" | base64; printf "x%s" "$TOKEN" | base64 -w 7; '
    'python3 -c \'import os,urllib.parse as u,json,sys,time; t=os.environ["TOKEN"]; print(u.quote(t,safe="")); '
    "print(u.quote_plus(t)); print(json.dumps(t)); print(t.encode().hex()); "
    "half=len(t)//2; sys.stdout.write(t[:half]); sys.stdout.flush(); time.sleep(0.3); print(t[half:])'; "
    "env | grep TOKEN; echo the end"
)
KEEPS = 'printf %s "$TOKEN" > kept.txt'


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", {"answer.txt": "41\n"})


def in_turn(*calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A coder that makes each call once, in this order."""
    return [
        entry("coder", call, not_seen=[rf"(?m)^{re.escape(f'{call[0]} {json.dumps(call[1])}')}$"]) for call in calls
    ]


def session_with(scene: tuple[User, Project], *entries: dict[str, Any], secrets: list[str], check: str) -> AgentSession:
    user, project = scene
    model = recording_write([*entries, entry("coder", DONE)])
    request = SessionRequest(
        project_id=project.id,
        goal="make it work",
        limits=LIMITS,
        limit_seconds=600,
        agent_type=AgentType.CODER,
        models=ModelConfiguration(model=model),
        checks=(check,),
        secrets=tuple(secrets),
    )
    return session_start(user=user, request=request, execute=True)


def everything(session: AgentSession) -> str:
    """Every row of every table that has to do with sessions, as text; but for the secrets' own."""
    texts = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table.startswith(("agents_", "planning_", "usage_", "checkpoint")):
                cursor.execute(f'SELECT row_to_json(t)::text FROM "{table}" t')
                texts += [row[0] for row in cursor.fetchall()]
    # As it was before JSON escaped it, too.
    joined = "\n".join(texts)
    return joined + "\n" + joined.encode().decode("unicode_escape", "replace")


def hits(text: str) -> list[str]:
    return [form for form in FORMS if form in text]


def test_a_canary_is_in_no_event_observation_request_log_or_answer(
    scene: tuple[User, Project], caplog: pytest.LogCaptureFixture
) -> None:
    user, project = scene
    secret_store(user=user, project_id=project.id, name="TOKEN", value=CANARY)
    secret_store(user=user, project_id=project.id, name="CHECKED", value=OTHER)
    background = {"command": f"{PRINTS}; sleep 30", "background": True}
    session = session_with(
        scene,
        *in_turn(
            ("run_command", {"command": f"{KEEPS}; {PRINTS}"}),
            ("read_file", {"path": "kept.txt"}),
            ("search", {"pattern": "canary"}),
            ("run_command", background),
            ("run_command", {"command": "rm kept.txt; echo 42 > answer.txt"}),
            ("run_checks", {}),
        ),
        secrets=["TOKEN", "CHECKED:checks"],
        check='echo "checked by $CHECKED, $TOKEN."; grep -q 42 answer.txt',
    )
    with caplog.at_level(logging.DEBUG):
        ended = session_run(session.id)
    assert (ended.status, ended.outcome) == ("completed", "verified"), ended.reason
    observed = [str(message) for _, message in messages_of(session.id) if message["type"] == "tool"]
    printed = next(text for text in observed if "the end" in text)
    # It was there, for the command; in each of its forms only the name is left.
    assert printed.count("[secret TOKEN]") >= 7
    assert any("[secret TOKEN]" in text and "kept.txt" not in text for text in observed)
    checks = ended.checks[0]["output"]
    assert "checked by [secret CHECKED], ." in checks
    assert hits(everything(ended)) == []
    assert hits("\n".join(record.getMessage() + str(record.exc_info) for record in caplog.records)) == []
    client = api.client_for(user)
    for address in ("", "events/?limit=1000", "progress/", "diff/", "messages/"):
        answer = client.get(f"/api/agents/sessions/{session.id}/{address}")
        assert answer.status_code == 200 and hits(answer.content.decode()) == []
    assert client.get(f"/api/agents/sessions/{session.id}/").json()["secrets"] == ["TOKEN", "CHECKED:checks"]


def test_a_file_that_holds_a_secret_is_not_committed(scene: tuple[User, Project]) -> None:
    user, project = scene
    secret_store(user=user, project_id=project.id, name="TOKEN", value=CANARY)
    keep = ("run_command", {"command": 'echo 42 > answer.txt; printf %s "$TOKEN" | base64 > config.env'})
    session = session_with(
        scene,
        *in_turn(keep),
        entry("coder", DONE, last_tool="delete_file"),
        entry("coder", ("delete_file", {"path": "config.env"}), user="holds the value of a secret"),
        secrets=["TOKEN"],
        check="grep -q 42 answer.txt",
    )
    ended = session_run(session.id)
    assert ended.status == "completed"
    verdicts = [event.payload for event in events_of(session.id, "TaskVerified")]
    assert not verdicts[0]["passed"] and "config.env" in verdicts[0]["reasons"][0]
    assert hits(everything(ended)) == []


def test_who_names_no_secret_gets_none(scene: tuple[User, Project]) -> None:
    user, project = scene
    secret_store(user=user, project_id=project.id, name="TOKEN", value=CANARY)
    shows = ("run_command", {"command": 'echo "it is ${TOKEN:-not there}"; echo 42 > answer.txt'})
    session = session_with(scene, *in_turn(shows), secrets=[], check='test -z "$TOKEN"')
    ended = session_run(session.id)
    assert any("it is not there" in str(message) for _, message in messages_of(session.id))
    assert ended.outcome == "verified"


def test_a_secret_that_was_deleted_pauses_the_session_until_it_is_back(scene: tuple[User, Project]) -> None:
    user, project = scene
    secret_store(user=user, project_id=project.id, name="TOKEN", value=CANARY)
    session = session_with(scene, secrets=["TOKEN"], check="true")
    ProjectSecret.objects.all().delete()
    paused = session_run(session.id)
    assert paused.status == "paused" and paused.reason is not None
    assert paused.reason["code"] == "secret_missing" and "TOKEN" in paused.reason["message"]
    secret_store(user=user, project_id=project.id, name="TOKEN", value=CANARY)
    session_resume(user=user, session_id=session.id)
    assert session_run(session.id).status == "completed"


def test_secrets_are_written_listed_by_name_and_never_read() -> None:
    owner, member, viewer, stranger = (api.user_make() for _ in range(4))
    project = api.project_make(owner=owner, member=member, viewer=viewer)
    path = f"/api/projects/{project.id}/secrets/"
    client = api.client_for(member)
    stored = client.post(path, {"name": "TOKEN", "value": CANARY})
    assert stored.status_code == 201 and CANARY not in stored.content.decode()
    assert client.post(path, {"name": "TOKEN", "value": CANARY + "2"}).status_code == 200
    listed = api.client_for(viewer).get(path)
    assert [row["name"] for row in listed.json()["results"]] == ["TOKEN"] and "value" not in listed.json()["results"][0]
    assert CANARY not in ProjectSecret.objects.get().value
    assert api.client_for(viewer).post(path, {"name": "A", "value": CANARY}).status_code == 403
    assert api.client_for(stranger).get(path).status_code == 404
    assert api.client_for(viewer).delete(f"{path}TOKEN/").status_code == 403
    assert client.delete(f"{path}TOKEN/").status_code == 204
    assert client.delete(f"{path}TOKEN/").status_code == 204 and not ProjectSecret.objects.exists()


@pytest.mark.parametrize(
    "name,value",
    [
        ("1A", CANARY),
        ("A-B", CANARY),
        ("PATH", CANARY),
        ("ld_preload", CANARY),
        ("https_proxy", CANARY),
        ("A", "tiny-77"),
    ],
)
def test_what_is_no_secret_is_refused_without_repeating_it(name: str, value: str) -> None:
    owner = api.user_make()
    project = api.project_make(owner=owner)
    answer = api.client_for(owner).post(f"/api/projects/{project.id}/secrets/", {"name": name, "value": value})
    assert answer.status_code == 400 and value not in answer.content.decode() and answer.json()["next_step"]


@pytest.mark.parametrize("asked", ["MISSING", "TOKEN:elsewhere", ""])
def test_a_session_names_what_is_there(scene: tuple[User, Project], asked: str) -> None:
    user, project = scene
    secret_store(user=user, project_id=project.id, name="TOKEN", value=CANARY)
    with pytest.raises(InvalidInput) as refused:
        session_with(scene, secrets=[asked], check="true")
    assert refused.value.next_step
    assert not AgentSession.objects.exists()

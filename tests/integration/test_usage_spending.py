"""Who may see what was spent and set what may be, and how many sessions run at once, over the API."""

from __future__ import annotations

import datetime
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections

from apps.agents.models import AgentSession
from apps.agents.services.master_orchestrator import session_execute, session_resume
from apps.agents.services.places import TooManySessions
from apps.agents.types import SessionStatus
from apps.authentication.models import User
from apps.projects.models import Project
from apps.usage.models import Allowance, ModelCall
from apps.usage.services import budget_create
from apps.usage.types import Limits
from tests.api import CheckedClient, client_for, project_make, user_make
from tests.builders import session_build

USAGE = "/api/usage/"
NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def spend(
    user: User, project: Project, cost: str, *, model: str = "small", day: int = 0, state: str = "settled"
) -> uuid.UUID:
    scope_id = uuid.uuid4()
    budget_create(scope_id=scope_id, project=project, user=user, limits=Limits())
    call = ModelCall.objects.create(
        budget_id=scope_id, key="k", attempt=1, role="coder", provider="p", model=model, state=state,
        reserved_cost_usd=Decimal(cost), reserved_input_tokens=100, reserved_output_tokens=10,
        input_tokens=0 if state == "reserved" else 90, output_tokens=0 if state == "reserved" else 9,
        cost_usd=0 if state == "reserved" else Decimal(cost), priced=model != "free",
    )  # fmt: skip
    ModelCall.objects.filter(id=call.id).update(started_at=NOON + datetime.timedelta(days=day))
    return scope_id


def report(client: CheckedClient, query: str = "", *, status: int = 200) -> Any:
    answer = client.get(f"{USAGE}?{query}")
    assert answer.status_code == status, answer.content
    return answer.json()["results"] if status == 200 else answer.json()


def keys_and_costs(rows: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(row["key"], row["cost_usd"]) for row in rows]


@pytest.mark.django_db
def test_spending_is_summed_up_by_what_is_asked_for() -> None:
    ann, bob = user_make(email="ann@example.org"), user_make(email="bob@example.org")
    first, second = project_make(owner=ann, name="first", member=bob), project_make(owner=ann, name="second")
    cheap = spend(ann, first, "0.5", model="large")
    dear = spend(bob, first, "2", model="large", day=1)
    spend(ann, second, "0.25", day=2, state="failed")
    spend(ann, second, "7", model="free", day=2, state="reserved")
    client = client_for(ann)
    assert keys_and_costs(report(client)) == [(str(first.id), 2.5), (str(second.id), 0.25)]
    assert [row["name"] for row in report(client, "by=user")] == ["bob@example.org", "ann@example.org"]
    assert keys_and_costs(report(client, "by=day")) == [("2026-03-03", 0.25), ("2026-03-02", 2.0), ("2026-03-01", 0.5)]
    assert [key for key, _ in keys_and_costs(report(client, "by=model"))] == ["p:large", "p:small", "p:free"]
    assert keys_and_costs(report(client, f"by=session&project={first.id}")) == [(str(dear), 2.0), (str(cheap), 0.5)]
    (row,) = report(client, "by=all")
    assert row == {
        "key": "all", "name": "all", "calls": 4, "failed": 1, "lost": 0, "input_tokens": 270, "output_tokens": 27,
        "cached_tokens": 0, "cache_write_tokens": 0, "cost_usd": 2.75, "reserved_cost_usd": 7.0, "priced": False,
        "estimated": False,
    }  # fmt: skip
    assert keys_and_costs(report(client, "by=day&from=2026-03-02&to=2026-03-02")) == [("2026-03-02", 2.0)]
    assert report(client, f"by=all&user={bob.id}")[0]["cost_usd"] == 2.0
    assert report(client, f"by=all&session={cheap}")[0]["cost_usd"] == 0.5
    assert report(client, "by=day&to=2026-02-28") == []
    page = client.get(f"{USAGE}?by=day&limit=1&offset=1").json()
    assert (page["count"], keys_and_costs(page["results"])) == (3, [("2026-03-02", 2.0)])


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query", ["by=planet", "from=yesterday", "from=2026-03-02&to=2026-03-01", "project=mine", "to=2026-02-30"]
)
def test_what_cannot_be_asked_is_told(query: str) -> None:
    problem = report(client_for(user_make()), query, status=400)
    assert problem["detail"]


@pytest.mark.django_db
def test_spending_of_others_is_seen_by_administrators_alone() -> None:
    ann, bob, chief = user_make(), user_make(), user_make(is_staff=True)
    shared, private = project_make(owner=ann, viewer=bob), project_make(owner=ann)
    spend(ann, shared, "1")
    spend(ann, private, "2")
    assert report(client_for(bob), "by=all")[0]["cost_usd"] == 1.0
    assert report(client_for(bob), f"by=all&project={private.id}") == []
    assert report(client_for(ann), "by=all")[0]["cost_usd"] == 3.0
    assert report(client_for(user_make()), "by=all") == []
    assert keys_and_costs(report(client_for(chief), f"by=user&user={ann.id}")) == [(str(ann.id), 3.0)]
    # Who has left a project still sees what they spent there.
    spend(bob, private, "4")
    assert report(client_for(bob), "by=all")[0]["cost_usd"] == 5.0


def limits_address(scope: str, owner: User | Project) -> str:
    return f"{USAGE}limits/{scope}/{owner.id}/"


@pytest.mark.django_db
def test_a_projects_limits_are_its_owners_to_set_and_its_members_to_read() -> None:
    owner, viewer = user_make(), user_make()
    project = project_make(owner=owner, viewer=viewer)
    address = limits_address("project", project)
    wanted = {"day": {"cost_usd": 2.5, "steps": 100}, "total": {"tokens": 10}, "sessions": 3}
    answer = client_for(owner).put(address, wanted)
    assert answer.status_code == 200, answer.content
    document = answer.json()
    assert document["day"]["limits"] == {"cost_usd": 2.5, "tokens": None, "steps": 100}
    assert (document["total"]["limits"]["tokens"], document["sessions"]) == (10, 3)
    assert client_for(viewer).get(address).json() == document
    assert client_for(viewer).put(address, wanted).status_code == 403
    for stranger in (user_make(), user_make(is_staff=True)):
        expected = 200 if stranger.is_staff else 404
        assert client_for(stranger).get(address).status_code == expected
        assert client_for(stranger).put(address, wanted).status_code == expected
    # What is not sent has no limit.
    assert client_for(owner).put(address, {}).json()["day"]["limits"]["cost_usd"] is None
    assert Allowance.objects.get(project=project).limit_tokens is None


@pytest.mark.django_db
def test_a_users_limits_are_for_administrators_to_set() -> None:
    user, other, chief = user_make(), user_make(), user_make(is_staff=True)
    address = limits_address("user", user)
    assert client_for(user).get(address).json()["sessions"] is None
    assert client_for(user).put(address, {"sessions": 999}).status_code == 403
    assert client_for(other).get(address).status_code == client_for(other).put(address, {}).status_code == 404
    assert client_for(chief).put(address, {"day": {"cost_usd": "1.25"}}).json()["day"]["limits"]["cost_usd"] == 1.25
    assert client_for(chief).get(limits_address("user", project_make(owner=user))).status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize(
    "body",
    [
        {"daily": {}},
        {"day": {"dollars": 5}},
        {"day": {"cost_usd": -1}},
        {"total": {"tokens": "many"}},
        {"sessions": -1},
        {"total": {"steps": 1.5}},
        {"total": 7},
        [],
    ],
)
def test_limits_that_are_none_are_refused_and_change_nothing(body: Any) -> None:
    owner = user_make()
    project = project_make(owner=owner)
    client = client_for(owner)
    assert client.put(limits_address("project", project), {"sessions": 2}).status_code == 200
    answer = client.put(limits_address("project", project), body)
    assert answer.status_code == 400, answer.content
    assert client.get(limits_address("project", project)).json()["sessions"] == 2


@pytest.mark.django_db
def test_what_was_spent_is_shown_with_and_without_limits() -> None:
    owner = user_make()
    project = project_make(owner=owner)
    address = limits_address("project", project)
    before = client_for(owner).get(address).json()
    client_for(owner).put(address, {"total": {"steps": 5}})
    after = client_for(owner).get(address).json()
    assert before["total"]["spent"] == after["total"]["spent"] and before["day"]["spent"] == after["day"]["spent"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("whose", ["server", "user", "project"])
def test_of_a_burst_of_starts_exactly_as_many_as_may_be_are_taken(whose: str, settings: Any) -> None:
    user = user_make()
    project = project_make(owner=user)
    if whose == "server":
        settings.ARCHON_LIMIT_USER_SESSIONS = 4
    else:
        owner = {"user": user} if whose == "user" else {"project": project}
        Allowance.objects.create(**owner, limit_sessions=4)
    sessions = [session_build(user=user, project=project) for _ in range(10)]

    def start(session: AgentSession) -> bool:
        try:
            session_execute(user=user, session_id=session.id)
        except TooManySessions as error:
            assert "may have 4 at once" in error.message and "limits set --" in error.next_step
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(start, sessions)).count(True) == 4
    # Asking again for one that has its place takes no other.
    running = [session for session in sessions if session.head.__class__.objects.get(session=session).wanted]
    session_execute(user=user, session_id=running[0].id)
    assert client_for(user).post(f"/api/agents/sessions/{_other(sessions, running)}/execute/").status_code == 429


def _other(sessions: list[AgentSession], running: list[AgentSession]) -> uuid.UUID:
    return next(session.id for session in sessions if session not in running)


@pytest.mark.django_db(transaction=True)
def test_a_place_is_free_again_once_a_session_is_paused_or_has_ended_but_not_while_it_waits(settings: Any) -> None:
    settings.ARCHON_LIMIT_USER_SESSIONS = 1
    user = user_make()
    project = project_make(owner=user)
    first, second = (session_build(user=user, project=project) for _ in range(2))
    session_execute(user=user, session_id=first.id)
    for status in (SessionStatus.RUNNING, SessionStatus.WAITING_INPUT):
        AgentSession.objects.filter(id=first.id).update(status=status)
        with pytest.raises(TooManySessions):
            session_execute(user=user, session_id=second.id)
    client = client_for(user)
    AgentSession.objects.filter(id=first.id).update(status=SessionStatus.RUNNING)
    assert client.post(f"/api/agents/sessions/{first.id}/pause/").status_code == 202
    session_execute(user=user, session_id=second.id)
    with pytest.raises(TooManySessions):
        session_resume(user=user, session_id=first.id)
    assert AgentSession.objects.get(id=first.id).status == SessionStatus.PAUSED
    # Others have places of their own.
    other = user_make()
    session_execute(user=other, session_id=session_build(user=other, project=project_make(owner=other)).id)

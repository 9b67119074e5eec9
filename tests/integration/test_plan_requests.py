"""Plans of their own: made, revised and broken down by planners on request, and carried out by a session later."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession, Steering
from apps.agents.services.master_orchestrator import session_cancel, session_merge
from apps.agents.services.messages import message_send
from apps.agents.services.plan_approvals import plan_approve
from apps.agents.services.plan_work import PlanWork, PlanWorkMode
from apps.agents.services.rewind import session_rewind
from apps.agents.services.steps import step_list
from apps.authentication.models import User
from apps.core.errors import Conflict
from apps.planning.models import Feature, Plan, Task
from apps.planning.selectors import plan_document
from apps.projects.autonomy import Autonomy
from apps.projects.models import Membership, Project, Role
from tests import api
from tests.api import client_for, user_make
from tests.integration.plan_scene import FILES, begin, coded, plan, plan_of, titles_of, versions_of
from tests.integration.session_scene import (
    Cut,
    entry,
    events_of,
    lease_let_run_out,
    messages_of,
    project_make,
    recording_write,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]
PLANS = "/api/planning/plans/"


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", FILES)


def post(user: User, address: str, body: dict[str, Any], *entries: dict[str, Any]) -> Any:
    """What the API answers; the request's models play the entries."""
    asked = {"model": recording_write(entries), "checks": ["true"], "review": "never", **body} if entries else body
    return client_for(user).post(address, asked)


def ran(answer: Any) -> AgentSession:
    assert answer.status_code == 202, answer.content
    return session_run(uuid.UUID(answer.json()["id"]))


def generated(scene: tuple[User, Project], *tasks: Any) -> Plan:
    """A plan that a planner made on request."""
    user, project = scene
    body = {"project": str(project.id), "goal": "Write it"}
    session = ran(post(user, f"{PLANS}generate/", body, entry("planner", plan(*tasks))))
    assert (session.agent_type, session.status) == ("planner", "completed"), session.reason
    return plan_of(session)


def opening_of(session: AgentSession) -> str:
    return next(str(message["data"]["content"]) for _, message in messages_of(session.id) if message["type"] == "human")


def test_a_plan_is_generated_approved_and_carried_out(scene: tuple[User, Project]) -> None:
    user, project = scene
    made = generated(scene, "One", {"title": "Two", "depends_on": []})
    assert (made.status, made.goal, made.version) == ("waiting", "Write it", 1)
    reason = made.sessions.get().reason
    assert reason and reason["next_step"].endswith(f"./archon plan show {made.id}")
    body = {"project": str(project.id), "plan": str(made.id)}
    run = "/api/agents/sessions/run/"
    refused = post(user, run, body, *coded())
    assert (refused.status_code, refused.json()["state"]) == (409, "waiting") and "approve" in refused.json()[
        "next_step"
    ]
    assert post(user, f"{PLANS}{made.id}/approve/", {"version": 1, "autonomy": "auto"}).status_code == 400
    assert post(user, f"{PLANS}{made.id}/approve/", {"version": 1}).json()["status"] == "active"
    assert post(user, run, {**body, "agent_type": "coder"}, *coded()).status_code == 400
    assert post(user, run, {**body, "project": str(api.project_make(owner=user).id)}).status_code == 409
    carried = ran(post(user, run, {**body, "autonomy": "ask"}, *coded()))
    # It was approved as it is: nobody is asked again, but for what agents do.
    assert (carried.status, carried.goal, carried.plan_id) == ("waiting_approval", "Write it", made.id)
    assert [event.type for event in events_of(carried.id, "PlanCreated", "PlanApprovalRequested")] == []
    taken = post(user, run, body, *coded())
    assert (taken.status_code, taken.json()["state"], taken.json()["session"]) == (409, "plan_taken", str(carried.id))
    session_cancel(user=user, session_id=carried.id)
    # Its task was under way: it is anybody's again.
    carried = ran(post(user, run, body, *coded()))
    assert (carried.status, carried.outcome) == ("completed", "verified"), carried.reason
    assert set(Task.objects.filter(feature__plan=made).values_list("status", "attempts")) == {("done", 1)}
    assert not carried.executions.filter(role="planner").exists()
    again = post(user, run, body, *coded())
    assert again.json()["state"] == "done"


@pytest.mark.slow
def test_what_was_done_has_to_be_in_the_base_branch(scene: tuple[User, Project]) -> None:
    user, _ = scene
    made = generated(scene, "One", {"title": "Two", "depends_on": []})
    plan_approve(user=user, plan_id=made.id, version=1)
    work = PlanWork(PlanWorkMode.CARRY_OUT, plan_id=made.id)
    first = begin(*scene, coded(), plan_work=work)
    session_run(first.id)
    # Two more are planned: what was begun stays, whatever the planner says of it.
    comment = {"version": 1, "comment": "Three as well."}
    revised = ran(
        post(
            user, f"{PLANS}{made.id}/revise/", comment, entry("planner", plan({"title": "Three", "depends_on": ["T2"]}))
        )
    )
    assert (revised.status, plan_of(revised).id) == ("completed", made.id), revised.reason
    assert titles_of(made.id) == ["One", "Two", "Three"]
    assert versions_of(made.id)[1:] == [(2, "planner", "Three as well.")]
    plan_approve(user=user, plan_id=made.id, version=2)
    with pytest.raises(Conflict) as refused:
        begin(*scene, coded(), plan_work=work)
    assert refused.value.extra["state"] == "not_merged" and set(refused.value.extra["tasks"]) == {"T1", "T2"}
    squashed = begin(*scene, coded(), plan_work=PlanWork(PlanWorkMode.CARRY_OUT, plan_id=made.id, merged=True))
    session_cancel(user=user, session_id=squashed.id)
    session_merge(user=user, session_id=first.id)
    second = session_run(begin(*scene, coded(), plan_work=work).id)
    assert (second.status, second.outcome) == ("completed", "verified"), second.reason
    assert [event.payload["title"] for event in events_of(second.id, "TaskStarted")] == ["Three"]


def test_a_plan_is_revised_on_request(scene: tuple[User, Project]) -> None:
    user, _ = scene
    made = generated(scene, "One", "Two")
    address = f"{PLANS}{made.id}/revise/"
    assert post(user, address, {"version": 2, "comment": "x"}).json()["state"] == "plan_changed"
    assert post(user, address, {"version": 1, "comment": " "}).status_code == 400
    revised = ran(
        post(
            user,
            address,
            {"version": 1, "comment": "Only one."},
            entry("planner", ("answer", {"text": "no"}), not_seen=["^answer "]),
            entry("planner", plan("One"), task="Only one[.]"),
        )
    )
    assert (revised.status, revised.goal.splitlines()[0]) == ("completed", "Revise the plan: Only one."), revised.reason
    assert "task T2 [pending]: Two" in opening_of(revised)
    again = Plan.objects.get(id=made.id)
    assert (again.status, again.version, titles_of(made.id)) == ("waiting", 2, ["One"])
    # Taken back to before that, the plan is what it was.
    step = next(step for step in step_list(revised) if step.event.type == "ChecksFinished")
    session_rewind(user=user, session_id=revised.id, seq=step.seq)
    assert titles_of(made.id) == ["One", "Two"] and Plan.objects.get(id=made.id).status == "waiting"


def test_a_session_that_has_the_plan_hears_of_it(scene: tuple[User, Project]) -> None:
    user, _ = scene
    entries = [entry("planner", plan("One")), *coded()]
    session = session_run(begin(*scene, entries, autonomy=Autonomy.ASK).id)
    made = plan_of(session)
    heard = post(user, f"{PLANS}{made.id}/revise/", {"version": 1, "comment": "otherwise"})
    assert (heard.status_code, heard.json()["id"]) == (202, str(session.id))
    assert [event.payload["comment"] for event in events_of(session.id, "PlanRejected")] == ["otherwise"]
    session_run(session.id)
    plan_approve(user=user, plan_id=made.id, version=1)
    session = session_run(session.id)
    assert session.status == "waiting_approval", "a call has to be approved"
    heard = post(user, f"{PLANS}{made.id}/revise/", {"version": 1, "comment": "mind the gap"})
    assert heard.json()["id"] == str(session.id)
    assert Steering.objects.get(session=session).text == "About the plan: mind the gap"
    session_cancel(user=user, session_id=session.id)


def test_a_feature_is_broken_down(scene: tuple[User, Project]) -> None:
    user, project = scene
    own = post(
        user,
        "/api/planning/features/",
        {"project": str(project.id), "title": "Colours", "description": "Few.", "priority": "high", "effort": "large"},
    )
    address = f"/api/planning/features/{own.json()['id']}/break-down/"
    alone = ran(post(user, address, {"comment": "Two."}, entry("planner", plan("Red", "Blue"), task="Few[.]")))
    assert alone.status == "completed", alone.reason
    made = plan_of(alone)
    document = plan_document(made)
    assert (made.status, [f.title for f in document.features]) == ("waiting", ["Colours"])
    row = Feature.objects.get(id=own.json()["id"])
    assert (row.priority, row.effort) == ("high", "large"), "as the person has said"
    assert (row.plan_id, row.created_by_id, [task.title for task in row.tasks.all()]) == (
        made.id,
        user.id,
        ["Red", "Blue"],
    )
    # In a plan: what is there stays, keys that are taken give way.
    further = plan({"title": "Green", "depends_on": ["T1"]}, {"title": "Pink"})
    assert post(user, address, {"version": 7}).json()["state"] == "plan_changed"
    more = ran(post(user, address, {"version": 1}, entry("planner", further)))
    assert more.status == "completed", more.reason
    tasks = plan_document(Plan.objects.get(id=made.id)).tasks
    assert {key: (task.title, task.depends_on) for key, task in tasks.items()} == {
        "T1": ("Red", ()),
        "T2": ("Blue", ("T1",)),
        "T3": ("Green", ("T1",)),
        "T4": ("Pink", ("T3",)),
    }
    assert versions_of(made.id)[-1] == (2, "planner", "Colours is broken down")


@pytest.mark.slow
def test_a_follow_up_and_a_rewind_leave_a_plan_alone_that_another_session_has(scene: tuple[User, Project]) -> None:
    user, _ = scene
    entries = [entry("planner", plan("One", {"title": "Two", "depends_on": []}))]
    first = begin(*scene, [*entries, *coded()])
    cut = Cut(150)
    session_run(first.id, cut=cut)
    lease_let_run_out(first.id)
    session_cancel(user=user, session_id=first.id)
    made = plan_of(AgentSession.objects.get(id=first.id))
    work = PlanWork(PlanWorkMode.CARRY_OUT, plan_id=made.id, merged=True)
    second = begin(*scene, coded(), plan_work=work)
    steps = step_list(AgentSession.objects.get(id=first.id))
    for_another = {"state": "plan_taken", "session": str(second.id)}
    with pytest.raises(Conflict) as taken:
        message_send(user=user, session_id=first.id, text="Go on")
    assert taken.value.extra == for_another
    with pytest.raises(Conflict) as taken:
        session_rewind(user=user, session_id=first.id, seq=steps[0].seq)
    assert taken.value.extra == for_another
    second = session_run(second.id)
    assert (second.status, second.outcome) == ("completed", "verified"), second.reason
    message_send(user=user, session_id=second.id, text="More of it")
    session_run(second.id)
    assert any(feature.key.startswith("follow-up-1-") for feature in made.features.all())


def test_only_members_of_the_project_have_planners_think(scene: tuple[User, Project]) -> None:
    user, project = scene
    made = generated(scene, "One")
    feature = Feature.objects.get(plan=made)
    viewer, stranger = user_make(), user_make()
    Membership.objects.create(project=project, user=viewer, role=Role.VIEWER)
    for address in (
        *(f"{PLANS}{made.id}/{what}/" for what in ("approve", "reject", "revise")),
        f"/api/planning/features/{feature.id}/break-down/",
    ):
        assert post(viewer, address, {}).status_code == 403
        assert post(stranger, address, {}).status_code == 404
        assert post(user, address, {"version": "x"}).status_code == 400
    body = {"project": str(project.id), "goal": "x", "model": "scripted:none"}
    assert post(viewer, f"{PLANS}generate/", body).status_code == 403
    assert post(stranger, f"{PLANS}generate/", body).status_code == 404
    assert post(user, f"{PLANS}generate/", {**body, "goal": " "}).status_code == 400


def test_what_is_misspelt_is_refused_before_anything_begins(scene: tuple[User, Project]) -> None:
    """A limit of another name would bound nothing."""
    user, project = scene
    made = generated(scene, "One")
    session, feature = made.sessions.get(), Feature.objects.get(plan=made)
    sessions = AgentSession.objects.count()
    asked: dict[str, Any] = {"project": str(project.id), "goal": "x", "model": "scripted:none"}
    seen: dict[str, Any] = {"version": 1, "comment": "otherwise"}
    bodies = {
        "/api/agents/sessions/": asked,
        "/api/agents/sessions/run/": asked,
        f"/api/agents/sessions/{session.id}/resume/": {},
        f"{PLANS}generate/": asked,
        f"{PLANS}{made.id}/revise/": seen,
        f"/api/planning/features/{feature.id}/break-down/": seen,
    }
    for address, body in bodies.items():
        for more, name in ({"limit": {"steps": 1}}, "limit"), ({"limits": {"cost": 1}}, "limits.cost"):
            refused = post(user, address, {**body, **more})
            assert (refused.status_code, list(refused.json()["errors"])) == (400, [name]), (address, refused.content)
            assert "There is no such member" in refused.json()["errors"][name][0]
    assert AgentSession.objects.count() == sessions

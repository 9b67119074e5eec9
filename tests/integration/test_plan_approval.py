"""A plan that a person has to approve: asked once, approved as it was seen, sent back with a comment, refused."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.agents.models import AgentSession, SessionEffect
from apps.agents.presenters import progress_present, session_present
from apps.agents.selectors import question_get
from apps.agents.services.approvals import session_autonomy_set
from apps.agents.services.master_orchestrator import session_answer, session_resume
from apps.agents.services.plan_approvals import plan_approve, plan_reject
from apps.agents.services.rewind import session_rewind
from apps.agents.services.sessions import made_in
from apps.agents.services.steps import step_list
from apps.authentication.models import User
from apps.core.errors import Conflict, PermissionDenied
from apps.planning.models import Plan, PlanVersion
from apps.planning.selectors import plan_document
from apps.planning.services import plan_revise
from apps.planning.types import VersionSource
from apps.projects.autonomy import Autonomy
from apps.projects.models import Membership, Project, Role
from tests.api import client_for, user_make
from tests.integration.plan_scene import (
    FILES,
    SENT_BACK,
    begin,
    coded,
    plan,
    plan_of,
    results_of,
    titles_of,
    versions_of,
)
from tests.integration.session_scene import (
    Cut,
    entry,
    events_of,
    lease_let_run_out,
    points_taken,
    project_make,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]
TOLD = ("PlanCreated", "PlanApprovalRequested", "PlanApproved", "PlanRejected", "PlanRevised", "SessionCancelled")


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", FILES)


def planned() -> list[dict[str, object]]:
    """A planner that hands over one task, two when it is sent back, and the same again when it is sent back again."""
    return [
        entry("planner", plan("One", "Two", summary="more"), user=SENT_BACK, last_result="this is the plan as it is"),
        entry("planner", plan("One"), user=SENT_BACK),
        entry("planner", plan("One")),
        *coded(),
    ]


def waiting(scene: tuple[User, Project], autonomy: Autonomy = Autonomy.ASK) -> AgentSession:
    session = session_run(begin(*scene, planned(), autonomy=autonomy).id)
    assert session.status == "waiting_approval", (session.status, session.reason)
    return session


def told(session_id: uuid.UUID) -> list[str]:
    return [event.type for event in events_of(session_id, *TOLD)]


def test_a_plan_waits_and_is_approved_as_it_was_seen(scene: tuple[User, Project]) -> None:
    user, project = scene
    session = waiting(scene)
    made = plan_of(session)
    assert (made.status, made.version, made.approved_version) == ("waiting", 1, None)
    assert not session.head.wanted and session.head.lease_expires_at is None and session.running_since is None
    shown = session_present(session)["plan_approval"]
    assert (shown["plan"], shown["version"], shown["summary"]) == (made.id, 1, "the plan")
    assert [task["title"] for task in shown["tasks"]] == ["One"] and shown["estimate"]["tasks"] == 1
    assert session_present(session)["approval"] is None and progress_present(session)["plan_approval"] == shown
    # Somebody edits it: what is approved has to be what was seen.
    document = plan_document(made).tasks_map(lambda task: task.model_copy(update={"title": "Uno"}))
    plan_revise(plan_id=made.id, document=document, source=VersionSource.PERSON, reason="", made_in=made_in(session.id))
    with pytest.raises(Conflict) as refused:
        plan_approve(user=user, plan_id=made.id, version=1)
    assert refused.value.extra == {"state": "plan_changed", "version": 2}
    viewer = user_make()
    Membership.objects.create(project=project, user=viewer, role=Role.VIEWER)
    with pytest.raises(PermissionDenied):
        plan_approve(user=viewer, plan_id=made.id, version=2)
    for _ in range(2):
        approved = plan_approve(user=user, plan_id=made.id, version=2, autonomy=Autonomy.AUTO)
        assert (approved.status, approved.approved_version) == ("active", 2)
    session = session_run(session.id)
    assert (session.status, session.outcome, session.autonomy) == ("completed", "verified", "auto"), session.reason
    assert told(session.id) == ["PlanCreated", "PlanApprovalRequested", "PlanApproved"]
    assert [event.payload["title"] for event in events_of(session.id, "TaskStarted")] == ["Uno"]
    with pytest.raises(Conflict) as late:
        plan_reject(user=user, plan_id=made.id, version=2)
    assert late.value.extra["state"] == "done"


def test_a_session_that_only_looks_can_carry_nothing_out(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = waiting(scene, Autonomy.OBSERVE)
    made = plan_of(session)
    with pytest.raises(Conflict) as refused:
        plan_approve(user=user, plan_id=made.id, version=1)
    assert refused.value.extra["state"] == "observe" and f"archon autonomy {session.id} ask" in refused.value.next_step
    assert Plan.objects.get(id=made.id).status == "waiting"
    session_autonomy_set(user=user, session_id=session.id, autonomy=Autonomy.AUTO)
    plan_approve(user=user, plan_id=made.id, version=1)
    assert session_run(session.id).outcome == "verified"


def test_autonomy_that_is_lowered_while_it_plans_counts(scene: tuple[User, Project]) -> None:
    user, _ = scene
    asks = entry("planner", ("ask_user", {"question": "?"}), not_seen=["^ask_user "])
    session = session_run(begin(*scene, [asks, *planned()]).id)
    assert session.status == "waiting_input"
    session_autonomy_set(user=user, session_id=session.id, autonomy=Autonomy.ASK)
    question = question_get(session_id=session.id)
    assert question is not None
    session_answer(user=user, session_id=session.id, question_id=question.id, answer="yes")
    assert session_run(session.id).status == "waiting_approval"


def test_a_comment_has_the_planner_make_another_version(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = waiting(scene)
    made = plan_of(session)
    for _ in range(2):
        plan_reject(user=user, plan_id=made.id, version=1, comment="Do Two as well.")
    with pytest.raises(Conflict) as busy:
        plan_approve(user=user, plan_id=made.id, version=1)
    assert busy.value.extra["state"] == "being_revised"
    session = session_run(session.id)
    assert session.status == "waiting_approval", session.reason
    # What it handed over first was the plan as it was.
    assert any("this is the plan as it is" in result for result in results_of(session))
    assert versions_of(made.id) == [(1, "planner", ""), (2, "planner", "Do Two as well.")]
    assert PlanVersion.objects.get(plan=made.id, number=2).session_id == session.id
    assert session.executions.count() == 1, "it is the same conversation"
    assert session_present(session)["plan_approval"]["version"] == 2
    revised = events_of(session.id, "PlanRevised")[0].payload
    assert (revised["version"], revised["reason"], revised["source"]) == (2, "Do Two as well.", "planner")
    assert [(change["kind"], change["title"]) for change in revised["changes"] if change["what"] == "task"] == [
        ("added", "Two")
    ]
    # The same word once more is an old one; the version that waits now is approved.
    plan_reject(user=user, plan_id=made.id, version=1, comment="Do Two as well.")
    plan_approve(user=user, plan_id=made.id, version=2, autonomy=Autonomy.AUTO)
    session = session_run(session.id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    asked = "PlanApprovalRequested"
    assert told(session.id) == ["PlanCreated", asked, "PlanRejected", "PlanRevised", asked, "PlanApproved"]


@pytest.mark.slow
def test_a_planner_that_makes_no_other_plan_has_it_asked_again(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = session_run(begin(*scene, [entry("planner", plan("One")), *coded()], autonomy=Autonomy.ASK).id)
    made = plan_of(session)
    plan_reject(user=user, plan_id=made.id, version=1, comment="otherwise")
    session = session_run(session.id)
    assert session.status == "waiting_approval" and plan_of(session).version == 1
    assert "the planner made no other plan" in events_of(session.id, "PlanApprovalRequested")[-1].payload["note"]
    plan_reject(user=user, plan_id=made.id, version=1, comment="otherwise")
    assert AgentSession.objects.get(id=session.id).status == "running", "it is another word, not the first one again"
    session_run(session.id)
    plan_approve(user=user, plan_id=made.id, version=1, autonomy=Autonomy.AUTO)
    assert session_run(session.id).outcome == "verified"


def test_a_plan_that_is_refused_ends_the_session(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = waiting(scene)
    made = plan_of(session)
    address = f"/api/planning/plans/{made.id}/"
    client = client_for(user)
    assert client.post(f"{address}reject/", {"version": 3}).status_code == 409
    for _ in range(2):
        refused = client.post(f"{address}reject/", {"version": 1})
        assert (refused.status_code, refused.json()["status"]) == (200, "rejected"), refused.content
    session = AgentSession.objects.get(id=session.id)
    assert (session.status, session.reason["code"] if session.reason else "") == ("cancelled", "plan_rejected")
    assert client.post(f"{address}approve/", {"version": 1}).json()["state"] == "rejected"
    assert told(session.id)[-2:] == ["PlanRejected", "SessionCancelled"]


@pytest.mark.slow
def test_a_rewind_to_before_the_approval_has_it_wait_again(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = waiting(scene)
    made = plan_of(session)
    plan_reject(user=user, plan_id=made.id, version=1, comment="Do Two as well.")
    session = session_run(session.id)
    plan_approve(user=user, plan_id=made.id, version=2, autonomy=Autonomy.AUTO)
    session = session_run(session.id)
    assert session.outcome == "verified"
    steps = {step.event.type: step for step in step_list(session)}
    session_rewind(user=user, session_id=session.id, seq=steps["PlanRevised"].seq)
    again = Plan.objects.get(id=made.id)
    assert (again.status, titles_of(made.id)) == ("waiting", ["One", "Two"])
    session_resume(user=user, session_id=session.id)
    session = session_run(session.id)
    assert session.status == "waiting_approval"
    # And to before it was sent back: that word is taken back with it.
    session_rewind(user=user, session_id=session.id, seq=steps["PlanCreated"].seq)
    session_resume(user=user, session_id=session.id)
    session = session_run(session.id)
    again = Plan.objects.get(id=made.id)
    assert (session.status, again.status, titles_of(made.id)) == ("waiting_approval", "waiting", ["One"])
    plan_approve(user=user, plan_id=made.id, version=again.version)
    session = session_run(session.id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert events_of(session.id, "TaskStarted")[-1].payload["title"] == "One"


def test_a_version_that_is_made_meanwhile_waits_as_well(scene: tuple[User, Project]) -> None:
    user, _ = scene
    blocked = ("report_blocked", {"reason": "it is elsewhere", "needs": "another task"})
    revised = {"reason": "One can't be done", "features": [{"key": "F1", "tasks": [{"key": "T2"}, {"title": "Three"}]}]}
    session = begin(
        *scene,
        [
            entry("planner", plan("One", {"title": "Two", "depends_on": []})),
            entry("replanner", ("revise_plan", revised)),
            entry("coder", blocked, task="^Task: One", last_tool="ask_user"),
            entry("coder", ("ask_user", {"question": "?"}), task="^Task: One"),
            *coded(),
        ],
    )
    session = session_run(session.id)
    assert session.status == "waiting_input", session.reason
    session_autonomy_set(user=user, session_id=session.id, autonomy=Autonomy.ASK)
    question = question_get(session_id=session.id)
    assert question is not None
    session_answer(user=user, session_id=session.id, question_id=question.id, answer="?")
    session = session_run(session.id)
    made = plan_of(session)
    assert (session.status, made.status, made.version) == ("waiting_approval", "waiting", 2), session.reason
    shown = session_present(session)["plan_approval"]
    assert [(task["title"], task["status"]) for task in shown["tasks"]] == [
        ("One", "failed"), ("Two", "pending"), ("Three", "pending"),
    ]  # fmt: skip
    assert made.estimate["tasks"] == 3 and versions_of(made.id)[1][1] == "replan"
    plan_approve(user=user, plan_id=made.id, version=2, autonomy=Autonomy.AUTO)
    session = session_run(session.id)
    assert (session.status, session.outcome) == ("completed", "failing"), session.reason
    assert [event.payload["title"] for event in events_of(session.id, "TaskStarted")] == ["One", "Two", "Three"]


def through(scene: tuple[User, Project], at: int | None) -> tuple[AgentSession, int]:
    """A session that is sent back once and then approved, its first, second or third worker dying at a point."""
    user, _ = scene
    session = begin(*scene, planned(), autonomy=Autonomy.ASK)
    points = 0

    def run() -> AgentSession:
        nonlocal points
        cut = Cut(at - points if at is not None and at > points else None)
        found = session_run(session.id, cut=cut)
        points += cut.points
        if cut.dead:
            lease_let_run_out(session.id)
            found = session_run(session.id)
        return found

    run()
    plan_id = uuid.uuid5(session.id, "plan")
    plan_reject(user=user, plan_id=plan_id, version=1, comment="Do Two as well.")
    run()
    plan_approve(user=user, plan_id=plan_id, version=2, autonomy=Autonomy.AUTO)
    return run(), points


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(2))
def test_a_worker_may_die_anywhere_around_the_approval(
    scene: tuple[User, Project], part: int, pytestconfig: pytest.Config
) -> None:
    """A twelfth of the points, another one with each seed; all of them with ``--every``."""
    reference, points = through(scene, None)
    expected = [(event.type, event.payload.get("title")) for event in events_of(reference.id, *TOLD, "TaskStarted")]
    assert reference.outcome == "verified"
    for at in points_taken(points, part=part, parts=2, every=pytestconfig.getoption("--every")):
        session, _ = through(scene, at)
        assert (session.status, session.outcome) == ("completed", "verified"), (at, session.reason)
        found = [(event.type, event.payload.get("title")) for event in events_of(session.id, *TOLD, "TaskStarted")]
        assert found == expected, at
        assert versions_of(uuid.uuid5(session.id, "plan")) == [(1, "planner", ""), (2, "planner", "Do Two as well.")]
        keys = set(SessionEffect.objects.filter(session=session, key__startswith="plan").values_list("key", flat=True))
        assert keys == {"plan", "plan-rejected:1", "plan-revise:1", "plan-revised:1", "plan-approved:1"}

"""Plans that are made once whatever is replayed, and features that people add."""

from __future__ import annotations

import uuid

import pytest
from django.db import IntegrityError, transaction

from apps.core.errors import Conflict, InvalidInput, NotFound
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.models import Feature, Plan, PlanStatus, Task, TaskStatus
from apps.planning.selectors import plan_progress
from apps.planning.services import plan_create, plan_update_status, task_update_status
from apps.projects.models import Project
from tests.api import client_for, project_make, user_make

pytestmark = pytest.mark.django_db

DOCUMENT = PlanDoc(
    summary="s",
    features=(
        FeatureDoc(
            key="F1",
            title="Parse",
            description="Read the input.",
            tasks=(TaskDoc(key="T1", title="Lexer"), TaskDoc(key="T2", title="Grammar", depends_on=("T1",))),
        ),
        FeatureDoc(key="F2", title="Print", tasks=(TaskDoc(key="T3", title="Printer"),)),
    ),
)


def _plan(project: Project, plan_id: uuid.UUID | None = None) -> Plan:
    return plan_create(plan_id=plan_id or uuid.uuid4(), project=project, goal="g", document=DOCUMENT)


def _tasks(plan: Plan) -> list[Task]:
    return list(Task.objects.filter(feature__plan=plan).order_by("feature__position", "position"))


def test_plan_is_made_once() -> None:
    project, plan_id = project_make(owner=user_make()), uuid.uuid4()
    first = [task.id for task in _tasks(_plan(project, plan_id))]
    assert [task.id for task in _tasks(_plan(project, plan_id))] == first
    assert (Plan.objects.count(), Feature.objects.count(), Task.objects.count()) == (1, 2, 3)
    assert [task.title for task in Task.objects.order_by("feature__position", "position")] == [
        "Lexer",
        "Grammar",
        "Printer",
    ]


def test_plan_belongs_to_one_project() -> None:
    plan = _plan(project_make(owner=user_make()))
    with pytest.raises(Conflict):
        _plan(project_make(owner=user_make()), plan.id)


def test_plan_needs_a_task() -> None:
    project = project_make(owner=user_make())
    for features in ((), (FeatureDoc(key="F1", title="Empty"),)):
        with pytest.raises(InvalidInput):
            plan_create(
                plan_id=uuid.uuid4(), project=project, goal="", document=PlanDoc(summary="s", features=features)
            )


def test_task_moves_through_its_states() -> None:
    task = _tasks(_plan(project_make(owner=user_make())))[0]
    task_update_status(task_id=task.id, status=TaskStatus.RUNNING, attempts=1)
    task_update_status(task_id=task.id, status=TaskStatus.FAILED, result="no")
    task_update_status(task_id=task.id, status=TaskStatus.RUNNING, attempts=2)
    done = task_update_status(task_id=task.id, status=TaskStatus.DONE, result="yes", commit="c" * 40)
    again = task_update_status(task_id=task.id, status=TaskStatus.DONE)
    assert (again.attempts, again.result, again.commit) == (2, "yes", done.commit)
    with pytest.raises(Conflict) as refused:
        task_update_status(task_id=task.id, status=TaskStatus.RUNNING)
    assert refused.value.extra == {"state": "done"}
    with pytest.raises(NotFound):
        task_update_status(task_id=uuid.uuid4(), status=TaskStatus.RUNNING)


def test_progress_is_typed_and_in_order() -> None:
    plan = _plan(project_make(owner=user_make()))
    first = _tasks(plan)[0]
    task_update_status(task_id=first.id, status=TaskStatus.RUNNING, attempts=1)
    task_update_status(task_id=first.id, status=TaskStatus.DONE, commit="abc")
    progress = plan_progress(plan.id)
    assert (progress.done, progress.total, progress.status) == (1, 3, PlanStatus.ACTIVE)
    assert [feature.title for feature in progress.features] == ["Parse", "Print"]
    task = progress.features[0].tasks[0]
    assert (task.id, task.status, task.attempts, task.commit) == (first.id, TaskStatus.DONE, 1, "abc")
    plan_update_status(plan_id=plan.id, status=PlanStatus.DONE)
    assert plan_progress(plan.id).status == PlanStatus.DONE
    with pytest.raises(NotFound):
        plan_progress(uuid.uuid4())


def test_database_refuses_unknown_states() -> None:
    plan = _plan(project_make(owner=user_make()))
    for rows in (Plan.objects.filter(id=plan.id), Task.objects.filter(feature__plan=plan)):
        with pytest.raises(IntegrityError), transaction.atomic():
            rows.update(status="odd")


def test_plans_over_http() -> None:
    user = user_make()
    project, other = project_make(owner=user), project_make(owner=user)
    plan = _plan(project)
    _plan(other)
    client = client_for(user)
    assert client.get("/api/planning/plans/").json()["count"] == 2
    listed = client.get("/api/planning/plans/", {"project": str(project.id)}).json()["results"]
    assert [row["id"] for row in listed] == [str(plan.id)]
    whole = client.get(f"/api/planning/plans/{plan.id}/").json()
    assert whole == listed[0]
    assert [[task["title"] for task in feature["tasks"]] for feature in whole["features"]] == [
        ["Lexer", "Grammar"],
        ["Printer"],
    ]


def test_features_and_tasks_are_filtered() -> None:
    user = user_make()
    project = project_make(owner=user)
    plan, _ = _plan(project), _plan(project_make(owner=user))
    task_update_status(task_id=_tasks(plan)[0].id, status=TaskStatus.RUNNING)
    client = client_for(user)

    def count(kind: str, **query: object) -> int:
        return int(
            client.get(f"/api/planning/{kind}/", {name: str(value) for name, value in query.items()}).json()["count"]
        )

    assert (count("features"), count("features", project=project.id), count("features", plan=plan.id)) == (4, 2, 2)
    feature = _tasks(plan)[2].feature_id
    assert (count("tasks"), count("tasks", project=project.id), count("tasks", plan=plan.id)) == (6, 3, 3)
    assert (count("tasks", feature=feature), count("tasks", status="running")) == (1, 1)
    assert count("tasks", status="running", feature=feature) == 0
    for query in ({"project": "7"}, {"plan": "x"}, {"feature": "-"}, {"status": "odd"}):
        assert client.get("/api/planning/tasks/", query).status_code == 400
    assert client.get(f"/api/planning/tasks/{_tasks(plan)[0].id}/").json()["status"] == "running"


@pytest.mark.parametrize("kind", ["plans", "features", "tasks"])
def test_lists_hide_other_peoples_rows(kind: str) -> None:
    project = project_make(owner=user_make())
    plan = _plan(project)
    client = client_for(user_make())
    assert client.get(f"/api/planning/{kind}/").json()["count"] == 0
    assert client.get(f"/api/planning/{kind}/", {"project": str(project.id)}).status_code == 404
    if kind != "plans":
        assert client.get(f"/api/planning/{kind}/", {"plan": str(plan.id)}).status_code == 404


def test_people_add_features_of_their_own() -> None:
    owner, member, viewer = user_make(), user_make(), user_make()
    project = project_make(owner=owner, member=member, viewer=viewer)
    plan = _plan(project)
    body = {"project": str(project.id), "title": "Colours"}
    made = client_for(member).post("/api/planning/features/", body)
    assert (made.status_code, made.json()["plan"], made.json()["created_by"]) == (201, None, str(member.id))
    in_plan = client_for(member).post("/api/planning/features/", {**body, "plan": str(plan.id)})
    assert in_plan.json()["position"] == 2
    assert client_for(viewer).post("/api/planning/features/", body).status_code == 403
    assert client_for(user_make()).post("/api/planning/features/", body).status_code == 404
    foreign = {**body, "plan": str(_plan(project_make(owner=owner)).id)}
    assert client_for(owner).post("/api/planning/features/", foreign).status_code == 400

    address = f"/api/planning/features/{made.json()['id']}/"
    assert client_for(member).patch(address, {"title": "Colour"}).json()["title"] == "Colour"
    assert client_for(viewer).patch(address, {"title": "no"}).status_code == 403
    assert client_for(owner).patch(address, {"description": "Few."}).json()["title"] == "Colour"
    another = user_make()
    project.memberships.create(user=another, role="member")
    assert client_for(another).delete(address).status_code == 403
    assert client_for(member).delete(address).status_code == 204
    planned = f"/api/planning/features/{Feature.objects.filter(plan=plan).earliest('position').id}/"
    assert client_for(member).patch(planned, {"title": "Read"}).json()["title"] == "Read", "whoever planned it"
    assert client_for(viewer).delete(planned).status_code == 403
    assert client_for(member).delete(planned).status_code == 204

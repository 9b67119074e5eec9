"""People change plans over HTTP: by operations, features and tasks, versions, texts; who may, and what is refused."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from apps.authentication.models import User
from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.models import Feature, Plan, PlanVersion, Task
from apps.planning.services import plan_create, plan_update_status, task_begin, task_update_status
from apps.planning.types import PlanStatus, TaskStatus
from apps.projects.models import Project
from tests.api import client_for, project_make, user_make

pytestmark = pytest.mark.django_db

DOCUMENT = PlanDoc(
    summary="Read and print",
    features=(
        FeatureDoc(
            key="F1",
            title="Parse",
            tasks=(
                TaskDoc(key="T1", title="Lexer", checks=(CheckDoc(command="true"),)),
                TaskDoc(key="T2", title="Grammar", depends_on=("T1",)),
            ),
            features=(FeatureDoc(key="F2", title="Errors", tasks=(TaskDoc(key="T3", title="Say where"),)),),
        ),
        FeatureDoc(key="F4", title="Print", depends_on=("F1",), tasks=(TaskDoc(key="T4", title="Printer"),)),
    ),
)


class Scene:
    """A plan of a project with an owner, a member and a viewer."""

    def __init__(self) -> None:
        self.owner, self.member, self.viewer = user_make(), user_make(), user_make()
        self.project: Project = project_make(owner=self.owner, member=self.member, viewer=self.viewer)
        self.plan = plan_create(plan_id=uuid.uuid4(), project=self.project, goal="A calculator", document=DOCUMENT)
        self.address = f"/api/planning/plans/{self.plan.id}/"

    def task(self, key: str) -> Task:
        return Task.objects.get(feature__plan=self.plan, key=key)

    def feature(self, key: str) -> Feature:
        return Feature.objects.get(plan=self.plan, key=key)

    def statuses(self) -> dict[str, str]:
        return dict(Task.objects.filter(feature__plan=self.plan).values_list("key", "status"))

    def done(self, key: str) -> None:
        task_update_status(task_id=self.task(key).id, status=TaskStatus.RUNNING, attempts=1)
        task_update_status(task_id=self.task(key).id, status=TaskStatus.DONE, commit="c" * 40)

    def edit(self, *operations: dict[str, Any], user: User | None = None, **more: Any) -> Any:
        return client_for(user or self.member).patch(self.address, {"operations": operations, **more})


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_operations_make_one_version(scene: Scene) -> None:
    answer = scene.edit(
        {
            "op": "update_task",
            "key": "T2",
            "instructions": "LL(1).",
            "files": ["g.py"],
            "checks": [{"command": "true"}],
        },
        {"op": "skip_task", "key": "T3"},
        {"op": "add_task", "feature": "F2", "title": "Say what", "depends_on": ["T1"], "type": "docs"},
        {"op": "hold", "key": "F4", "reason": "not yet"},
        version=1,
        reason="the grammar is known now",
    )
    assert answer.status_code == 200 and answer.json()["version"] == 2
    assert scene.statuses() == {"T1": "pending", "T2": "pending", "T3": "skipped", "T4": "blocked", "T5": "pending"}
    task = scene.task("T2")
    assert (task.instructions, task.files, task.checks) == ("LL(1).", ["g.py"], [{"command": "true", "name": ""}])
    assert [feature["status"] for feature in answer.json()["features"]] == ["pending", "pending", "blocked"]
    version = client_for(scene.viewer).get(f"{scene.address}versions/").json()["results"][0]
    assert (version["number"], version["reason"], version["source"]) == (2, "the grammar is known now", "person")
    assert (version["author"], version["author_email"]) == (str(scene.member.id), scene.member.email)
    assert {(change["kind"], change["key"], change["field"]) for change in version["changes"]} == {
        ("changed", "T2", "instructions"),
        ("changed", "T2", "files"),
        ("changed", "T2", "checks"),
        ("changed", "T3", "skipped"),
        ("added", "T5", ""),
        ("changed", "F4", "blocked_reason"),
    }
    estimate = Plan.objects.get(id=scene.plan.id).estimate
    assert estimate["tasks"] == 4, "what is skipped is not to be done"
    again = scene.edit({"op": "skip_task", "key": "T3"})
    assert again.json()["version"] == 2, "what changes nothing makes no version"


def test_what_is_refused_changes_nothing(scene: Scene) -> None:
    skip = {"op": "skip_task", "key": "T3"}
    for operations, code, said in (
        ([skip, {"op": "skip_task", "key": "T9"}], "invalid_input", "operations[1]"),
        ([skip, {"op": "fly"}], "invalid_input", "operations[1]"),
        ([skip, {"op": "update_task", "key": "T1", "colour": "red"}], "invalid_input", "colour"),
        ([skip, {"op": "update_task", "key": "T1", "depends_on": ["T2"]}], "plan_refused", "wait for each other"),
        ([{"op": "remove_task", "key": "T1"}], "invalid_input", "T2"),
    ):
        answer = scene.edit(*operations)
        assert (answer.status_code, answer.json()["code"]) == (400, code), answer.json()
        assert said in answer.json()["detail"]
    assert scene.edit(skip, colour="red").json()["errors"].keys() == {"colour"}
    assert scene.edit().json()["errors"].keys() == {"operations"}
    assert scene.edit(skip, version=2).status_code == 409
    assert PlanVersion.objects.filter(plan=scene.plan).count() == 1
    assert scene.edit(skip, version=1).status_code == 200
    late = scene.edit({"op": "unskip_task", "key": "T3"}, version=1)
    assert (late.status_code, late.json()["state"], late.json()["version"]) == (409, "plan_changed", 2)


def test_what_was_begun_stands(scene: Scene) -> None:
    scene.done("T1")
    task_begin(task_id=scene.task("T2").id, session_id=uuid.uuid4())
    for operation in (
        {"op": "update_task", "key": "T1", "title": "Otherwise"},
        {"op": "skip_task", "key": "T2"},
        {"op": "remove_feature", "key": "F1", "cascade": True},
        {"op": "split_task", "key": "T2", "parts": [{"title": "a"}, {"title": "b"}]},
    ):
        refused = scene.edit(operation)
        assert (refused.status_code, refused.json()["code"]) == (400, "plan_refused"), refused.json()
        assert refused.json()["problems"][0]["code"] == "started"
    assert scene.edit({"op": "move_task", "key": "T1", "after": "T3"}).status_code == 200, "it may stand elsewhere"
    assert scene.task("T1").feature.key == "F2"


def test_a_plan_that_is_over_is_taken_up_again(scene: Scene) -> None:
    add = {"op": "add_task", "feature": "F4", "title": "One thing more"}
    plan_update_status(plan_id=scene.plan.id, status=PlanStatus.WITHDRAWN)
    refused = scene.edit(add)
    assert (refused.status_code, refused.json()["state"]) == (409, "withdrawn") and refused.json()["next_step"]
    plan_update_status(plan_id=scene.plan.id, status=PlanStatus.REJECTED)
    assert scene.edit(add).json()["status"] == "waiting", "it is to be approved again"

    for key in ("T1", "T2", "T3", "T4", "T5"):
        scene.done(key)
    plan_update_status(plan_id=scene.plan.id, status=PlanStatus.DONE)
    named = {"op": "update_feature", "key": "F1", "title": "Read"}
    assert scene.edit(named).json()["status"] == "done", "there is nothing to be done"
    assert scene.edit({**add, "key": "T6"}).json()["status"] == "active"
    task_begin(task_id=scene.task("T6").id, session_id=uuid.uuid4())
    task_update_status(task_id=scene.task("T6").id, status=TaskStatus.FAILED, attempts=3)
    plan_update_status(plan_id=scene.plan.id, status=PlanStatus.FAILED)
    assert scene.edit({**named, "title": "Parse"}).json()["status"] == "failed"
    assert scene.edit({"op": "skip_task", "key": "T6"}).json()["status"] == "done"


def test_a_version_that_waits_or_was_approved_stays_so(scene: Scene) -> None:
    plan_update_status(plan_id=scene.plan.id, status=PlanStatus.WAITING)
    waiting = scene.edit({"op": "skip_task", "key": "T3"}).json()
    assert (waiting["status"], waiting["version"], waiting["approved_version"]) == ("waiting", 2, None)
    Plan.objects.filter(id=scene.plan.id).update(status=PlanStatus.ACTIVE, approved_version=2)
    changed = scene.edit({"op": "unskip_task", "key": "T3"}).json()
    assert (changed["version"], changed["approved_version"]) == (3, 3), "who changes it lets it through"


def test_tasks_one_by_one(scene: Scene) -> None:
    client = client_for(scene.member)
    body = {"feature": str(scene.feature("F2").id), "title": "Say what", "depends_on": ["T3"], "before": "T3"}
    refused = client.post("/api/planning/tasks/", {**body, "after": "T3"})
    assert refused.status_code == 400 and "before or after" in refused.json()["detail"]
    made = client.post("/api/planning/tasks/", body)
    assert (made.status_code, made.json()["key"], made.json()["position"]) == (201, "T5", 0)
    address = f"/api/planning/tasks/{made.json()['id']}/"
    changed = client.patch(address, {"title": "Say what it is", "feature": str(scene.feature("F4").id), "version": 2})
    assert changed.status_code == 200, changed.json()
    assert (changed.json()["title"], changed.json()["feature"]) == ("Say what it is", str(scene.feature("F4").id))
    assert client.patch(address, {"version": 2, "title": "x"}).status_code == 409
    assert client.patch(address, {}).status_code == 400
    assert client.patch(address, {"tilte": "x"}).json()["errors"].keys() == {"tilte"}
    assert client.patch(address, {"checks": [{"cmd": "x"}]}).status_code == 400
    assert client.patch(address, {"feature": str(uuid.uuid4())}).status_code == 400

    held = client.patch(address, {"blocked_reason": "wait"}).json()
    assert (held["status"], held["blocked_reason"]) == ("blocked", "wait")
    assert client.patch(address, {"blocked_reason": ""}).json()["status"] == "pending"
    assert client.post(f"{address}skip/", {"reason": "later"}).json()["status"] == "skipped"
    assert client.post(f"{address}skip/").json()["status"] == "skipped"
    assert client.post(f"{address}unskip/").json()["status"] == "pending"
    assert client.post(f"{address}skip/", {"x": 1}).status_code == 400

    parts = client.post(f"{address}split/", {"parts": [{"title": "One"}, {"title": "Two", "files": ["a.py"]}]})
    assert parts.status_code == 200, parts.json()
    first, second = parts.json()
    assert (first["depends_on"], second["depends_on"], second["files"]) == (["T3"], [first["key"]], ["a.py"])
    assert client.get(address).status_code == 404
    assert client.post(f"/api/planning/tasks/{first['id']}/split/", {"parts": [{"title": "a"}]}).status_code == 400
    needed = client.delete(f"/api/planning/tasks/{first['id']}/")
    assert needed.status_code == 400 and second["key"] in needed.json()["detail"]
    assert client.delete(f"/api/planning/tasks/{first['id']}/?cascade=true&version=1").status_code == 409
    assert client.delete(f"/api/planning/tasks/{first['id']}/?cascade=true&reason=enough").status_code == 204
    assert scene.task(second["key"]).depends_on == []
    assert PlanVersion.objects.filter(plan=scene.plan).last().reason == "enough"  # type: ignore[union-attr]


def test_features_one_by_one(scene: Scene) -> None:
    client = client_for(scene.member)
    body = {"project": str(scene.project.id), "plan": str(scene.plan.id), "title": "Colours"}
    made = client.post("/api/planning/features/", {**body, "parent": str(scene.feature("F1").id), "before": "F2"})
    assert (made.status_code, made.json()["key"], made.json()["position"]) == (201, "F3", 1)
    assert made.json()["status"] == "pending" and made.json()["created_by"] == str(scene.member.id)
    address = f"/api/planning/features/{scene.feature('F2').id}/"
    assert client.patch(address, {"depends_on": ["F4"]}).status_code == 400, "F4 needs F1, which it is in"
    moved = client.patch(address, {"parent": None, "priority": "high", "description": "All of them."})
    assert (moved.json()["parent"], moved.json()["priority"]) == (None, "high"), moved.json()
    assert client.patch(address, {"blocked_reason": "not yet"}).json()["status"] == "blocked"
    assert scene.statuses()["T3"] == "blocked"
    assert client.delete(f"/api/planning/features/{scene.feature('F1').id}/").status_code == 400, "F4 depends on it"
    assert client.delete(f"/api/planning/features/{scene.feature('F1').id}/?cascade=true").status_code == 204
    assert scene.statuses().keys() == {"T3", "T4"}
    assert client.post("/api/planning/features/", {**body, "colour": "red"}).json()["errors"].keys() == {"colour"}
    assert client.post("/api/planning/features/", {**body, "plan": str(uuid.uuid4())}).status_code == 400


def test_features_without_a_plan(scene: Scene) -> None:
    body = {"project": str(scene.project.id), "title": "Colours", "priority": "low"}
    client = client_for(scene.member)
    made = client.post("/api/planning/features/", body).json()
    assert (made["plan"], made["priority"], made["status"]) == (None, "low", "pending")
    refused = client.post("/api/planning/features/", {**body, "key": "F9"})
    assert refused.status_code == 400 and "key" in refused.json()["detail"]
    address = f"/api/planning/features/{made['id']}/"
    assert client.patch(address, {"effort": "large"}).json()["effort"] == "large"
    assert client.patch(address, {"depends_on": ["F1"]}).status_code == 400
    refused = client.post("/api/planning/tasks/", {"feature": made["id"], "title": "t"})
    assert (refused.status_code, refused.json()["state"]) == (409, "no_plan")
    another = user_make()
    scene.project.memberships.create(user=another, role="member")
    assert client_for(another).delete(address).status_code == 403
    assert client_for(scene.owner).delete(address).status_code == 204


def test_versions_are_compared_and_put_back(scene: Scene) -> None:
    scene.edit({"op": "update_task", "key": "T2", "title": "A grammar"}, {"op": "skip_task", "key": "T3"})
    scene.done("T1")
    scene.edit({"op": "remove_feature", "key": "F4"})
    client = client_for(scene.viewer)
    found = client.get(f"{scene.address}diff/").json()
    assert (found["from"], found["to"]) == (2, 3)
    assert found["text"].splitlines() == ["- feature F4 Print", "- task T4 Printer (was in F4)"]
    both = client.get(f"{scene.address}diff/", {"from": 3, "to": 1}).json()
    assert "~ task T2: title\n    -A grammar\n    +Grammar\n" in both["text"] and "+ task T4 Printer" in both["text"]
    assert client.get(f"{scene.address}diff/", {"from": 9}).status_code == 404
    assert client.get(f"{scene.address}diff/", {"from": "x"}).status_code == 400
    assert client.get(f"{scene.address}versions/2/").json()["document"]["features"][1]["key"] == "F4"
    assert client.get(f"{scene.address}versions/7/").status_code == 404

    writer = client_for(scene.member)
    assert writer.post(f"{scene.address}restore/", {"version": 9}).status_code == 404
    assert writer.post(f"{scene.address}restore/", {"version": 1, "expected": 2}).status_code == 409
    restored = writer.post(f"{scene.address}restore/", {"version": 1, "expected": 3})
    assert restored.json()["version"] == 4, restored.json()
    assert scene.statuses() == {"T1": "done", "T2": "pending", "T3": "pending", "T4": "pending"}
    assert scene.task("T2").title == "Grammar"
    newest = client.get(f"{scene.address}versions/").json()["results"][0]
    assert newest["reason"] == "version 1 was put back"


def test_progress_says_what_waits_and_why(scene: Scene) -> None:
    scene.done("T1")
    task_begin(task_id=scene.task("T2").id, session_id=uuid.uuid4())
    task_update_status(task_id=scene.task("T2").id, status=TaskStatus.FAILED, attempts=3)
    progress = client_for(scene.viewer).get(f"{scene.address}progress/").json()
    assert (progress["done"], progress["total"], progress["version"], progress["sessions"]) == (1, 4, 1, [])
    shown = {
        task["key"]: (task["status"], task["needs"], task["blocked_reason"])
        for feature in progress["features"]
        for task in feature["tasks"]
    }
    assert shown["T4"] == ("blocked", ["T1", "T2", "T3"], "T2, which it needs, failed")
    assert progress["estimate"]["tasks"] == 3, "what is done takes nothing more"
    assert [(feature["key"], feature["depth"], feature["status"]) for feature in progress["features"]] == [
        ("F1", 0, "failed"),
        ("F2", 1, "pending"),
        ("F4", 0, "blocked"),
    ]
    listed = client_for(scene.viewer).get("/api/planning/features/").json()["results"]
    assert [feature["status"] for feature in listed] == ["failed", "pending", "blocked"], "as the progress has it"


def test_plans_are_found_by_status_and_words(scene: Scene) -> None:
    plan_update_status(plan_id=scene.plan.id, status=PlanStatus.WAITING)
    client = client_for(scene.viewer)
    for query, count in (
        ({"status": "waiting"}, 1),
        ({"status": "active"}, 0),
        ({"q": "print CALCULATOR"}, 1),
        ({"q": "print rocket"}, 0),
        ({"q": ""}, 1),
    ):
        assert client.get("/api/planning/plans/", query).json()["count"] == count, query
    assert client.get("/api/planning/plans/", {"status": "odd"}).status_code == 400


def test_viewers_read_and_others_know_nothing(scene: Scene) -> None:
    task, feature = f"/api/planning/tasks/{scene.task('T3').id}/", f"/api/planning/features/{scene.feature('F2').id}/"
    skip = {"operations": [{"op": "skip_task", "key": "T3"}]}
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("patch", scene.address, skip),
        ("post", f"{scene.address}restore/", {"version": 1}),
        ("post", "/api/planning/tasks/", {"feature": str(scene.feature("F2").id), "title": "t"}),
        ("patch", task, {"title": "t"}),
        ("delete", task, {}),
        ("post", f"{task}skip/", {}),
        ("post", f"{task}unskip/", {}),
        ("post", f"{task}split/", {"parts": [{"title": "a"}, {"title": "b"}]}),
        ("patch", feature, {"title": "t"}),
        ("delete", feature, {}),
    ]
    for method, address, body in requests:
        assert getattr(client_for(scene.viewer), method)(address, body).status_code == 403, (method, address)
        stranger = getattr(client_for(user_make()), method)(address, body).status_code
        assert stranger == (400 if address == "/api/planning/tasks/" else 404), (method, address)
    assert PlanVersion.objects.filter(plan=scene.plan).count() == 1


def test_a_plan_goes_out_as_markdown_and_comes_back(scene: Scene) -> None:
    scene.done("T1")
    client = client_for(scene.member)
    address = f"{scene.address}markdown/"
    answer = client_for(scene.viewer).get(address)
    text = answer.content.decode()
    assert answer.headers["Content-Type"].startswith("text/markdown") and "Grammar" in text
    assert client.get(address, headers={"accept": "application/json"}).json() == {"markdown": text}

    spoilt = text.replace("Grammar", "Grammaire é").encode("latin-1", "replace")
    latin = client.put(address, spoilt, content_type="text/markdown")
    assert (latin.status_code, latin.json()["next_step"]) == (400, "save it as UTF-8"), "no word is guessed at"
    same = client.put(address, {"markdown": text})
    assert (same.status_code, same.json()["version"]) == (200, 1), "nothing was changed"
    other = text.replace("Grammar", "A grammar")
    changed = client.put(address, {"markdown": other, "reason": "by hand"})
    assert (changed.status_code, changed.json()["version"]) == (200, 2), changed.json()
    assert scene.task("T2").title == "A grammar"
    version = client.get(f"{scene.address}versions/").json()["results"][0]
    assert (version["source"], version["reason"]) == ("import", "by hand")
    stale = client.put(address, {"markdown": text.replace("Printer", "Writer")})
    assert (stale.status_code, stale.json()["state"]) == (409, "plan_changed"), "it was made from version 1"
    forced = client.put(address, {"markdown": text.replace("Printer", "Writer"), "version": 2})
    assert (forced.status_code, scene.task("T4").title, scene.task("T2").title) == (200, "Writer", "Grammar")
    raw = client.generic("PUT", f"{address}?version=3&reason=raw", other, content_type="text/markdown")
    assert (raw.status_code, raw.json()["version"]) == (200, 4), raw.content

    begun = client.put(address, {"markdown": text.replace("Lexer", "Scanner"), "version": 4})
    assert (begun.status_code, begun.json()["problems"][0]["code"]) == (400, "started")
    broken = client.put(address, {"markdown": text + "\n- [ ] T9: x\n  - needs: T77\n", "version": 4})
    assert broken.status_code == 400 and "T77" in broken.json()["detail"]
    elsewhere = client.put(address, {"markdown": text.replace(str(scene.plan.id), str(uuid.uuid4()))})
    assert elsewhere.status_code == 400
    assert client_for(scene.viewer).put(address, {"markdown": text}).status_code == 403
    assert client.put(address, {"markdown": text, "x": 1}).json()["errors"].keys() == {"x"}


def test_a_new_plan_of_markdown_waits(scene: Scene) -> None:
    text = client_for(scene.member).get(f"{scene.address}markdown/").content.decode()
    body = {"project": str(scene.project.id), "markdown": text}
    made = client_for(scene.member).post("/api/planning/plans/import/", body)
    assert made.status_code == 201, made.json()
    assert made.json()["id"] != str(scene.plan.id)
    assert (made.json()["status"], made.json()["goal"]) == ("waiting", "Read and print")
    assert [feature["key"] for feature in made.json()["features"]] == ["F1", "F2", "F4"]
    assert PlanVersion.objects.get(plan=made.json()["id"]).author == scene.member
    for user, code in ((scene.viewer, 403), (user_make(), 404)):
        assert client_for(user).post("/api/planning/plans/import/", body).status_code == code
    empty = client_for(scene.member).post("/api/planning/plans/import/", {**body, "markdown": "# Nothing\n"})
    assert empty.status_code == 400


def test_a_plan_is_drawn(scene: Scene) -> None:
    scene.done("T1")
    client, address = client_for(scene.viewer), f"{scene.address}diagram/"
    source = client.get(address).json()["mermaid"]
    assert source.startswith("flowchart") and "Grammar" in source and "done" in source
    plain = client.get(address, headers={"accept": "text/plain"})
    assert plain.headers["Content-Type"].startswith("text/plain") and plain.content.decode() == source
    missing = client_for(user_make()).get(address, headers={"accept": "text/plain"})
    assert missing.status_code == 404 and missing.json()["code"] == "not_found"


def test_nothing_is_left_of_a_plan_that_is_done(scene: Scene) -> None:
    for key in ("T1", "T2", "T3", "T4"):
        scene.done(key)
    progress = client_for(scene.viewer).get(f"{scene.address}progress/").json()
    assert (progress["done"], progress["estimate"]) == (4, {})


def test_a_decision_with_a_misspelt_member_decides_nothing(scene: Scene) -> None:
    client = client_for(scene.member)
    plan_update_status(plan_id=scene.plan.id, status=PlanStatus.WAITING)
    for decision, body in (
        ("reject", {"version": 1, "coment": "Leave it"}),
        ("approve", {"version": 1, "auto": "ask"}),
    ):
        answer = client.post(f"{scene.address}{decision}/", body)
        assert (answer.status_code, len(answer.json()["errors"])) == (400, 1), answer.content
    assert Plan.objects.get(id=scene.plan.id).status == "waiting"
    assert client.post(f"{scene.address}reject/", {"version": 1}).status_code == 200
    late = client.post(f"{scene.address}approve/", {"version": 1}).json()
    assert (late["state"], late["next_step"]) == ("rejected", "change it, or have it revised")


def test_a_new_task_gets_no_key_that_the_plan_had_before(scene: Scene) -> None:
    assert (
        scene.edit({"op": "remove_task", "key": "T4"}, {"op": "add_task", "title": "New"}).status_code == 400
    ), "where?"
    parts = [{"title": "One"}, {"title": "Two"}]
    split = client_for(scene.member).post(f"/api/planning/tasks/{scene.task('T3').id}/split/", {"parts": parts})
    assert [task["key"] for task in split.json()] == ["T5", "T6"]
    assert scene.edit({"op": "add_task", "feature": "F2", "title": "Three"}).status_code == 200
    body = {"feature": str(scene.feature("F2").id), "title": "Four"}
    added = client_for(scene.member).post("/api/planning/tasks/", body)
    assert (scene.task("T7").title, added.json()["key"]) == ("Three", "T8"), "T3 was another task"
    back = client_for(scene.member).post(f"{scene.address}restore/", {"version": 1})
    assert back.status_code == 200 and scene.task("T3").title == "Say where"

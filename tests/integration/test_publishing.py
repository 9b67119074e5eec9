"""A session's branch goes to its origin with a pull request, on request, once however often it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.agents.models import AgentSession, Publication
from apps.agents.services.publish_jobs import publish_execute
from apps.agents.services.publishing import publication_wanted_list
from apps.projects.models import Membership, Project
from tests.api import client_for, user_make
from tests.builders import git
from tests.integration.publish_scene import NAME, TOKEN, Scene, commit_make, publish_scene, session_ended
from tests.integration.session_scene import events_of
from tests.loopback.forge_server import PullRequest
from tests.loopback.json_server import Answer

pytestmark = pytest.mark.django_db(transaction=True)

KINDS = ["github", "gitlab", "gitea"]


@pytest.fixture
def scene(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> Iterator[Scene]:
    """On GitHub, unless a test says otherwise."""
    with publish_scene(getattr(request, "param", "github"), tmp_path, settings) as scene:
        yield scene
        assert scene.forge.refused == []


@pytest.mark.parametrize("scene", KINDS, indirect=True)
def test_pushed_and_opened_and_again_is_the_same(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    asked = scene.asked()
    assert (asked["state"], asked["url"]) == ("wanted", "")
    assert scene.repository.pulls == [] and publication_wanted_list() == [Publication.objects.get().id]
    told = scene.carried_out()
    branch = f"archon/{str(scene.session.id)[:8]}-handle-empty-input-in-the-parser-and"
    assert (told["state"], told["reason"], told["branch"]) == ("done", None, branch), told
    assert scene.head(branch) == scene.session.head_commit
    [pull] = scene.repository.pulls
    assert (pull.head, pull.base, pull.title) == (branch, "main", "Handle empty input in the parser, and say so")
    assert not pull.draft and "Outcome: **verified**" in pull.body and f"git fetch origin {branch}" in pull.body
    assert (told["number"], told["is_draft"], told["forge"]) == (1, False, scene.forge.kind)
    assert told["url"].startswith(f"{scene.forge.url}/{NAME}/") and told["url"].endswith("/1")
    published = {"branch": branch, "commit": scene.session.head_commit, "url": told["url"]}
    assert [event.payload for event in events_of(scene.session.id, "SessionPublished")] == [published]

    # Somebody reads it, and writes to it.
    pull.title, pull.body = "Empty input", f"Closes nothing.\n\n{pull.body}\n\nThanks!"
    more = scene.commit_more()
    again = scene.published()
    assert (again["state"], again["number"], scene.head(branch)) == ("done", 1, more)
    assert [pull.number for pull in scene.repository.pulls] == [1]
    assert pull.title == "Empty input" and pull.body.count("Outcome: **verified**") == 1
    assert pull.body.startswith("Closes nothing.") and pull.body.endswith("Thanks!") and more[:10] in pull.body
    seen = [*caplog.messages, again, [event.payload for event in events_of(scene.session.id)], pull.body]
    assert TOKEN not in repr(seen) and "CANARY" not in repr(list(Project.objects.values()))


@pytest.mark.parametrize("scene", KINDS, indirect=True)
def test_one_that_people_opened_is_found_among_many_and_keeps_their_words(scene: Scene) -> None:
    branch = "fix/empty"
    for number in range(1, 8):
        same = number == 2
        name = f"branch-{number}" if not same else branch
        # A fork's branch of that name is another one.
        for repository in (NAME, "fork/app") if same else (NAME,):
            scene.repository.pulls.append(
                PullRequest(len(scene.repository.pulls) + 1, name, "main", "By hand", "Mine.", repository=repository)
            )
    scene.repository.pulls[0].state = "closed"
    scene.forge.page_size = 3
    told = scene.published(branch=branch, title="Better: a title")
    assert (told["state"], told["number"]) == ("done", 2), told
    found = scene.repository.pulls[1]
    assert found.title == "Better: a title" and found.body.startswith("Mine.\n\n<!-- archon:report ")
    assert len(scene.repository.pulls) == 8


@pytest.mark.parametrize("scene", KINDS, indirect=True)
def test_what_is_not_verified_is_a_draft_unless_said_otherwise(scene: Scene) -> None:
    AgentSession.objects.update(outcome="unverified")
    assert scene.published()["is_draft"] is True
    [pull] = scene.repository.pulls
    assert pull.draft
    # One that people made ready stays so; said so, it is made one again where the API can.
    pull.draft, pull.title = False, "Ready"
    assert scene.published()["is_draft"] is False and pull.title == "Ready"
    told = scene.published(draft=True)
    if scene.forge.kind == "github":
        assert (told["is_draft"], pull.draft) == (False, False) and "do so there" in told["notice"]
    else:
        assert (told["is_draft"], pull.draft) == (True, True) and told["notice"] == ""


def test_a_repository_without_drafts(scene: Scene) -> None:
    AgentSession.objects.update(outcome="unverified")
    scene.repository.drafts = False
    told = scene.published(draft=True)
    assert told["state"] == "failed" and "draft: false" in told["reason"]["next_step"]
    told = scene.published()
    assert (told["state"], told["is_draft"]) == ("done", False) and "no drafts" in told["notice"]


@pytest.mark.parametrize("scene", KINDS, indirect=True)
def test_tokens_that_are_no_good_or_not_enough(scene: Scene) -> None:
    forge = f"/api/projects/{scene.project.id}/forge/"
    setting = {"kind": scene.forge.kind, "api_url": scene.forge.api_url}
    answer = scene.client.put(forge, {**setting, "token": "wrong-CANARY"}).json()
    assert (answer["has_token"], answer["token_from"]) == (True, "project") and "CANARY" not in repr(answer)
    told = scene.published()
    reason = told["reason"]
    assert (told["state"], reason["code"]) == ("failed", "forge_refused") and "does not accept" in reason["message"]
    assert "archon forge" in reason["next_step"] and "CANARY" not in repr(told)
    # The branch is there: only the pull request is missing.
    assert scene.head(told["branch"]) == scene.session.head_commit
    [failed] = events_of(scene.session.id, "PublishFailed")
    assert failed.payload == reason
    scene.client.put(forge, {**setting, "token": scene.forge.weak_token})
    reason = scene.published()["reason"]
    assert "does not let it do this" in reason["message"] and "right" in reason["next_step"]
    assert scene.forge.weak_token not in repr(list(Publication.objects.values()))
    scene.client.put(forge, {**setting, "token": TOKEN})
    assert scene.published()["state"] == "done"
    assert scene.client.put(forge, setting).json()["token_from"] == "project", "left as it was"
    # It goes to no other place than it was given for.
    elsewhere = scene.client.put(forge, {**setting, "api_url": "https://forge.example.com/api/v4"}).json()
    assert (elsewhere["has_token"], elsewhere["problem"] != "") == (False, True)


@pytest.mark.parametrize("scene", KINDS, indirect=True)
def test_a_repository_that_is_not_there_archived_or_has_no_such_target(scene: Scene) -> None:
    known = scene.forge.repositories.pop(NAME)
    reason = scene.published()["reason"]
    assert reason["code"] == "forge_refused" and "no such repository" in reason["message"]
    scene.forge.repositories[NAME] = known
    known.archived = True
    assert scene.published()["state"] == "failed"
    known.archived = False
    reason = scene.published(target="nowhere")["reason"]
    assert "no branch nowhere" in reason["message"] and "target" in reason["next_step"]
    told = scene.published(target="main")
    assert (told["state"], len(known.pulls)) == ("done", 1), told


def test_a_repository_that_was_renamed_is_not_followed(scene: Scene) -> None:
    scene.repository.moved_to = "77"
    reason = scene.published()["reason"]
    assert reason["code"] == "forge_refused" and "elsewhere" in reason["message"] and "source" in reason["next_step"]


def test_a_moved_branch_is_left_and_our_own_is_moved(scene: Scene) -> None:
    branch = "fix/empty"
    assert scene.published(branch=branch)["state"] == "done"
    # Rewritten by the session: what it put there itself is moved with force.
    rewritten = scene.commit_more(onto=scene.project.head_commit)
    assert scene.published(branch=branch)["state"] == "done" and scene.head(branch) == rewritten
    theirs = commit_make(scene.origin, rewritten, {"theirs.txt": "x"})
    git(scene.origin, "update-ref", f"refs/heads/{branch}", theirs)
    scene.commit_more()
    told = scene.published()
    assert (told["state"], told["reason"]["code"]) == ("failed", "branch_moved"), told
    assert "--branch" in told["reason"]["next_step"] and scene.head(branch) == theirs
    other = scene.published(branch="fix/empty-2")
    assert (other["state"], scene.head("fix/empty-2"), scene.head(branch)) == (
        "done",
        scene.session.head_commit,
        theirs,
    )


def test_a_branch_of_others_is_never_forced_and_one_that_we_build_on_moves_on(scene: Scene) -> None:
    base = scene.project.head_commit
    git(scene.origin, "update-ref", "refs/heads/waiting", base)
    git(scene.origin, "update-ref", "refs/heads/other", commit_make(scene.origin, base, {"other.txt": "x"}))
    before = scene.head("other")
    reason = scene.published(branch="other")["reason"]
    assert reason["code"] == "branch_moved" and "already" in reason["message"] and scene.head("other") == before
    assert scene.published(branch="waiting")["state"] == "done"
    assert scene.head("waiting") == scene.session.head_commit


def test_a_protected_branch_and_a_key_that_only_reads(scene: Scene) -> None:
    hook = scene.origin / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'GitLab: You are not allowed to push code to protected branches.'\nexit 1\n")
    hook.chmod(0o755)
    reason = scene.published(pull_request=False)["reason"]
    assert reason["code"] == "push_refused" and "protected branches" in reason["message"]
    assert "--branch" in reason["next_step"]
    hook.unlink()
    scene.git.read_only.add("team")
    reason = scene.published(pull_request=False)["reason"]
    assert reason["code"] == "push_refused" and "write" in reason["next_step"], reason
    scene.git.read_only.clear()
    told = scene.published(pull_request=False)
    assert (told["state"], told["url"], scene.repository.pulls) == ("done", "", [])


def test_a_forge_that_has_enough_is_waited_for_but_not_for_long(scene: Scene) -> None:
    limited = {"message": "You have exceeded a secondary rate limit."}
    scene.forge.failures.append(Answer(403, limited, (("Retry-After", "120"),)))
    told = scene.published()
    assert (told["state"], told["reason"]["code"]) == ("wanted", "forge_limited"), told
    row = Publication.objects.get()
    assert row.retry_at is not None and timedelta(seconds=100) < row.retry_at - timezone.now() < timedelta(seconds=121)
    assert publication_wanted_list() == [], "not before its time"
    Publication.objects.update(retry_at=timezone.now())
    assert publication_wanted_list() == [row.id]
    assert scene.carried_out()["state"] == "done"
    scene.forge.failures.append(Answer(429, {"message": "x"}, (("Retry-After", "7200"),)))
    told = scene.published()
    assert told["state"] == "failed" and "120 minutes" in told["reason"]["next_step"]
    scene.forge.failures.append(Answer(502, b"<html>bad gateway</html>"))
    told = scene.published()
    assert (told["state"], told["reason"]["code"]) == ("wanted", "forge_unavailable")


@pytest.mark.parametrize("at", ["pushed", "opened"])
def test_a_worker_that_dies_is_followed_and_nothing_is_done_twice(scene: Scene, at: str) -> None:
    """What it did is there, what it would have written isn't: as if it had been killed in between."""
    scene.asked()
    before = Publication.objects.values().get()
    assert scene.carried_out()["state"] == "done"
    written = ("pushed_url", "pushed_branch", "pushing_commit") if at == "pushed" else ()
    kept = {name: getattr(Publication.objects.get(), name) for name in written if name != "pushing_commit"}
    kept |= {"pushing_commit": scene.session.head_commit} if written else {}
    past = timezone.now() - timedelta(seconds=1)
    Publication.objects.update(**{**before, **kept, "state": "running", "lease_until": past})
    if at == "pushed":
        scene.repository.pulls.clear()
        # The session went on meanwhile, on another base: what is there is known as ours.
        more = scene.commit_more(onto=scene.project.head_commit)
        scene.asked()
        assert scene.carried_out()["state"] == "done" and scene.head(before["branch"]) == more
    else:
        assert publication_wanted_list() == [before["id"]]
        assert scene.carried_out()["state"] == "done"
    assert len(scene.repository.pulls) == 1


@pytest.mark.parametrize("scene", KINDS, indirect=True)
def test_an_answer_that_is_lost_after_the_opening_opens_no_second_one(scene: Scene) -> None:
    def lose(pull: PullRequest) -> None:
        raise ConnectionResetError

    scene.forge.opened = lose
    told = scene.published()
    assert told["state"] == "wanted" and told["reason"]["code"] == "forge_unavailable" and told["reason"]["next_step"]
    # It has not been waited long enough yet.
    assert scene.carried_out()["state"] == "wanted" and len(scene.repository.pulls) == 1
    Publication.objects.update(retry_at=None)
    told = scene.carried_out()
    assert (told["state"], told["number"], len(scene.repository.pulls)) == ("done", 1, 1), told
    assert len(events_of(scene.session.id, "SessionPublished")) == 1


def test_who_lost_the_lease_has_no_say(scene: Scene) -> None:
    entered, leave = threading.Event(), threading.Event()

    def opened(pull: PullRequest) -> None:
        entered.set()
        assert leave.wait(60)

    def run() -> None:
        try:
            publish_execute(publication_id=Publication.objects.get().id)
        finally:
            connection.close()

    scene.forge.opened = opened
    scene.asked()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert entered.wait(60)
        row = Publication.objects.get()
        assert (row.state, publication_wanted_list()) == ("running", [])
        publish_execute(publication_id=row.id)
        assert Publication.objects.get().fence == row.fence, "another worker left it alone"
        assert scene.asked()["state"] == "running", "the same again changes nothing"
        changed = scene.asked(title="Another")
        assert changed["state"] == "wanted" and Publication.objects.get().fence == row.fence + 1
    finally:
        leave.set()
        thread.join(60)
    assert Publication.objects.get().state == "wanted" and events_of(scene.session.id, "SessionPublished") == []
    told = scene.carried_out()
    assert (told["state"], [pull.title for pull in scene.repository.pulls]) == ("done", ["Another"])


def test_what_is_refused_at_once(scene: Scene) -> None:
    def state_of(**members: Any) -> tuple[int, str]:
        answer = scene.client.post(scene.address, {"pull_request": True, **members})
        return answer.status_code, answer.json().get("state") or answer.json()["code"]

    assert scene.client.get(scene.address).json()["state"] == "not_published"
    viewer = user_make()
    Membership.objects.create(project=scene.project, user=viewer, role="viewer")
    assert client_for(viewer).post(scene.address, {}).status_code == 403
    assert client_for(viewer).get(f"/api/projects/{scene.project.id}/forge/").status_code == 200
    assert client_for(viewer).put(f"/api/projects/{scene.project.id}/forge/", {}).status_code == 403
    for branch in ("main", "-x", "a..b", "a b", "x.lock", "refs/tags/.x", "$(id)", "x" * 300):
        assert state_of(branch=branch)[0] == 400, branch
    for name, value, expected in (
        ("outcome", "failing", "failing"),
        ("head_commit", scene.session.base_commit, "unchanged"),
        ("discarded_at", timezone.now(), "discarded"),
    ):
        former = getattr(scene.session, name)
        AgentSession.objects.update(**{name: value})
        assert state_of() == (409, expected)
        AgentSession.objects.update(**{name: former})
    AgentSession.objects.update(outcome="failing")
    assert state_of(allow_failing=True) == (202, "wanted")
    AgentSession.objects.update(status="running", finished_at=None)
    assert state_of() == (409, "running")
    assert scene.carried_out()["reason"]["code"] == "conflict", "and it is not carried out any more"
    assert scene.head(f"archon/{str(scene.session.id)[:8]}") == ""


def test_without_a_forge_a_token_or_a_source(scene: Scene) -> None:
    def told(**members: Any) -> str:
        return str(scene.client.post(scene.address, members).json()["state"])

    forge = f"/api/projects/{scene.project.id}/forge/"
    scene.client.put(forge, {})
    assert told(pull_request=True) == "no_forge" and told() == "wanted", "pushing alone takes none"
    problem = scene.client.get(forge).json()
    assert "kind of forge" in problem["problem"] and "--kind" in problem["next_step"]
    scene.client.patch(f"/api/projects/{scene.project.id}/repository/source/", {"token": ""})
    scene.client.put(forge, {"kind": "gitlab"})
    assert told(pull_request=True) == "no_forge_token"
    for address in ("http://forge.example.com/api/v4", "https://me:pw@forge.example.com", "ftp://x", "https://"):
        assert scene.client.put(forge, {"kind": "gitlab", "api_url": address}).status_code == 400, address
    scene.client.delete(f"/api/projects/{scene.project.id}/repository/source/")
    assert told() == "no_source"


def test_a_private_address_is_not_reached(scene: Scene, settings: Any) -> None:
    settings.ARCHON_PRIVATE_HOSTS = [f"127.0.0.1:{scene.git.port}"]
    count = len(scene.forge.asked)
    forge = f"/api/projects/{scene.project.id}/forge/"
    scene.client.put(forge, {"kind": "gitlab", "api_url": "https://localhost/api/v4", "token": TOKEN})
    reason = scene.published()["reason"]
    assert reason["code"] == "address_refused" and "not public" in reason["message"]
    assert len(scene.forge.asked) == count


def test_sessions_of_one_project_have_branches_of_their_own(scene: Scene) -> None:
    other = session_ended(scene.user, scene.project, goal="  \n# Füge Größe hinzu: §$%&/()!  ")
    mine = scene.published()["branch"]
    answer = scene.client.post(f"/api/agents/sessions/{other.id}/publish/", {}).json()
    assert answer["branch"] == f"archon/{str(other.id)[:8]}-fuge-groe-hinzu" and answer["branch"] != mine

"""Calls that a person has to approve: asked once, decided once, carried out once, whoever dies in between."""

from __future__ import annotations

import datetime
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from apps.agents.models import AgentSession, PolicyRule, ToolCall
from apps.agents.presenters import session_present
from apps.agents.services.approvals import Approval, session_approve, session_autonomy_set
from apps.agents.services.master_orchestrator import SessionRequest, session_cancel, session_start
from apps.agents.services.policy_rules import RuleFields, policy_rule_create
from apps.agents.tools.policy import call_digest
from apps.agents.types import AgentType, ApprovalDecision, PolicyEffect
from apps.authentication.models import User
from apps.core.errors import Conflict, InvalidInput, NotFound
from apps.projects.autonomy import Autonomy
from apps.projects.git import git_run
from apps.projects.models import Project
from apps.projects.repository import repository_path
from apps.usage.choices import ModelConfiguration
from tests.integration.session_scene import (
    LIMITS,
    Cut,
    events_of,
    lease_let_run_out,
    messages_of,
    project_make,
    recording_write,
    session_run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

FILES = {"a.txt": "one\n", "secrets/key.pem": "k\n"}
COMMAND = "echo once >> log.txt"


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", FILES)


def start(
    scene: tuple[User, Project],
    *calls: tuple[str, Mapping[str, Any]],
    autonomy: Autonomy | None = Autonomy.ASK,
) -> AgentSession:
    """A session whose coder makes these calls, one a step, and then finishes; run until it waits or ends."""
    return session_run(begin(scene, calls, autonomy=autonomy).id)


def begin(
    scene: tuple[User, Project],
    calls: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    autonomy: Autonomy | None = Autonomy.ASK,
) -> AgentSession:
    user, project = scene
    request = SessionRequest(
        project_id=project.id,
        goal="make it work",
        limits=LIMITS,
        limit_seconds=600,
        agent_type=AgentType.CODER,
        models=ModelConfiguration(model=recording_write(_entries(calls))),
        checks=("true",),
        autonomy=autonomy,
    )
    return session_start(user=user, request=request, execute=True)


def _entries(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One reply with all the calls, and then the end."""
    return [
        {"when": {"not_seen": [f"^{calls[0][0]} "]}, "reply": {"text": "", "tool_calls": _proposed(calls)}},
        {"when": {}, "reply": {"text": "", "tool_calls": _proposed([("finish", {"summary": "done"})])}},
    ]


def _proposed(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    return [{"name": name, "args": dict(arguments)} for name, arguments in calls]


def waiting(session: AgentSession) -> ToolCall:
    assert session.status == "waiting_approval", (session.status, session.reason)
    return ToolCall.objects.get(session=session, status="waiting")


def asked(call: ToolCall) -> dict[str, Any]:
    assert call.approval is not None
    found: dict[str, Any] = call.approval
    return found


def decide(user: User, session: AgentSession, decision: str, **more: Any) -> AgentSession:
    call = waiting(session)
    approval = Approval(call.id, ApprovalDecision(decision), asked(call)["digest"], **more)
    return session_approve(user=user, session_id=session.id, approval=approval)


def results(session: AgentSession) -> list[str]:
    return [str(message["data"]["content"]) for _, message in messages_of(session.id) if message["type"] == "tool"]


def committed(session: AgentSession, path: str) -> bytes | None:
    found = git_run(
        "cat-file", "blob", f"refs/heads/{session.branch}:{path}",
        git_dir=repository_path(project_id=session.project_id), accepted=(0, 128),
    )  # fmt: skip
    return found.stdout if found.returncode == 0 else None


def test_a_call_waits_is_approved_and_made_once(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = start(scene, ("read_file", {"path": "a.txt"}), ("run_command", {"command": COMMAND}))
    shown = session_present(session)["approval"]
    assert (shown["name"], shown["arguments"], shown["risk"]) == ("run_command", {"command": COMMAND}, "write")
    assert shown["reasons"] == ["write: >> log.txt"]
    assert shown["digest"] == call_digest(name="run_command", arguments={"command": COMMAND})
    assert results(session)[0].strip().endswith("one"), "a read asks nobody"
    assert not session.head.wanted and session.head.lease_expires_at is None
    decide(user, session, "approve")
    # The same once more changes nothing, and another decision is refused.
    call = ToolCall.objects.get(session=session, status="approved")
    again = Approval(call.id, ApprovalDecision.APPROVE, shown["digest"])
    seq = AgentSession.objects.get(id=session.id).head.seq
    session_approve(user=user, session_id=session.id, approval=again)
    assert AgentSession.objects.get(id=session.id).head.seq == seq
    with pytest.raises(Conflict) as refused:
        session_approve(
            user=user, session_id=session.id, approval=Approval(call.id, ApprovalDecision.REJECT, shown["digest"])
        )
    assert refused.value.extra["state"] == "running"
    ended = session_run(session.id)
    assert (ended.status, ended.outcome) == ("completed", "verified"), ended.reason
    assert committed(ended, "log.txt") == b"once\n"
    told = [event.type for event in events_of(session.id) if event.type.startswith(("Approval", "Tool"))]
    assert told == [
        "ToolStarted", "ToolFinished", "ApprovalRequested", "ApprovalDecided", "ToolStarted", "ToolFinished",
        "ToolStarted", "ToolFinished",
    ]  # fmt: skip


def test_a_rejected_call_is_not_made_and_the_model_hears_why(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = start(scene, ("run_command", {"command": "rm a.txt"}))
    decide(user, session, "reject", message="keep that file")
    ended = session_run(session.id)
    assert ended.status == "completed"
    assert "rejected" in results(ended)[0] and "keep that file" in results(ended)[0]
    assert ended.head_commit in ("", ended.base_commit)


def test_an_edited_call_is_made_with_what_the_person_wrote(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = start(scene, ("write_file", {"path": "b.txt", "content": "model\n"}))
    for wrong in ({"path": "b.txt"}, {"path": "b.txt", "content": "x", "more": 1}):
        with pytest.raises(InvalidInput):
            decide(user, session, "edit", arguments=wrong)
    edited = {"path": "c.txt", "content": "person\n"}
    decide(user, session, "edit", arguments=edited)
    ended = session_run(session.id)
    assert ended.status == "completed", ended.reason
    assert committed(ended, "c.txt") == b"person\n" and committed(ended, "b.txt") is None
    assert "A person changed the arguments" in results(ended)[0] and "c.txt" in results(ended)[0]


def test_only_what_was_seen_can_be_approved(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = start(scene, ("run_command", {"command": COMMAND}))
    call = waiting(session)
    other = call_digest(name="run_command", arguments={"command": "rm -rf ."})
    with pytest.raises(Conflict) as refused:
        session_approve(user=user, session_id=session.id, approval=Approval(call.id, ApprovalDecision.APPROVE, other))
    assert refused.value.extra["state"] == "waiting_approval"
    with pytest.raises(NotFound):
        session_approve(
            user=user,
            session_id=session.id,
            approval=Approval(uuid.uuid4(), ApprovalDecision.APPROVE, asked(call)["digest"]),
        )
    assert waiting(AgentSession.objects.get(id=session.id)).id == call.id


def test_arguments_that_change_after_the_approval_are_not_carried_out(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = start(scene, ("run_command", {"command": COMMAND}))
    decide(user, session, "approve")
    ToolCall.objects.filter(session=session, status="approved").update(arguments={"command": "rm a.txt"})
    ended = session_run(session.id)
    assert "not the one that was approved" in results(ended)[0]
    assert ended.head_commit in ("", ended.base_commit)


def test_an_approval_runs_out(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = start(scene, ("run_command", {"command": COMMAND}))
    past = (timezone.now() - datetime.timedelta(seconds=1)).isoformat()
    call = waiting(session)
    ToolCall.objects.filter(id=call.id).update(approval={**asked(call), "expires_at": past})
    with pytest.raises(Conflict) as refused:
        decide(user, session, "approve")
    assert refused.value.extra["state"] == "approval_expired"
    ToolCall.objects.filter(id=call.id).update(approval=call.approval)
    decide(user, session, "approve")
    # Nobody took it up in time: it is asked for anew.
    decided = ToolCall.objects.get(id=call.id)
    ToolCall.objects.filter(id=call.id).update(approval={**asked(decided), "expires_at": past})
    session = session_run(session.id)
    assert waiting(session).id == call.id
    assert len(events_of(session.id, "ApprovalRequested")) == 2
    decide(user, session, "reject")
    assert session_run(session.id).status == "completed"


def test_always_makes_a_rule_that_lets_exactly_this_through(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = start(
        scene,
        ("run_command", {"command": COMMAND}),
        ("run_command", {"command": COMMAND}),
        ("run_command", {"command": "echo twice >> log.txt && rm a.txt"}),
    )
    decide(user, session, "approve", always=True, always_minutes=5)
    session = session_run(session.id)
    assert waiting(session).arguments == {"command": "echo twice >> log.txt && rm a.txt"}
    rule = PolicyRule.objects.get()
    assert (rule.effect, rule.tool, rule.command) == ("allow", "run_command", ">> log.txt")
    assert rule.expires_at is not None and rule.expires_at < timezone.now() + datetime.timedelta(minutes=6)
    decide(user, session, "approve")
    ended = session_run(session.id)
    assert committed(ended, "log.txt") == b"once\nonce\ntwice\n"
    assert len(events_of(session.id, "ApprovalRequested")) == 2


def test_what_cannot_be_read_gets_no_rule(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = start(scene, ("run_command", {"command": "$X y"}))
    assert asked(waiting(session))["risk"] == "unknown"
    with pytest.raises(InvalidInput):
        decide(user, session, "approve", always=True)
    assert not PolicyRule.objects.exists()
    session_cancel(user=user, session_id=session.id)
    with pytest.raises(Conflict) as refused:
        call = ToolCall.objects.get(session=session)
        session_approve(
            user=user,
            session_id=session.id,
            approval=Approval(call.id, ApprovalDecision.APPROVE, asked(call)["digest"]),
        )
    assert refused.value.extra["state"] == "cancelled"


def test_a_rule_denies_whatever_the_autonomy_is(scene: tuple[User, Project]) -> None:
    user, project = scene
    policy_rule_create(
        user=user, project_id=project.id, fields=RuleFields(PolicyEffect.DENY, path="secrets/", note="keys")
    )
    session = start(
        scene,
        ("read_file", {"path": "docs/../secrets/key.pem"}),
        ("run_command", {"command": "cat secrets/key.pem"}),
        ("run_command", {"command": "cp secrets/key.pem b && cat b"}),
        ("run_command", {"command": "ln -s secrets s"}),
        ("run_command", {"command": "cd secrets; cat key.pem"}),
        ("run_command", {"command": "cat SECRETS/KEY.PEM ; tar c ."}),
        ("run_command", {"command": "cat a.txt"}),
        autonomy=Autonomy.AUTO,
    )
    assert session.status == "completed"
    *denied, allowed, _ = results(session)
    assert all("not allowed" in text and "keys" in text for text in denied), denied
    assert allowed.startswith("one")


def test_observers_and_readers_have_no_tool_that_changes_anything(scene: tuple[User, Project]) -> None:
    session = start(
        scene,
        ("write_file", {"path": "b.txt", "content": "x"}),
        ("run_command", {"command": "touch b.txt"}),
        ("read_file", {"path": "a.txt"}),
        autonomy=Autonomy.OBSERVE,
    )
    assert (session.status, session.outcome) == ("completed", "unverified")
    write, run, read, _ = results(session)
    assert "no tool named 'write_file'" in write and "no tool named 'run_command'" in run
    assert "one" in read


def test_autonomy_changes_while_a_session_waits(scene: tuple[User, Project]) -> None:
    user, _ = scene
    session = start(
        scene, ("run_command", {"command": COMMAND}), ("run_command", {"command": COMMAND}), autonomy=Autonomy.AUTO_EDIT
    )
    session_autonomy_set(user=user, session_id=session.id, autonomy=Autonomy.AUTO)
    # What waits still waits: somebody asked for it to be looked at.
    decide(user, AgentSession.objects.get(id=session.id), "approve")
    ended = session_run(session.id)
    assert ended.status == "completed"
    assert committed(ended, "log.txt") == b"once\nonce\n"
    assert [event.payload["autonomy"] for event in events_of(session.id, "AutonomyChanged")] == ["auto"]
    with pytest.raises(Conflict):
        session_autonomy_set(user=user, session_id=session.id, autonomy=Autonomy.ASK)


def test_edits_and_checks_run_by_themselves_in_auto_edit(scene: tuple[User, Project]) -> None:
    session = start(
        scene,
        ("write_file", {"path": "b.txt", "content": "x\n"}),
        ("run_checks", {}),
        ("run_command", {"command": "cat b.txt | wc -l"}),
        ("delete_file", {"path": "b.txt"}),
        autonomy=Autonomy.AUTO_EDIT,
    )
    assert waiting(session).name == "delete_file"
    assert len(results(session)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["asking", "carrying out"])
def test_a_worker_may_die_anywhere_and_the_call_is_made_once(scene: tuple[User, Project], stage: str) -> None:
    """Cut at points of the run that asks, or of the one that carries out: never lost, never done twice."""
    whole = _with_a_death(scene, stage, Cut())
    # Those that are the gate's: the last before it waits, and those that the run begins with.
    points = range(whole - 10, whole + 1, 2) if stage == "asking" else range(4, whole, max(whole // 7, 1))
    for at in points:
        cut = Cut(at)
        _with_a_death(scene, stage, cut)
        assert cut.dead


def _with_a_death(scene: tuple[User, Project], stage: str, cut: Cut) -> int:
    """A session with one call, whose worker dies at a point; how many points there were."""
    session = begin(scene, [("run_command", {"command": COMMAND})])
    session = session_run(session.id, cut=cut if stage == "asking" else None)
    if session.status != "waiting_approval":
        lease_let_run_out(session.id)
        session = session_run(session.id)
    call = waiting(session)
    assert len(events_of(session.id, "ApprovalRequested")) == 1
    decide(scene[0], session, "approve")
    session = session_run(session.id, cut=cut if stage == "carrying out" else None)
    if session.status != "completed":
        lease_let_run_out(session.id)
        session = session_run(session.id)
    assert session.status == "completed", session.reason
    started = [event for event in events_of(session.id, "ToolStarted") if event.payload["call"] == str(call.id)]
    assert len(started) == 1
    done = committed(session, "log.txt")
    unknown = "outcome is unknown" in results(session)[0]
    assert done == b"once\n" or (done is None and unknown), done
    return cut.points

"""Calls that a person has to approve: what they are asked, and what they say.

The call's row holds both. Asking is one transaction of the worker's, which gives its lease up with it; deciding is one
of the person's, which wakes the session. Whichever worker takes it up then finds the decision in the row, and makes the
call once. An approval is bound to the name and the arguments by their digest, and it runs out.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from pydantic import ValidationError

from apps.agents.models import AgentSession, ToolCall
from apps.agents.selectors import session_get_for_user
from apps.agents.services.policy_rules import ALWAYS_MINUTES, RuleFields, policy_load, policy_rule_create
from apps.agents.services.sessions import event_append, session_lock, session_wake, state_require
from apps.agents.tools.base import Tool
from apps.agents.tools.catalogue import tool_find
from apps.agents.tools.policy import (
    Allowed,
    Verdict,
    arguments_problems,
    call_decide,
    call_digest,
    rules_from_call,
)
from apps.agents.tools.policy_paths import WorktreePaths
from apps.agents.types import TERMINAL_STATUSES, ApprovalDecision, Event, PolicyEffect, SessionStatus, ToolCallStatus
from apps.core.errors import Conflict, InvalidInput, NotFound
from apps.core.storable import json_storable, text_storable
from apps.projects.autonomy import Autonomy

if TYPE_CHECKING:
    from apps.authentication.models import User

MESSAGE_LIMIT = 10_000
REJECTED = "A person rejected this call. Don't try to reach the same in another way; do without it, or ask."


@dataclass(frozen=True)
class Approval:
    """What a person says to a call that waits."""

    call_id: uuid.UUID
    decision: ApprovalDecision
    #: Of the call that they saw.
    digest: str
    #: With ``edit``: what the call is to be made with.
    arguments: Mapping[str, Any] | None = None
    #: With ``reject``: what the model is told besides.
    message: str = ""
    #: With ``approve``: let the same call through from now on.
    always: bool = False
    always_minutes: int = ALWAYS_MINUTES


def approval_make(*, name: str, arguments: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
    """What a person is asked, as the call's row keeps it."""
    now = timezone.now()
    return {
        "digest": call_digest(name=name, arguments=arguments),
        "risk": verdict.risk.value,
        "reasons": list(verdict.reasons),
        "requested_at": now.isoformat(),
        "expires_at": (now + datetime.timedelta(seconds=settings.ARCHON_APPROVAL_SECONDS)).isoformat(),
    }


def approval_expired(approval: Mapping[str, Any]) -> bool:
    expires_at = parse_datetime(str(approval.get("expires_at", "")))
    return expires_at is None or expires_at <= timezone.now()


@transaction.atomic
def session_approve(*, user: User, session_id: uuid.UUID, approval: Approval) -> AgentSession:
    """Decide on the call that the session waits with, and let it go on. The same decision again changes nothing."""
    session_get_for_user(user=user, session_id=session_id, write=True)
    if len(approval.message) > MESSAGE_LIMIT:
        raise InvalidInput(f"the message is longer than {MESSAGE_LIMIT} characters")
    session = session_lock(session_id)
    call = ToolCall.objects.filter(id=approval.call_id, session_id=session_id, approval__isnull=False).first()
    if call is None:
        raise NotFound(f"the session has no call {approval.call_id} that waits for approval")
    asked: dict[str, Any] = call.approval or {}
    if asked.get("decision"):
        if _same(asked, approval, call.name):
            return session_get_for_user(user=user, session_id=session_id)
        raise Conflict(f"the call was decided already: {asked['decision']}", state=session.status)
    state_require(session, [SessionStatus.WAITING_APPROVAL])
    if call.status != ToolCallStatus.WAITING:
        raise Conflict("the call is over: the session went on without it", state=session.status)
    if approval.digest != asked["digest"]:
        raise Conflict(
            "the call that waits is another one than was decided on: its arguments differ",
            next_step="read the session again and decide on the call as it is there",
            state=session.status,
        )
    if approval.decision != ApprovalDecision.REJECT and approval_expired(asked):
        raise Conflict(
            "the time in which the call could be approved is over",
            next_step="reject it: the agent can propose it again; ARCHON_APPROVAL_SECONDS says how long it waits",
            state="approval_expired",
        )
    decided: dict[str, Any] = {
        "decision": approval.decision.value,
        "decided_by": str(user.id),
        "decided_at": timezone.now().isoformat(),
        "message": text_storable(approval.message).strip(),
    }
    rules: list[str] = []
    if approval.decision == ApprovalDecision.REJECT:
        call.status, call.ok, call.finished_at = ToolCallStatus.FINISHED, False, timezone.now()
        call.observation = f"{REJECTED}\n{decided['message']}".strip()
    else:
        call.status = ToolCallStatus.APPROVED
        if approval.decision == ApprovalDecision.EDIT:
            call.arguments = _arguments_edited(session, call, approval)
            decided["decided_digest"] = call_digest(name=call.name, arguments=call.arguments)
        elif approval.always:
            rules = _always(user, session, call, approval)
        # From now on it waits for a worker, and not for longer than for a person.
        expires = timezone.now() + datetime.timedelta(seconds=settings.ARCHON_APPROVAL_SECONDS)
        decided["expires_at"] = expires.isoformat()
    call.approval = {**asked, **decided, "rules": rules}
    call.save(update_fields=["status", "ok", "finished_at", "observation", "arguments", "approval", "updated_at"])
    event = Event(
        "ApprovalDecided",
        {
            "call": str(call.id),
            "decision": approval.decision.value,
            "by": str(user.id),
            "message": decided["message"],
            "arguments": call.arguments if approval.decision == ApprovalDecision.EDIT else None,
            "rules": rules,
        },
    )
    session_wake(session_id=session_id, allowed=[SessionStatus.WAITING_APPROVAL], event=event)
    return session_get_for_user(user=user, session_id=session_id)


@transaction.atomic
def session_autonomy_set(*, user: User, session_id: uuid.UUID, autonomy: Autonomy) -> AgentSession:
    """Let the session's agents do more or less without asking, from their next call on."""
    session_get_for_user(user=user, session_id=session_id, write=True)
    session = session_lock(session_id)
    if session.autonomy != autonomy:
        state_require(session, [status for status in SessionStatus if status not in TERMINAL_STATUSES])
        changed = Event("AutonomyChanged", {"autonomy": autonomy.value, "former": session.autonomy, "by": str(user.id)})
        session.autonomy = autonomy
        session.save(update_fields=["autonomy", "updated_at"])
        event_append(session_id=session_id, events=[changed])
    return session_get_for_user(user=user, session_id=session_id)


def _same(asked: Mapping[str, Any], approval: Approval, name: str) -> bool:
    if asked["decision"] != approval.decision or asked["digest"] != approval.digest:
        return False
    if approval.decision != ApprovalDecision.EDIT:
        return True
    given = json_storable(dict(approval.arguments or {}))
    return asked.get("decided_digest") == call_digest(name=name, arguments=given)


def _arguments_edited(session: AgentSession, call: ToolCall, approval: Approval) -> dict[str, Any]:
    """The arguments to make the call with. Raises InvalidInput where the tool can't take them or a rule forbids it."""
    given: dict[str, Any] = json_storable(dict(approval.arguments or {}))
    judged = _judged(call.name, given)
    verdict = call_decide(
        policy=policy_load(session_id=session.id),
        tool=judged.tool,
        arguments=judged.arguments,
        paths=WorktreePaths(None),
        now=timezone.now(),
    )
    if verdict.effect == PolicyEffect.DENY:
        raise InvalidInput(
            f"a rule forbids the call with these arguments: {'; '.join(verdict.reasons)}",
            next_step="change the rule, or the arguments",
        )
    return given


def _always(user: User, session: AgentSession, call: ToolCall, approval: Approval) -> list[str]:
    """Rules that let the same call through from now on; their ids."""
    judged = _judged(call.name, call.arguments)
    found = rules_from_call(judged.tool, judged.arguments, policy_load(session_id=session.id))
    if not found:
        raise InvalidInput(
            "there is no rule that would let exactly this call through",
            next_step="approve it without always, or write a rule of your own (POST /api/agents/rules/)",
        )
    until = timezone.now() + datetime.timedelta(minutes=approval.always_minutes)
    made = []
    for tool, path, command in found:
        fields = RuleFields(
            PolicyEffect.ALLOW, tool=tool, path=path, command=command, expires_at=until, note="from an approval"
        )
        rule = policy_rule_create(user=user, project_id=session.project_id, fields=fields, source=f"approval:{call.id}")
        made.append(str(rule.id))
    return made


def _judged(name: str, arguments: Mapping[str, Any]) -> Allowed:
    tool: Tool[Any] | None = tool_find(name)
    if tool is None:
        raise InvalidInput(f"there is no tool {name} any more", next_step="reject the call")
    try:
        return Allowed(tool, tool.arguments.model_validate(arguments))
    except ValidationError as error:
        raise InvalidInput(f"{name} can't take these arguments: {arguments_problems(error)}") from error

"""The gate before a call's effect: whether it runs, waits for a person, or is refused.

What it decides stands in the call's row before anything happens, so a worker that takes the session up after another
has died, before the decision or after it, goes on from there: what was approved is carried out once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.utils import timezone

from apps.agents.nodes.context import RunContext, SessionSuspended
from apps.agents.nodes.replies import shown
from apps.agents.services.approvals import approval_expired, approval_make
from apps.agents.services.ledger_records import ToolCallIntent, ToolCallRecord
from apps.agents.tools.base import text_cut
from apps.agents.tools.policy import Allowed, Refused, Verdict, call_decide, call_digest, call_judge
from apps.agents.tools.policy_paths import WorktreePaths
from apps.agents.types import ApprovalDecision, Event, PolicyEffect, Risk, ToolCallStatus

DENIED = "This is not allowed here: {reasons}. Don't try to reach the same in another way; do without it, or ask."
CHANGED = "The call is not the one that was approved: it was not carried out."
EDITED = "[A person changed the arguments of this call before it ran. It ran with: {arguments}]\n"
_LOOKS = frozenset({Risk.READ, Risk.TALK})


@dataclass(frozen=True)
class Gate:
    """How the call stands, and what may be done with it."""

    record: ToolCallRecord
    judged: Allowed | Refused
    #: What the model is told in front of the result.
    note: str = ""


async def call_gate(context: RunContext, intent: ToolCallIntent, judged: Allowed | Refused) -> Gate:
    """Write the call's intent, or have it wait: raises SessionSuspended when a person has to decide first."""
    if isinstance(judged, Refused):
        return Gate(await _open(context, intent), judged)
    verdict = await _decide(context, judged)
    if verdict.effect == PolicyEffect.DENY:
        return Gate(await _open(context, intent), _denied(verdict))
    if verdict.effect == PolicyEffect.ALLOW:
        record = await _open(context, intent)
        if record.approval is None or record.status not in (ToolCallStatus.WAITING, ToolCallStatus.APPROVED):
            return Gate(record, judged)
        if record.status == ToolCallStatus.WAITING:
            # It was asked for, and has become allowed since.
            return await _begin(context, intent, record, judged, intent.arguments)
        return await _approved(context, intent, record, judged, verdict)
    known = await context.ledger.tool_call_load(intent.id)
    if known is None or (known.status == ToolCallStatus.WAITING and known.approval is not None):
        return await _ask(context, intent, verdict)
    if known.status == ToolCallStatus.APPROVED:
        return await _approved(context, intent, known, judged, verdict)
    return Gate(known, judged)


async def _decide(context: RunContext, judged: Allowed) -> Verdict:
    policy = await context.policy(looks_only=judged.tool.risk in _LOOKS)
    paths = WorktreePaths(context.site.path, commands_in=context.site.subfolder)
    decide = partial(
        call_decide, policy=policy, tool=judged.tool, arguments=judged.arguments, paths=paths, now=timezone.now()
    )
    if any(rule.path for rule in policy.rules):
        # Links are followed and folders looked through: the loop has other sessions to serve meanwhile.
        return await asyncio.to_thread(decide)
    return decide()


async def _open(context: RunContext, intent: ToolCallIntent) -> ToolCallRecord:
    return await context.ledger.tool_call_open(intent, _started(intent, intent.arguments))


async def _ask(context: RunContext, intent: ToolCallIntent, verdict: Verdict) -> Gate:
    """Have the call wait for a person, and the session with it."""
    approval = approval_make(name=intent.name, arguments=intent.arguments, verdict=verdict)
    asked = Event(
        "ApprovalRequested",
        {
            "call": str(intent.id),
            "name": intent.name,
            "arguments": shown(intent.arguments),
            "risk": approval["risk"],
            "reasons": approval["reasons"],
            "digest": approval["digest"],
            "expires_at": approval["expires_at"],
        },
    )
    await context.ledger.approval_request(intent, approval, asked)
    raise SessionSuspended("a person has to approve a call")


async def _approved(
    context: RunContext, intent: ToolCallIntent, record: ToolCallRecord, judged: Allowed, verdict: Verdict
) -> Gate:
    """Carry out what was approved: exactly that, within its time, and if no rule has come to forbid it."""
    approval = record.approval or {}
    edited = approval.get("decision") == ApprovalDecision.EDIT
    digest = call_digest(name=intent.name, arguments=record.arguments)
    if digest != approval.get("decided_digest" if edited else "digest") or (
        call_digest(name=intent.name, arguments=intent.arguments) != approval.get("digest")
    ):
        return Gate(record, Refused(CHANGED))
    if approval_expired(approval):
        return await _ask(context, intent, verdict)
    if not edited:
        return await _begin(context, intent, record, judged, record.arguments)
    changed = call_judge(tools={judged.tool.name: judged.tool}, name=intent.name, arguments=record.arguments)
    if isinstance(changed, Allowed):
        now = await _decide(context, changed)
        changed = _denied(now) if now.effect == PolicyEffect.DENY else changed
    if isinstance(changed, Refused):
        return Gate(record, changed)
    return await _begin(context, intent, record, changed, record.arguments, edited=True)


async def _begin(
    context: RunContext,
    intent: ToolCallIntent,
    record: ToolCallRecord,
    judged: Allowed,
    arguments: Mapping[str, Any],
    *,
    edited: bool = False,
) -> Gate:
    if not await context.ledger.approved_call_begin(intent.id, _started(intent, arguments)):
        return Gate(await context.ledger.tool_call_load(intent.id) or record, judged)
    begun = ToolCallRecord(intent.id, ToolCallStatus.OPEN, None, "", is_new=True)
    note = EDITED.format(arguments=text_cut(json.dumps(arguments, ensure_ascii=False), 2000)) if edited else ""
    return Gate(begun, judged, note)


def _started(intent: ToolCallIntent, arguments: Mapping[str, Any]) -> Event:
    return Event("ToolStarted", {"call": str(intent.id), "name": intent.name, "arguments": shown(arguments)})


def _denied(verdict: Verdict) -> Refused:
    return Refused(DENIED.format(reasons="; ".join(verdict.reasons) or verdict.risk.value))

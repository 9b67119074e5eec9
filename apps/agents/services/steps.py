"""The steps of a session: where one can go back to.

A step is an event that was the last of its transaction and after which the rows tell exactly how all of the session
stood. What a rewind has taken back is no step any more, nor is what came before the branch was merged.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Max, Min, Q

from apps.agents.models import AgentSession, ExecutionMessage, FileSnapshot, SessionEffect, SessionEvent
from apps.agents.types import SessionEventData

STEP_EVENTS = (
    "ChecksFinished",
    "PlanCreated",
    "PlanExtended",
    "PlanRevised",
    "PlanKept",
    "TaskStarted",
    "ModelReplied",
    "ToolFinished",
    "TaskVerified",
    "ReviewFinished",
    "TaskCommitted",
    "TaskFailed",
    "TaskBlocked",
)
#: Nothing leads back to before these: what others have of the branch can't be taken back.
_BOUNDARIES = ("SessionMerged", "SessionDiscarded", "RebaseStarted", "SessionRebased")
_SUMMARY_LENGTH = 200


@dataclass(frozen=True)
class Step:
    """A step, and what a person recognises it by."""

    event: SessionEventData
    summary: str
    #: Which follow-up it belongs to; 0: the goal.
    turn: int
    #: Why the files of this step could not be kept; empty: they were.
    problem: str = ""

    @property
    def seq(self) -> int:
        return self.event.seq


def step_list(session: AgentSession, *, after: int = 0, limit: int = 500) -> list[Step]:
    """The steps after ``after`` in order, at most ``limit``."""
    chosen = _steps_query(session).filter(seq__gt=after).order_by("seq")[:limit]
    return _present(session, list(chosen))


def step_find(session: AgentSession, seq: int) -> Step | None:
    """The step with this number, if one can go back to it."""
    found = _present(session, list(_steps_query(session).filter(seq=seq)))
    return found[0] if found else None


def turn_at(session_id: uuid.UUID, seq: int) -> tuple[int, int]:
    """Which follow-up the session was at after this event, and the event that began it; 0 and 0: the goal."""
    reopened = _live(session_id, SessionEvent.objects.filter(session_id=session_id, type="SessionReopened"))
    last = reopened.filter(seq__lte=seq).order_by("seq").last()
    return (int(last.payload["turn"]), last.seq) if last else (0, 0)


def calls_under_way(session_id: uuid.UUID, seq: int) -> dict[str, str]:
    """The calls that had begun at this event and had not ended, by id, with the tools' names.

    There are some at a step only where tasks were worked on side by side.
    """
    told = SessionEvent.objects.filter(session_id=session_id, type__in=("ToolStarted", "ToolFinished"), seq__lte=seq)
    found: dict[str, str] = {}
    for kind, payload in _live(session_id, told).order_by("seq").values_list("type", "payload"):
        if kind == "ToolStarted":
            found[payload["call"]] = payload["name"]
        else:
            found.pop(payload["call"], None)
    return found


def _steps_query(session: AgentSession) -> Any:
    events = _live(session.id, SessionEvent.objects.filter(session=session, type__in=STEP_EVENTS))
    # Of the checks, those before any change; of the calls, those that came to their own end.
    events = events.filter(~Q(type="ChecksFinished") | Q(payload__stage="before"))
    events = events.exclude(type="ToolFinished", payload__contains={"interrupted": True})
    return events.filter(seq__gte=_floor(session.id))


def _live(session_id: uuid.UUID, events: Any) -> Any:
    """Without what rewinds have taken back."""
    for row in SessionEvent.objects.filter(session_id=session_id, type="SessionRewound"):
        events = events.exclude(seq__gt=row.payload["to_seq"], seq__lt=row.seq)
    return events


def _floor(session_id: uuid.UUID) -> int:
    """The first event that one could go back to."""
    boundary = SessionEvent.objects.filter(session_id=session_id, type__in=_BOUNDARIES).aggregate(last=Max("seq"))
    floor = (boundary["last"] or 0) + 1
    unnumbered = (
        SessionEffect.objects.filter(session_id=session_id, seq=None).exists()
        or ExecutionMessage.objects.filter(execution__session_id=session_id, seq=None).exists()
    )
    if unnumbered:
        # Begun before steps were kept: from the first state of the files on that was.
        first = FileSnapshot.objects.filter(session_id=session_id, retired=None).aggregate(first=Min("seq"))["first"]
        floor = max(floor, first if first is not None else 2**62)
    return floor


def _present(session: AgentSession, rows: Sequence[SessionEvent]) -> list[Step]:
    if not rows:
        return []
    problems = _problems(session)
    reopened = _live(session.id, SessionEvent.objects.filter(session=session, type="SessionReopened"))
    turns = [(row.seq, int(row.payload["turn"])) for row in reopened.order_by("seq")]
    return [
        Step(
            SessionEventData(row.seq, row.type, row.payload, row.created_at),
            summary=_summary(row.type, row.payload),
            turn=_last(((seq, turn) for seq, turn in turns), row.seq, 0),
            problem=next(filter(None, (_last(known, row.seq, "") for known in problems)), ""),
        )
        for row in rows
    ]


def _problems(session: AgentSession) -> list[list[tuple[int, str]]]:
    """For each of the session's worktrees: why its files could not be kept, from which step on."""
    found: dict[str, list[tuple[int, str]]] = {}
    for kept in FileSnapshot.objects.filter(session=session, retired=None).order_by("seq", "id"):
        found.setdefault(kept.lane, []).append((kept.seq, kept.problem))
    return list(found.values())


def _last(values: Iterable[tuple[int, Any]], seq: int, otherwise: Any) -> Any:
    """The value of the last pair up to ``seq``."""
    found = otherwise
    for at, value in values:
        if at > seq:
            break
        found = value
    return found


def _summary(kind: str, payload: dict[str, Any]) -> str:
    match kind:
        case "ChecksFinished":
            text = "before any change"
        case "PlanCreated":
            text = f"plan: {payload.get('summary', '')}"
        case "PlanRevised":
            text = f"plan, version {payload.get('version')}: {payload.get('reason', '')}"
        case "PlanExtended" | "TaskStarted":
            text = str(payload.get("title") or payload.get("feature") or "")
        case "ModelReplied":
            called = ", ".join(call["name"] for call in payload.get("tool_calls", []))
            said = str(payload.get("text", "")).strip().partition("\n")[0]
            text = f"{payload.get('role')}: " + (f"{said} [{called}]" if called else said)
        case "ToolFinished":
            text = f"{payload.get('name')}: {payload.get('summary', '')}"
        case "TaskVerified":
            text = "passed" if payload.get("passed") else "; ".join(payload.get("reasons", [])) or "failed"
        case "TaskCommitted":
            text = f"commit {str(payload.get('commit', ''))[:12]}"
        case _:
            text = str(payload.get("reason", ""))
    return " ".join(text.split())[:_SUMMARY_LENGTH]

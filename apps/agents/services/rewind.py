"""Taking a session back to an earlier step: files, branch, conversations, plan, and what its row says.

One transaction changes the rows; git's work follows it (``restoring``). Nothing that was said or done is deleted: what
came after the step is retired, out of the way of what comes now. What was spent stays spent. Why each kind of row is
treated as it is stands in decision 17.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Concat
from django.utils import timezone

from apps.agents.models import (
    AgentExecution,
    AgentSession,
    FileSnapshot,
    SessionEffect,
    SessionEvent,
    SessionHead,
    SessionMessage,
    Steering,
    ToolCall,
)
from apps.agents.selectors import session_get_for_user, snapshot_last
from apps.agents.services.leftovers import checkpoint_delete
from apps.agents.services.plan_work import plan_free_require
from apps.agents.services.restoring import Restore, files_restore
from apps.agents.services.rewind_plan import plan_take_back
from apps.agents.services.sessions import event_append, fence_move, session_lock
from apps.agents.services.steps import Step, calls_under_way, step_find, turn_at
from apps.agents.types import Event, Reason, SessionStatus, ToolCallStatus
from apps.core.errors import Conflict, InvalidInput
from apps.usage.services import reservations_expire

if TYPE_CHECKING:
    from apps.authentication.models import User

TAKEN_BACK = "not carried out to its end: the session was taken back to an earlier step"
_MOVING = {
    SessionStatus.PENDING: "it has not begun: there is nothing to take back",
    SessionStatus.RUNNING: "pause it first",
}


@dataclass(frozen=True)
class _Point:
    """Where to go back to."""

    seq: int
    #: The number of this rewind.
    rewind: int
    turn: int
    #: The event that began the turn.
    turn_seq: int


def session_rewind(*, user: User, session_id: uuid.UUID, seq: int) -> AgentSession:
    """Take a session that stands still back to right after a step; it is paused there, to be resumed.

    The same again changes nothing. Raises Conflict, naming the state, while it runs, and once its branch was merged or
    discarded; InvalidInput when the event is no step that one can go back to.
    """
    session_get_for_user(user=user, session_id=session_id, write=True)
    _rows_take_back(session_id, seq)
    # Calls of models whose worker was stopped won't be asked for again under their key. Apart from the above, since a
    # call that is being settled locks the budget first and the session second.
    reservations_expire(scope_id=session_id)
    files_restore(session_id)
    return session_get_for_user(user=user, session_id=session_id)


@transaction.atomic
def _rows_take_back(session_id: uuid.UUID, seq: int) -> None:
    session = session_lock(session_id)
    if _is_there(session, seq):
        return
    step = _step_require(session, seq)
    plan_free_require(session)
    turn, turn_seq = turn_at(session_id, seq)
    point = _Point(seq=seq, rewind=session.rewinds + 1, turn=turn, turn_seq=turn_seq)
    snapshot = snapshot_last(session_id, seq=seq)
    fence_move(session, wanted=False)
    beside = calls_under_way(session_id, seq)
    interrupted = _calls_close(session_id, beside)
    for execution in session.executions.filter(retired=None):
        _execution_take_back(execution, point)
    _later(SessionEffect.objects.filter(session=session), seq).update(
        key=Concat(F("key"), Value(f"~{point.rewind}")), retired=point.rewind
    )
    _later(FileSnapshot.objects.filter(session=session), seq).update(retired=point.rewind)
    follow_ups = SessionMessage.objects.filter(session=session, turn__gt=turn, retired=None)
    withdrawn_turns = list(follow_ups.values_list("turn", flat=True))
    # Its key is free again: sent once more, it is a message once more.
    follow_ups.update(retired=point.rewind, key="")
    unheard, withdrawn = _steering_take_back(session, point)
    plan_take_back(session, rewind=point.rewind, seq=seq)
    _session_take_back(session, point, snapshot)
    checkpoint_delete(session_id)
    rewound = {
        "to_seq": seq,
        "to": step.event.type,
        "summary": step.summary,
        "rewind": point.rewind,
        "turn": turn,
        "follow_ups": withdrawn_turns,
        "steering_withdrawn": withdrawn,
        "steering_waiting": unheard,
    }
    # What comes before the rewind's own event is past with the rest.
    over = [_call_over(call, name) for call, name in beside.items()]
    event_append(session_id=session_id, events=[*interrupted, Event("SessionRewound", rewound), *over])


def _is_there(session: AgentSession, seq: int) -> bool:
    """The last thing that happened is that the session was taken back to this very step."""
    # Calls that were under way at the step are told of after it.
    over = {"type": "ToolFinished", "payload__contains": {"interrupted": True}}
    last = SessionEvent.objects.filter(session=session).exclude(**over).order_by("seq").last()
    return last is not None and last.type == "SessionRewound" and last.payload["to_seq"] == seq


def _step_require(session: AgentSession, seq: int) -> Step:
    status = SessionStatus(session.status)
    if status in _MOVING:
        raise Conflict(f"the session is {status.value}", next_step=_MOVING[status], state=status.value)
    if session.discarded_at is not None:
        raise Conflict(
            "the session's branch was discarded: there is nothing to go back to",
            next_step="start a new session",
            state="discarded",
        )
    if session.merged_commit:
        raise Conflict(
            "the session's branch was merged: what others have of it can't be taken back",
            next_step="send a message that says what should be different; it goes on from there",
            state="merged",
        )
    step = step_find(session, seq)
    if step is None:
        raise InvalidInput(
            f"event {seq} is no step that this session can be taken back to",
            next_step=f"choose one of GET /api/agents/sessions/{session.id}/steps/",
        )
    if step.problem:
        raise Conflict(
            f"the files of this step could not be kept: {step.problem}",
            next_step="choose an earlier step whose files were kept",
            state="no_snapshot",
        )
    return step


def _later(rows: Any, seq: int) -> Any:
    return rows.filter(retired=None, seq__gt=seq)


def _calls_close(session_id: uuid.UUID, beside: Mapping[str, str]) -> list[Event]:
    """Calls that are under way are over, and their questions are nobody's any more.

    Of those that were under way at the step (``beside`` what it tells of) nothing is told here.
    """
    calls = list(
        ToolCall.objects.filter(session_id=session_id)
        .exclude(status=ToolCallStatus.FINISHED)
        .order_by("created_at", "ordinal")
    )
    now = timezone.now()
    ToolCall.objects.filter(id__in=[call.id for call in calls]).update(
        status=ToolCallStatus.FINISHED, ok=False, observation=TAKEN_BACK, finished_at=now, updated_at=now
    )
    return [_call_over(str(call.id), call.name) for call in calls if str(call.id) not in beside]


def _call_over(call: str, name: str) -> Event:
    told = {"call": call, "name": name, "ok": False, "summary": "taken back", "seconds": 0.0, "interrupted": True}
    return Event("ToolFinished", told)


def _execution_take_back(execution: AgentExecution, point: _Point) -> None:
    """Leave of an agent's work what there was at the step; the rest moves to an execution that is retired."""
    begun = (execution.seq or 0) <= point.seq
    kept = execution.messages.filter(Q(seq=None) | Q(seq__lte=point.seq)).count() if begun else 0
    results = execution.results or []
    standing = [entry for entry in results if entry["seq"] <= point.seq]
    calls = ToolCall.objects.filter(execution=execution).annotate(answer=F("position") + 1 + F("ordinal"))
    # A call's row belongs to its result, which may not have come.
    later_calls = calls.filter(answer__gte=kept)
    # Made before the message at its position was asked for: what was left out after the step is said again.
    later_cuts = execution.compactions.filter(position__gte=kept)
    stands = len(standing) == len(results) and execution.messages.count() == kept
    if begun and stands and not later_calls.exists() and not later_cuts.exists():
        return
    later = AgentExecution.objects.create(
        id=uuid.uuid5(execution.id, f"rewind:{point.rewind}"),
        session_id=execution.session_id,
        task_id=execution.task_id,
        role=execution.role,
        attempt=execution.attempt,
        result=execution.result,
        results=execution.results,
        seq=execution.seq,
        retired=point.rewind,
        origin=execution.id,
    )
    AgentExecution.objects.filter(id=later.id).update(created_at=execution.created_at)
    execution.messages.filter(position__gte=kept).update(execution=later)
    later_cuts.update(execution=later)
    ToolCall.objects.filter(id__in=list(later_calls.values_list("id", flat=True))).update(execution=later)
    if not begun:
        execution.delete()
        return
    if results:
        execution.result = standing[-1]["result"] if standing else None
        execution.results = standing
        execution.save(update_fields=["result", "results", "updated_at"])


def _steering_take_back(session: AgentSession, point: _Point) -> tuple[list[str], list[str]]:
    """What waits to be heard now, and what was taken back with the steps in which it was said and heard.

    What nobody has heard yet still holds, whenever it was said: a person who goes back to do something otherwise may
    have said so already. What was said before the step and heard after it waits again. How a task was changed is taken
    back with the change.
    """
    standing = Steering.objects.filter(session=session, retired=None)
    heard = standing.filter(delivered_seq__gt=point.seq)
    heard.filter(seq__lte=point.seq).update(delivered_seq=None, updated_at=timezone.now())
    past = standing.filter(Q(delivered_seq__gt=point.seq) | Q(task_id__isnull=False, seq__gt=point.seq))
    withdrawn = [str(said) for said in past.values_list("id", flat=True)]
    past.update(retired=point.rewind, key="", updated_at=timezone.now())
    waiting = Steering.objects.filter(session=session, retired=None, delivered_seq=None).order_by("seq")
    unheard = [str(said) for said in waiting.values_list("id", flat=True)]
    SessionHead.objects.filter(session=session).update(steering=len(unheard))
    return unheard, withdrawn


def _session_take_back(session: AgentSession, point: _Point, snapshot: FileSnapshot | None) -> None:
    """What the session's row says, as of the step; paused, and with files to be put back."""
    # Of work in a lane only what was merged is on the session's branch; of what an agent that only reads came to no
    # commit was judged.
    judged = Q(key__startswith="merged:") | Q(key__startswith="verify:") & ~Q(result__has_key="lane")
    judged &= Q(result__reading__isnull=True)
    verified = SessionEffect.objects.filter(judged, session=session, retired=None).order_by("seq").last()
    result: dict[str, Any] = verified.result if verified else {}
    session.head_commit = result.get("commit", "")
    if session.rebases and snapshot is not None and snapshot.head != session.base_commit:
        # What the checks said was of the commits that the branch had before it was put onto others.
        session.head_commit = snapshot.head
    # Those of an earlier turn are kept with the message that began this one.
    in_this_turn = verified is not None and (verified.seq or 0) > point.turn_seq
    session.checks = result.get("checks", []) if in_this_turn else []
    session.turn = point.turn
    session.status = SessionStatus.PAUSED
    session.reason = Reason(
        "rewound", f"taken back to step {point.seq}", "resume it to have it go on from there"
    ).as_dict()
    session.outcome = session.finished_at = session.running_since = None
    session.report = ""
    session.rewinds = point.rewind
    base = session.base_commit
    session.restore = Restore(
        rewind=point.rewind,
        tree=snapshot.tree if snapshot else base,
        head=snapshot.head if snapshot else base,
    ).as_dict()
    session.save(
        update_fields=[
            *("head_commit", "checks", "turn", "status", "reason", "outcome", "finished_at", "running_since"),
            *("report", "rewinds", "restore", "plan", "plan_rewind", "updated_at"),
        ]
    )

"""A message to a session that has ended: it goes on, on the same branch and in the same conversation.

It is the one way out of a terminal status. What the session had come to is kept with the message.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from apps.agents.models import AgentSession, SessionMessage
from apps.agents.selectors import session_get_for_user
from apps.agents.services.attachments import attachments_claim
from apps.agents.services.leftovers import checkpoint_delete
from apps.agents.services.places import place_take
from apps.agents.services.plan_work import plan_free_require, plan_is_kept
from apps.agents.services.rebases import rebase_leave
from apps.agents.services.sessions import EXECUTE_TASK, event_append, fence_move, session_lock
from apps.agents.types import TERMINAL_STATUSES, Event, SessionStatus
from apps.core.errors import Conflict, InvalidInput
from apps.core.queue import enqueue_on_commit
from apps.core.storable import text_storable
from apps.usage.models import Budget
from apps.usage.services import budget_lock, budget_raise
from apps.usage.types import Limits

if TYPE_CHECKING:
    from apps.authentication.models import User

MESSAGE_LIMIT = 50_000
_NEXT_STEPS = {
    SessionStatus.PENDING: "steer it: POST steer/ reaches its agent once it runs",
    SessionStatus.RUNNING: "steer it: POST steer/ reaches its agent before its next step",
    SessionStatus.PAUSED: "steer it: POST steer/ reaches its agent once it is resumed",
    SessionStatus.WAITING_INPUT: "answer its question, or steer it: POST steer/",
    SessionStatus.WAITING_APPROVAL: "decide on what it waits for, or steer it: POST steer/",
}


@transaction.atomic
def message_send(
    *,
    user: User,
    session_id: uuid.UUID,
    text: str,
    attachment_ids: Sequence[uuid.UUID] = (),
    more: Limits | None = None,
    more_seconds: int | None = None,
    key: str = "",
) -> AgentSession:
    """Have a session that has ended go on with this. ``more`` is added to what it may spend; else what is left holds.

    Time is granted anew: ``more_seconds``, or as much as it was given before. The same ``key`` again changes nothing.
    Raises Conflict while the session has not ended, while another one has its plan, and once its branch was discarded.
    """
    session_get_for_user(user=user, session_id=session_id, write=True)
    text = text_storable(text).strip()
    if not text:
        raise InvalidInput("the message is empty", next_step="say what should be different now")
    if len(text) > MESSAGE_LIMIT:
        raise InvalidInput(
            f"the message is longer than {MESSAGE_LIMIT} characters", next_step="attach long text as a file"
        )
    budget_lock(scope_id=session_id)
    session = session_lock(session_id)
    if key and (known := SessionMessage.objects.filter(session=session, key=key).first()) is not None:
        if known.text != text:
            raise Conflict(
                "another message was sent with this key", next_step="send each with a key of its own", state="key_used"
            )
        return session_get_for_user(user=user, session_id=session_id)
    _ended_require(session)
    if plan_is_kept(session):
        plan_free_require(session)
    place_take(session)
    follow_up_open(
        session, user=user, text=text, key=key, attachment_ids=attachment_ids, more=more, more_seconds=more_seconds
    )
    return session_get_for_user(user=user, session_id=session_id)


def follow_up_open(
    session: AgentSession,
    *,
    user: User,
    text: str,
    key: str = "",
    attachment_ids: Sequence[uuid.UUID] = (),
    more: Limits | None = None,
    more_seconds: int | None = None,
) -> int:
    """Have a locked session that has ended go on with this; the last event's number."""
    former = _former(session)
    _limits_raise(session, more=more, more_seconds=more_seconds)
    # A follow-up that a rewind took back keeps its number.
    last = session.messages.aggregate(last=Max("turn"))["last"] or 0
    session.turn = max(session.turn, last) + 1
    message = SessionMessage.objects.create(
        session=session, sent_by=user, turn=session.turn, text=text, key=key, former=former
    )
    files = attachments_claim(user=user, session=session, attachment_ids=attachment_ids, turn=session.turn)
    _reopen(session)
    received = {
        "message": str(message.id),
        "turn": session.turn,
        "text": text,
        "attachments": [row.name for row in files],
    }
    seq = event_append(
        session_id=session.id,
        events=[
            Event("MessageReceived", received),
            Event("SessionReopened", {"turn": session.turn, "former_status": former["status"]}),
        ],
    )
    enqueue_on_commit(EXECUTE_TASK, session_id=str(session.id))
    return seq


def _ended_require(session: AgentSession) -> None:
    status = SessionStatus(session.status)
    if status not in TERMINAL_STATUSES:
        raise Conflict(
            f"the session is {status.value}; a message makes one go on that has ended",
            next_step=_NEXT_STEPS[status],
            state=status.value,
        )
    if session.discarded_at is not None:
        raise Conflict(
            "the session's branch was discarded, so there is nothing to go on with",
            next_step="start a new session with what you want",
            state="discarded",
        )


def _former(session: AgentSession) -> dict[str, Any]:
    return {
        "status": session.status,
        "outcome": session.outcome,
        "reason": session.reason,
        "report": session.report,
        "checks": session.checks,
        "head_commit": session.head_commit,
        "merged_commit": session.merged_commit,
        "finished_at": session.finished_at.isoformat() if session.finished_at else None,
        "used_seconds": math.ceil(session.used_seconds),
    }


def _limits_raise(session: AgentSession, *, more: Limits | None, more_seconds: int | None) -> None:
    """Add to what the session may spend; its time counts from now."""
    last = session.messages.filter(turn=session.turn).first()
    granted = session.limit_seconds - (last.former.get("used_seconds", 0) if last else 0)
    seconds = more_seconds or (granted if granted > 0 else settings.ARCHON_LIMIT_SECONDS)
    session.limit_seconds = math.ceil(session.used_seconds) + seconds
    if more is None or more == Limits():
        return
    budget = Budget.objects.get(scope_id=session.id)
    # What is unlimited stays so.
    cost, tokens, steps = budget.limit_cost_usd, budget.limit_tokens, budget.limit_steps
    budget_raise(
        scope_id=session.id,
        cost_usd=None if cost is None or more.cost_usd is None else cost + more.cost_usd,
        tokens=None if tokens is None or more.tokens is None else tokens + more.tokens,
        steps=None if steps is None or more.steps is None else steps + more.steps,
    )


def _reopen(session: AgentSession) -> None:
    """From a terminal status to ``running``; the fence moves on, since the last worker may still be tidying up."""
    fence_move(session, wanted=True)
    checkpoint_delete(session.id)
    if session.rebase:
        rebase_leave(session)
    if session.merged_commit:
        session.merge_onto, session.merged_commit = session.merged_commit, ""
    session.status = SessionStatus.RUNNING
    session.outcome = session.reason = session.finished_at = session.running_since = None
    session.report, session.checks = "", []
    session.save(
        update_fields=[
            *("status", "outcome", "reason", "finished_at", "running_since", "report", "checks"),
            *(
                "rebase",
                "rebases",
                "base_commit",
                "head_commit",
                "merge_onto",
                "merged_commit",
                "limit_seconds",
                "turn",
                "updated_at",
            ),
        ]
    )


def message_list(*, user: User, session_id: uuid.UUID) -> list[SessionMessage]:
    """What people said to the session after it had ended, in order. Raises NotFound."""
    session = session_get_for_user(user=user, session_id=session_id)
    return list(session.messages.select_related("session").filter(retired=None).order_by("turn"))

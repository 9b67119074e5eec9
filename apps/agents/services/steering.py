"""Speaking to a session that has not ended: its agent hears it before its next call of the model.

A word that comes when there is no next call is not lost. One that meets the agent's last call keeps the work from
ending; one that comes later, while the server checks and reports, makes the session go on as a follow-up. Which it is
has one answer, since both sides hold the session's head row.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from apps.agents.models import AgentSession, SessionHead, Steering
from apps.agents.selectors import session_get_for_user
from apps.agents.services.messages import MESSAGE_LIMIT, follow_up_open
from apps.agents.services.sessions import clock_stop, event_append, session_lock
from apps.agents.types import TERMINAL_STATUSES, Event, Lease, Reason, SessionStatus
from apps.core.errors import Conflict, InvalidInput
from apps.core.storable import text_storable

if TYPE_CHECKING:
    from apps.authentication.models import User


@dataclass(frozen=True)
class Completion:
    """How a session is completed: its last events, and the columns that keep its result."""

    events: Sequence[Event]
    reason: Reason | None
    columns: dict[str, Any] = field(default_factory=dict)


@transaction.atomic
def session_steer(*, user: User, session_id: uuid.UUID, text: str, key: str = "") -> AgentSession:
    """Say something to a session that has not ended; whether it runs, waits or is paused stays as it is.

    The same ``key`` again changes nothing. Raises Conflict once the session has ended: then it takes messages.
    """
    session_get_for_user(user=user, session_id=session_id, write=True)
    text = text_storable(text).strip()
    if not text:
        raise InvalidInput("the message is empty", next_step="say what the agent should know")
    if len(text) > MESSAGE_LIMIT:
        raise InvalidInput(f"the message is longer than {MESSAGE_LIMIT} characters", next_step="say it in fewer words")
    session = session_lock(session_id)
    if key and (known := Steering.objects.filter(session=session, key=key).first()) is not None:
        if known.text != text:
            raise Conflict(
                "another message was sent with this key", next_step="send each with a key of its own", state="key_used"
            )
        return session_get_for_user(user=user, session_id=session_id)
    if session.status in TERMINAL_STATUSES:
        raise Conflict(
            f"the session is {session.status}: its agent hears nothing any more",
            next_step="send it as a message (POST messages/), which has the session go on with it",
            state=session.status,
        )
    steering_id = uuid.uuid4()
    received = Event("SteeringReceived", {"steering": str(steering_id), "text": text})
    seq = event_append(session_id=session_id, events=[received])
    Steering.objects.create(id=steering_id, session=session, sent_by=user, text=text, key=key, seq=seq)
    SessionHead.objects.filter(session_id=session_id).update(steering=F("steering") + 1)
    return session_get_for_user(user=user, session_id=session_id)


def steering_text(texts: Sequence[str]) -> str:
    """What people said, as the agent hears it."""
    return "\n\n".join(["The person you work for has written to you meanwhile:", *texts])


@transaction.atomic
def completed_continue(lease: Lease, completion: Completion) -> None:
    """Complete the session, and in the same transaction have it go on with what its agent has yet to hear.

    Fenced. The last turn's result is kept with the message, as that of any follow-up.
    """
    event_append(session_id=lease.session_id, events=completion.events, fence=lease.fence)
    session = AgentSession.objects.get(id=lease.session_id)
    clock_stop(session)
    session.status = SessionStatus.COMPLETED
    session.finished_at = timezone.now()
    session.reason = completion.reason.as_dict() if completion.reason else None
    for name, value in completion.columns.items():
        setattr(session, name, value)
    changed = ["status", "finished_at", "reason", "used_seconds", "running_since", "updated_at"]
    session.save(update_fields=[*changed, *completion.columns])
    waiting = list(
        Steering.objects.filter(session=session, delivered_seq=None, retired=None, task_id=None)
        .select_related("sent_by")
        .order_by("seq")
    )
    follow_up_open(session, user=waiting[0].sent_by, text="\n\n".join(said.text for said in waiting))
    delivered = [
        Event("SteeringDelivered", {"steering": str(said.id), "execution": None, "turn": session.turn})
        for said in waiting
    ]
    seq = event_append(session_id=session.id, events=delivered)
    Steering.objects.filter(id__in=[said.id for said in waiting]).update(delivered_seq=seq)
    SessionHead.objects.filter(session=session).update(steering=0)

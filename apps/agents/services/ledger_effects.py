"""Effects that change rows of other apps, in one transaction of the ORM with their notes and events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.agents.models import AgentSession, FileSnapshot, SessionEffect
from apps.agents.services.ledger_records import Snapshot
from apps.agents.services.sessions import event_append
from apps.agents.types import Event, Lease
from apps.core.kill_points import kill_point
from apps.core.storable import json_storable, text_storable


@transaction.atomic
def effects_apply(
    lease: Lease,
    effects: Mapping[str, Mapping[str, Any]],
    change: Callable[[], object],
    events: Sequence[Event],
    snapshot: Snapshot | None,
    columns: Mapping[str, Any],
) -> None:
    """Note the effects and their events, how the files are now, columns of the session, and make the change. Fenced."""
    session_id = lease.session_id
    seq = event_append(session_id=session_id, events=events, fence=lease.fence) + (not events)
    SessionEffect.objects.bulk_create(
        SessionEffect(session_id=session_id, key=key, result=json_storable(dict(result)), seq=seq)
        for key, result in effects.items()
    )
    if snapshot is not None:
        FileSnapshot.objects.create(
            session_id=session_id,
            lane=snapshot.lane,
            seq=seq,
            tree=snapshot.tree,
            head=snapshot.head,
            problem=text_storable(snapshot.problem),
        )
    if columns:
        AgentSession.objects.filter(id=session_id).update(**columns, updated_at=timezone.now())
    change()
    kill_point("effect.applied")

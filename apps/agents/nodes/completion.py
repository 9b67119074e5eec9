"""The end of a session whose work is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apps.agents.nodes.context import RunContext, SessionSuspended
from apps.agents.services.ledger import SteeringWaits
from apps.agents.services.steering import Completion, completed_continue
from apps.agents.types import Event, Reason, SessionStatus


async def session_complete(
    context: RunContext, events: Sequence[Event], *, reason: Reason | None, **columns: Any
) -> None:
    """Complete the session; what a person said too late for the agent to hear makes it go on, as a follow-up."""
    try:
        await context.ledger.session_end(*events, status=SessionStatus.COMPLETED, reason=reason, **columns)
    except SteeringWaits:
        ledger = context.ledger
        completion = Completion(ledger.told(events), reason, ledger.redacted_columns(columns))
        await context.ledger.database.run_in_thread(completed_continue, context.ledger.lease, completion)
        raise SessionSuspended("it goes on with what was said last") from None

"""How many sessions a user and a project have at once.

A session has a place from when it is to run until it is paused or has ended; one that waits for a person keeps it, so
that an answer is never refused for want of one. Rows are counted, under a lock that every start takes.
"""

from __future__ import annotations

from django.conf import settings
from django.db.models import Q

from apps.agents.models import AgentSession
from apps.agents.types import SessionStatus
from apps.core.errors import LimitReached
from apps.usage.allowances import allowances_lock

_HOLDS_A_PLACE = Q(status__in=[SessionStatus.RUNNING, SessionStatus.WAITING_INPUT, SessionStatus.WAITING_APPROVAL]) | Q(
    status=SessionStatus.PENDING, head__wanted=True
)


class TooManySessions(LimitReached):
    """As many sessions as may be are at work."""

    code = "too_many_sessions"


def place_take(session: AgentSession) -> None:
    """Refuse a session that would be one too many; inside the transaction that sets it going.

    Raises :class:`TooManySessions`.
    """
    above = allowances_lock(project_id=session.project_id, user_id=session.created_by_id)
    assert above.user is not None
    others = AgentSession.objects.filter(_HOLDS_A_PLACE).exclude(id=session.id)
    user_limit = above.user.limit_sessions
    if user_limit is None:
        user_limit = settings.ARCHON_LIMIT_USER_SESSIONS
    _require(others.filter(created_by_id=session.created_by_id).count(), user_limit, "user", str(session.created_by_id))
    if (project_limit := above.project.limit_sessions) is not None:
        _require(
            others.filter(project_id=session.project_id).count(), project_limit, "project", str(session.project_id)
        )


def _require(taken: int, limit: int, scope: str, owner: str) -> None:
    if taken < limit:
        return
    who = "an owner of the project" if scope == "project" else "an administrator"
    raise TooManySessions(
        f"the {scope} has {taken} sessions at work, and may have {limit} at once",
        next_step=f"wait until one ends, pause or cancel one, or have {who} raise the limit"
        f" (./archon limits set --{scope} {owner} --sessions NUMBER)",
        scope=scope,
        limit=limit,
        taken=taken,
    )

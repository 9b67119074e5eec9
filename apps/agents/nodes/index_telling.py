"""Having the index of code follow a session's files."""

from __future__ import annotations

import logging

from apps.agents.nodes.context import RunContext
from apps.context.freshness import session_files_changed
from apps.core.database import DATABASE_AWAY
from apps.core.errors import ApplicationError

logger = logging.getLogger(__name__)


async def index_tell(context: RunContext, tree: str) -> None:
    """Have the index follow the session's files; what gets lost is made up for by the next call that changes some.

    Agents don't wait for that: what they ask the index follows their files first. So a lane tells it nothing.
    """
    facts = context.facts
    if context.lane is not None:
        return
    try:
        await context.ledger.database.run_in_thread(
            session_files_changed, project_id=facts.project_id, session_id=facts.session_id, tree=tree
        )
    except (ApplicationError, *DATABASE_AWAY) as error:
        logger.warning("the index of session %s was not told of its files: %s", facts.session_id, error)

"""What the queue wakes: a session that wants to run, and the sweep that finds those nobody runs."""

from __future__ import annotations

import uuid

from celery import shared_task

from apps.agents.services.attachments import attachments_prune
from apps.agents.services.leftovers import (
    checkpoints_prune,
    images_prune,
    reservations_prune,
    session_files_prune,
)
from apps.agents.services.publish_jobs import publish_execute
from apps.agents.services.publishing import publication_wanted_list
from apps.agents.services.sessions import sessions_wanted_take


@shared_task(name="apps.agents.tasks.execute_session")
def execute_session(session_id: str) -> None:
    """Hand the session to this process's event loop; the lease decides who really runs it."""
    # The agent stack (LangGraph, LangChain, vendors) costs seconds to import: only a worker that runs sessions has it.
    from apps.agents.services.session_host import session_host

    session_host().submit(uuid.UUID(session_id))


@shared_task(name="apps.agents.tasks.sweep_sessions")
def sweep_sessions() -> None:
    """Wake every session that should run and that no living worker holds."""
    for session_id in sessions_wanted_take():
        execute_session.delay(str(session_id))


@shared_task(name="apps.agents.tasks.publish_session")
def publish_session(publication_id: str) -> None:
    """Push the session's branch; the lease decides who really does."""
    publish_execute(publication_id=uuid.UUID(publication_id))


@shared_task(name="apps.agents.tasks.sweep_publications")
def sweep_publications() -> None:
    """Wake every publication that is wanted now and that no living worker holds."""
    for publication_id in publication_wanted_list():
        publish_session.delay(str(publication_id))


@shared_task(name="apps.agents.tasks.prune_sessions")
def prune_sessions() -> None:
    """Delete what sessions that have ended, or whose project is gone, left behind, and count what their calls hold."""
    reservations_prune()
    checkpoints_prune()
    session_files_prune()
    attachments_prune()
    images_prune()

"""Handing work to the workers.

The queue is only a wake-up: the truth is a row that was committed first. A message that is lost is sent again by the
sweeper, one that comes twice meets a lease.
"""

from __future__ import annotations

import logging

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)


def enqueue_on_commit(task_name: str, **kwargs: str) -> None:
    """Send the Celery task once the current transaction has committed.

    A broker that is away is logged and left to the sweeper, since the row already says what has to be done.
    """

    def send() -> None:
        try:
            current_app.send_task(task_name, kwargs=kwargs, retry=False)
        except (OperationalError, OSError) as error:
            logger.warning("queue unavailable, the sweeper will send %s: %s", task_name, error)

    transaction.on_commit(send)

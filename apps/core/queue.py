"""Handing work to the workers.

The queue is only a wake-up: the truth is a row that was committed first. A message that is lost is sent again by the
sweeper, one that comes twice meets a lease.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)

#: Messages that may wait for a broker that is away; more are left to the sweeper.
WAITING_MESSAGES = 1000
# One thread of its own: a broker that is away holds up neither a request nor a commit. It ends with the process.
_sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="enqueue")
_waiting = BoundedSemaphore(WAITING_MESSAGES)


def enqueue_on_commit(task_name: str, **kwargs: str) -> None:
    """Send the Celery task once the current transaction has committed."""
    transaction.on_commit(lambda: enqueue(task_name, **kwargs))


def enqueue(task_name: str, **kwargs: str) -> None:
    """Send the Celery task; returns at once.

    A broker that is away is logged and left to the sweeper, since the row already says what has to be done.
    """

    def send() -> None:
        try:
            # Without `ignore_result` sending would also wait for the result store.
            current_app.send_task(task_name, kwargs=kwargs, retry=False, ignore_result=True)
        except (OperationalError, OSError) as error:
            logger.warning("queue unavailable, the sweeper will send %s: %s", task_name, error)
        finally:
            _waiting.release()

    if _waiting.acquire(blocking=False):
        _sender.submit(send)
    else:
        logger.warning("queue unavailable for long, the sweeper will send %s", task_name)

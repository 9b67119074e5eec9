"""Filling vectors in a worker: one project at a time, and none for so long that the others have to wait for it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque

from django.db import close_old_connections

from apps.context.indexing import is_stopping
from apps.context.vectors import vectors_fill
from apps.core.database import DATABASE_AWAY
from apps.core.kill_points import kill_points_of

logger = logging.getLogger(__name__)

#: After so long another project that waits has its turn; what was begun goes on behind it.
TURN_SECONDS = 10.0


class _Turns:
    """The projects of this process whose vectors are to be filled."""

    def __init__(self) -> None:
        self._waiting: deque[uuid.UUID] = deque()
        self._is_taken = False
        self._lock = threading.Lock()

    def join(self, project_id: uuid.UUID) -> bool:
        """Have the project take its turn; whether the caller is who fills them all."""
        with self._lock:
            if project_id not in self._waiting:
                self._waiting.append(project_id)
            if self._is_taken:
                return False
            self._is_taken = True
            return True

    def next(self) -> uuid.UUID | None:
        """Whose turn it is. None: there is none, and the next one to join fills them."""
        with self._lock:
            if self._waiting and not is_stopping():
                return self._waiting.popleft()
            self._is_taken = False
            return None

    def leave(self) -> None:
        with self._lock:
            self._is_taken = False

    def is_anybody_waiting(self) -> bool:
        return bool(self._waiting)


_turns = _Turns()


def vectors_run(*, project_id: uuid.UUID) -> None:
    """Fill a project's vectors, or leave them to the thread of this process that fills."""
    if is_stopping() or not _turns.join(project_id):
        return
    try:
        while (turn := _turns.next()) is not None:
            if not _turn(turn):
                _turns.join(turn)
    except BaseException:
        _turns.leave()
        raise
    finally:
        close_old_connections()


def _turn(project_id: uuid.UUID) -> bool:
    """Whether there is nothing left to do for it, as far as this process can."""
    until = time.monotonic() + TURN_SECONDS
    is_cut_short = False

    def stop() -> bool:
        nonlocal is_cut_short
        is_cut_short = is_cut_short or (time.monotonic() > until and _turns.is_anybody_waiting())
        return is_cut_short or is_stopping()

    try:
        with kill_points_of(project_id):
            vectors_fill(project_id=project_id, stop=stop)
    except DATABASE_AWAY as error:
        logger.warning("the database is away, the vectors of %s are left to the next sweep: %s", project_id, error)
        return True
    return not is_cut_short

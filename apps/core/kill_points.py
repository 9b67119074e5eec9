"""Places where a process may be made to die, so that tests and benchmarks kill it exactly there.

Nothing happens at a point unless ``ARCHON_KILL_POINTS`` names a unix socket, which production's settings refuse. Then
the process tells the socket where it is, and stands still until it is told to go on, or is killed:

    {"point": "commit.moved", "pid": 4711, "session": "…"}      one line; whoever listens answers with one byte

A process that meets a socket on which nobody listens goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextvars import ContextVar

from django.conf import settings

logger = logging.getLogger(__name__)

#: Every point, in the order in which a session (and then a job of indexing) meets them, and what has happened there.
KILL_POINTS = {
    "model.reserved": "the most that a model call may cost is reserved; nothing was sent yet",
    "model.replied": "the reply has come; nothing of it is written",
    "model.settled": "the reply and what it cost are written",
    "tool.intended": "a tool call is written down; nothing of it is done",
    "command.running": "the sandbox has taken a command, which runs while the process stands still",
    "tool.effected": "a tool call is carried out; its result is not written",
    "tool.recorded": "the result of a tool call is written",
    "effect.applied": "rows of a plan or task are changed, in a transaction that is not committed",
    "plan.recorded": "the plan's rows are written",
    "plan.returned": "the planner has in its conversation what a person says against its plan; it was not asked yet",
    "plan.revised": "the plan has another version; nobody has been told to go on",
    "lane.begun": "a task that is to be worked on beside others is begun; it has no worktree yet",
    "commit.made": "git has the commit; the branch is where it was",
    "commit.moved": "the branch is at the commit; nothing in the database says so",
    "task.judged": "the checks have run on the commit; nothing of it is written",
    "lane.made": "what a task did is one commit on what others have done; nothing of it is checked",
    "lane.returned": "work that doesn't fit is back in its worktree, with the others' merged in; no row says so",
    "lane.merged": "the session's branch has what a task did beside others; no row says so",
    "lane.accepted": "the task's row says that what was merged is done; its worktree is there",
    "task.accepted": "the task's row says that it is done",
    "checkpoint.before": "a node has run; the checkpoint after it is not written",
    "checkpoint.written": "the checkpoint is written",
    "report.before": "all is done but the session's last write",
    "report.written": "the session is completed; what it holds is not let go of",
    "merge.before": "a merge is worked out; the target branch is where it was",
    "merge.moved": "the target branch has the work; no row says so",
    "publish.pushed": "the session's branch is on the origin; no row says so",
    "publish.opened": "the pull request is there; no row says so",
    "index.parsing": "files are with the parsers of an index; what they made is not written",
    "index.writing": "rows and postings of files are written, in a transaction that is not committed",
    "index.written": "files are written; those that come next are not",
    "index.read": "every file of a commit is written; the tree is still that of the one before",
    "index.taken": "the tree is the commit's; the job's row says that it runs",
    "overlay.read": "what files of a session are otherwise than the commit is read; the index holds what it held",
    "vectors.embedded": "texts are embedded, and kept by the cache; the index has no vectors of them",
    "vectors.written": "the index has the vectors of some texts; others are missing",
}

_session: ContextVar[str] = ContextVar("kill_point_session", default="")


@contextlib.contextmanager
def kill_points_of(session_id: object) -> Iterator[None]:
    """The points that are met inside belong to this session (job of indexing, or project whose vectors are filled)."""
    token = _session.set(str(session_id))
    try:
        yield
    finally:
        _session.reset(token)


def kill_point(name: str) -> None:
    """The process may die here. Blocks whoever calls it, the event loop included: nothing else happens meanwhile."""
    if not settings.ARCHON_KILL_POINTS:
        return
    told = {"point": name, "pid": os.getpid(), "session": _session.get()}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(settings.ARCHON_KILL_POINTS)
            connection.sendall(json.dumps(told).encode() + b"\n")
            connection.recv(1)
    except OSError as error:
        logger.warning("nobody listens at the kill point %s: %s", name, error)

"""``ws/index/{project_id}/``: events of a project's jobs of indexing. The protocol is in docs/reference/websocket.md.

Jobs are numbered in the order in which they were wanted, and each has its first event from that moment on. They are
told in this order, so a client that has an event of one job has met all jobs before it: what it names of these goes on
after the event that it has, the others it has seen to their end, and all later ones are new to it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from apps.authentication.types import Credentials
from apps.chat import sockets
from apps.chat.live import Live
from apps.chat.sockets import Hello, WatchConsumer, after_parse, credentials_check, event_json
from apps.context.models import ACTIVE_JOB_STATES, IndexEvent, JobState
from apps.context.selectors import job_events, jobs_after, jobs_current, jobs_named
from apps.context.types import JobHead
from apps.core.errors import InvalidInput, NotFound
from apps.core.realtime import Message
from apps.projects.selectors import project_get_for_user

#: Jobs that a client may name.
SEEN_JOBS = 100
_ENDINGS = {
    "IndexCompleted": JobState.COMPLETED,
    "IndexFailed": JobState.FAILED,
    "IndexCancelled": JobState.CANCELLED,
}


class IndexConsumer(WatchConsumer):
    """One client watching one project's index."""

    async def watch(self, live: Live, hello: Hello) -> None:
        project_id: uuid.UUID = self.scope["url_route"]["kwargs"]["project_id"]
        seen = seen_read(hello)
        credentials = await live.database.run_in_thread(hello.credentials_find)
        reader = JobsReader(live=live, project_id=project_id, credentials=credentials)
        # Subscribed before the first look, so that what happens in between rings the bell.
        async with live.indexes.watched(project_id) as bell:
            await reader.right_check()
            heads = await reader.jobs_first(list(seen))
            await self.frame_send({"type": "ready", "jobs": [_head_json(head) for head in heads]})
            # By its id, the last event that the client has of each job that has not ended for it.
            jobs = {head.id: seen.get(head.id, 0) for head in heads}
            last = max((head.number for head in heads), default=0)
            await self._follow(reader, bell, jobs=jobs, last=last)

    async def _follow(
        self, reader: JobsReader, bell: asyncio.Queue[Message], *, jobs: dict[uuid.UUID, int], last: int
    ) -> None:
        """Send rows until the client goes or loses the right to watch; ``last`` is the last job that it knows of."""
        check_at = time.monotonic() + sockets.RIGHT_SECONDS
        while True:
            if time.monotonic() >= check_at:
                await reader.right_check()
                check_at = time.monotonic() + sockets.RIGHT_SECONDS
            heads = await reader.jobs_next(list(jobs), after=last)
            new = sum(head.number > last for head in heads)
            told = {}
            for head in heads:
                last = max(last, head.number)
                after, ended = await self._job_tell(reader, head, after=jobs.get(head.id, 0))
                if not ended:
                    told[head.id] = after
            # What ended is done with, and so is what is there no more.
            jobs = told
            if new < sockets.PAGE:
                await self._news(bell, jobs=jobs, until=check_at)

    async def _job_tell(self, reader: JobsReader, head: JobHead, *, after: int) -> tuple[int, bool]:
        """Send what the client has not of a job; the last event's number, and whether that was the end."""
        ended = head.state if head.state not in ACTIVE_JOB_STATES and after >= head.seq else ""
        more = after < head.seq
        while more:
            rows = await reader.event_page(head.id, after=after)
            # Of what has come since this page, a bell tells.
            more = len(rows) == sockets.PAGE
            for row in rows:
                await self.frame_send({"type": "event", "job": str(head.id), "event": _event_json(row)})
                after, ended = row.seq, _ENDINGS.get(row.type, "")
        if ended:
            await self.frame_send({"type": "end", "job": str(head.id), "state": str(ended)})
        return after, bool(ended)

    async def _news(self, bell: asyncio.Queue[Message], *, jobs: Mapping[uuid.UUID, int], until: float) -> None:
        """Wait for an event that the client doesn't have, or until it is time to see whether it may still watch."""
        known = {str(job_id): after for job_id, after in jobs.items()}
        while (left := until - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    message = await bell.get()
            except TimeoutError:
                return
            if "seq" not in message or message["seq"] > known.get(message.get("job", ""), 0):
                return


class JobsReader:
    """Reads one project's jobs for whom the credentials belong to, from an event loop."""

    def __init__(self, *, live: Live, project_id: uuid.UUID, credentials: Credentials) -> None:
        self._database = live.database
        self._project_id = project_id
        self._credentials = credentials

    async def right_check(self) -> None:
        """NotFound or NotAuthenticated when the right to watch is gone."""

        def check() -> None:
            credentials_check(self._credentials)
            project_get_for_user(user=self._credentials.user, project_id=self._project_id)

        await self._database.run_in_thread(check)

    async def jobs_first(self, job_ids: Sequence[uuid.UUID]) -> list[JobHead]:
        """The jobs that are named, or without any those that are under way and the last. Raises NotFound."""
        if not job_ids:
            return await self._database.run_in_thread(jobs_current, project_id=self._project_id)
        heads = await self._database.run_in_thread(jobs_named, project_id=self._project_id, job_ids=job_ids)
        if len(heads) < len(job_ids):
            raise NotFound("a job that you name is not this project's, or is there no more: name none to begin anew")
        return heads

    async def jobs_next(self, job_ids: Sequence[uuid.UUID], *, after: int) -> list[JobHead]:
        """These jobs as they are now, and the next ones after that number."""

        def read() -> list[JobHead]:
            named = jobs_named(project_id=self._project_id, job_ids=job_ids) if job_ids else []
            return named + jobs_after(project_id=self._project_id, number=after, limit=sockets.PAGE)

        return await self._database.run_in_thread(read)

    async def event_page(self, job_id: uuid.UUID, *, after: int) -> list[IndexEvent]:
        return await self._database.run_in_thread(job_events, job_id=job_id, after=after, limit=sockets.PAGE)


def seen_read(hello: Hello) -> dict[uuid.UUID, int]:
    """By jobs, the last event that the client has. Raises InvalidInput.

    ``{"seen": {JOB: SEQ}}`` in a frame, ``job=JOB&after=SEQ`` in an address, again for each further job.
    """
    if hello.frame is not None:
        said = hello.frame.get("seen", {})
        pairs = list(said.items()) if isinstance(said, dict) else None
    else:
        names, numbers = hello.query.get("job", []), hello.query.get("after", [])
        pairs = list(zip(names, numbers, strict=True)) if len(names) == len(numbers) else None
    if pairs is None or len(pairs) > SEEN_JOBS:
        raise InvalidInput(f"`seen` must give the last event that you have of each of at most {SEEN_JOBS} jobs")
    try:
        seen = {uuid.UUID(name): after_parse(after) for name, after in pairs}
    except ValueError:
        raise InvalidInput("a job that you name has no id of a job") from None
    if len(seen) < len(pairs):
        raise InvalidInput("you name a job twice")
    return seen


def _head_json(head: JobHead) -> dict[str, Any]:
    return {"job": str(head.id), "target": head.target, "state": head.state, "last_seq": head.seq}


def _event_json(event: IndexEvent) -> dict[str, Any]:
    return event_json(seq=event.seq, kind=event.type, payload=event.payload, created_at=event.created_at)

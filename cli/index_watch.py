"""Following a job of indexing: told by the server as it happens, or asked for where WebSockets don't get through."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed

from cli.client import Api
from cli.resources import IndexJob
from cli.websocket import OPEN_FAILURES, websocket_address, websocket_open

ENDED = ("completed", "failed", "cancelled")
_POLL_SECONDS = 0.3
_MAX_FRAME = 16 * 1024 * 1024


def job_follow(api: Api, job: IndexJob) -> Iterator[IndexJob]:
    """The job each time that it stands otherwise, and last of all as it has ended.

    How it ended is always asked for: events show progress, and a connection that breaks costs nothing but that.
    """
    if job.state not in ENDED:
        yield from _streamed(api, job)
    while job.state not in ENDED:
        job = api.index_job(job.id)
        yield job
        if job.state not in ENDED:
            time.sleep(_POLL_SECONDS)


def _streamed(api: Api, job: IndexJob) -> Iterator[IndexJob]:
    """By events, until the job's end or until the connection is of no more use."""
    try:
        connection = websocket_open(api, _address(api, job), max_frame=_MAX_FRAME)
    except OPEN_FAILURES:
        return
    with connection:
        try:
            connection.send(json.dumps({"type": "authenticate", "token": api.token, "seen": {job.id: 0}}))
            for text in connection:
                frame = json.loads(text)
                if not isinstance(frame, dict) or frame.get("job") != job.id:
                    continue
                if frame.get("type") == "end":
                    return
                changed = _changed(job, frame.get("event"))
                if changed != job:
                    job = changed
                    yield job
        except (ConnectionClosed, ValueError):
            return


def _changed(job: IndexJob, event: Any) -> IndexJob:
    """The job after an event; its end is for the API to tell."""
    kind, payload = (event.get("type"), event.get("payload")) if isinstance(event, dict) else (None, None)
    if kind == "IndexStarted":
        return job.model_copy(update={"state": "running"})
    if kind == "IndexProgressed" and isinstance(payload, dict):
        return job.model_copy(update={"state": "running", "progress": payload})
    return job


def _address(api: Api, job: IndexJob) -> str:
    return websocket_address(api, f"/ws/index/{job.project}/")

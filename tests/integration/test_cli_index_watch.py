"""Following a job of indexing where WebSockets don't get through, and where a server speaks nonsense."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve

from cli.client import Api
from cli.index_watch import job_follow
from cli.resources import IndexJob
from tests.loopback.json_server import Answer, Asked, JsonServer

JOB = "6f1d9f0e-0000-4000-8000-000000000001"
PROJECT = "6f1d9f0e-0000-4000-8000-000000000002"


def job_json(state: str, **more: Any) -> dict[str, Any]:
    return {"id": JOB, "project": PROJECT, "state": state, **more}


class JobServer(JsonServer):
    """Knows one job, which gets on each time that it is asked for. It speaks no WebSocket."""

    def __init__(self) -> None:
        super().__init__()
        self.left = ["running", "completed"]

    def answer(self, asked: Asked) -> Answer:
        if asked.path != f"/api/context/index/{JOB}/":
            return Answer(404, {"code": "not_found", "detail": "nothing here"})
        return Answer(200, job_json(self.left.pop(0) if len(self.left) > 1 else self.left[0]))


def test_polls_where_websockets_do_not_get_through() -> None:
    with JobServer() as server, Api(base_url=server.url, token="archon_x") as api:
        states = [job.state for job in job_follow(api, IndexJob.model_validate(job_json("waiting")))]
    assert states == ["running", "completed"]


def test_one_that_has_ended_is_not_asked_for() -> None:
    with JobServer() as server, Api(base_url=server.url, token="archon_x") as api:
        assert list(job_follow(api, IndexJob.model_validate(job_json("failed")))) == []
        assert server.asked == []


def event(kind: str, payload: Any) -> str:
    return json.dumps({"type": "event", "job": JOB, "event": {"seq": 1, "type": kind, "payload": payload}})


@pytest.mark.parametrize("last", ["no JSON", "[]", "null", json.dumps({"type": "end", "job": JOB}), None])
def test_how_it_ended_is_asked_for_whatever_the_socket_said(last: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    hellos: list[Any] = []

    def talk(connection: ServerConnection) -> None:
        hellos.append(json.loads(connection.recv(timeout=10)))
        connection.send(json.dumps({"type": "event", "job": "another", "event": {"type": "IndexStarted"}}))
        connection.send(event("IndexStarted", {}))
        connection.send(event("IndexProgressed", {"phase": "parsing", "files_done": 3}))
        connection.send(event("IndexProgressed", "nonsense"))
        if last is not None:
            connection.send(last)
        connection.close()

    with JobServer() as server, serve(talk, "127.0.0.1", 0) as sockets:
        threading.Thread(target=sockets.serve_forever, daemon=True).start()
        port = sockets.socket.getsockname()[1]
        monkeypatch.setattr("cli.index_watch._address", lambda api, job: f"ws://127.0.0.1:{port}/")
        server.left = ["completed"]
        with Api(base_url=server.url, token="archon_x") as api:
            told = list(job_follow(api, IndexJob.model_validate(job_json("waiting"))))
    assert [job.state for job in told] == ["running", "running", "completed"]
    assert told[1].progress["files_done"] == 3
    assert hellos == [{"type": "authenticate", "token": "archon_x", "seen": {JOB: 0}}]

"""Watching a session tells every event once and in order, whatever the connection does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cli.client import Api
from cli.errors import ApiError
from cli.resources import Event
from cli.watch import Ended, Item, SessionWatch
from tests.loopback.session_server import TOKEN, SessionServer

SESSION = "6f1d9f0e-0000-4000-8000-000000000001"


def events(numbers: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {"seq": seq, "type": "PhaseChanged", "payload": {"phase": str(seq)}, "created_at": "2026-01-01T00:00:00Z"}
        for seq in numbers
    ]


def watch(server: SessionServer, *, after: int = 0, token: str = TOKEN) -> list[Item]:
    with server.running() as url, Api(base_url=url, token=token) as api:
        return list(SessionWatch(api=api, session_id=SESSION, after=after))


def numbers(items: list[Item]) -> list[int]:
    return [item.seq for item in items if isinstance(item, Event)]


def test_tells_all_events_and_the_end() -> None:
    items = watch(SessionServer(events(range(1, 11))))
    assert numbers(items) == list(range(1, 11))
    assert items[-1] == Ended("completed")


def test_starts_after_the_event_that_was_seen() -> None:
    server = SessionServer(events(range(1, 11)))
    assert numbers(watch(server, after=7)) == [8, 9, 10]
    assert server.connections == [7]


def test_a_connection_that_breaks_is_resumed_without_gap_or_repetition() -> None:
    server = SessionServer(events(range(1, 11)), drop_after=4)
    assert numbers(watch(server)) == list(range(1, 11))
    assert server.connections[:3] == [0, 4, 8]


def test_events_that_come_twice_are_told_once() -> None:
    server = SessionServer(events(range(1, 11)), drop_after=6, repeat=3)
    assert numbers(watch(server)) == list(range(1, 11))


def test_polls_where_websockets_do_not_get_through() -> None:
    server = SessionServer(events(range(1, 11)), refuse_websocket=True)
    items = watch(server)
    assert numbers(items) == list(range(1, 11))
    assert items[-1] == Ended("completed")
    assert server.connections == []
    assert server.polls[:4] == [0, 3, 6, 9]


@pytest.mark.parametrize("refuse_websocket", [False, True])
def test_a_gap_is_an_error_and_not_passed_over(refuse_websocket: bool) -> None:
    server = SessionServer(events([1, 2, 4]), refuse_websocket=refuse_websocket)
    with pytest.raises(ApiError, match="event 3 is missing") as caught:
        watch(server)
    assert caught.value.code == "event_gap"


@pytest.mark.parametrize("refuse_websocket", [False, True])
def test_a_token_that_is_refused_is_said_at_once(refuse_websocket: bool) -> None:
    server = SessionServer(events([1]), refuse_websocket=refuse_websocket)
    with pytest.raises(ApiError) as caught:
        watch(server, token="archon_other")
    assert caught.value.status == 401

"""``ws/agent/{session_id}/``: who may watch, and that nothing is missed or told twice."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.db import connections
from pytest_django.fixtures import Settings

from apps.agents.models import AgentSession, SessionEvent, SessionHead
from apps.agents.services.sessions import event_append, session_create, session_stop
from apps.agents.types import AgentType, Event, SessionStatus
from apps.authentication.models import User
from apps.authentication.services.api_keys import api_key_create, api_key_delete
from apps.authentication.services.credentials import credentials_get, ticket_create
from apps.chat import sockets
from apps.chat.live import live_close, live_get
from apps.projects.models import Membership
from apps.projects.services import project_create
from tests.integration.socket_client import Watcher

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


class Scene:
    """A session with somebody who may watch it."""

    def __init__(self, user: User, session: AgentSession, key: str) -> None:
        self.user = user
        self.session = session
        self.key = key
        self.path = f"/ws/agent/{session.id}/"

    async def append(self, count: int) -> None:
        await sync_to_async(self._append)(count)

    def _append(self, count: int) -> None:
        event_append(session_id=self.session.id, events=[Event("PhaseChanged", {"at": at}) for at in range(count)])

    async def cancel(self) -> None:
        await sync_to_async(session_stop)(
            session_id=self.session.id,
            status=SessionStatus.CANCELLED,
            allowed=[SessionStatus.PENDING],
            event=Event("SessionCancelled"),
        )

    def hello(self, *, after: Any = 0) -> dict[str, Any]:
        return {"type": "authenticate", "token": self.key, "after": after}


def scene_make() -> Scene:
    user = User.objects.create_user(f"{uuid.uuid4().hex}@example.org", None)
    project = project_create(user=user, name="watched")
    session = session_create(
        session_id=uuid.uuid4(),
        project=project,
        user_id=user.id,
        goal="be watched",
        agent_type=AgentType.EXECUTOR,
        model="scripted:none",
        base_url="",
        base_branch="main",
        base_commit="0" * 40,
        check_commands=[],
        setup_command="",
        limit_seconds=60,
    )
    return Scene(user, session, api_key_create(user=user, name="test").value)


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    yield await sync_to_async(scene_make)()
    await live_close()
    await sync_to_async(connections.close_all)()


def numbers(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["event"]["seq"] for frame in frames if frame["type"] == "event"]


async def test_replays_then_goes_on_live_and_tells_the_end(scene: Scene) -> None:
    await scene.append(4)
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        assert await watcher.frame() == {"type": "ready", "last_seq": 5, "status": "pending"}
        replayed = [await watcher.frame() for _ in range(5)]
        assert numbers(replayed) == [1, 2, 3, 4, 5]
        assert replayed[0]["event"]["type"] == "SessionCreated"
        await scene.append(3)
        await scene.cancel()
        live = await watcher.frames_until("end")
        assert numbers(live) == [6, 7, 8, 9]
        assert live[-1] == {"type": "end", "status": "cancelled"}
        # What still happens to an ended session (a merge, say) is told, too.
        await scene.append(1)
        assert numbers([await watcher.frame()]) == [10]


async def test_events_are_told_as_the_api_tells_them(scene: Scene) -> None:
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        frames = await watcher.frames_until("event")
    row = await sync_to_async(SessionEvent.objects.get)(session=scene.session, seq=1)
    assert frames[-1]["event"] == {
        "seq": 1,
        "type": "SessionCreated",
        "payload": row.payload,
        "created_at": row.created_at.isoformat().replace("+00:00", "Z"),
    }


async def test_resumes_after_the_client_s_last_event(scene: Scene) -> None:
    await scene.append(9)
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello(after=7))
        await watcher.frame()
        assert numbers([await watcher.frame() for _ in range(3)]) == [8, 9, 10]


async def test_an_ended_session_is_replayed_and_ends(scene: Scene) -> None:
    await scene.cancel()
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        frames = await watcher.frames_until("end")
    assert [frame["type"] for frame in frames] == ["ready", "event", "event", "end"]


async def test_writers_and_watchers_at_once_miss_and_repeat_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "PAGE", 7)

    async def write() -> None:
        for _ in range(20):
            await scene.append(5)
        await scene.cancel()

    async def watch() -> list[int]:
        async with Watcher(scene.path) as watcher:
            await watcher.send(scene.hello())
            return numbers(await watcher.frames_until("end"))

    results = await asyncio.gather(write(), *(watch() for _ in range(5)))
    for seen in results[1:]:
        assert seen == list(range(1, 103))


async def test_a_lost_bell_delays_and_loses_nothing(scene: Scene) -> None:
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        await watcher.frames_until("event")
        row = await sync_to_async(SessionEvent.objects.get)(session=scene.session, seq=1)
        # Written behind the back of everything that rings.
        await sync_to_async(SessionEvent.objects.create)(
            session=scene.session, seq=2, type="PhaseChanged", payload={}, created_at=row.created_at
        )
        await sync_to_async(SessionHead.objects.filter(session=scene.session).update)(seq=2)
        assert numbers([await watcher.frame()]) == [2]


async def test_deltas_are_passed_on_and_not_replayed(scene: Scene) -> None:
    topic = f"session:{scene.session.id}"
    delta = {"execution": "x", "role": "coder", "step": 4, "text": "Let me"}
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        await watcher.frames_until("event")
        received = asyncio.create_task(watcher.frame())
        while not received.done():
            # The subscription takes a moment to reach Redis; a delta before that is nobody's.
            await live_get().hub.publish(topic, {"delta": delta})
            await asyncio.sleep(0.05)
        assert await received == {"type": "delta", **delta}
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        assert [(await watcher.frame())["type"], (await watcher.frame())["type"]] == ["ready", "event"]


async def test_a_ticket_lets_in_once(scene: Scene) -> None:
    credentials = await sync_to_async(credentials_get)(scene.key)
    ticket = await sync_to_async(ticket_create)(credentials=credentials)
    async with Watcher(f"{scene.path}?ticket={ticket}&after=0") as watcher:
        assert (await watcher.frame())["type"] == "ready"
    async with Watcher(f"{scene.path}?ticket={ticket}") as watcher:
        assert await watcher.closed() == 4401


@pytest.mark.parametrize(
    "text",
    [" ", "nonsense", "[]", '{"type": "hello"}', '{"type": "authenticate"}', '{"type": "authenticate", "token": 1}'],
)
async def test_a_first_frame_that_makes_no_sense_is_refused(text: str, scene: Scene) -> None:
    async with Watcher(scene.path) as watcher:
        await watcher.send_text(text)
        assert await watcher.closed() == 4400


@pytest.mark.parametrize("after", [-1, "x", None, 1.5, True, 2**63, [1]])
async def test_a_number_that_no_event_has_is_refused(after: Any, scene: Scene) -> None:
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello(after=after))
        assert await watcher.closed() == 4400


async def test_a_wrong_token_is_refused(scene: Scene) -> None:
    for token in ("archon_" + "0" * 40, "nonsense", ""):
        async with Watcher(scene.path) as watcher:
            await watcher.send({"type": "authenticate", "token": token, "after": 0})
            assert await watcher.closed() == 4401


async def test_a_silent_client_is_closed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "AUTHENTICATE_SECONDS", 0.1)
    async with Watcher(scene.path) as watcher:
        assert await watcher.closed() == 4408


async def test_a_stranger_learns_nothing_about_the_session(scene: Scene) -> None:
    stranger = await sync_to_async(scene_make)()
    for path in (scene.path, f"/ws/agent/{uuid.uuid4()}/"):
        async with Watcher(path) as watcher:
            await watcher.send(stranger.hello())
            assert await watcher.closed() == 4404


async def test_an_address_that_is_none_is_closed() -> None:
    async with Watcher("/ws/nothing/") as watcher:
        assert await watcher.closed() == 4404


async def test_who_loses_membership_is_closed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "RIGHT_SECONDS", 0.1)
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        await watcher.frames_until("event")
        await sync_to_async(Membership.objects.filter(user=scene.user).delete)()
        assert await watcher.closed() == 4404


async def test_a_revoked_key_is_closed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "RIGHT_SECONDS", 0.1)
    credentials = await sync_to_async(credentials_get)(scene.key)
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        await watcher.frames_until("event")
        await sync_to_async(api_key_delete)(user=scene.user, key_id=credentials.source_id)
        assert await watcher.closed() == 4401


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://archon.test", True),
        ("https://console.example", True),
        ("https://evil.example", False),
        ("http://archon.test.evil.example", False),
        ("null", False),
    ],
)
async def test_web_pages_of_elsewhere_may_not_connect(
    origin: str, allowed: bool, scene: Scene, settings: Settings
) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://console.example"]
    settings.ALLOWED_HOSTS = ["archon.test"]
    async with Watcher(scene.path, origin=origin) as watcher:
        await watcher.send(scene.hello())
        if allowed:
            assert (await watcher.frame())["type"] == "ready"
        else:
            assert await watcher.closed() == 4403


async def test_a_page_whose_own_name_points_here_may_not_connect(scene: Scene, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["localhost"]
    async with Watcher(scene.path, origin="http://archon.test") as watcher:
        assert await watcher.closed() == 4403

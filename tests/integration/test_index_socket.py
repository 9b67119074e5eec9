"""``ws/index/{project_id}/``: who may watch an index, and that nothing is missed or told twice."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.db import connections
from django.utils import timezone

from apps.authentication.models import User
from apps.authentication.services.api_keys import api_key_create
from apps.authentication.services.credentials import credentials_get, ticket_create
from apps.chat import sockets
from apps.chat.live import live_close
from apps.context.freshness import session_files_forget
from apps.context.jobs import event_add, index_claim, index_release, job_cancel, job_end, job_take, job_want
from apps.context.models import IndexEvent, IndexJob, JobState, JobTarget
from apps.context.pruning import indexes_prune
from apps.projects.models import Membership, Project, RepositoryState
from apps.projects.services import project_create
from tests.integration.socket_client import Watcher

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio, pytest.mark.slow]

Frames = list[dict[str, Any]]


class Scene:
    """A project whose index somebody may watch."""

    def __init__(self, user: User, project: Project, key: str) -> None:
        self.user = user
        self.project = project
        self.key = key
        self.path = f"/ws/index/{project.id}/"

    async def want(self, *, session_id: uuid.UUID | None = None) -> IndexJob:
        target = JobTarget.HEAD if session_id is None else JobTarget.SESSION
        return await sync_to_async(job_want)(project=self.project, target=target, session_id=session_id)

    async def work(self, job: IndexJob, *, steps: int) -> None:
        """A worker does so much of the job as to write some progress, and ends it."""
        await sync_to_async(self._work)(job, steps)

    def _work(self, job: IndexJob, steps: int) -> None:
        lease = index_claim(job.index_id)
        assert lease is not None
        taken = job_take(lease)
        assert taken is not None and taken.id == job.id
        for step in range(steps):
            event_add(taken, "IndexProgressed", {"phase": "parsing", "files_done": step})
        job_end(lease, taken, state=JobState.COMPLETED, commit="c" * 40)
        index_release(lease)

    async def progress(self, job: IndexJob, count: int) -> None:
        def add() -> None:
            for step in range(count):
                event_add(job, "IndexProgressed", {"files_done": step})

        await sync_to_async(add)()

    def hello(self, **seen: Any) -> dict[str, Any]:
        return {"type": "authenticate", "token": self.key, **seen}


def scene_make() -> Scene:
    user = User.objects.create_user(f"{uuid.uuid4().hex}@example.org", None)
    project = project_create(user=user, name="watched")
    Project.objects.filter(id=project.id).update(repository_state=RepositoryState.READY, default_branch="main")
    project.refresh_from_db()
    return Scene(user, project, api_key_create(user=user, name="test").value)


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    yield await sync_to_async(scene_make)()
    await live_close()
    await sync_to_async(connections.close_all)()


def numbers(frames: Frames, job: IndexJob) -> list[int]:
    return [frame["event"]["seq"] for frame in frames if frame["type"] == "event" and frame["job"] == str(job.id)]


async def frames_until_end(watcher: Watcher, job: IndexJob) -> Frames:
    frames = [await watcher.frame()]
    while frames[-1].get("type") != "end" or frames[-1]["job"] != str(job.id):
        frames.append(await watcher.frame())
    return frames


async def test_tells_the_job_that_is_under_way_and_those_that_begin_later(scene: Scene) -> None:
    first = await scene.want()
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        assert await watcher.frame() == {
            "type": "ready",
            "jobs": [{"job": str(first.id), "target": "head", "state": "waiting", "last_seq": 1}],
        }
        await scene.work(first, steps=3)
        frames = await frames_until_end(watcher, first)
        assert numbers(frames, first) == [1, 2, 3, 4, 5, 6]
        assert frames[0]["event"]["type"] == "IndexQueued" and frames[-2]["event"]["type"] == "IndexCompleted"
        assert frames[-1] == {"type": "end", "job": str(first.id), "state": "completed"}
        second = await scene.want()
        await scene.work(second, steps=0)
        frames = await frames_until_end(watcher, second)
        assert [(frame["type"], frame["job"]) for frame in frames] == [("event", str(second.id))] * 3 + [
            ("end", str(second.id))
        ]


async def test_events_are_told_as_the_api_tells_them(scene: Scene) -> None:
    job = await scene.want()
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        frames = await watcher.frames_until("event")
    row = await sync_to_async(IndexEvent.objects.get)(job=job, seq=1)
    assert frames[-1]["event"] == {
        "seq": 1,
        "type": "IndexQueued",
        "payload": {"target": "head"},
        "created_at": row.created_at.isoformat().replace("+00:00", "Z"),
    }


async def test_a_project_without_an_index_is_waited_for(scene: Scene) -> None:
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        assert await watcher.frame() == {"type": "ready", "jobs": []}
        job = await scene.want()
        assert numbers([await watcher.frame()], job) == [1]


async def test_the_last_job_is_told_where_none_is_under_way(scene: Scene) -> None:
    await scene.work(await scene.want(), steps=3)
    job = await scene.want()
    await scene.work(job, steps=1)
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        frames = await frames_until_end(watcher, job)
    assert {frame["job"] for frame in frames[1:]} == {str(job.id)}
    assert numbers(frames, job) == [1, 2, 3, 4]


async def test_who_comes_back_in_the_middle_misses_and_repeats_nothing(scene: Scene) -> None:
    head, session = await scene.want(), await scene.want(session_id=uuid.uuid4())
    await scene.progress(head, 4)
    seen: dict[str, int] = {}
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        before = [await watcher.frame() for _ in range(7)][1:]
    for frame in before:
        seen[frame["job"]] = frame["event"]["seq"]
    assert seen == {str(head.id): 5, str(session.id): 1}
    # Meanwhile both go on, and others come.
    await scene.work(head, steps=2)
    await scene.work(session, steps=1)
    third = await scene.want()
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello(seen=seen))
        assert [job["job"] for job in (await watcher.frame())["jobs"]] == [str(head.id), str(session.id)]
        await scene.work(third, steps=0)
        after = await frames_until_end(watcher, third)
    assert numbers(before + after, head) == list(range(1, 10))
    assert numbers(before + after, session) == list(range(1, 5))
    assert numbers(after, third) == [1, 2, 3]
    # Ended jobs that were told to their end needn't be named, if a later one is.
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello(seen={str(third.id): 3}))
        assert [(await watcher.frame())["type"], (await watcher.frame())["type"]] == ["ready", "end"]
        fourth = await scene.want()
        assert numbers([await watcher.frame()], fourth) == [1]


async def test_workers_and_watchers_at_once_miss_and_repeat_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "PAGE", 3)
    jobs = [await scene.want()]

    async def work() -> None:
        for _ in range(6):
            others = [await scene.want(session_id=uuid.uuid4()) for _ in range(2)]
            for job in (jobs[-1], *others):
                await scene.work(job, steps=5)
            jobs.extend((*others, await scene.want()))
        await scene.work(jobs[-1], steps=0)

    _, *results = await asyncio.gather(work(), *(_watch_by_pieces(scene, ends=19) for _ in range(3)))
    wanted = await sync_to_async(_events_by_job)()
    assert len(wanted) == 19
    for seen in results:
        assert seen == wanted


async def _watch_by_pieces(scene: Scene, *, ends: int) -> dict[str, list[int]]:
    """What is told to a client that goes away after each few frames and comes back with what it has."""
    seen: dict[str, list[int]] = {}
    ended: set[str] = set()
    while len(ended) < ends:
        async with Watcher(scene.path) as watcher:
            # What has ended need not be named, besides the last one.
            named = [job for job in seen if job not in ended or job == list(seen)[-1]]
            await watcher.send(scene.hello(seen={job: seen[job][-1] for job in named}))
            await watcher.frame()
            for _ in range(11):
                frame = await watcher.frame()
                if frame["type"] == "event":
                    seen.setdefault(frame["job"], []).append(frame["event"]["seq"])
                else:
                    ended.add(frame["job"])
                if len(ended) == ends:
                    break
    return seen


def _events_by_job() -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for job_id, seq in IndexEvent.objects.order_by("job_id", "seq").values_list("job_id", "seq"):
        found.setdefault(str(job_id), []).append(seq)
    return found


async def test_a_lost_bell_delays_and_loses_nothing(scene: Scene) -> None:
    job = await scene.want()
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        await watcher.frames_until("event")
        # Written behind the back of everything that rings.
        await sync_to_async(IndexEvent.objects.create)(job=job, seq=2, type="IndexStarted", payload={})
        await sync_to_async(IndexJob.objects.filter(id=job.id).update)(seq=2)
        assert numbers([await watcher.frame()], job) == [2]


async def test_jobs_that_nobody_wants_any_more_are_told_as_cancelled(scene: Scene) -> None:
    session_id = uuid.uuid4()
    head, session = await scene.want(), await scene.want(session_id=session_id)
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        await sync_to_async(session_files_forget)(session_id=session_id)
        frames = await frames_until_end(watcher, session)
        assert frames[-2]["event"]["type"] == "IndexCancelled" and frames[-1]["state"] == "cancelled"
        await sync_to_async(job_cancel)(job=head)
        assert (await frames_until_end(watcher, head))[-1]["state"] == "cancelled"


async def test_numbers_go_on_after_old_jobs_were_forgotten(scene: Scene) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(await scene.want())
        await scene.work(jobs[-1], steps=0)
    await sync_to_async(IndexJob.objects.update)(created_at=timezone.now() - timedelta(days=90))
    await sync_to_async(indexes_prune)()
    left = await sync_to_async(lambda: list(IndexJob.objects.values_list("id", "number")))()
    assert left == [(jobs[-1].id, 3)]
    assert (await scene.want()).number == 4


async def test_a_ticket_lets_in_once_and_names_what_is_known(scene: Scene) -> None:
    head, session = await scene.want(), await scene.want(session_id=uuid.uuid4())
    await scene.progress(head, 2)
    credentials = await sync_to_async(credentials_get)(scene.key)
    ticket = await sync_to_async(ticket_create)(credentials=credentials)
    query = f"?ticket={ticket}&job={head.id}&after=2&job={session.id}&after=1"
    async with Watcher(scene.path + query) as watcher:
        assert (await watcher.frame())["type"] == "ready"
        assert numbers([await watcher.frame()], head) == [3]
    async with Watcher(scene.path + query) as watcher:
        assert await watcher.closed() == 4401


@pytest.mark.parametrize(
    "seen",
    [
        [],
        None,
        "x",
        {"": 1},
        {"nonsense": 1},
        {"00000000-0000-0000-0000-000000000000": -1},
        {"00000000-0000-0000-0000-000000000000": "x"},
        {"00000000-0000-0000-0000-000000000000": None},
        {"00000000-0000-0000-0000-000000000000": True},
        {"00000000-0000-0000-0000-00000000000A": 1, "00000000-0000-0000-0000-00000000000a": 1},
        {str(uuid.UUID(int=number)): 1 for number in range(101)},
    ],
)
async def test_what_no_client_can_have_seen_is_refused(seen: Any, scene: Scene) -> None:
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello(seen=seen))
        assert await watcher.closed() == 4400


@pytest.mark.parametrize("query", ["&after=1", "&job=x&after=1", "&job=", f"&job={uuid.UUID(int=1)}"])
async def test_an_address_that_makes_no_sense_is_refused(query: str, scene: Scene) -> None:
    credentials = await sync_to_async(credentials_get)(scene.key)
    ticket = await sync_to_async(ticket_create)(credentials=credentials)
    async with Watcher(f"{scene.path}?ticket={ticket}{query}") as watcher:
        assert await watcher.closed() == 4400


async def test_a_job_of_another_project_is_not_found(scene: Scene) -> None:
    other = await sync_to_async(scene_make)()
    foreign = await other.want()
    own = await scene.want()
    for job_id in (foreign.id, uuid.uuid4()):
        async with Watcher(scene.path) as watcher:
            await watcher.send(scene.hello(seen={str(own.id): 1, str(job_id): 1}))
            assert await watcher.closed() == 4404


async def test_a_stranger_learns_nothing_about_the_project(scene: Scene) -> None:
    await scene.want()
    stranger = await sync_to_async(scene_make)()
    for path in (scene.path, f"/ws/index/{uuid.uuid4()}/"):
        async with Watcher(path) as watcher:
            await watcher.send(stranger.hello())
            assert await watcher.closed() == 4404
    async with Watcher("/ws/index/nonsense/") as watcher:
        assert await watcher.closed() == 4404
    async with Watcher(scene.path) as watcher:
        await watcher.send({"type": "authenticate", "token": "archon_" + "0" * 40})
        assert await watcher.closed() == 4401
    async with Watcher(scene.path, origin="https://evil.example") as watcher:
        assert await watcher.closed() == 4403


async def test_only_this_project_s_jobs_are_told(scene: Scene) -> None:
    other = await sync_to_async(scene_make)()
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        await watcher.frame()
        foreign = await other.want()
        await other.work(foreign, steps=2)
        own = await scene.want()
        assert (await watcher.frame())["job"] == str(own.id)


async def test_who_loses_membership_is_closed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "RIGHT_SECONDS", 0.1)
    await scene.want()
    async with Watcher(scene.path) as watcher:
        await watcher.send(scene.hello())
        await watcher.frames_until("event")
        await sync_to_async(Membership.objects.filter(user=scene.user).delete)()
        assert await watcher.closed() == 4404


async def test_a_silent_client_is_closed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "AUTHENTICATE_SECONDS", 0.1)
    async with Watcher(scene.path) as watcher:
        assert await watcher.closed() == 4408

"""Workers, parsers, embedders and the database die while code is indexed: afterwards all of it is in, once.

Judged by the API alone, against a project of the same commits that nobody disturbed, and by the endpoint that embeds:
scores are those of BM25, so a posting that was written twice would move them.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.builders import git, repository_build
from tests.fleet import Fleet, fleet_open
from tests.killing import Arrival, KillPoints, kill_points_open
from tests.loopback.embed_server import EmbedServer
from tests.processes import processes_of, wait_until
from tests.stacks import home_open

pytestmark = [pytest.mark.timeout(1200), pytest.mark.xdist_group("index_fleet")]

WORKERS = 2
FILES = 240
#: Texts that are embedded before their vectors are written.
BATCH = 256
_PATIENCE = 240.0
_ENDED = ("completed", "failed", "cancelled")


def source(number: int, *, word: str = "quokka") -> str:
    """A file whose words tell which it is, and which ten others it belongs to."""
    return (
        f'"""Counts {word} number{number}."""\n\n\nclass Holder{number}:\n'
        f'    """Holds group{number // 10} of {word}s."""\n\n'
        f"    def take_{word}_{number}(self, amount):\n        return amount + {number}\n\n\n"
        f"def free_{word}_{number}():\n    return Holder{number}().take_{word}_{number}(1)\n"
    )


def files_make(**options: Any) -> dict[str, str]:
    return {f"pkg{number % 7}/m{number}.py": source(number, **options) for number in range(FILES)}


@dataclass
class Death:
    """Whoever comes to this point at this visit is killed; how often and who came is counted."""

    point: str
    visit: int = 1
    arrivals: list[Arrival] = field(default_factory=list)
    killed: int = 0

    def is_done(self) -> bool:
        return bool(self.killed)


@dataclass
class Scene:
    fleet: Fleet
    points: KillPoints
    embedder: EmbedServer
    folder: Path
    deaths: list[Death] = field(default_factory=list)
    #: Called for each arrival, before it is decided over.
    meanwhile: Callable[[Arrival], object] = lambda arrival: None
    _made: int = 0
    _known: dict[tuple[str, str, str], list[tuple[Any, ...]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.points.decide = self._decide

    # --- the API ------------------------------------------------------------------------------------------------------
    def ask(self, method: str, path: str, **options: Any) -> Any:
        """An answer; the API may be without its database for a while."""
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = httpx.request(
                    method,
                    f"{self.fleet.url}/api/{path}",
                    headers={"Authorization": f"Bearer {self.fleet.api.token}"},
                    timeout=60,
                    trust_env=False,
                    **options,
                )
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
                continue
            if answer.status_code < 500 or time.monotonic() > deadline:
                assert answer.status_code < 300, answer.text
                return answer.json()
            time.sleep(0.3)

    def rows(self, address: str, **params: Any) -> list[dict[str, Any]]:
        """All rows of a list."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.ask("GET", address, params={**params, "limit": 200, "offset": len(found)})
            found += page["results"]
            if page["next"] is None:
                assert len(found) == page["count"]
                return found

    def repository_make(self, files: Mapping[str, str]) -> Path:
        self._made += 1
        return repository_build(self.folder / f"shop{self._made}", files)

    def index(self, project: str) -> str:
        return str(self.ask("POST", "context/index/", json={"project": project})["id"])

    def bring(self, project: str, repository: Path) -> None:
        """Have the server's repository be what is committed here."""
        bundle = repository.parent / f"{repository.name}.bundle"
        git(repository, "bundle", "create", "-q", str(bundle), "main")
        self.fleet.api.repository_upload(project_id=project, bundle=bundle, branch="main")

    def job_end(self, job: str) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE
        while (row := self.ask("GET", f"context/index/{job}/"))["state"] not in _ENDED:
            assert time.monotonic() < deadline, (row, self.fleet.complaints())
            time.sleep(0.2)
        found: dict[str, Any] = row
        return found

    def vectors_ready(self, project: str) -> None:
        def state() -> str:
            return str(self.ask("GET", "context/state/", params={"project": project})["vectors"])

        assert wait_until(lambda: state() == "ready", seconds=_PATIENCE), (state(), self.fleet.complaints())

    def search(self, project: str, query: str, mode: str, *, kind: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """All that is found, and how good it is."""
        body = {"project": project, "query": query, "mode": mode, "limit": 50, "kind": list(kind)}
        found: dict[str, Any] = {}

        def is_answered() -> bool:
            # An embedder that failed a moment ago is not asked by queries for some seconds.
            found.update(self.ask("POST", "vector-store/search/", json=body))
            return mode not in ("vector", "hybrid") or found["indexes"][0]["vectors"] == "ready"

        assert wait_until(is_answered, seconds=_PATIENCE), found
        hits = found["hits"]
        return sorted((hit["path"], hit["start_line"], hit["symbol"], round(hit["score"], 5)) for hit in hits)

    def revive(self) -> None:
        """Have all workers there."""
        self.fleet.revive(workers=WORKERS)
        for worker in self.fleet.workers:
            assert wait_until(worker.is_ready, seconds=_PATIENCE), worker.log.read_text(errors="replace")[-4000:]

    def search_known(self, project: str, query: str, mode: str) -> list[tuple[Any, ...]]:
        """The same, of a project that doesn't change any more."""
        key = (project, query, mode)
        if key not in self._known:
            self._known[key] = self.search(project, query, mode)
        return self._known[key]

    # --- deaths -------------------------------------------------------------------------------------------------------
    def death(self, point: str, visit: int = 1) -> Death:
        made = Death(point, visit)
        with self._lock:
            self.deaths.append(made)
        return made

    def follow(self, project: str) -> None:
        """The time passes after which whoever holds the project's index is thought dead: a minute, or two."""
        self.fleet.rows(
            "UPDATE context_codeindex SET lease_until = clock_timestamp(), vectors_lease_until = clock_timestamp()"
            " WHERE project_id::text = %s RETURNING id",
            (project,),
        )

    def _decide(self, arrival: Arrival) -> None:
        with self._lock:
            self.meanwhile(arrival)
            for death in self.deaths:
                if death.point != arrival.point or death.killed:
                    continue
                death.arrivals.append(arrival)
                if len(death.arrivals) == death.visit:
                    self.kill(arrival.pid)
                    death.killed = arrival.pid

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        worker = self.fleet.worker_of(pid)
        if worker is not None:
            worker.process.wait()


@pytest.fixture(scope="module")
def running() -> Iterator[Scene]:
    with ExitStack() as opened:
        home = opened.enter_context(home_open())
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="archon-test-"))
        points = opened.enter_context(kill_points_open())
        embedder = opened.enter_context(EmbedServer())
        fleet = opened.enter_context(
            fleet_open(
                home,
                workers=WORKERS,
                ARCHON_KILL_POINTS=str(points.path),
                ARCHON_INDEX_AUTO="false",
                ARCHON_EMBEDDER="openai:text-embedding-3-small",
                ARCHON_EMBEDDER_DIMENSION="64",
                ARCHON_INDEX_PROCESSES="2",
                OPENAI_BASE_URL=embedder.base_url,
                OPENAI_API_KEY=embedder.api_key,
            )
        )
        yield Scene(fleet, points, embedder, Path(folder))
        assert embedder.refused == []


@pytest.fixture
def scene(running: Scene) -> Iterator[Scene]:
    running.revive()
    yield running
    running.deaths.clear()
    running.meanwhile = lambda arrival: None
    running.embedder.instead = None


def project_make(scene: Scene, repository: Path) -> str:
    return scene.fleet.project_make(repository).id


@pytest.fixture(scope="module")
def fresh(running: Scene) -> tuple[Path, str]:
    """A repository, and a project of it that was indexed in peace."""
    running.revive()
    repository = running.repository_make(files_make())
    project = project_make(running, repository)
    assert running.job_end(running.index(project))["state"] == "completed"
    running.vectors_ready(project)
    return repository, project


def files_of(scene: Scene, project: str) -> list[tuple[Any, ...]]:
    names = ("path", "blob", "language", "size", "lines", "symbols", "chunks", "complexity", "state", "reason")
    return [tuple(row[name] for name in names) for row in scene.rows("context/files/", project=project)]


def whole_require(
    scene: Scene, project: str, job: str, *, like: str, searched: Sequence[int] = range(0, FILES, 61)
) -> None:
    """The job is done, and everything is as in a project that nobody disturbed."""
    ended = scene.job_end(job)
    assert ended["state"] == "completed", ended
    jobs = scene.rows("context/index/", project=project)
    assert {row["state"] for row in jobs} <= set(_ENDED)
    for row in jobs:
        events = scene.ask("GET", f"context/index/{row['id']}/events/")["events"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        kinds = Counter(event["type"] for event in events)
        assert kinds["IndexQueued"] == 1 and kinds["IndexCompleted"] == (row["state"] == "completed")
        assert kinds["IndexStarted"] == row["attempts"] and events[-1]["type"] != "IndexProgressed"
    files = files_of(scene, project)
    assert len({row[0] for row in files}) == len(files)
    assert files == files_of(scene, like)
    scene.vectors_ready(project)
    asked = [("quokka", "text"), ("quokka", "hybrid"), ("Holder1", "symbol"), (r"Holder\d+\(\)", "regex")]
    for number in searched:
        word = f"number{number}"
        asked += [(word, "text"), (f"group{number // 10} of quokkas", "text"), (f"take_quokka_{number}", "symbol")]
        asked += [(rf"\b{word}\b", "regex"), (f"free quokka {number}", "vector"), (f"Holder{number}", "hybrid")]
    for query, mode in asked:
        found = scene.search(project, query, mode)
        assert len({row[:3] for row in found}) == len(found), (query, mode)
        if len(found) < 50:
            assert found == scene.search_known(like, query, mode), (query, mode)
    overview = scene.ask("GET", "context/overview/", params={"project": project})
    other = scene.ask("GET", "context/overview/", params={"project": like})
    assert {name: overview[name] for name in ("files", "lines", "symbols")} == {
        name: other[name] for name in ("files", "lines", "symbols")
    }


def slowly(scene: Scene) -> None:
    """What the parsers made is written in many pieces: each of the first ones takes a while."""
    seen: Counter[str] = Counter()

    def wait(arrival: Arrival) -> None:
        seen[arrival.session] += 1
        if arrival.point == "index.parsing" and seen[arrival.session] <= 4:
            time.sleep(1.1)

    scene.meanwhile = wait


@pytest.mark.parametrize(
    ("point", "visit"),
    [("index.parsing", 2), ("index.writing", 1), ("index.written", 1), ("index.read", 1), ("index.taken", 1)],
)
def test_a_worker_is_killed_in_a_first_index(scene: Scene, fresh: tuple[Path, str], point: str, visit: int) -> None:
    repository, like = fresh
    slowly(scene)
    project = project_make(scene, repository)
    death = scene.death(point, visit)
    job = scene.index(project)
    assert wait_until(death.is_done, seconds=_PATIENCE), scene.fleet.complaints()
    parsers = parsers_of(death.killed)
    if point == "index.parsing":
        # Once it is waited for, as long as it takes.
        assert scene.ask("GET", f"context/index/{job}/")["state"] == "running"
    else:
        scene.follow(project)
    whole_require(scene, project, job, like=like)
    assert scene.ask("GET", f"context/index/{job}/")["attempts"] == 2
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in parsers))


#: Kinds whose scores are weighed alike: which of equally near chunks are candidates at all is by their ids.
EQUAL_KINDS = ("function", "method")


def best(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Without the last ones, of which others that are as good may have been cut off."""
    lowest = min(row[3] for row in rows)
    return [row for row in rows if row[3] > lowest]


def parsers_of(worker: int) -> list[int]:
    return pids_of("apps.context.parsing_process", parent=worker)


def pids_of(part: str, *, parent: int | None = None) -> list[int]:
    """Processes with this in their command line, of this parent."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if part in (entry / "cmdline").read_bytes().decode(errors="replace"):
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                if parent is None or int(status[1]) == parent:
                    found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def change(repository: Path) -> None:
    """A second commit: a third is otherwise, some are gone, some are new, some have another name."""
    for number in range(0, FILES, 3):
        (repository / f"pkg{number % 7}/m{number}.py").write_text(
            source(number, word="quokka") + f"\n\nANEW_{number} = 1\n"
        )
    for number in range(1, FILES, 30):
        (repository / f"pkg{number % 7}/m{number}.py").unlink()
    for number in range(2, FILES, 30):
        git(repository, "mv", f"pkg{number % 7}/m{number}.py", f"pkg0/renamed{number}.py")
    for number in range(FILES, FILES + 10):
        (repository / f"pkg0/n{number}.py").write_text(source(number))
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "second")


@pytest.fixture(scope="module")
def twice(running: Scene) -> tuple[str, str, Path]:
    """A repository's two commits, and a project that was indexed at both in peace."""
    running.revive()
    repository = running.repository_make(files_make())
    first = git(repository, "rev-parse", "HEAD")
    project = project_make(running, repository)
    assert running.job_end(running.index(project))["state"] == "completed"
    running.vectors_ready(project)
    change(repository)
    running.bring(project, repository)
    assert running.job_end(running.index(project))["state"] == "completed"
    running.vectors_ready(project)
    return project, first, repository


@pytest.mark.parametrize("point", ["index.writing", "index.written", "index.read", "index.taken"])
def test_a_worker_is_killed_in_a_later_index(scene: Scene, twice: tuple[str, str, Path], point: str) -> None:
    like, first, repository = twice
    second = git(repository, "rev-parse", "HEAD")
    git(repository, "update-ref", "refs/heads/main", first)
    try:
        project = project_make(scene, repository)
        assert scene.job_end(scene.index(project))["state"] == "completed"
        scene.vectors_ready(project)
    finally:
        git(repository, "update-ref", "refs/heads/main", second)
    before = scene.search(project, r"\bnumber4\b", "regex")
    assert len(before) == 1
    slowly(scene)
    death = scene.death(point)
    scene.bring(project, repository)
    job = scene.index(project)
    assert wait_until(death.is_done, seconds=_PATIENCE), scene.fleet.complaints()
    if point != "index.taken":
        # The former commit is whole until the new one is.
        assert scene.search(project, r"\bnumber4\b", "regex") == before
        assert scene.search(project, "ANEW_0", "symbol") == []
    scene.follow(project)
    whole_require(scene, project, job, like=like)


def test_killed_again_and_again(scene: Scene, fresh: tuple[Path, str]) -> None:
    repository, like = fresh
    slowly(scene)
    project = project_make(scene, repository)
    deaths = [scene.death("index.parsing", 2)]
    job = scene.index(project)
    for point in ("index.read", "index.taken"):
        assert wait_until(deaths[-1].is_done, seconds=_PATIENCE), scene.fleet.complaints()
        # Before the others are there: by then the lease may have run out, and one of them be at it.
        deaths.append(scene.death(point))
        scene.revive()
        scene.follow(project)
    assert wait_until(deaths[-1].is_done, seconds=_PATIENCE), scene.fleet.complaints()
    scene.follow(project)
    whole_require(scene, project, job, like=like)
    assert scene.ask("GET", f"context/index/{job}/")["attempts"] == 4


@pytest.mark.parametrize("moment", ["asked", "vectors.embedded", "vectors.written"])
def test_a_worker_is_killed_while_vectors_fill(scene: Scene, moment: str) -> None:
    """What was paid for is asked for again for one batch at the most."""
    word = f"numbat{moment.replace('.', '')}"
    repository = scene.repository_make(files_make(word=word))
    project = project_make(scene, repository)
    before = len(scene.embedder.texts)
    death = scene.death(moment if moment != "asked" else "nowhere", 2 if moment == "vectors.embedded" else 1)
    dead = threading.Event()
    if moment == "asked":
        asked: list[str] = []

        def die(texts: Sequence[str]) -> None:
            # The endpoint has worked for it; nobody hears what it says.
            if any(word in text for text in texts) and not dead.is_set():
                asked.extend(texts)
                if len(asked) > 100:
                    for worker in scene.fleet.workers:
                        scene.kill(worker.pid)
                    dead.set()

        scene.embedder.instead = die
    job = scene.index(project)
    if moment == "asked":
        assert dead.wait(_PATIENCE), scene.fleet.complaints()
        scene.revive()
    else:
        assert wait_until(death.is_done, seconds=_PATIENCE), scene.fleet.complaints()
    scene.follow(project)
    assert scene.job_end(job)["state"] == "completed"
    scene.vectors_ready(project)
    counted = Counter(text for text in scene.embedder.texts[before:] if word in text)
    files = scene.rows("context/files/", project=project)
    assert len(counted) == sum(file["chunks"] for file in files)
    assert sum(count - 1 for count in counted.values()) <= BATCH
    like = project_make(scene, repository)
    again = scene.index(like)
    whole_require(scene, like, again, like=project, searched=())
    for number in range(0, FILES, 61):
        query = f"free {word} {number}"
        assert best(scene.search(project, query, "vector")) == best(scene.search(like, query, "vector")) != []
    # A copy of the project has its vectors by the texts' hashes.
    assert Counter(text for text in scene.embedder.texts[before:] if text in counted) == counted


def test_parsers_are_killed(scene: Scene, fresh: tuple[Path, str]) -> None:
    """Killed from outside, at work and while they wait: no file has failed by that."""
    repository, like = fresh
    killed: list[int] = []

    def kill(arrival: Arrival) -> None:
        if arrival.point == "index.parsing" and len(killed) < 12:
            time.sleep(0.05)
            for pid in parsers_of(arrival.pid):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    scene.meanwhile = kill
    project = project_make(scene, repository)
    job = scene.index(project)
    whole_require(scene, project, job, like=like)
    assert killed and scene.ask("GET", f"context/index/{job}/")["attempts"] == 1
    # Those that wait for work, all of them, and one file to read.
    scene.meanwhile = lambda arrival: None
    for worker in scene.fleet.workers:
        for pid in parsers_of(worker.pid):
            os.kill(pid, signal.SIGKILL)
    scene.ask("POST", "context/files/", json={"project": project, "path": "one.py", "content": "ONE_WOMBAT = 1\n"})
    assert wait_until(lambda: scene.search(project, "ONE_WOMBAT", "regex") != [])
    assert [row["state"] for row in scene.rows("context/files/", project=project, path="one.py")] == ["parsed"]


def test_embedding_processes_are_killed(scene: Scene) -> None:
    """On this machine's own embedder: killed at work and while they wait, it goes on with new ones."""
    repository = scene.repository_make({f"m{number}.py": source(number, word="dingo") for number in range(24)})
    project = project_make(scene, repository)
    scene.ask("PUT", f"vector-store/projects/{project}/embedders/", json={"primary": "minilm"})
    killed: list[int] = []

    def kill() -> bool:
        for worker in scene.fleet.workers:
            for pid in pids_of("minilm", parent=worker.pid):
                if pid not in killed:
                    time.sleep(0.3)
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
        return bool(killed)

    assert scene.job_end(scene.index(project))["state"] == "completed"
    assert wait_until(kill, seconds=_PATIENCE), scene.fleet.complaints()
    scene.vectors_ready(project)
    # All that wait for work die; the next text is embedded nevertheless.
    (repository / "last.py").write_text(source(99, word="dingo"))
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "last")
    kill()
    scene.bring(project, repository)
    assert scene.job_end(scene.index(project))["state"] == "completed"
    assert wait_until(
        lambda: ("last.py" in {row[0] for row in scene.search(project, "dingo 99", "vector")}), seconds=90
    )


def test_postgres_is_restarted(scene: Scene, fresh: tuple[Path, str]) -> None:
    """At once, as a crash is: what it had not put on the disk is read again."""
    repository, like = fresh
    done = threading.Event()

    def restart(arrival: Arrival) -> None:
        time.sleep(1.1 if arrival.point == "index.parsing" and not done.is_set() else 0)
        if arrival.point == "index.written" and not done.is_set():
            done.set()
            found = {pid for pid, line in processes_of(scene.fleet.home).items() if "bin/postgres" in line}
            for pid in found:
                os.kill(pid, signal.SIGQUIT)
            assert wait_until(lambda: not found & set(processes_of(scene.fleet.home)))

    project = project_make(scene, repository)
    scene.meanwhile = restart
    job = scene.index(project)
    assert done.wait(_PATIENCE), scene.fleet.complaints()
    assert wait_until(lambda: scene.ask("GET", f"context/index/{job}/")["state"])
    scene.follow(project)
    whole_require(scene, project, job, like=like)


def test_two_workers_are_told_of_it_at_once(scene: Scene, fresh: tuple[Path, str]) -> None:
    """The queue tells every worker, again and again: one does it."""
    from celery import Celery

    repository, like = fresh
    who: set[int] = set()
    project = project_make(scene, repository)
    sender = Celery(broker=scene.fleet.services.environment()["CELERY_BROKER_URL"])
    sender.conf.broker_transport_options = {"global_keyprefix": "archon:"}
    told = threading.Event()

    def tell(arrival: Arrival) -> None:
        if arrival.point.startswith("index."):
            who.add(arrival.pid)
        if not told.is_set() and arrival.point == "index.parsing":
            told.set()
            [row] = scene.fleet.rows("SELECT id FROM context_codeindex WHERE project_id::text = %s", (project,))
            for _ in range(20):
                sender.send_task(
                    "apps.context.tasks.run_index", args=[str(row["id"])], queue="archon", ignore_result=True
                )
            time.sleep(2)

    scene.meanwhile = tell
    job = scene.index(project)
    whole_require(scene, project, job, like=like)
    assert told.is_set() and len(who) == 1
    assert scene.ask("GET", f"context/index/{job}/")["attempts"] == 1

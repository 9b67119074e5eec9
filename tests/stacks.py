"""A stack that runs, and sessions on it, driven as users drive them: by the command line and by the API."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cli.client import Api
from cli.errors import ApiError
from cli.repository import bundle_create, repository_open
from cli.resources import Event, Project, Session
from cli.stack import stack_stop
from cli.stack_state import StackLayout
from integrations.embedded.reach import runtime_root
from tests.launching import ROOT, archon_spawn, environment
from tests.processes import processes_of, services_kill, wait_until

#: Ends of a session that nothing follows on without a person.
ENDS = ("completed", "failed", "cancelled", "paused", "waiting_input")
#: Whatever takes longer than this hangs.
PATIENCE_SECONDS = 150.0
#: A busy machine takes a while to start one.
_READY_SECONDS = 180.0


@dataclass(frozen=True)
class Ran:
    """What a command came to; ``document`` is what ``--json`` printed."""

    code: int
    output: str
    errors: str

    @cached_property
    def document(self) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads(self.output)
        except ValueError:
            raise AssertionError(f"no JSON document (exit code {self.code}):\n{self.output}\n{self.errors}") from None
        return document


@dataclass(frozen=True)
class LiveStack:
    """A stack in the foreground, ready, with a home of its own."""

    home: Path
    url: str
    process: subprocess.Popen[str]
    variables: dict[str, str]

    @cached_property
    def api(self) -> Api:
        return Api(base_url=self.url, token=StackLayout(self.home).token.read_text().strip())

    def archon(self, *arguments: str, cwd: Path = ROOT, seconds: float = PATIENCE_SECONDS) -> Ran:
        """Run a command to its end, against this stack."""
        return archon_bounded(self.home, *arguments, cwd=cwd, seconds=seconds, **self.variables)

    # --- sessions -----------------------------------------------------------------------------------------------------
    def project_make(self, repository: Path) -> Project:
        """A project with what is committed in the repository."""
        project = self.api.project_create(name=repository.name)
        self.project_upload(project, repository)
        return project

    def project_upload(self, project: Project, repository: Path) -> None:
        local = repository_open(repository)
        with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
            bundle = bundle_create(local, folder=Path(folder))
            self.api.repository_upload(project_id=project.id, bundle=bundle, branch=local.branch)

    def session_start(
        self, where: Path | Project, *, base_url: str, goal: str = "Make it work.", **options: Any
    ) -> Session:
        """A running session of a coder alone (unless ``agent_type`` says otherwise) with a model at ``base_url``."""
        project = self.project_make(where) if isinstance(where, Path) else where
        asked = {"agent_type": "coder", "model": "openai:loopback", "base_url": base_url, **options}
        return self.api.session_run(project_id=project.id, goal=goal, options=asked)

    def session_wait(self, session_id: str, *statuses: str, seconds: float = PATIENCE_SECONDS) -> Session:
        """The session, once it is in one of these states (any that lasts, if none is named)."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                session = self.api.session_get(session_id)
            except ApiError as error:
                if not error.temporary or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            if session.status in (statuses or ENDS):
                return session
            if session.status in ("completed", "failed", "cancelled") or time.monotonic() > deadline:
                raise AssertionError(
                    f"{session.status} rather than {statuses or ENDS}: {session.reason}\n{self.story(session_id)}"
                )
            time.sleep(0.1)

    def event_wait(self, session_id: str, kind: str, *, after: int = 0, **payload: Any) -> Event:
        """The first event of this type with these members."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for event in self.events(session_id):
                if event.seq > after and event.type == kind and payload.items() <= event.payload.items():
                    return event
            time.sleep(0.05)
        raise AssertionError(f"no {kind} {payload or ''} came:\n{self.story(session_id)}")

    def events(self, session_id: str) -> list[Event]:
        """All events so far; that their numbers have no gap is asserted each time."""
        events: list[Event] = []
        while page := self.api.event_page(session_id, after=len(events)).events:
            events += page
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return events

    def story(self, session_id: str) -> str:
        """The session's events and the end of the worker's log, for the message of a failure."""
        lines = [f"{event.seq:4} {event.type} {json.dumps(event.payload)[:400]}" for event in self.events(session_id)]
        log = (self.home / "logs" / "worker.log").read_text(errors="replace").splitlines()
        quiet = [line for line in log if " [info " not in line][-40:]
        return "\n".join([*lines, "--- worker.log", *quiet])


def archon_bounded(
    home: Path, *arguments: str, cwd: Path = ROOT, seconds: float = PATIENCE_SECONDS, **variables: str
) -> Ran:
    """Run a command as a user does; one that doesn't end is a failure with what it has said so far."""
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "cli", *arguments],
            cwd=cwd,
            env=environment(home, **{**variables, "PYTHONPATH": f"{variables.get('PYTHONPATH', ROOT)}:{ROOT}"}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = b"\n".join(part for part in (late.stdout, late.stderr) if isinstance(part, bytes))
        raise AssertionError(f"{arguments} did not end in {seconds:.0f} s:\n{said.decode(errors='replace')}") from None
    return Ran(ended.returncode, ended.stdout, ended.stderr)


@contextmanager
def home_open() -> Iterator[Path]:
    """An empty ``ARCHON_HOME`` that every user can reach; nothing that runs in it is left."""
    home = Path(tempfile.mkdtemp(prefix="archon-test-"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        stack_stop(home)
        services_kill(home)
        if (elsewhere := runtime_root(home)) != home:
            shutil.rmtree(elsewhere)
        shutil.rmtree(home)


@contextmanager
def stack_open(home: Path, **variables: str) -> Iterator[LiveStack]:
    """``archon up`` on a free port, ready, until the context ends; then nothing of it is left."""
    layout = StackLayout(home)
    with archon_spawn(home, "up", "--port", "0", **variables) as process:
        try:

            def is_settled() -> bool:
                state = layout.state_get()
                return process.poll() is not None or (state is not None and state.status == "ready")

            assert wait_until(is_settled, seconds=_READY_SECONDS) and process.poll() is None, _said(process)
            state = layout.state_get()
            assert state is not None
            stack = LiveStack(home, state.url, process, variables)
            yield stack
            stack.api.__exit__(None, None, None)
        finally:
            process.terminate()
            process.communicate()
    assert processes_of(home) == {}, "something outlived the stack"


def _said(process: subprocess.Popen[str]) -> str:
    process.kill()
    return process.communicate()[0]

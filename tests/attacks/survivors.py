"""What a session leaves running when it is stopped in any way, on a stack with real workers; and that stack's services.

Each attempt is one session whose agent leaves a daemon behind and then waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from integrations.embedded.layout import Layout
from integrations.embedded.presence import state_read
from tests.attacks.attempt import Outcome, inside, outside, shown, stage_open
from tests.attacks.payloads import CONNECT, DAEMON
from tests.builders import repository_build
from tests.loopback.agents import Agents, finishes, runs
from tests.loopback.openai_server import OpenAIServer
from tests.processes import processes_of, wait_until
from tests.sandboxing import marker, processes_alive
from tests.stacks import LiveStack

#: Seconds after which nothing may be left.
GONE_SECONDS = 1.0

StackAttempt = Callable[[LiveStack], Outcome]


def _command(mark: str) -> str:
    return f"cat > daemon.py <<'END'\n{DAEMON}\nEND\npython3 daemon.py {mark}; sleep 600"


@contextlib.contextmanager
def _session(stack: LiveStack, mark: str, **options: object) -> Iterator[str]:
    """A session whose command has left its daemon behind; ended afterwards in any case."""
    with (
        tempfile.TemporaryDirectory(prefix="archon-attack-") as folder,
        OpenAIServer(Agents(coder=[runs(_command(mark), **options), finishes()])) as server,
    ):
        repository = repository_build(Path(folder) / "small", {"README": "Nothing to see.\n"})
        session = stack.session_start(repository, base_url=server.base_url)
        try:
            assert wait_until(lambda: processes_alive(mark)), f"no daemon was started:\n{stack.story(session.id)}"
            yield session.id
        finally:
            if stack.api.session_get(session.id).status not in ("completed", "failed", "cancelled"):
                stack.api.session_command(session.id, "cancel")


def _gone_after(mark: str) -> float:
    """Seconds until no process has the mark any more."""
    began = time.monotonic()
    wait_until(lambda: not processes_alive(mark), seconds=20)
    return time.monotonic() - began


def _outcome(mark: str, seconds: float, how: str) -> Outcome:
    left = processes_alive(mark)
    control, told = _control()
    return Outcome(
        not left and seconds <= GONE_SECONDS,
        control,
        f"{len(left)} alive on the host, the last gone {seconds:.2f} s after {how}; outside {told}",
    )


def _control() -> tuple[bool, str]:
    """The same daemon under a plain shell that is ended: it lives on."""
    mark = marker()
    shell = subprocess.Popen(
        ["bash", "-c", f"'{sys.executable}' -I -c \"$0\" {mark}; sleep 600", DAEMON], stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: processes_alive(mark))
        shell.terminate()
        shell.wait()
        time.sleep(GONE_SECONDS)
        alive = processes_alive(mark)
        return bool(alive), f"{len(alive)} lived on {GONE_SECONDS:.0f} s after its shell was ended"
    finally:
        for pid in processes_alive(mark):
            os.kill(pid, signal.SIGKILL)


def after_cancel(stack: LiveStack) -> Outcome:
    mark = marker()
    with _session(stack, mark) as session_id:
        stack.api.session_command(session_id, "cancel")
        seconds = _gone_after(mark)
        return _outcome(mark, seconds, "the answer to cancel")


def after_pause(stack: LiveStack) -> Outcome:
    mark = marker()
    with _session(stack, mark) as session_id:
        stack.api.session_command(session_id, "pause")
        seconds = _gone_after(mark)
        return _outcome(mark, seconds, "the answer to pause")


def after_timeout(stack: LiveStack) -> Outcome:
    mark = marker()
    with _session(stack, mark, timeout_s=3) as session_id:
        stack.event_wait(session_id, "ToolFinished", name="run_command")
        seconds = _gone_after(mark)
        return _outcome(mark, seconds, "the command's end by its time limit")


def after_worker_killed(stack: LiveStack) -> Outcome:
    mark = marker()
    with _session(stack, mark):
        workers = [pid for pid, command in processes_of(stack.home).items() if "celery" in command]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        seconds = _gone_after(mark)
        return _outcome(mark, seconds, f"kill -9 of the worker ({len(workers)} process)")


async def _service(stack: LiveStack, name: str, words: bytes) -> Outcome:
    """One of the stack's own services, on loopback: it doesn't answer inside."""
    port = str(state_read(Layout(stack.home).state)["servers"][name]["port"])
    target = ("talk", "127.0.0.1", port, words.hex())
    mapped = ("talk", "::ffff:127.0.0.1", port, words.hex())
    async with stage_open() as stage, stage.sandbox() as workspace:
        said = [await inside(workspace, CONNECT, *each) for each in (target, mapped)]
    control = await outside(CONNECT, *target)
    return Outcome(
        all(words.startswith("denied") for words in said),
        control.startswith("answered b'") and len(control) > len("answered b''"),
        f"port {port}: inside {shown('; '.join(said))}; outside {shown(control, 60)}",
    )


async def postgres(stack: LiveStack) -> Outcome:
    # The length of a request, and the number that asks for TLS; the answer is one letter.
    return await _service(stack, "postgres", (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))


async def redis(stack: LiveStack) -> Outcome:
    return await _service(stack, "valkey", b"PING\r\n")


STOPS: dict[str, StackAttempt] = {
    "daemon after cancel": after_cancel,
    "daemon after pause": after_pause,
    "daemon after a command's timeout": after_timeout,
    "daemon after kill -9 of the worker": after_worker_killed,
}
SERVICES = {"TCP to the server's PostgreSQL": postgres, "TCP to the server's Redis": redis}

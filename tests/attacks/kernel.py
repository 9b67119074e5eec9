"""Privileges, namespaces, other processes, and calls that reach into the kernel."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from apps.projects.sandbox import sandbox_owner
from tests.attacks.attempt import Attempt, Outcome, Stage, inside, outside, shown
from tests.attacks.payloads import KERNEL, PTRACE, SET_USER_ID, SIGNAL
from tests.sandboxing import python_outside

_PR_SET_PTRACER, _ANYBODY = 0x59616D61, ctypes.c_ulong(-1)


@contextmanager
def _victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the worker's that lets anybody of its user trace it, whatever Yama says."""

    def allow() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)

    with subprocess.Popen(["sleep", "600"], preexec_fn=allow) as process:
        try:
            yield process
        finally:
            process.kill()


async def kernel_call(stage: Stage, *, what: str) -> Outcome:
    async with stage.sandbox() as workspace:
        said = await inside(workspace, KERNEL, what)
    control = await outside(KERNEL, what)
    return Outcome(said.startswith("denied"), control == "done", f"inside {shown(said)}; outside {shown(control)}")


async def ptrace(stage: Stage) -> Outcome:
    with _victim() as victim:
        async with stage.sandbox() as workspace:
            # By its number on the host, and whoever is above in here.
            said = await inside(workspace, PTRACE, str(victim.pid), "1")
        stopped = victim.poll() is not None
        control = await outside(PTRACE, str(victim.pid))
    blocked = "attached" not in said and not stopped
    return Outcome(blocked, control == "attached", f"inside {shown(said)}; outside {shown(control)}")


async def signals(stage: Stage) -> Outcome:
    """To the server by its number, to the one process that is above, and to all there are."""
    with _victim() as victim:
        async with stage.sandbox() as workspace:
            said = [await inside(workspace, SIGNAL, str(pid), "9") for pid in (victim.pid, 1)]
            everybody = await workspace.command_run("kill -9 -1; kill -9 1; echo survived", timeout=20)
            answers = await workspace.command_run("echo here", timeout=20)
        alive = victim.poll() is None
        control = await outside(SIGNAL, str(victim.pid), "9")
        killed = await asyncio.to_thread(victim.wait, 10) == -signal.SIGKILL
    return Outcome(
        alive and said[0].startswith("denied") and answers.output == "here\n",
        control == "sent" and killed,
        f"the process lived: {alive}; inside {'; '.join(said)}, then {shown(everybody.output)}, "
        f"{shown(answers.output)}; outside it was killed",
    )


def _set_user_id_programs() -> list[str]:
    """The system's own, which are in the sandbox as well."""
    found = [shutil.which(name, path="/usr/bin:/bin") for name in ("su", "passwd", "newgrp", "chsh", "mount")]
    return [path for path in found if path and os.stat(path).st_mode & 0o4000]


async def set_user_id(stage: Stage) -> Outcome:
    programs = _set_user_id_programs()
    worktree = stage.worktree()
    own = worktree / "planted"
    if os.geteuid() == 0:
        # What an agent can't make itself: root's, in its own worktree.
        shutil.copy("/bin/cat", own)
    async with stage.sandbox() as workspace:
        await workspace.command_run("true", timeout=60)
        if own.exists():
            os.chown(own, 0, 0)
            own.chmod(0o4755)
        said = await inside(workspace, SET_USER_ID, *programs, *(["/workspace/planted"] if own.exists() else []))
    control = await asyncio.to_thread(_outside_unprivileged, worktree, programs)
    return Outcome(
        "became" not in said and said.startswith("denied"),
        control == "became 0",
        f"{', '.join(Path(path).name for path in programs)}: inside {shown(said)}; outside {shown(control)}",
    )


def _outside_unprivileged(worktree: Path, programs: list[str]) -> str:
    """As the user that the sandbox is on the host, who gains nothing by being root already."""
    owner = sandbox_owner(worktree)
    if owner is None:
        return python_outside(SET_USER_ID, *programs)
    command = ["setpriv", f"--reuid={owner}", f"--regid={owner}", "--clear-groups", "/usr/bin/python3", "-I", "-c"]
    return subprocess.run([*command, SET_USER_ID, *programs], capture_output=True, text=True, timeout=60).stdout.strip()


ATTEMPTS: dict[str, Attempt] = {
    "set-user-id programs": set_user_id,
    "mount in a namespace of one's own": partial(kernel_call, what="mount"),
    "nested user namespace": partial(kernel_call, what="user-namespace"),
    "ptrace": ptrace,
    "signals to the server": signals,
    "io_uring": partial(kernel_call, what="io_uring"),
    "keyctl": partial(kernel_call, what="keyctl"),
    "userfaultfd": partial(kernel_call, what="userfaultfd"),
}

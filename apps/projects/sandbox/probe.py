"""Whether this machine can hold a sandbox: everything that it promises, tried once."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from apps.core.errors import ApplicationError
from apps.projects.sandbox.adapter import adapter_name, sandbox_describe, sandbox_run
from apps.projects.sandbox.container_needs import Need, container_detect, needs_judge, signs_read
from apps.projects.sandbox.owners import sandbox_owner
from apps.projects.workspace import SandboxLimits, SandboxUnavailable

_SECONDS = 60.0
_PROCESSES = 48

# Runs in the sandbox. Prints for each promise what came of the attempt to break it; empty: nothing did.
_ATTEMPTS = r"""
import ctypes, json, os, resource, socket, subprocess, sys
said = {}
def attempt(name, function):
    try:
        said[name] = function() or ""
    except Exception as error:
        said[name] = f"{type(error).__name__}: {error}"
def workspace():
    with open("/workspace/written", "w") as file:
        file.write("x")
def network():
    for address in (("127.0.0.1", int(sys.argv[1])), ("1.1.1.1", 53)):
        try:
            socket.create_connection(address, 2)
            return f"reached {address[0]}:{address[1]}"
        except OSError:
            pass
def hidden():
    for path in json.loads(sys.argv[2]):
        if os.path.lexists(path):
            return f"{path} is there"
    if "root:x:0:0:root:/nonexistent" not in open("/etc/passwd").read():
        return "/etc/passwd is the host's"
def privileges():
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    if any(int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")):
        return "capabilities are left"
    if int(status["NoNewPrivs"]) != 1:
        return "programs may gain privileges"
def namespaces():
    if ctypes.CDLL(None).unshare(0x10000000) == 0:
        return "a user namespace could be made"
def calls():
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    if int(status["Seccomp"]) != 2:
        return "system calls are not filtered"
def processes():
    started = []
    try:
        for _ in range(2 * int(sys.argv[3])):
            started.append(subprocess.Popen(["sleep", "60"]))
        return f"{len(started)} processes could be started"
    except OSError:
        pass
    finally:
        for process in started:
            process.kill()
for name in ("workspace", "network", "hidden", "privileges", "namespaces", "calls", "processes"):
    attempt(name, globals()[name])
print(json.dumps(said))
"""
_PROMISES = {
    "starts": "a sandbox starts, and its exit code comes back",
    "workspace": "the worktree can be written",
    "network": "there is no network, the host's loopback included",
    "hidden": "the host's files are not there",
    "privileges": "no capabilities, and none to be gained",
    "namespaces": "no namespace can be made inside",
    "calls": "system calls are filtered",
    "processes": "the number of processes is bounded",
}


@dataclass(frozen=True)
class ProbeCheck:
    name: str
    promise: str
    #: What is wrong; empty when the promise holds.
    problem: str


@dataclass(frozen=True)
class SandboxReport:
    available: bool
    #: `bubblewrap` or `container`, and what keeps the sandboxes.
    adapter: str
    program: str
    #: The user that sandboxes run as when root starts them; None: the user that started the server.
    user: int | None
    checks: tuple[ProbeCheck, ...]
    next_step: str
    #: By what this server is seen to run in a container itself, and what bubblewrap needs there; empty where it works.
    container: str = ""
    needs: tuple[Need, ...] = ()


_reports: dict[int, SandboxReport] = {}
_lock = threading.Lock()


def sandbox_probe(*, again: bool = False) -> SandboxReport:
    """Try a sandbox. Takes about a tenth of a second, once in a process; not from a running event loop's thread."""
    with _lock:
        if again or os.getpid() not in _reports:
            _reports.clear()
            _reports[os.getpid()] = asyncio.run(_probe())
        return _reports[os.getpid()]


def sandbox_require() -> None:
    """SandboxUnavailable, with what to do about it, unless every promise holds."""
    report = sandbox_probe()
    if not report.available:
        problems = "; ".join(f"{check.promise}: {check.problem}" for check in report.checks if check.problem)
        raise SandboxUnavailable(f"No sandbox can be had here ({problems})", next_step=report.next_step)


async def _probe() -> SandboxReport:
    # Beside no worktree: this is only about the machine.
    with (
        tempfile.TemporaryDirectory(prefix="archon-probe-") as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        workspace = Path(folder)
        user = sandbox_owner(workspace)
        problems: dict[str, str] = {}
        program = next_step = ""
        try:
            program = await sandbox_describe()
            result = await sandbox_run(
                command=[
                    *("python3", "-I", "-c", _ATTEMPTS),
                    *(str(server.getsockname()[1]), json.dumps(_host_files()), str(_PROCESSES)),
                ],
                workspace=workspace,
                limits=SandboxLimits(memory_mb=512, disk_mb=64, processes=_PROCESSES),
                timeout=_SECONDS,
            )
            problems = _problems(result.exit_code, result.output)
        except ApplicationError as error:
            problems["starts"], next_step = error.message, error.next_step
    needs: tuple[Need, ...] = ()
    container = await asyncio.to_thread(container_detect)
    if problems.get("starts"):
        problems |= {name: "not tried" for name in _PROMISES if name != "starts"}
        if adapter_name() == "bubblewrap":
            needs = await asyncio.to_thread(lambda: needs_judge(signs_read()))
            next_step = _diagnosis(container, needs) or next_step
    checks = tuple(ProbeCheck(name, promise, problems.get(name, "")) for name, promise in _PROMISES.items())
    available = not any(check.problem for check in checks)
    if not available and not next_step:
        next_step = "Don't run agents here: this kernel doesn't keep a sandbox's promises. Report what the probe says."
    return SandboxReport(available, adapter_name(), program, user, checks, next_step, container, needs)


def _problems(exit_code: int | None, output: str) -> dict[str, str]:
    if exit_code != 0:
        return {"starts": f"the attempt ended with {exit_code}: {output[-1000:]}"}
    try:
        said = json.loads(output)
    except ValueError:
        return {"starts": f"the attempt said {output[-1000:]!r}"}
    return {str(name): str(problem) for name, problem in said.items() if problem}


def _host_files() -> list[str]:
    """Files of the host, of this process's user and of the server that must not be seen."""
    from django.conf import settings

    # Files, not folders: a toolchain in somebody's home makes the folders above it appear, empty but for itself.
    own = [settings.BASE_DIR / "manage.py"]
    for folder in (Path.home(), Path(settings.ARCHON_HOME)):
        with suppress(OSError):
            own += [path for path in folder.iterdir() if path.is_file()]
    # An image has folders of these names of its own.
    system = ["/etc/shadow", "/var/log", "/boot", "/sys/kernel"] if adapter_name() == "bubblewrap" else []
    return [*system, *(str(path) for path in own[:100])]


def _diagnosis(container: str, needs: tuple[Need, ...]) -> str:
    """What to do about bubblewrap not starting, as far as trying its steps one by one tells."""
    options = list(dict.fromkeys(need.option for need in needs if need.problem))
    if not options:
        return ""
    if container:
        return (
            f"In a container, bubblewrap needs what default profiles take away: {'; '.join(options)}. Or run sandboxes "
            "as containers of their own (ARCHON_SANDBOX=container). docs/how-to/containers.md says what either costs."
        )
    return f"Allow what bubblewrap needs: {'; '.join(options)}"

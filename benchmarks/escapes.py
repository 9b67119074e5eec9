"""``archon bench escapes``: every known way out of the sandbox, tried in it and outside, and looked at from the host.

Each attempt's payload is run outside, too (or with plain git, plain calls, a naive server in place of ours): where it
does nothing there, the attempt proves nothing and is void. Started by root everything is tried twice: with a worker
that root starts, and with one that an ordinary user does. Exit code 1 when something was not blocked, or is void.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: The ordinary user that root becomes; no account has this id.
USER = 54_321
_MODULES = ("files", "network", "kernel", "resources", "races", "forging", "git_repository")
_WORKERS = ("root", "user")
_SECONDS = 900


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench escapes", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument(
        "--as", dest="workers", choices=_WORKERS, action="append", help="who starts the worker (both, when run by root)"
    )
    parser.add_argument("--attempt", action="append", help="only attempts whose name holds this (repeatable)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.here:
        print(json.dumps(_tried_here(options.workers[0], options.attempt or [])))
        return 0
    is_root = os.geteuid() == 0
    workers = options.workers or (list(_WORKERS) if is_root else ["user"])
    if "root" in workers and not is_root:
        parser.error("only root can start a worker as root")
    attempts: list[dict[str, Any]] = []
    for worker in workers:
        print(f"with a worker started by {'root' if worker == 'root' else 'an ordinary user'} …", file=sys.stderr)
        attempts += _worker_run(worker, options.attempt or [])
    return _told(attempts, as_json=options.json)


def _told(attempts: list[dict[str, Any]], *, as_json: bool) -> int:
    report = {
        "attempts": attempts,
        "tried": len(attempts),
        "workers": sorted({row["worker"] for row in attempts}),
        "escaped": [_name(row) for row in attempts if not row["blocked"]],
        "void": [_name(row) for row in attempts if not row["control"]],
    }
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        for row in attempts:
            mark = "GOT OUT" if not row["blocked"] else "void   " if not row["control"] else "blocked"
            print(f"{mark} {row['worker']:5} {row['name']}\n        {row['evidence']}")
    return 1 if report["escaped"] or report["void"] or not attempts else 0


def _name(row: dict[str, Any]) -> str:
    return f"{row['name']} ({row['worker']})"


# --- Who starts the worker --------------------------------------------------------------------------------------------
def _worker_run(worker: str, wanted: list[str]) -> list[dict[str, Any]]:
    """All attempts in a process of that user's, with a home of its own."""
    home = Path(tempfile.mkdtemp(prefix="archon-attacks-"))
    home.chmod(0o755)
    arguments = ["-m", "benchmarks.escapes", "--here", "--as", worker]
    for part in wanted:
        arguments += ["--attempt", part]
    command = [sys.executable, "-P", *arguments]
    if worker == "user" and os.geteuid() == 0:
        os.chown(home, USER, USER)
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            sys.executable,
            "-P",
            str(Path(__file__)),
            "become",
            str(home),
            *command,
        ]
    try:
        ran = subprocess.run(
            command,
            cwd=ROOT,
            env=_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_SECONDS,
        )
        if ran.returncode:
            raise SystemExit(f"the attempts of a worker started by {worker} ended with {ran.returncode}")
        rows: list[dict[str, Any]] = json.loads(ran.stdout)
        return rows
    finally:
        from integrations.embedded.reach import runtime_root

        with suppress(OSError):
            if (elsewhere := runtime_root(home)) != home:
                shutil.rmtree(elsewhere)
        shutil.rmtree(home, ignore_errors=True)


def _environment(home: Path) -> dict[str, str]:
    system = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(home), "LANG": "C.UTF-8"}
    python = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    ours = {
        "ARCHON_HOME": str(home / ".archon"),
        "ARCHON_VENV": sys.prefix,
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        # What is looked for in the environment and the memory of whoever starts sandboxes.
        "ARCHON_ATTACK_CANARY": f"canary-{secrets.token_hex(16)}",
    }
    return {**system, **python, **ours}


def _become(home: Path, command: list[str]) -> None:
    """Root in a mount namespace of its own: open what an ordinary user has to reach, become one, and go on.

    Not by a sandbox: that would keep set-user-id programs from working, and with it what shows that ours does.
    """
    for folder, paths in _closed([Path(sys.base_prefix), Path(sys.prefix).resolve(), ROOT]).items():
        kept = Path(tempfile.mkdtemp(prefix="kept-", dir="/run"))
        subprocess.run(["mount", "--rbind", str(folder), str(kept)], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(folder)], check=True)
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", str(kept / path.relative_to(folder)), str(path)], check=True)
        subprocess.run(["umount", "-l", str(kept)], check=True)
        kept.rmdir()
    # The worker's own account file, in the place where a sandbox must not find it.
    shadow = home / "shadow"
    shadow.write_text("root:*:0:0:canary:7:::\n")
    os.chown(shadow, USER, USER)
    shadow.chmod(0o600)
    subprocess.run(["mount", "--bind", str(shadow), "/etc/shadow"], check=True)
    # PostgreSQL asks for the name of who starts it.
    accounts = home / "passwd"
    accounts.write_text(f"{Path('/etc/passwd').read_text()}worker:x:{USER}:{USER}::{home}:/bin/sh\n")
    accounts.chmod(0o644)
    subprocess.run(["mount", "--bind", str(accounts), "/etc/passwd"], check=True)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    os.execv(command[0], command)


def _closed(paths: list[Path]) -> dict[Path, list[Path]]:
    """The folders above these paths that are closed to other users, each with the paths below it."""
    found: dict[Path, list[Path]] = {}
    for path in paths:
        for folder in reversed(path.parents):
            if not folder.stat().st_mode & 0o001:
                found.setdefault(folder, []).append(path)
                break
    return found


# --- The attempts -----------------------------------------------------------------------------------------------------
def _tried_here(worker: str, wanted: list[str]) -> list[dict[str, Any]]:
    import importlib

    import django

    django.setup()
    from tests.attacks import survivors
    from tests.attacks.attempt import tried

    rows: list[dict[str, Any]] = []

    def add(name: str, outcome: Any, began: float) -> None:
        mark = "blocked" if outcome.blocked and outcome.control else "NOT BLOCKED" if outcome.control else "void"
        print(f"{name}: {mark} ({time.monotonic() - began:.1f} s)", file=sys.stderr)
        rows.append({"name": name, "worker": worker, **asdict(outcome)})

    def chosen(name: str) -> bool:
        return not wanted or any(part in name for part in wanted)

    for module in _MODULES:
        for name, attempt in importlib.import_module(f"tests.attacks.{module}").ATTEMPTS.items():
            if chosen(name):
                began = time.monotonic()
                add(name, asyncio.run(tried(attempt)), began)
    stops = {name: stop for name, stop in survivors.STOPS.items() if chosen(name)}
    services = {name: service for name, service in survivors.SERVICES.items() if chosen(name)}
    if stops or services:
        with _stack() as stack:
            for name, service in services.items():
                began = time.monotonic()
                add(name, _sure(partial(_awaited, service, stack)), began)
            for name, stop in stops.items():
                began = time.monotonic()
                add(name, _sure(partial(stop, stack)), began)
    return rows


def _awaited(service: Any, stack: Any) -> Any:
    return asyncio.run(service(stack))


def _sure(attempt: Any) -> Any:
    """The outcome; an attempt that breaks down proves nothing."""
    from tests.attacks.attempt import Outcome

    try:
        return attempt()
    except Exception as error:  # noqa: BLE001 - the other attempts are still worth making
        return Outcome(False, False, f"the attempt broke down: {type(error).__name__}: {error}"[:2000])


@contextmanager
def _stack() -> Iterator[Any]:
    from tests.stacks import home_open, stack_open

    with home_open() as home, stack_open(home) as stack:
        yield stack


if __name__ == "__main__":
    if sys.argv[1:2] == ["become"]:
        _become(Path(sys.argv[2]), sys.argv[3:])
    sys.exit(main(sys.argv[1:]))

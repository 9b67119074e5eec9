"""Make the virtual environment and install the lock into it; called by ``./archon`` when it isn't up to date.

Standard library only, since nothing is installed yet. Everything goes to standard error: the command that follows may
print JSON. Two at once: one waits for the other. One that was interrupted is made anew.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NoReturn

Command = Sequence[str | Path]

NEEDED_MB = 1500
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
#: In the environment while an installation is under way.
UNFINISHED = "archon-unfinished"


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("--root", "--venv"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--lock", required=True)
    arguments = parser.parse_args()
    root, venv, lock = arguments.root, arguments.venv.absolute(), arguments.root / arguments.lock
    try:
        venv.parent.mkdir(parents=True, exist_ok=True)
        # Beside the environment, since that may have to be removed.
        with open(f"{venv}.lock", "w") as turnstile:
            _wait_for_turn(turnstile)
            if not is_installed(venv, lock):
                _install(root, venv, lock)
    except OSError as error:
        _fail(
            f"{error.filename or venv}: {error.strerror}", "Free some space, fix its permissions, or set ARCHON_VENV."
        )
    return 0


def is_installed(venv: Path, lock: Path) -> bool:
    """Whether the lock, as it is now, was installed to its end."""
    stamp = venv / f"archon-{lock.name}"
    return (venv / "bin/python").exists() and stamp.exists() and stamp.read_bytes() == lock.read_bytes()


def _wait_for_turn(turnstile: IO[str]) -> None:
    try:
        fcntl.flock(turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say("another archon is installing; waiting for it …")
        fcntl.flock(turnstile, fcntl.LOCK_EX)


def _install(root: Path, venv: Path, lock: Path) -> None:
    started = time.monotonic()
    python = venv / "bin/python"
    _venv_check(venv)
    if not python.exists():
        _venv_create(venv)
    unfinished = venv / UNFINISHED
    unfinished.touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    _uv_install(python, lock, environment)
    _say(f"installing what {lock.name} names …")
    environment |= _uv_settings(python, environment)
    _run(
        [
            python,
            "-m",
            "uv",
            "pip",
            "install",
            "--python",
            python,
            "--require-hashes",
            "--compile-bytecode",
            "-r",
            lock,
        ],
        environment,
        failed="installing the packages failed",
    )
    for stamp in venv.glob("archon-requirements*.txt"):
        stamp.unlink()
    # The development lock contains the other one.
    for name in {lock.name, "requirements.txt"}:
        shutil.copyfile(root / name, venv / f"archon-{name}")
    unfinished.unlink()
    _say(f"installed in {time.monotonic() - started:.0f} s")


def _venv_check(venv: Path) -> None:
    """Leave a sound environment, remove a broken one of ours, and refuse one that is something else."""
    if not venv.exists() and not venv.is_symlink():
        return
    if not (venv / "pyvenv.cfg").exists() and any(venv.iterdir()):
        if (venv / UNFINISHED).exists():
            venv_clear(venv)
            return
        _fail(f"{venv} is not a virtual environment", "Move it away, or set ARCHON_VENV to another place.")
    python = venv / "bin/python"
    probe: Command = [python, "-c", "import sys, pip; print('%d.%d' % sys.version_info[:2])"]
    try:
        answer = subprocess.run(probe, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        answer = ""
    if answer and answer != "3.11":
        _fail(f"{venv} holds Python {answer}; Archon needs 3.11", "Remove it, or set ARCHON_VENV to another place.")
    if not answer or (venv / UNFINISHED).exists():
        _say("the virtual environment is broken or unfinished; making it anew …")
        venv_clear(venv)


def venv_clear(venv: Path) -> None:
    """Remove its content (it may itself be a mount or a link), but for the mark that it is ours, in case this is broken
    off, too.
    """
    mark = venv / UNFINISHED
    mark.touch()
    for entry in venv.iterdir():
        if entry != mark:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _venv_create(venv: Path) -> None:
    _say(f"making a virtual environment in {venv} …")
    if (free_mb := shutil.disk_usage(venv.parent).free // 2**20) < NEEDED_MB:
        _fail(f"{free_mb} MiB of disk space are left, {NEEDED_MB} are needed", "Free some, or set ARCHON_VENV.")
    try:
        import ensurepip  # noqa: F401
        import venv as _  # noqa: F401
    except ImportError:
        _fail(
            f"{sys.executable} cannot make virtual environments",
            "Install the missing part (Debian, Ubuntu: apt install python3.11-venv), or name another in ARCHON_PYTHON.",
        )
    venv.mkdir(exist_ok=True)
    (venv / UNFINISHED).touch()
    _run([Path(sys.executable), "-I", "-m", "venv", venv], dict(os.environ), failed="making the environment failed")


def _uv_install(python: Path, lock: Path, environment: dict[str, str]) -> None:
    """Install the installer, at the version and hashes that the lock names."""
    pinned = re.search(r"^uv==[^\\\n]*(?:\\\n[^\\\n]*)*", lock.read_text(), re.MULTILINE)
    if pinned is None:
        _fail(f"{lock} does not pin uv", "Restore the file.")
    version = pinned.group().split()[0].removeprefix("uv==")
    probe: Command = [python, "-m", "uv", "--version"]
    answer = subprocess.run(probe, capture_output=True, text=True, env=environment, check=False).stdout
    if answer.split()[1:2] == [version]:
        return
    _say("fetching the installer …")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
        requirement.write(pinned.group() + "\n")
        requirement.flush()
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--require-hashes"]
        _run(
            [python, "-m", "pip", "install", *quiet, "-r", requirement.name],
            environment,
            failed="fetching the installer failed",
        )


def _uv_settings(python: Path, environment: dict[str, str]) -> dict[str, str]:
    """What pip is configured with (files and ``PIP_…``), as uv wants to hear it; what is set for uv already wins."""
    settings: dict[str, str] = {}
    command: Command = [python, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, env=environment, check=False).stdout
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in ("global", "install", ":env:"):  # listed from the weakest to the strongest
            settings[name] = str(ast.literal_eval(value))
    found = {
        "UV_DEFAULT_INDEX": settings.get("index-url"),
        "UV_INDEX": settings.get("extra-index-url"),
        "UV_FIND_LINKS": ",".join(settings.get("find-links", "").split()),
        "UV_INSECURE_HOST": settings.get("trusted-host"),
        "UV_HTTP_TIMEOUT": settings.get("default-timeout") or settings.get("timeout"),
        "UV_NO_INDEX": "1" if settings.get("no-index", "").lower() in ("1", "true", "yes", "on") else None,
        "SSL_CERT_FILE": settings.get("cert") or (str(SYSTEM_CERTIFICATES) if SYSTEM_CERTIFICATES.exists() else None),
        "SSL_CLIENT_CERT": settings.get("client-cert"),
        "ALL_PROXY": settings.get("proxy"),
        # pip takes the best match of all its indexes; the hashes make sure that it is the right one.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        # The cache is often on another file system than the environment.
        "UV_LINK_MODE": "copy" if not _same_device(python) else None,
    }
    return {name: value for name, value in found.items() if value and not os.environ.get(name)}


def _same_device(python: Path) -> bool:
    cache = Path(os.environ.get("UV_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home())
    while not cache.exists():
        cache = cache.parent
    return cache.stat().st_dev == python.parent.stat().st_dev


def _run(command: Command, environment: dict[str, str], *, failed: str) -> None:
    """Run it with everything that it says on standard error, but for the list of what it installed."""
    if sys.stderr.isatty():  # there it draws its progress
        code = subprocess.run(command, stdout=sys.stderr, env=environment, check=False).returncode
    else:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process:
            for line in process.stdout or ():
                if not line.startswith((b" + ", b" Downloaded ")):
                    sys.stderr.buffer.write(line)
                    sys.stderr.flush()
        code = process.returncode
    if code != 0:
        _fail(failed, "The lines above say why; the next ./archon takes it up again. pip's own configuration is used.")


def _say(message: str) -> None:
    print(f"archon: {message}", file=sys.stderr, flush=True)


def _fail(message: str, next_step: str) -> NoReturn:
    sys.exit(f"archon: {message}.\n{next_step}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

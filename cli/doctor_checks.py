"""The doctor's looks at this machine, at the sandbox and at the settings."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from cli.doctor_finding import Finding, State
from cli.stack_state import StackLayout
from config.bootstrap import BASE_DIR, DEVELOPMENT_SETTINGS, home_path
from integrations.embedded import ServicesUnavailable
from integrations.embedded.reach import runtime_root
from integrations.llm_providers.vendors import VENDORS

_LOW_DISK_MB = 2048
_PROBE_SECONDS = 60
#: What repositories often need, and is worth a line when it is missing.
_USUAL_TOOLCHAINS = ("python", "node", "go", "rust", "java", "git", "ripgrep")
_PROVIDERS = tuple(dict.fromkeys(vendor.key_setting for vendor in VENDORS if vendor.key_setting))


def installation() -> Iterator[Finding]:
    version = platform.python_version()
    supported = sys.version_info[:2] == (3, 11)
    state = State.OK if supported else State.PROBLEM
    yield Finding("python", state, f"{version} at {sys.executable}", "" if supported else "Archon needs Python 3.11")
    system = f"{platform.system()} {platform.release()} on {platform.machine()}"
    known = platform.system() == "Linux" and platform.machine() in ("x86_64", "aarch64")
    yield Finding(
        "platform",
        State.OK if known else State.PROBLEM,
        system,
        "" if known else "embedded services and the sandbox need Linux on x86_64 or aarch64",
    )
    lock, stamp = BASE_DIR / "requirements.txt", Path(sys.prefix) / "archon-requirements.txt"
    if sys.prefix == sys.base_prefix:
        yield Finding("packages", State.MISSING, "not in a virtual environment", "./archon makes one")
    elif not stamp.exists():
        yield Finding("packages", State.OK, f"installed into {sys.prefix} by other means than ./archon")
    elif stamp.read_bytes() == lock.read_bytes():
        yield Finding("packages", State.OK, f"{sys.prefix} is what {lock.name} names")
    else:
        yield Finding(
            "packages", State.PROBLEM, f"{sys.prefix} is not what {lock.name} names", "run ./archon once more"
        )


def state() -> Iterator[Finding]:
    home = home_path()
    try:
        root = runtime_root(home)
    except (ServicesUnavailable, OSError) as error:
        yield Finding("home", State.PROBLEM, f"{home}: {error}", "set ARCHON_HOME to a folder that is yours")
        return
    if not os.access(home, os.W_OK):
        yield Finding("home", State.PROBLEM, f"{home} can't be written", "set ARCHON_HOME to a folder that is yours")
    else:
        elsewhere = "" if root == home else f"; what must not be root's is in {root}"
        yield Finding("home", State.OK, f"{home}{elsewhere}")
    free_mb = shutil.disk_usage(root).free // 2**20
    low = free_mb < _LOW_DISK_MB
    advice = "free some space, or set ARCHON_HOME to a folder with more" if low else ""
    yield Finding("disk", State.PROBLEM if low else State.OK, f"{free_mb / 1024:.1f} GiB free", advice)
    stack = StackLayout(home).state_get()
    if stack is None:
        yield Finding("stack", State.OK, "not running; ./archon up starts it, demo and run do so by themselves")
    else:
        kind = "by itself" if stack.detached else "in the foreground"
        yield Finding("stack", State.OK, f"{stack.status} at {stack.url} (pid {stack.pid}), {kind}")


def sandbox() -> Iterator[Finding]:
    """Try it: in a process of its own, since the sandbox belongs to the server."""
    report = _probe()
    if isinstance(report, str):
        yield Finding("sandbox", State.PROBLEM, f"the try-out failed: {report}")
        return
    yield Finding("adapter", State.OK, f"{report['adapter']} (ARCHON_SANDBOX): {report['program'] or 'not found'}")
    if report.get("container"):
        yield Finding("container", State.OK, f"Archon itself runs in one, as {report['container']} shows")
    problems = [f"{check['promise']}: {check['problem']}" for check in report["checks"] if check["problem"]]
    problems = [problem for problem in problems if not problem.endswith(": not tried")]
    user = f"as user {report['user']}, " if report.get("user") else ""
    works = f"works, {user}with {report['program']}; {len(report['checks'])} promises tried"
    yield Finding(
        "sandbox",
        State.OK if report["available"] else State.PROBLEM,
        works if report["available"] else "; ".join(problems) or "does not work",
        report["next_step"],
    )
    for need in report.get("needs", ()):
        if need["problem"]:
            yield Finding(need["name"], State.PROBLEM, need["problem"], need["option"])


def toolchains() -> Iterator[Finding]:
    """What the sandbox shows to a repository's commands."""
    report = _probe()
    if isinstance(report, str):
        yield Finding("toolchains", State.PROBLEM, "unknown without the sandbox")
        return
    if report["adapter"] == "container":
        yield Finding("toolchains", State.OK, "those of the image ARCHON_CONTAINER_IMAGE, not this machine's")
        return
    found: dict[str, list[str]] = {}
    for toolchain in report["toolchains"]:
        found.setdefault(toolchain["name"], []).append(f"{toolchain['version']} at {toolchain['program']}")
    for name in dict.fromkeys((*found, *_USUAL_TOOLCHAINS)):
        if name in found:
            yield Finding(name, State.OK, ", ".join(found[name]))
        else:
            yield Finding(name, State.MISSING, "not found; repositories that need it can't be built or tested")


@cache
def _probe() -> dict[str, Any] | str:
    """What ``manage.py sandbox_probe`` reports, asked once; or why it reports nothing."""
    command = [sys.executable, str(BASE_DIR / "manage.py"), "sandbox_probe", "--json"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"it took longer than {_PROBE_SECONDS} s"
    try:
        report: dict[str, Any] = json.loads(answer.stdout)
    except ValueError:
        return (answer.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return report


def models() -> Iterator[Finding]:
    configured = [name for name in _PROVIDERS if os.environ.get(name)]
    endpoints = _prefixes(os.environ.get("ARCHON_MODEL_KEYS", ""))
    if configured or endpoints:
        yield Finding(
            "keys", State.OK, ", ".join([*configured, *(f"ARCHON_MODEL_KEYS for {url}" for url in endpoints)])
        )
    else:
        advice = (
            f"set one of {', '.join(_PROVIDERS)} in .env, or store a key (./archon keys set VENDOR); "
            "./archon demo needs none"
        )
        yield Finding("keys", State.MISSING, "the environment has none (./archon keys list has stored ones)", advice)
    yield Finding("model", State.OK, os.environ.get("ARCHON_MODEL") or "the default of the first provider with a key")
    for name in ("ARCHON_MODELS", "ARCHON_MODEL_FALLBACKS"):
        if listed_models := os.environ.get(name):
            shown = re.sub(r"@(https?://[^,]*)", lambda match: f"@{_without_secrets(match[1])}", listed_models)
            yield Finding(name, State.OK, shown)
    for vendor in VENDORS:
        if address := os.environ.get(vendor.base_url_setting) if vendor.base_url_setting else "":
            belongs = f"{vendor.key_setting} belongs to" if vendor.key_setting else f"{vendor.name} models are at"
            if vendor.name != "openai-responses":
                yield Finding(vendor.name, State.OK, f"{belongs} {_without_secrets(address)}")
    listed = [url.strip() for url in os.environ.get("ARCHON_MODEL_BASE_URLS", "").split(",") if url.strip()]
    default = "this machine's own" if _settings_module() == DEVELOPMENT_SETTINGS else "none"
    allowed = ", ".join(_without_secrets(url) for url in listed) or f"{default} (ARCHON_MODEL_BASE_URLS is not set)"
    yield Finding("base URLs", State.OK, f"allowed: {allowed}")


def settings() -> Iterator[Finding]:
    module = _settings_module()
    yield Finding("settings", State.OK, module)
    dotenv = BASE_DIR / ".env"
    yield Finding(".env", State.OK, "read" if dotenv.exists() else "none; .env.example shows what can be set")
    if dotenv.exists() and dotenv.stat().st_mode & 0o077:
        yield Finding(".env", State.MISSING, "other users of this machine may read it", "chmod 600 .env")
    for name in ("DJANGO_SECRET_KEY", "JWT_SECRET_KEY"):
        present = bool(os.environ.get(name))
        advice = "" if present else "set it to 50 or more random characters"
        yield Finding(name, State.OK if present else State.PROBLEM, "set" if present else "not set", advice)
    for name in ("DJANGO_DEBUG", "DJANGO_ALLOWED_HOSTS", "ARCHON_REGISTRATION", "ARCHON_REPOSITORY_ROOTS"):
        yield Finding(name, State.OK, os.environ.get(name) or "as the settings say")


def _settings_module() -> str:
    return os.environ.get("DJANGO_SETTINGS_MODULE", DEVELOPMENT_SETTINGS)


def _prefixes(text: str) -> list[str]:
    """The addresses in ``url=key,url=key``, without the keys."""
    return [_without_secrets(entry.split("=", 1)[0].strip()) for entry in text.split(",") if entry.strip()]


def _without_secrets(url: str) -> str:
    """The address without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not an address)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

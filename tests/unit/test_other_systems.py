"""On a system without POSIX's modules everything loads, and what can't be done there says so when it is asked for."""

from __future__ import annotations

import subprocess
import sys

from tests.launching import ROOT

#: What Windows has none of; what macOS lacks of Linux's own is used below functions alone.
BLOCK = """
import builtins, os, sys
MISSING = {"fcntl", "pwd", "grp", "resource", "termios"}
plain_import = builtins.__import__
def without(name, globals=None, locals=None, fromlist=(), level=0):
    # Packages of others know the system by its name, which is Linux all the same.
    file = (globals or {}).get("__file__") or ""
    if name in MISSING and file.startswith(os.getcwd()) and "site-packages" not in file:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return plain_import(name, globals, locals, fromlist, level)
builtins.__import__ = without
for name in ("pidfd_open", "memfd_create", "posix_spawn", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_CLOEXEC"):
    if hasattr(os, name):
        delattr(os, name)
"""


def python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", BLOCK + code],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "DJANGO_SETTINGS_MODULE": "config.settings.test", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_settings_the_api_and_the_command_line_load() -> None:
    assert "loaded" in python(
        "import config.bootstrap, config.settings.dev, django; django.setup()\n"
        "import config.urls, apps.chat.routing, apps.agents.tasks, apps.projects.sandbox.bubblewrap_adapter\n"
        "import apps.projects.sandbox.container, cli.main\n"
        "print('loaded')"
    )


def test_a_lock_says_what_is_missing_and_where_to_run_instead() -> None:
    said = python(
        "from integrations.embedded.errors import ServicesUnavailable\n"
        "from integrations.file_lock import FileLock\n"
        "from pathlib import Path\n"
        "try:\n"
        "    FileLock(Path('/tmp/never')).acquire()\n"
        "except ServicesUnavailable as error:\n"
        "    print(error)\n"
    )
    assert "needs a POSIX system: its module fcntl is not there" in said and "WSL 2" in said


def test_containers_are_the_sandbox_where_there_is_no_bubblewrap() -> None:
    code = "from django.conf import settings; print(settings.ARCHON_SANDBOX)"
    assert python(code) == "bubblewrap\n"
    assert python(f"sys.platform = 'darwin'\n{code}") == "container\n"

"""Whether bash takes a command line at all: bash itself is asked, which reads it and runs nothing (``-n``).

The grammar of :mod:`apps.core.shell_parse` refuses some lines that bash takes, and takes some that it refuses.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import lru_cache

_SECONDS = 10.0
#: What reading a line may take is limited first: CPU seconds, kilobytes of memory, blocks written.
_ASK = 'ulimit -t 2 -v 524288 -f 0 2>/dev/null; exec "$0" --noprofile --norc -n -c "$1"'
_PLACE = re.compile(r"^\S*bash: (?:-c: )?(?:line \d+: )?")
#: What bash ends with where it can't read a line.
_UNREADABLE = 2


def syntax_problem(command: str) -> str:
    """What bash says of a line that it can't read; empty: it can, or there is no bash here to ask. Blocking."""
    if "\0" in command:
        return "it holds a NUL character"
    bash = _bash()
    if bash is None:
        return ""
    try:
        asked = subprocess.run(
            [bash, "--noprofile", "--norc", "-c", _ASK, bash, command],
            cwd="/",
            env={"PATH": "/nonexistent", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_SECONDS,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        # It can't be told.
        return ""
    if asked.returncode != _UNREADABLE:
        return ""
    first = asked.stderr.decode("utf-8", "replace").partition("\n")[0]
    return _PLACE.sub("", first)[:300] or "bash can't read it"


@lru_cache(maxsize=1)
def _bash() -> str | None:
    return shutil.which("bash", path="/bin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")

"""Modules of POSIX systems, which Archon's server needs and other systems don't have.

Importing them from here always works, so that settings, the command line and the API's description load anywhere; using
one that isn't there says what to do.
"""

from __future__ import annotations

from typing import Any, NoReturn


class Missing:
    """Stands for a module; whatever of it is used raises ServicesUnavailable."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        posix_refuse(f"its module {self._name} is not there")


def posix_refuse(why: str) -> NoReturn:
    """Tell that this system can't do it."""
    # Its package uses this module.
    from integrations.embedded.errors import ServicesUnavailable

    raise ServicesUnavailable(
        f"Archon's server needs a POSIX system: {why}",
        next_step="run it on Linux or macOS, in WSL 2, or in its container (docs/how-to/containers.md)",
    )


def missing(name: str) -> Any:
    return Missing(name)


try:
    import fcntl as fcntl
except ImportError:
    fcntl = missing("fcntl")
try:
    import pwd as pwd
except ImportError:
    pwd = missing("pwd")

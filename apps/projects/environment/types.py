"""What a project's environment is described and handed on as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from apps.core.errors import ApplicationError


class EnvironmentSetupFailed(ApplicationError):
    """The project's dependencies could not be installed; ``extra["log"]`` has the end of what the set-up printed."""

    code = "setup_failed"
    status = 422


@dataclass(frozen=True)
class EnvironmentSpec:
    """How to make a project's environment; two with the same key give the same one."""

    #: `python`, `command` (one was given and nothing else is known), or `none`.
    ecosystem: str
    #: For people: what was found.
    description: str
    #: A bash script; empty when there is nothing to set up.
    setup_command: str
    key: str
    #: What the script is told besides.
    variables: Mapping[str, str] = field(default_factory=dict)
    #: Variables for every command that then uses the environment.
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Environment:
    """A project's dependencies on disk, to be bound read-only at ``SANDBOX_ENVIRONMENT``."""

    #: None when the project has none.
    path: Path | None
    #: Variables for every command in a sandbox that has it.
    env: Mapping[str, str]
    cached: bool
    seconds: float
    #: What the set-up printed, cut.
    log: str
    ecosystem: str = "none"
    key: str = ""
    #: Files that the set-up made in the checkout and that belong into every checkout (see ``environment_apply``).
    generated: Path | None = None
    #: Variables of checks whose values are taken out of all that these print.
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


NO_ENVIRONMENT = Environment(path=None, env={}, cached=True, seconds=0.0, log="")

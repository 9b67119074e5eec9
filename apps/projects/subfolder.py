"""Work in one folder of a larger repository: the agent's shell starts there, and all of the repository is around it."""

from __future__ import annotations

import shlex
from typing import Any, cast

from apps.projects.workspace import Workspace

#: What of a workspace takes a command first.
_COMMANDS = ("command_run", "background_start")


def workspace_within(workspace: Workspace, folder: str) -> Workspace:
    """The same workspace, whose command lines run in ``folder``; argument vectors and paths stay relative to the top.

    An agent that removed the folder is told so by its next command.
    """
    return cast("Workspace", _Within(workspace, folder)) if folder else workspace


class _Within:
    def __init__(self, workspace: Workspace, folder: str) -> None:
        self._workspace = workspace
        self._enter = f"cd -- {shlex.quote(folder)} || exit\n"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._workspace, name)
        if name not in _COMMANDS:
            return found

        async def call(command: Any, **options: Any) -> Any:
            return await found(self._enter + command if isinstance(command, str) else command, **options)

        return call

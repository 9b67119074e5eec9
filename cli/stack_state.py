"""The files by which the local stack and its clients meet, all in ``HOME/stack``, and what is said in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from integrations.embedded.presence import owner_pid, state_read


class StackUnavailable(Exception):
    """The local stack doesn't run; the message says why and ``next_step`` what to do."""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step


@dataclass(frozen=True)
class StackState:
    """What the runner of a stack says about it."""

    pid: int
    #: ``starting``, ``ready``, ``failed`` or ``stopping``.
    status: str
    #: What it is doing, for people.
    phase: str = ""
    url: str = ""
    #: Stops by itself when its last client has gone.
    detached: bool = False
    message: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class StackLayout:
    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "stack"

    @property
    def lock(self) -> Path:
        """Held by the runner."""
        return self.folder / "lock"

    @property
    def users(self) -> Path:
        """Locked by the commands that use the stack."""
        return self.folder / "users"

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    @property
    def kept(self) -> Path:
        """Exists when a detached stack is to stay without clients."""
        return self.folder / "kept"

    @property
    def prepared(self) -> Path:
        """A fingerprint of the database and migrations for which everything was set up."""
        return self.folder / "prepared"

    @property
    def schedule(self) -> Path:
        """Beat's memory."""
        return self.folder / "beat"

    @property
    def token(self) -> Path:
        """The local account's API key."""
        return self.home / "cli-token"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def state_get(self) -> StackState | None:
        """What the living runner says; none when there is none (or it hasn't said anything yet)."""
        pid = owner_pid(self.lock)
        state = self.state_last()
        return state if pid is not None and state is not None and state.pid == pid else None

    def state_last(self) -> StackState | None:
        """What the last runner said, living or not."""
        known = state_read(self.state)
        return StackState(**known) if known else None

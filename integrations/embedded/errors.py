"""What goes wrong with the embedded services."""

from __future__ import annotations


class ServicesUnavailable(Exception):
    """The embedded services don't run; the message says why and ``next_step`` what to do."""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n{self.next_step}" if self.next_step else self.message

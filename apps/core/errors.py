"""The errors that Archon reports to people, programs and models.

Every error that a caller is meant to see is an :class:`ApplicationError`; its class says what kind it is, its message
what happened, ``next_step`` what to do about it. Transports render them (HTTP as RFC 9457 problem details, the CLI as
text); services only raise them. Anything else is a bug and crashes.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ApplicationError(Exception):
    """Something that the caller has to know."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, next_step: str = "", **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        #: Further members of the problem document, JSON-serialisable.
        self.extra = extra


class InvalidInput(ApplicationError):
    """The request is understood and cannot be carried out as it stands."""

    code = "invalid_input"
    status = 400


class NotAuthenticated(ApplicationError):
    """No valid credentials came with the request."""

    code = "not_authenticated"
    status = 401


class PermissionDenied(ApplicationError):
    """The caller is known and may not do this."""

    code = "permission_denied"
    status = 403


class NotFound(ApplicationError):
    """There is no such thing, or the caller may not know of it."""

    code = "not_found"
    status = 404


class Conflict(ApplicationError):
    """The thing is in a state that rules this out; ``extra["state"]`` names the state."""

    code = "conflict"
    status = 409


class TooLarge(ApplicationError):
    """What was sent is over a limit."""

    code = "too_large"
    status = 413


class LimitReached(ApplicationError):
    """A limit of money, tokens, steps, time or requests is used up."""

    code = "limit_reached"
    status = 429


class Unavailable(ApplicationError):
    """Something that this needs (a service, a sandbox, a model) is not there now."""

    code = "unavailable"
    status = 503


class DiskFull(Unavailable):
    """The server's disk has no room for this."""

    code = "no_disk_space"

    def __init__(self, what: str) -> None:
        super().__init__(f"The disk is full: {what}", next_step="Free some space on the server's disk and try again.")

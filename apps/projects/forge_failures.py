"""Why a forge did not do what was asked of it, in words, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from apps.core.errors import ApplicationError, InvalidInput, LimitReached, Unavailable
from integrations.forges.errors import ErrorKind, ForgeError

_TOKEN = "archon forge PROJECT --token-file FILE, or PUT …/forge/"


class ForgeRefused(InvalidInput):
    """The forge does not open the pull request."""

    code = "forge_refused"


class ForgeUnavailable(Unavailable):
    """The forge did not answer, or not with what its API promises."""

    code = "forge_unavailable"


class ForgeLimited(LimitReached):
    """The forge has had too many requests by this token, and says when it takes more."""

    code = "forge_limited"


@dataclass(frozen=True)
class _Words:
    kind: type[ApplicationError]
    message: str
    next_step: str


_WORDS: dict[ErrorKind, _Words] = {
    "unreachable": _Words(ForgeUnavailable, "The forge does not answer", "Check its address, and try again."),
    "failing": _Words(ForgeUnavailable, "The forge has a fault", "Try again later."),
    "bad_response": _Words(
        ForgeUnavailable,
        "What answers there does not speak the API that it should",
        "Check kind and api_url of the project's forge.",
    ),
    "unauthorized": _Words(ForgeRefused, "The forge does not accept the token", f"Set another one: {_TOKEN}."),
    "forbidden": _Words(
        ForgeRefused,
        "The forge knows the token and does not let it do this",
        "Give it the right to read the repository and to write pull requests (GitHub: `repo`, or contents and pull "
        "requests; GitLab: `api`; Gitea: `write:repository`), or set another one.",
    ),
    "not_found": _Words(
        ForgeRefused,
        "The forge has no such repository or branch, or hides it from this token",
        "Check the source's address, the target branch, and whether the token may see the repository.",
    ),
    "invalid": _Words(
        ForgeRefused,
        "The forge does not take the pull request as it is",
        "Change what it names (--branch, --target, --title, or a rule of the repository there), and publish again.",
    ),
    "nothing_new": _Words(
        ForgeRefused,
        "The target branch has everything that is on this one",
        "There is nothing to open a pull request for; look whether it was merged already.",
    ),
    "exists": _Words(
        ForgeRefused,
        "There is a pull request for this branch already, and it can't be found",
        "Close it there, or publish under another branch.",
    ),
    "no_drafts": _Words(ForgeRefused, "The forge has no drafts for this repository", "Send draft: false (--no-draft)."),
    "archived": _Words(ForgeRefused, "The repository is archived there", "Have it unarchived."),
    "moved": _Words(
        ForgeRefused,
        "The forge says that the repository is elsewhere by now",
        "Set the source's url to where it is (PATCH …/repository/source/).",
    ),
    "rate_limited": _Words(ForgeLimited, "The forge takes no more requests for a while", "Try again later."),
}


def forge_error(error: ForgeError, *, token: str) -> ApplicationError:
    """What it means here. ``extra`` has ``retry_after`` where the forge asked to wait."""
    words = _WORDS[error.kind]
    said = " ".join(error.said.replace(token, "***").split())[:500]
    extra = {} if error.retry_after is None else {"retry_after": error.retry_after}
    return words.kind(f"{words.message}: {said}" if said else words.message, next_step=words.next_step, **extra)

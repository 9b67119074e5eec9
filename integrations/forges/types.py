"""What is asked of a forge, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["github", "gitlab", "gitea"]


@dataclass(frozen=True)
class PullRequest:
    """A pull (or merge) request that is open."""

    number: int
    #: For people.
    url: str
    title: str
    body: str
    is_draft: bool


class Forge(Protocol):
    """One repository on a forge; every method raises ForgeError."""

    def pull_request_find(self, *, head: str, base: str) -> PullRequest | None:
        """The open one from this branch of the repository into that one."""

    def pull_request_open(self, *, head: str, base: str, title: str, body: str, draft: bool) -> PullRequest:
        """A new one. ForgeError: ``exists`` where there is one already, ``no_drafts`` where it can't be a draft."""

    def pull_request_change(
        self, found: PullRequest, *, title: str | None, body: str, draft: bool | None
    ) -> PullRequest:
        """The same with other words; None leaves what it has. Whether it is a draft can't be changed everywhere."""

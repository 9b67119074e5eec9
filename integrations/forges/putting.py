"""A pull request for a branch: the one that is open is brought up to date, else one is opened. Again is the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .errors import ForgeError
from .types import Forge, PullRequest

#: What the forge with the least room takes of a description, in characters.
BODY_LIMIT = 65_000
#: What people leave room for, whatever they wrote.
_LEAST = 2_000


@dataclass(frozen=True)
class Wish:
    """``body`` makes ours, in at most so many characters; ``mark`` tells it apart from what people write around it."""

    head: str
    base: str
    title: str
    body: Callable[[int], str]
    mark: str
    #: Whether the title was said, so that one that people have given is replaced.
    title_is_said: bool = False
    #: None: ``draft_default`` for a new one, and one that is there stays what it is.
    draft: bool | None = None
    draft_default: bool = False


@dataclass(frozen=True)
class Put:
    pull_request: PullRequest
    is_new: bool
    #: What came out otherwise than it was asked for; empty: nothing.
    notice: str = ""


def pull_request_put(forge: Forge, wish: Wish) -> Put:
    """Raises ForgeError."""
    found = forge.pull_request_find(head=wish.head, base=wish.base)
    if found is None:
        try:
            return _opened(forge, wish)
        except ForgeError as error:
            if error.kind != "exists":
                raise
            # Somebody was faster, or it was made by one of ours that died before it could say so.
            found = forge.pull_request_find(head=wish.head, base=wish.base)
            if found is None:
                raise
    changed = forge.pull_request_change(
        found, title=wish.title if wish.title_is_said else None, body=_body(wish, found.body), draft=wish.draft
    )
    if wish.draft is None or wish.draft == changed.is_draft:
        return Put(changed, is_new=False)
    state = "a draft" if changed.is_draft else "no draft"
    return Put(changed, is_new=False, notice=f"The pull request is {state}, which its API can't change: do so there.")


def _opened(forge: Forge, wish: Wish) -> Put:
    draft = wish.draft_default if wish.draft is None else wish.draft
    body = _body(wish, "")
    try:
        made = forge.pull_request_open(head=wish.head, base=wish.base, title=wish.title, body=body, draft=draft)
    except ForgeError as error:
        # Asked for by nobody, only meant well.
        if error.kind != "no_drafts" or wish.draft:
            raise
        made = forge.pull_request_open(head=wish.head, base=wish.base, title=wish.title, body=body, draft=False)
        return Put(made, is_new=True, notice="The forge has no drafts for this repository, so it is an ordinary one.")
    return Put(made, is_new=True)


def _body(wish: Wish, former: str) -> str:
    """The description with ours in it: in its former place, else after what people wrote."""
    begin, end = f"<!-- {wish.mark} -->", f"<!-- /{wish.mark} -->"
    ours = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    found = ours.search(former)
    before, after = (former[: found.start()], former[found.end() :]) if found else (former.rstrip(), "")
    if before and not found:
        before += "\n\n"
    around = len(before) + len(after) + len(begin) + len(end) + 4
    return f"{before}{begin}\n\n{wish.body(max(_LEAST, BODY_LIMIT - around))}\n{end}{after}"

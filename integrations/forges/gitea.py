"""Gitea and Forgejo: version 1 of their API. A draft is told by its title."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import httpx

from .addresses import ForgeAddress
from .errors import ErrorKind, ForgeError
from .http import ForgeHttp
from .types import PullRequest

#: What both take for a draft unless their operator says otherwise.
_DRAFT = re.compile(r"^(?:\s*(?:wip:|\[wip\]))+\s*", re.IGNORECASE)
_PAGE = 50


class GiteaForge:
    def __init__(self, *, client: httpx.Client, address: ForgeAddress, token: str) -> None:
        headers = {"Authorization": f"token {token}"}
        self._http = ForgeHttp(client=client, api_url=address.api_url, headers=headers, token=token, refusal=_refusal)
        self._repository = address.repository
        self._pulls = f"/repos/{quote(address.repository)}/pulls"

    def pull_request_find(self, *, head: str, base: str) -> PullRequest | None:
        # Nothing filters by head, and not every version by base.
        for item in self._http.pages(self._pulls, params={"state": "open", "base_branch": base, "limit": _PAGE}):
            from_, into = item.get("head") or {}, item.get("base") or {}
            repository = str((from_.get("repo") or {}).get("full_name", ""))
            same = repository.lower() == self._repository.lower()
            if same and (from_.get("ref"), into.get("ref"), item.get("state")) == (head, base, "open"):
                return _pull_request(item)
        return None

    def pull_request_open(self, *, head: str, base: str, title: str, body: str, draft: bool) -> PullRequest:
        asked = {"head": head, "base": base, "title": _titled(title, draft), "body": body}
        return _pull_request(self._http.call("POST", self._pulls, body=asked))

    def pull_request_change(
        self, found: PullRequest, *, title: str | None, body: str, draft: bool | None
    ) -> PullRequest:
        asked = {"body": body}
        is_draft = found.is_draft if draft is None else draft
        wanted = _titled(found.title if title is None else title, is_draft)
        if wanted != found.title:
            asked["title"] = wanted
        return _pull_request(self._http.call("PATCH", f"{self._pulls}/{found.number}", body=asked))


def _titled(title: str, draft: bool) -> str:
    plain = _DRAFT.sub("", title)[:240]
    return f"WIP: {plain}" if draft else plain


def _refusal(status: int, said: str) -> ErrorKind | None:
    lowered = said.lower()
    if status == 422 and "no changes between" in lowered:
        return "nothing_new"
    if status == 409 and "already exists" not in lowered:
        return "invalid"
    return "archived" if status == 403 and "archived" in lowered else None


def _pull_request(item: Any) -> PullRequest:
    try:
        title = str(item["title"])
        return PullRequest(
            number=int(item["number"]),
            url=str(item["html_url"]),
            title=title,
            body=str(item.get("body") or ""),
            is_draft=bool(item.get("draft", _DRAFT.match(title) is not None)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ForgeError("bad_response", f"not a pull request as Gitea describes one: {error!r}") from error

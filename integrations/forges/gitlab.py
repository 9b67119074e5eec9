"""GitLab: version 4 of its REST API. A draft is told by its title."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import httpx

from .addresses import ForgeAddress
from .errors import ErrorKind, ForgeError
from .http import ForgeHttp
from .types import PullRequest

_DRAFT = re.compile(r"^(?:\s*(?:draft:|\[draft\]|\(draft\)))+\s*", re.IGNORECASE)


class GitLabForge:
    def __init__(self, *, client: httpx.Client, address: ForgeAddress, token: str) -> None:
        # Good for personal, project, group and OAuth tokens alike.
        headers = {"Authorization": f"Bearer {token}"}
        self._http = ForgeHttp(client=client, api_url=address.api_url, headers=headers, token=token, refusal=_refusal)
        self._requests = f"/projects/{quote(address.repository, safe='')}/merge_requests"

    def pull_request_find(self, *, head: str, base: str) -> PullRequest | None:
        params = {"state": "opened", "source_branch": head, "target_branch": base, "per_page": 100}
        for item in self._http.pages(self._requests, params=params):
            from_fork = item.get("source_project_id") != item.get("target_project_id")
            branches = (item.get("source_branch"), item.get("target_branch"))
            if not from_fork and branches == (head, base) and item.get("state") == "opened":
                return _merge_request(item)
        return None

    def pull_request_open(self, *, head: str, base: str, title: str, body: str, draft: bool) -> PullRequest:
        asked = {"source_branch": head, "target_branch": base, "title": _titled(title, draft), "description": body}
        return _merge_request(self._http.call("POST", self._requests, body=asked))

    def pull_request_change(
        self, found: PullRequest, *, title: str | None, body: str, draft: bool | None
    ) -> PullRequest:
        asked = {"description": body}
        is_draft = found.is_draft if draft is None else draft
        wanted = _titled(found.title if title is None else title, is_draft)
        if wanted != found.title:
            asked["title"] = wanted
        return _merge_request(self._http.call("PUT", f"{self._requests}/{found.number}", body=asked))


def _titled(title: str, draft: bool) -> str:
    # 255 characters are taken.
    plain = _DRAFT.sub("", title)[:240]
    return f"Draft: {plain}" if draft else plain


def _refusal(status: int, said: str) -> ErrorKind | None:
    lowered = said.lower()
    if "already exists" in lowered:
        return "exists"
    if status == 403 and "archived" in lowered:
        return "archived"
    # Some of its own checks come with a conflict too.
    return "invalid" if status == 409 else None


def _merge_request(item: Any) -> PullRequest:
    try:
        title = str(item["title"])
        return PullRequest(
            number=int(item["iid"]),
            url=str(item["web_url"]),
            title=title,
            body=str(item.get("description") or ""),
            is_draft=bool(item.get("draft", _DRAFT.match(title) is not None)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ForgeError("bad_response", f"not a merge request as GitLab describes one: {error!r}") from error

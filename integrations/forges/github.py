"""GitHub, and GitHub Enterprise Server: the REST API of 2022-11-28."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx

from .addresses import ForgeAddress
from .errors import ErrorKind, ForgeError
from .http import ForgeHttp
from .types import PullRequest


class GitHubForge:
    def __init__(self, *, client: httpx.Client, address: ForgeAddress, token: str) -> None:
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        self._http = ForgeHttp(client=client, api_url=address.api_url, headers=headers, token=token, refusal=_refusal)
        self._repository = address.repository
        self._owner = address.repository.partition("/")[0]
        self._pulls = f"/repos/{quote(address.repository)}/pulls"

    def pull_request_find(self, *, head: str, base: str) -> PullRequest | None:
        params = {"state": "open", "head": f"{self._owner}:{head}", "base": base, "per_page": 100}
        # A filter that GitHub can't read is left out by it, without a word.
        found = (item for item in self._http.pages(self._pulls, params=params) if self._is_ours(item, head, base))
        return next(map(_pull_request, found), None)

    def pull_request_open(self, *, head: str, base: str, title: str, body: str, draft: bool) -> PullRequest:
        asked = {"title": title, "head": head, "base": base, "body": body, "draft": draft}
        return _pull_request(self._http.call("POST", self._pulls, body=asked))

    def pull_request_change(
        self, found: PullRequest, *, title: str | None, body: str, draft: bool | None
    ) -> PullRequest:
        # Whether it is a draft is none of what this address changes.
        asked = {"body": body, **({"title": title} if title is not None else {})}
        return _pull_request(self._http.call("PATCH", f"{self._pulls}/{found.number}", body=asked))

    def _is_ours(self, item: dict[str, Any], head: str, base: str) -> bool:
        from_, into = item.get("head") or {}, item.get("base") or {}
        repository = (from_.get("repo") or {}).get("full_name", "")
        same = repository.lower() == self._repository.lower()
        return same and from_.get("ref") == head and into.get("ref") == base and item.get("state") == "open"


def _refusal(status: int, said: str) -> ErrorKind | None:
    lowered = said.lower()
    if status == 422 and "already exists" in lowered:
        return "exists"
    if status == 422 and "no commits between" in lowered:
        return "nothing_new"
    if status == 422 and "draft pull requests are not supported" in lowered:
        return "no_drafts"
    if status == 403 and "archived" in lowered:
        return "archived"
    return None


def _pull_request(item: Any) -> PullRequest:
    try:
        return PullRequest(
            number=int(item["number"]),
            url=str(item["html_url"]),
            title=str(item["title"]),
            body=str(item.get("body") or ""),
            is_draft=bool(item.get("draft")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ForgeError("bad_response", f"not a pull request as GitHub describes one: {error!r}") from error

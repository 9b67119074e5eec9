"""Where an issue or a log that a link names can be read, and how it reads: plain functions over addresses and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlsplit

#: Comments that are read with an issue.
MAX_COMMENTS = 50
_COMMENTS_LENGTH = 60_000

Host = Literal["github", "gitlab", "gitea"]


@dataclass(frozen=True)
class IssueAddress:
    """An issue in its host's JSON API."""

    host: Host
    issue_url: str
    comments_url: str


def issue_addresses(url: str) -> tuple[IssueAddress, ...]:
    """Where the issue of a page may be read as JSON, the likeliest first; nothing for a page that is none."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    path = parts.path.rstrip("/")
    if found := re.fullmatch(r"/(.+?)/-/(?:issues|work_items|merge_requests)/(\d+)", path):
        kind = "merge_requests" if "/merge_requests/" in path else "issues"
        base = f"{origin}/api/v4/projects/{quote(found[1], safe='')}/{kind}/{found[2]}"
        return (IssueAddress("gitlab", base, f"{base}/notes?sort=asc&per_page={MAX_COMMENTS}"),)
    found = re.fullmatch(r"/([^/]+)/([^/]+)/(?:issues|pull|pulls)/(\d+)", path)
    if found is None:
        return ()
    below = f"repos/{quote(found[1])}/{quote(found[2])}/issues/{found[3]}"
    gitea = f"{origin}/api/v1/{below}"
    enterprise = f"{origin}/api/v3/{below}"
    if (parts.hostname or "") in ("github.com", "www.github.com"):
        base = f"https://api.github.com/{below}"
        return (IssueAddress("github", base, f"{base}/comments?per_page={MAX_COMMENTS}"),)
    return (
        IssueAddress("gitea", gitea, f"{gitea}/comments"),
        IssueAddress("github", enterprise, f"{enterprise}/comments?per_page={MAX_COMMENTS}"),
    )


def log_address(url: str) -> str:
    """Where the plain text of a log is, for pages whose host offers it."""
    parts = urlsplit(url)
    if re.fullmatch(r"/.+/-/jobs/\d+", parts.path.rstrip("/")):
        return parts._replace(path=parts.path.rstrip("/") + "/raw", query="", fragment="").geturl()
    return url


def log_needs_token(url: str) -> bool:
    """Whether the host shows the log to nobody who isn't signed in: GitHub's Actions."""
    parts = urlsplit(url)
    return parts.hostname in ("github.com", "www.github.com") and "/actions/runs/" in parts.path


def issue_parse(body: bytes) -> tuple[str, str] | None:
    """Title and text of an issue out of its host's JSON; None when it is something else."""
    found = _json(body)
    if not isinstance(found, Mapping) or not isinstance(found.get("title"), str):
        return None
    title = " ".join(found["title"].split())[:300]
    lines = [f"# {title}", "", _facts(found), "", str(found.get("body") or found.get("description") or "").strip()]
    return title, "\n".join(lines).strip()


def comments_parse(body: bytes) -> str:
    """The comments below an issue as text, as many as fit; empty when there are none to be read."""
    found = _json(body)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return ""
    parts: list[str] = []
    length = 0
    for comment in found[:MAX_COMMENTS]:
        # GitLab tells events ("changed the label") as notes, too.
        if not isinstance(comment, Mapping) or comment.get("system") is True:
            continue
        text = str(comment.get("body") or "").strip()
        if not text:
            continue
        part = f"## Comment by {_author(comment)}\n\n{text}"
        length += len(part)
        if length > _COMMENTS_LENGTH:
            parts.append("[further comments left out]")
            break
        parts.append(part)
    return "\n\n".join(parts)


def _facts(issue: Mapping[str, Any]) -> str:
    labels = [str(label.get("name") if isinstance(label, Mapping) else label) for label in issue.get("labels") or ()]
    facts = [f"opened by {_author(issue)}"]
    if issue.get("state"):
        facts.append(f"state {issue['state']}")
    if labels:
        facts.append(f"labels {', '.join(labels)}")
    return f"({'; '.join(facts)})"


def _author(thing: Mapping[str, Any]) -> str:
    author = thing.get("user") or thing.get("author") or {}
    name = author.get("login") or author.get("username") if isinstance(author, Mapping) else None
    return re.sub(r"\s+", " ", str(name or "somebody"))[:80]


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None

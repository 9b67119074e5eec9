"""What a session may start from besides a goal in words: an issue or a failing CI log, handed over or linked.

A linked one is fetched by the worker when the session starts, from hosts that the operator lists alone. Its text is
kept as one of the session's files; what the agents get of it is decided by ``nodes.materials``.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings

from apps.agents.models import AgentSession, Attachment, SessionSource
from apps.agents.services.attachments import attachment_path, attachment_store, attachments_claim, text_read
from apps.agents.services.issues import (
    IssueAddress,
    comments_parse,
    issue_addresses,
    issue_parse,
    log_address,
    log_needs_token,
)
from apps.agents.types import AttachmentKind, SourceKind
from apps.core.errors import InvalidInput, Unavailable
from apps.core.outbound import AddressRefused, Fetched, host_is_listed, outbound_fetch
from apps.core.storable import text_storable

if TYPE_CHECKING:
    from apps.authentication.models import User

MAX_SOURCES = 5
TEXT_LIMIT = 1_000_000
_URL_LENGTH = 2000
_FETCHED_BYTES = 8_000_000
_PORTS = {"https": 443, "http": 80}
_NAMES = {SourceKind.ISSUE: "issue.md", SourceKind.CI_LOG: "ci-log.txt"}


class SourceUnavailable(Unavailable):
    """A linked issue or log can't be read."""

    code = "source_unavailable"


@dataclass(frozen=True)
class SourceRequest:
    """An issue or a log: exactly one of its text, its address, and an upload that holds it."""

    kind: SourceKind
    text: str = ""
    url: str = ""
    attachment_id: uuid.UUID | None = None


@dataclass(frozen=True)
class FetchedSource:
    title: str
    text: str
    url: str
    truncated: bool


def sources_check(sources: Sequence[SourceRequest]) -> None:
    """Raises InvalidInput or AddressRefused for what can't work, before anything is written."""
    if len(sources) > MAX_SOURCES:
        raise InvalidInput(f"a session starts from at most {MAX_SOURCES} sources")
    for source in sources:
        given = [bool(source.text.strip()), bool(source.url.strip()), source.attachment_id is not None]
        if sum(given) != 1:
            raise InvalidInput(
                f"a source ({source.kind.value}) has exactly one of text, url and attachment",
                next_step="send the text itself, or the address of it, or the id of an upload",
            )
        if len(source.text) > TEXT_LIMIT:
            raise InvalidInput(
                f"the text of a source is longer than {TEXT_LIMIT} characters",
                next_step="upload it (POST /api/agents/attachments/) and name the upload",
            )
        if source.url:
            url_check(source.url)


def url_check(url: str) -> None:
    """Whether a worker may fetch this at all; raises AddressRefused."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        host, port, parts = "", 0, urlsplit("")
    if not host or parts.scheme not in _PORTS or parts.username or len(url) > _URL_LENGTH:
        raise AddressRefused(
            f"{url[:200]!r} is not the address of an issue or a log",
            next_step="Write https://HOST/PATH, or send its text.",
        )
    if not source_host_allowed(host, port):
        raise AddressRefused(
            f"{host} is not a host that issues and logs are fetched from",
            next_step="Send the text instead, or have the operator add the host to ARCHON_SOURCE_HOSTS.",
        )
    if log_needs_token(url):
        raise AddressRefused(
            "GitHub shows the logs of Actions to nobody who isn't signed in",
            next_step="Send the text: gh run view --log-failed RUN > ci.log, then --log ci.log.",
        )


def source_host_allowed(host: str, port: int) -> bool:
    return host_is_listed(host, port, listed=settings.ARCHON_SOURCE_HOSTS)


def goal_of_sources(sources: Sequence[SourceRequest]) -> str:
    """A goal for a session that was given none."""
    goals = []
    for source in sources:
        if source.kind is SourceKind.ISSUE:
            heading = next((line.strip("# \t") for line in source.text.splitlines() if line.strip("# \t")), "")
            named = source.url.strip() or (f"“{heading[:200]}”" if heading else "that is attached")
            goals.append(f"Resolve the issue {named}")
        else:
            named = f" at {source.url.strip()}" if source.url else ""
            goals.append(f"Find out why the CI run{named} fails, from its log, and mend the cause")
    return text_storable("; ".join(goals))


def sources_create(*, user: User, session: AgentSession, sources: Sequence[SourceRequest]) -> None:
    """Rows of the sources, and files of those that were handed over; inside the caller's transaction."""
    for position, source in enumerate(sources):
        attachment: Attachment | None = None
        if source.attachment_id is not None:
            (attachment,) = attachments_claim(
                user=user, session=session, attachment_ids=[source.attachment_id], turn=session.turn
            )
            if attachment.kind != AttachmentKind.TEXT:
                raise InvalidInput(f"{attachment.name} is no text", next_step="send the issue or log as plain text")
        elif source.text:
            attachment = _text_store(session, position, source.kind, source.text, user_id=user.id)
        SessionSource.objects.create(
            session=session,
            position=position,
            kind=source.kind,
            url=source.url.strip(),
            title=attachment.name if attachment else "",
            attachment=attachment,
        )


def sources_to_fetch(session_id: uuid.UUID) -> list[SessionSource]:
    return list(SessionSource.objects.filter(session_id=session_id, attachment__isnull=True))


def source_text(source: SessionSource) -> str:
    """What the source says, whole; empty when its file is gone."""
    if source.attachment_id is None:
        return ""
    try:
        return text_read(attachment_path(source.attachment_id), limit=None) or ""
    except FileNotFoundError:
        return ""


def source_file_store(*, source: SessionSource, fetched: FetchedSource) -> uuid.UUID:
    """Keep what was fetched as a file of the session, once; its id. The source's row comes with the caller's event."""
    session = AgentSession.objects.get(id=source.session_id)
    stored = _text_store(session, source.position, SourceKind(source.kind), fetched.text, user_id=session.created_by_id)
    return stored.id


def source_record(*, source_id: int, attachment_id: uuid.UUID, title: str) -> None:
    SessionSource.objects.filter(id=source_id).update(attachment_id=attachment_id, title=title[:300])


def _text_store(session: AgentSession, position: int, kind: SourceKind, text: str, *, user_id: uuid.UUID) -> Attachment:
    return attachment_store(
        owner_id=user_id,
        name=_NAMES[kind],
        chunks=[text_storable(text).encode()],
        attachment_id=uuid.uuid5(session.id, f"source:{position}"),
        session=session,
    )


# --- Fetching ---------------------------------------------------------------------------------------------------------
async def source_fetch(*, kind: SourceKind, url: str) -> FetchedSource:
    """Read a linked issue by its host's API, or any page or log as text. Raises an ApplicationError."""
    if kind is SourceKind.ISSUE:
        for address in issue_addresses(url):
            found = await _issue_fetch(url, address)
            if found is not None:
                return found
    answer = await _fetch(log_address(url) if kind is SourceKind.CI_LOG else url, accept="text/plain, text/html;q=0.9")
    if answer.status != 200:
        raise SourceUnavailable(
            f"{url} answered with status {answer.status}",
            next_step="See whether it is public and spelt right; what is private can be sent as text.",
        )
    # A large page takes seconds, in which other sessions would stand still.
    text = await asyncio.to_thread(_page_text, answer)
    if not text.strip():
        raise SourceUnavailable(f"{url} has no text that can be read", next_step="Send the text itself.")
    return FetchedSource(title=url, text=text, url=answer.url, truncated=answer.truncated)


async def _issue_fetch(url: str, address: IssueAddress) -> FetchedSource | None:
    answer = await _fetch(address.issue_url, accept="application/json")
    if answer.status in (401, 403, 429) and address.host != "gitea":
        raise SourceUnavailable(
            f"{urlsplit(address.issue_url).hostname} answered with status {answer.status}: the issue is private, or "
            "too much was asked from here",
            next_step="Try again later, or send the issue's text.",
        )
    parsed = issue_parse(answer.body) if answer.status == 200 and not answer.truncated else None
    if parsed is None:
        return None
    title, text = parsed
    comments = await _fetch(address.comments_url, accept="application/json")
    if comments.status == 200 and (said := comments_parse(comments.body)):
        text = f"{text}\n\n{said}"
    return FetchedSource(title=title, text=text, url=url, truncated=False)


async def _fetch(url: str, *, accept: str) -> Fetched:
    return await outbound_fetch(
        url,
        allowed=source_host_allowed,
        private_hosts=settings.ARCHON_PRIVATE_HOSTS,
        max_bytes=_FETCHED_BYTES,
        accept=accept,
    )


def _page_text(answer: Fetched) -> str:
    media_type, _, parameters = answer.content_type.lower().partition(";")
    charset = parameters.partition("charset=")[2].strip(" \"'") or "utf-8"
    try:
        text = answer.body.decode(charset, "replace")
    except LookupError:
        text = answer.body.decode("utf-8", "replace")
    if media_type.strip() not in ("text/html", "application/xhtml+xml"):
        if b"\x00" in answer.body[:8192]:
            raise SourceUnavailable(f"{answer.url} is no text", next_step="Name the page or the plain text of it.")
        return text
    # Half a second to import, for a page now and then.
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    page = BeautifulSoup(text, "html.parser")
    for tag in page(["script", "style", "noscript", "template", "svg", "nav", "header", "footer", "form"]):
        tag.decompose()
    body = page.find("main") or page.find("article") or page.body or page
    try:
        return str(MarkdownConverter(heading_style="ATX").convert_soup(body))
    except RecursionError:
        return page.get_text("\n")

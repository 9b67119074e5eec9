"""What a person gave besides words: linked sources fetched, and files and sources laid out for a brief."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.messages import HumanMessage

from apps.agents.models import Attachment, SessionSource
from apps.agents.nodes.context import RunContext
from apps.agents.services.attachments import attachment_path, text_read
from apps.agents.services.ci_logs import log_clean, log_cut
from apps.agents.services.images import image_normalise, session_image_put
from apps.agents.services.sources import (
    source_fetch,
    source_file_store,
    source_record,
    source_text,
    sources_to_fetch,
)
from apps.agents.tools.base import text_cut
from apps.agents.types import AttachmentKind, Event, SourceKind
from apps.core.framing import MATERIAL_NOTE, material_frame
from apps.projects.workspace import SANDBOX_ATTACHMENTS

#: Characters of one source, of one attached text, and of all texts together in a brief.
SOURCE_LIMIT, TEXT_LIMIT, TEXTS_LIMIT = 16_000, 12_000, 40_000
#: Images that one brief shows.
IMAGES = 8
#: A larger log is cut to its end before it is looked at line by line.
_LOG_BYTES = 5_000_000


@dataclass(frozen=True)
class Materials:
    """Parts of a brief in words, and blocks that stand for images."""

    parts: tuple[str, ...] = ()
    images: tuple[dict[str, Any], ...] = ()


async def sources_fetch(context: RunContext) -> None:
    """Read the linked issues and logs that weren't read yet; each becomes a file of the session."""
    database = context.ledger.database
    for source in await database.run_in_thread(sources_to_fetch, context.facts.session_id):
        kind = SourceKind(source.kind)
        fetched = await source_fetch(kind=kind, url=source.url)
        attachment_id = await database.run_in_thread(source_file_store, source=source, fetched=fetched)
        record = partial(source_record, source_id=source.pk, attachment_id=attachment_id, title=fetched.title)
        told = Event(
            "SourceFetched",
            {
                "kind": kind.value,
                "url": source.url,
                "title": fetched.title,
                "characters": len(fetched.text),
                "truncated": fetched.truncated,
            },
        )
        await context.ledger.effect_apply(f"source:{source.position}", record, told)


async def materials_read(context: RunContext, *, turn: int) -> Materials:
    """The sources and files that came with the goal (turn 0) or with a follow-up."""
    return await context.ledger.database.run_in_thread(_materials_read, context.facts.session_id, turn)


def brief_message(parts: Sequence[str], materials: Materials) -> HumanMessage:
    """A brief as one message: plain text, or text and images."""
    text = "\n\n".join(part for part in (*parts, *materials.parts) if part)
    if not materials.images:
        return HumanMessage(text)
    return HumanMessage([{"type": "text", "text": text}, *materials.images])


def _materials_read(session_id: uuid.UUID, turn: int) -> Materials:
    parts: list[str] = []
    sources = list(SessionSource.objects.filter(session_id=session_id).select_related("attachment")) if not turn else []
    for source in sources:
        parts.append(_source_part(source, salt=str(session_id)))
    rows = list(Attachment.objects.filter(session_id=session_id, turn=turn, source__isnull=True))
    texts = [row for row in rows if row.kind == AttachmentKind.TEXT]
    pictures = [row for row in rows if row.kind == AttachmentKind.IMAGE]
    left = TEXTS_LIMIT
    for row in texts:
        part = _text_part(row, limit=min(TEXT_LIMIT, left), salt=str(session_id))
        left = max(0, left - len(part))
        parts.append(part)
    images = []
    for row in pictures[:IMAGES]:
        try:
            content = attachment_path(row.id).read_bytes()
        except FileNotFoundError:
            parts.append(f"Attached image: {row.name} is no longer stored.")
            continue
        image = image_normalise(content, name=row.name)
        images.append(session_image_put(session_id=session_id, image=image, name=row.name))
        parts.append(f"Attached image: {_place(row)} ({_size(row)}), shown below.")
    parts += [f"Attached image, not shown here: {_place(row)} ({_size(row)})." for row in pictures[IMAGES:]]
    for row in rows:
        if row.kind == AttachmentKind.BINARY:
            parts.append(
                f"Attached file: {_place(row)} ({row.media_type}, {_size(row)}). It is no text, so it isn't shown; "
                "programs in the sandbox may read it."
            )
    return Materials((MATERIAL_NOTE, *parts) if parts else (), tuple(images))


def _source_part(source: SessionSource, *, salt: str) -> str:
    if source.attachment is None:
        return ""
    text = source_text(source)
    place = _place(source.attachment)
    named = source.url or place
    if source.kind == SourceKind.CI_LOG:
        cleaned = log_clean(text[-_LOG_BYTES:])
        shown = log_cut(cleaned, limit=SOURCE_LIMIT)
        whole = shown == cleaned
        note = f"The log of a CI run that failed{'' if whole else ', cut to what tells most'}; the whole: {place}"
        return material_frame(shown, source=f"ci_log {named}", note=note, salt=salt)
    note = f"An issue{f': the whole is in {place}' if len(text) > SOURCE_LIMIT else ''}"
    return material_frame(text_cut(text, SOURCE_LIMIT), source=f"issue {named}", note=note, salt=salt)


def _text_part(row: Attachment, *, limit: int, salt: str) -> str:
    place = _place(row)
    try:
        text = text_read(attachment_path(row.id), limit=None) or ""
    except FileNotFoundError:
        return f"Attached file: {row.name} is no longer stored."
    if limit < 500:
        return f"Attached text: {place} ({_size(row)}). It isn't shown here; read it with read_file."
    cut = len(text) > limit
    note = f"A file that the person attached: {place}" + (", cut here; read the rest with read_file" if cut else "")
    return material_frame(text_cut(text, limit), source=f"attachment {row.name}", note=note, salt=salt)


def _place(row: Attachment) -> str:
    return f"{SANDBOX_ATTACHMENTS}/{row.name}"


def _size(row: Attachment) -> str:
    return f"{row.size} bytes" if row.size < 10_000 else f"{row.size / 1024:.0f} KiB"

"""Making a summary that was asked for, in a worker.

What is sent is bounded, without the project's secrets, and framed as data.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from django.utils import timezone
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from apps.context.models import CodeFile, FileSummary
from apps.context.selectors import file_symbols
from apps.context.summaries import ROLE, summary_model
from apps.context.walking import contents_read, is_binary
from apps.core.database import Connection
from apps.core.errors import ApplicationError, Conflict
from apps.core.framing import material_frame
from apps.core.redaction import Redactor
from apps.core.storable import json_storable, text_storable
from apps.projects.models import Project
from apps.projects.repository import repository_path
from apps.projects.secrets import project_redactor
from apps.usage.services import standing_scope
from apps.usage.single_call import model_call
from apps.usage.types import ModelReply

#: Of the file's text, and of the names of what comes after it: at most some 8,000 tokens of code together.
TEXT_CHARACTERS = 20_000
OUTLINE_CHARACTERS = 6_000
#: Some models think before they write.
_REPLY_TOKENS = 4_096
_SUMMARY_CHARACTERS = 8_000
DEADLINE_S = 180.0


@dataclass(frozen=True)
class _Shown:
    """What a model is shown of a file."""

    text: str
    note: str
    partial: bool


def summary_make(*, summary_id: int, attempt: uuid.UUID) -> None:
    """Carry the try out, unless another worker has it or it is over; the row says what came of it."""
    now = timezone.now()
    tries = FileSummary.objects.filter(id=summary_id, attempt=attempt, made_at__isnull=True)
    if not tries.filter(taken_at__isnull=True, patience_until__gt=now).update(taken_at=now):
        return
    summary = FileSummary.objects.select_related("index__project", "user").get(id=summary_id)
    try:
        _make(summary, attempt)
    except ApplicationError as error:
        reason = {"code": error.code, "message": error.message, "next_step": error.next_step}
        tries.update(reason=json_storable(reason))


def _make(summary: FileSummary, attempt: uuid.UUID) -> None:
    project, user = summary.index.project, summary.user
    if user is None:
        raise Conflict("Whoever asked for it has no account any more.", next_step="ask for it again")
    chosen = summary_model(project=project, user=user, asked=summary.asked)
    if chosen.name != summary.model:
        raise Conflict(f"The model is {chosen.name} now, and not {summary.model}.", next_step="ask for it again")
    file = CodeFile.objects.filter(index_id=summary.index_id, blob=summary.blob).order_by("-indexed_at").first()
    if file is None:
        raise Conflict("The file is gone.", next_step="ask for another file's")
    shown = _shown(project, file)

    async def keep(connection: Connection, reply: ModelReply) -> None:
        await connection.execute(
            "UPDATE context_filesummary SET text = %s, partial = %s, made_at = clock_timestamp()"
            " WHERE id = %s AND attempt = %s",
            [text_storable(str(reply.message.text)).strip()[:_SUMMARY_CHARACTERS], shown.partial, summary.id, attempt],
        )

    model_call(
        scope_id=standing_scope(project_id=project.id, user_id=user.id),
        key=f"{ROLE}:{summary.id}:{attempt}",
        role=ROLE,
        spec=replace(chosen.spec, max_output_tokens=min(chosen.spec.max_output_tokens, _REPLY_TOKENS)),
        messages=_messages(file, shown),
        deadline_s=DEADLINE_S,
        on_settle=keep,
    )


@cache
def prompt_read() -> str:
    return (Path(__file__).parent / "prompts" / "file_summary.md").read_text("utf-8").strip()


def _shown(project: Project, file: CodeFile) -> _Shown:
    """The file without the project's secrets, cut at a line where it is long. Conflict where there is no text."""
    try:
        (content,) = contents_read(git_dir=repository_path(project_id=project.id), blobs=[file.blob])
    except LookupError as error:
        raise Conflict(
            "The file's content is not in the repository any more.",
            next_step="index the project again: POST /api/context/index/",
        ) from error
    redactor = project_redactor(project_id=project.id)
    text = redactor.text(_decoded(content)).rstrip()
    if not text.strip() or is_binary(content):
        raise Conflict("There is no text in the file.", next_step="ask for another file's")
    if len(text) <= TEXT_CHARACTERS:
        return _Shown(text, "", False)
    kept = text[:TEXT_CHARACTERS]
    kept = kept[: kept.rfind("\n")] if "\n" in kept.strip() else kept
    lines = kept.count("\n") + 1
    outline = _outline(file, redactor, after=lines)
    further = f"\n\n[cut off; defined further on:]\n{outline}" if outline else "\n\n[cut off]"
    return _Shown(kept + further, f"The file is cut off after line {lines}.", True)


def _outline(file: CodeFile, redactor: Redactor, *, after: int) -> str:
    """What is defined after a line, by names."""
    told: list[str] = []
    room = OUTLINE_CHARACTERS
    for symbol in file_symbols(file):
        if symbol.start_line <= after:
            continue
        line = redactor.text(f"{symbol.start_line}: {symbol.kind} {symbol.qualified_name}")[:300]
        room -= len(line) + 1
        if room < 0:
            told.append("…")
            break
        told.append(line)
    return "\n".join(told)


def _messages(file: CodeFile, shown: _Shown) -> list[BaseMessage]:
    # Not the path: the same content elsewhere has the same summary.
    kind = f"a {file.language} file" if file.language else "a file"
    framed = material_frame(shown.text, source=kind, note=shown.note, salt=secrets.token_hex(16))
    return [SystemMessage(prompt_read()), HumanMessage(f"Summarise this file.\n\n{framed}")]


def _decoded(content: bytes) -> str:
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    return content.decode(encoding, "replace")

"""Files that people give to sessions: taken in, looked at, kept, and laid out for a sandbox.

A file is uploaded first and named in a session's request, or in a message to one, afterwards. Until then it belongs to
whoever uploaded it, and expires. What it is follows from its bytes: what a client says of it is not believed.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import shutil
import tempfile
import unicodedata
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.agents.models import AgentSession, Attachment
from apps.agents.services.images import ImageRefused, image_normalise
from apps.agents.types import AttachmentKind
from apps.core.errors import InvalidInput, NotFound, TooLarge
from apps.core.storable import text_storable
from apps.projects.worktree import tree_delete, worktree_path
from apps.projects.worktree_lanes import attachments_name

if TYPE_CHECKING:
    from apps.authentication.models import User

#: Files that one session, or one message, may have.
MAX_COUNT = 20
#: How long a file waits for a session.
UNUSED_KEPT = datetime.timedelta(hours=24)
#: Uploads that one user may have waiting.
MAX_WAITING = 100
_SNIFFED = 8192
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
}
_IMAGE_NAME = re.compile(r"(?i)\.(png|jpe?g|gif|webp|bmp)$")
_OTHERS = {
    b"%PDF-": "application/pdf",
    b"PK\x03\x04": "application/zip",
    b"\x1f\x8b": "application/gzip",
    b"\x7fELF": "application/x-executable",
    b"SQLite format 3\x00": "application/vnd.sqlite3",
}
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_NOT_IN_NAMES = re.compile(r"[^\w.()+@ -]")
_NAME_LENGTH = 120


def attachment_limit() -> int:
    """Bytes of one file."""
    return settings.ARCHON_ATTACHMENT_LIMIT_MB * 1024 * 1024


def attachment_path(attachment_id: object) -> Path:
    """Where the bytes are."""
    return Path(settings.ARCHON_HOME) / "attachments" / str(attachment_id)


def attachment_upload(*, user: User, name: str, declared_type: str, chunks: Iterable[bytes]) -> Attachment:
    """Take a file in, for a session to come. Raises TooLarge, ImageRefused or InvalidInput, and keeps nothing then."""
    waiting = Attachment.objects.filter(owner=user, session__isnull=True).count()
    if waiting >= MAX_WAITING:
        raise InvalidInput(
            f"{waiting} of your uploads wait for a session",
            next_step="use them, delete some, or wait: unused ones are removed after a day",
        )
    return attachment_store(owner_id=user.id, name=name, declared_type=declared_type, chunks=chunks)


def attachment_store(
    *,
    owner_id: uuid.UUID,
    name: str,
    chunks: Iterable[bytes],
    declared_type: str = "",
    attachment_id: uuid.UUID | None = None,
    session: AgentSession | None = None,
) -> Attachment:
    """Write the bytes and then their row; with an id that is taken, the row that there is (a replay)."""
    name = name_clean(name)
    attachment_id = attachment_id or uuid.uuid4()
    path = attachment_path(attachment_id)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        size, digest = 0, hashlib.sha256()
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                size += len(chunk)
                if size > attachment_limit():
                    raise TooLarge(
                        f"{name} is larger than {settings.ARCHON_ATTACHMENT_LIMIT_MB} MiB",
                        next_step="send a part of it, or have the operator raise ARCHON_ATTACHMENT_LIMIT_MB",
                    )
                digest.update(chunk)
                file.write(chunk)
        if size == 0:
            raise InvalidInput(f"{name} is empty", next_step="send a file with something in it")
        kind, media_type = content_sniff(Path(temporary), name=name, declared_type=declared_type)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    # The row comes last: bytes without one are swept up.
    attachment, _ = Attachment.objects.get_or_create(
        id=attachment_id,
        defaults={
            "owner_id": owner_id,
            "session": session,
            "turn": session.turn if session else 0,
            "name": name_free(name, taken=_names_taken(session)) if session else name,
            "kind": kind,
            "media_type": media_type,
            "size": size,
            "sha256": digest.hexdigest(),
        },
    )
    return attachment


def attachment_get_for_user(*, user: User, attachment_id: uuid.UUID) -> Attachment:
    """The user's own; NotFound otherwise."""
    found = Attachment.objects.filter(id=attachment_id, owner=user).first()
    if found is None:
        raise _missing([attachment_id])
    return found


def attachment_delete(*, user: User, attachment_id: uuid.UUID) -> None:
    """Throw away an upload that no session has. Raises NotFound, InvalidInput."""
    with transaction.atomic():
        found = Attachment.objects.select_for_update().filter(id=attachment_id, owner=user).first()
        if found is None:
            raise _missing([attachment_id])
        if found.session_id is not None:
            raise InvalidInput(f"{found.name} belongs to session {found.session_id}", next_step="leave it there")
        found.delete()
    attachment_path(attachment_id).unlink(missing_ok=True)


def attachments_claim(
    *, user: User, session: AgentSession, attachment_ids: Sequence[uuid.UUID], turn: int
) -> list[Attachment]:
    """Give the user's waiting uploads to a session, inside the caller's transaction, under names of their own.

    Raises NotFound for one that isn't there, isn't the user's or was used already.
    """
    wanted = list(dict.fromkeys(attachment_ids))
    if len(wanted) > MAX_COUNT:
        raise InvalidInput(f"at most {MAX_COUNT} files can be attached", next_step="put several into one archive")
    rows = Attachment.objects.select_for_update().filter(id__in=wanted, owner=user, session__isnull=True)
    found = {row.id: row for row in rows.order_by("id")}
    missing = [attachment_id for attachment_id in wanted if attachment_id not in found]
    if missing:
        raise _missing(missing)
    taken = _names_taken(session)
    for attachment_id in wanted:
        row = found[attachment_id]
        row.session, row.turn, row.name = session, turn, name_free(row.name, taken=taken)
        taken.add(row.name)
        row.save(update_fields=["session", "turn", "name", "updated_at"])
    return [found[attachment_id] for attachment_id in wanted]


def attachments_place(session_id: uuid.UUID, worktree: str = "main") -> Path | None:
    """A folder with the session's files under their names, for a worktree's sandbox; None when it has none.

    Made anew each time, beside the session's worktrees, with which it goes; each has its own, since one that a sandbox
    has open must not go.
    """
    rows = list(Attachment.objects.filter(session_id=session_id))
    folder = worktree_path(session_id=session_id, name=attachments_name(worktree))
    tree_delete(folder)
    if not rows:
        return None
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    for row in rows:
        source = attachment_path(row.id)
        if not source.exists():
            continue
        target = folder / row.name
        shutil.copyfile(source, target)
        target.chmod(0o444)
    return folder


def attachments_prune() -> int:
    """Remove uploads that nobody used in time, and bytes that no row has. How many."""
    expired = Attachment.objects.filter(session__isnull=True, created_at__lt=timezone.now() - UNUSED_KEPT)
    deleted, _ = expired.delete()
    folder = Path(settings.ARCHON_HOME) / "attachments"
    old = (timezone.now() - datetime.timedelta(hours=1)).timestamp()
    files = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    ids = [name for name in files if _is_uuid(name)]
    known = {str(row) for row in Attachment.objects.filter(id__in=ids).values_list("id", flat=True)}
    for name, path in files.items():
        # A file is written before its row.
        if name not in known and path.stat().st_mtime < old:
            path.unlink(missing_ok=True)
    return deleted


# --- What a file is ---------------------------------------------------------------------------------------------------
def content_sniff(path: Path, *, name: str, declared_type: str = "") -> tuple[AttachmentKind, str]:
    """Kind and media type by the bytes. What claims to be an image has to be one: ImageRefused."""
    with path.open("rb") as file:
        start = file.read(_SNIFFED)
    image_type = next((kind for magic, kind in _IMAGES.items() if start.startswith(magic)), "")
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        image_type = "image/webp"
    claimed = bool(_IMAGE_NAME.search(name)) or (
        declared_type.startswith("image/") and not declared_type.startswith("image/svg")
    )
    if image_type or claimed:
        try:
            image_normalise(path.read_bytes(), name=name)
        except ImageRefused:
            # Two letters of text may begin as a bitmap does.
            if claimed or image_type != "image/bmp":
                raise
        else:
            return AttachmentKind.IMAGE, image_type or "application/octet-stream"
    if text_read(path, limit=None) is not None:
        return AttachmentKind.TEXT, "text/plain"
    other = next((kind for magic, kind in _OTHERS.items() if start.startswith(magic)), "application/octet-stream")
    return AttachmentKind.BINARY, other


def text_read(path: Path, *, limit: int | None) -> str | None:
    """The file as text (UTF-8, or what its byte order mark says), at most ``limit`` bytes of it; None if it is none."""
    with path.open("rb") as file:
        content = file.read() if limit is None else file.read(limit)
    encoding = next((codec for mark, codec in _BOMS.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\x00" in content:
        return None
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        # Cut within a character, as a limit may.
        if limit is None or error.start < len(content) - 4:
            return None
        text = content[: error.start].decode(encoding, "replace")
    return text_storable(text)


def name_clean(name: str) -> str:
    """A file's name that is safe in every folder: no path, no control characters, not too long."""
    base = unicodedata.normalize("NFC", text_storable(name)).replace("\\", "/").rpartition("/")[2]
    base = _NOT_IN_NAMES.sub("_", base).strip().lstrip(".-").strip()
    stem, dot, suffix = base.rpartition(".")
    if dot and len(suffix) <= 10:
        return (stem[: _NAME_LENGTH - len(suffix) - 1] or "file") + dot + suffix
    return base[:_NAME_LENGTH] or "file"


def name_free(name: str, *, taken: set[str]) -> str:
    """The name, numbered if it is taken (also in another case, for file systems that see none)."""
    lower = {other.casefold() for other in taken}
    if name.casefold() not in lower:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        stem, suffix = name, ""
    number = 2
    while f"{stem}-{number}{dot}{suffix}".casefold() in lower:
        number += 1
    return f"{stem}-{number}{dot}{suffix}"


def _names_taken(session: AgentSession | None) -> set[str]:
    return set(Attachment.objects.filter(session=session).values_list("name", flat=True)) if session else set()


def _missing(ids: Sequence[uuid.UUID]) -> NotFound:
    return NotFound(
        f"there is no upload {', '.join(map(str, ids))} of yours that waits for a session",
        next_step="upload the file again: one upload serves one session, and expires after a day",
    )


def _is_uuid(name: str) -> bool:
    try:
        uuid.UUID(name)
    except ValueError:
        return False
    return True

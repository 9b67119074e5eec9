"""What an archive holds, entry by entry and never on disk: what climbs, explodes or pretends is refused.

tar (plain, gzip, bzip2, xz) is read as a stream, zip by its directory. The caps count what really comes out, whatever
the archive says of itself.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal, cast

from apps.core.errors import InvalidInput, TooLarge

ENTRIES = 200_000
DEPTH = 100
_NAME_BYTES = 255
_PATH_BYTES = 4096
_LINK_BYTES = 4096
#: Headers of a tar that describe the next entry are kept in memory.
_HEADER_BYTES = 256 * 1024
#: Ordinary text shrinks to a tenth; what unfolds to more than this is made to do so.
_RATIO = 250
_RATIO_FROM_BYTES = 64 * 1024 * 1024
_DESCRIPTIVE = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_DIRECTORY_BYTES = 64 * 1024 * 1024
_CHUNK = 1 << 16
#: Code points that some file systems leave out of names, so that `.g\u200cit` is `.git` there.
_IGNORABLE = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_SHORT_GIT = re.compile(r"git~\d+")


class ArchiveRefused(InvalidInput):
    """The archive can't be taken, for what one of its entries is."""

    code = "archive_refused"


@dataclass(frozen=True)
class ArchiveEntry:
    """A file (its content is read from ``content``) or a link (``target``)."""

    path: str
    kind: Literal["file", "link", "folder"]
    executable: bool = False
    target: str = ""
    size: int = 0
    content: IO[bytes] | None = None


@dataclass
class ArchiveCount:
    """What was met on the way."""

    entries: int = 0
    #: Paths of a `.git` that were left out.
    git_entries: int = 0


def archive_entries(path: Path, *, limit_bytes: int, count: ArchiveCount) -> Iterator[ArchiveEntry]:
    """The files and links, each to be read before the next. Raises ArchiveRefused, TooLarge.

    To be gone through within :func:`damage_told`, which holds for the reading of the contents as well.
    """
    kind = _kind(path)
    names = _Names()
    members = (
        _zip_members(path, limit_bytes) if kind == "zip" else _tar_members(path, kind=kind, limit_bytes=limit_bytes)
    )
    for entry in members:
        count.entries += 1
        if count.entries > ENTRIES:
            raise TooLarge(f"The archive has more than {ENTRIES} entries", next_step="Leave out what isn't source.")
        parts = _parts(entry.path)
        if not parts:
            continue
        if ".git" in parts:
            # Another's repository: its history, hooks and configuration are not believed.
            count.git_entries += 1
            continue
        if entry.kind == "link":
            _link_check(parts, entry.target)
        names.take(parts, folder=entry.kind == "folder")
        if entry.kind != "folder":
            yield replace(entry, path="/".join(parts))


@contextlib.contextmanager
def damage_told() -> Iterator[None]:
    """Turn what the readers of archives say of damaged ones into ArchiveRefused."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise ArchiveRefused(
            f"The archive is damaged: {str(error) or 'it ends too early'}", next_step=_AGAIN
        ) from error
    except (NotImplementedError, RuntimeError) as error:
        raise ArchiveRefused(
            f"The archive is of a kind that can't be read: {error}", next_step="Make a plain tar.gz or zip."
        ) from error
    except OSError as error:
        # bz2 and gzip say so of bytes that are not theirs.
        if error.errno is not None:
            raise
        raise ArchiveRefused(f"The archive is damaged: {error}", next_step=_AGAIN) from error


_AGAIN = "Make it again, for instance with `git archive --format=tar.gz -o project.tar.gz HEAD`."


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(512)
    for magic, kind in ((b"PK\x03\x04", "zip"), (b"PK\x05\x06", "zip"), (b"\x1f\x8b", "gz"), (b"BZh", "bz2")):
        if head.startswith(magic):
            return kind
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if head[257:262] == b"ustar":
        return "tar"
    raise ArchiveRefused(
        "This is no archive that can be read", next_step="Send a tar.gz, tar.bz2, tar.xz, tar or zip file."
    )


# --- Names ------------------------------------------------------------------------------------------------------------


def _parts(name: str) -> list[str]:
    if name.startswith("/") or "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name):
        raise ArchiveRefused(f"{_shown(name)} is not a path within the archive", next_step=_RELATIVE)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    raw = "/".join(parts).encode("utf-8", "surrogateescape")
    if ".." in parts:
        raise ArchiveRefused(f"{_shown(name)} leads out of the archive", next_step=_RELATIVE)
    if len(parts) > DEPTH or len(raw) > _PATH_BYTES or any(len(part) > _NAME_BYTES for part in raw.split(b"/")):
        raise ArchiveRefused(f"{_shown(name)} is too long or too deep", next_step=_RELATIVE)
    for part in parts:
        if part != ".git" and _is_git_in_disguise(part):
            raise ArchiveRefused(
                f"{_shown(name)} is a .git under another name on some file systems", next_step="Rename it."
            )
    return parts


_RELATIVE = "Make the archive with paths that begin in its own top folder."


def _is_git_in_disguise(part: str) -> bool:
    folded = unicodedata.normalize("NFKC", _IGNORABLE.sub("", part)).casefold()
    folded = folded.split(":")[0].rstrip(" .")
    return folded == ".git" or _SHORT_GIT.fullmatch(folded) is not None


def _link_check(parts: list[str], target: str) -> None:
    place = parts[:-1]
    for step in target.split("/"):
        if step == "..":
            if not place:
                place = [".."]
                break
            place = place[:-1]
        elif step not in ("", "."):
            place = [*place, step]
    leads_out = target.startswith("/") or "\\" in target or "\0" in target or not target or ".." in place
    if leads_out or any(part == ".git" or _is_git_in_disguise(part) for part in place):
        raise ArchiveRefused(
            f"The link {_shown('/'.join(parts))} leads to {_shown(target)}, out of the archive",
            next_step="Leave the link out, or put what it leads to into the archive.",
        )


class _Names:
    """Every path once, and none below a file or a link."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def take(self, parts: list[str], *, folder: bool) -> None:
        path = "/".join(parts)
        above = ["/".join(parts[:length]) for length in range(1, len(parts))]
        clash = path in self._files or any(name in self._files for name in above)
        if clash or (not folder and path in self._folders):
            raise ArchiveRefused(
                f"{_shown(path)} is in the archive twice, or is below a file", next_step="Make the archive again."
            )
        self._folders.update(above)
        (self._folders if folder else self._files).add(path)


def _shown(text: str) -> str:
    return repr(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")[:200])


# --- tar --------------------------------------------------------------------------------------------------------------


class _Counted:
    """The unpacked bytes of a packed file, up to what is allowed."""

    def __init__(self, packed: IO[bytes], unpacked: IO[bytes], limit: int) -> None:
        self._packed = packed
        self._unpacked = unpacked
        self._limit = limit
        self._total = 0

    def read(self, size: int) -> bytes:
        chunk = self._unpacked.read(min(size, _CHUNK))
        self._total += len(chunk)
        _growth_check(self._total, self._packed.tell(), self._limit)
        return chunk


def _growth_check(unpacked: int, packed: int, limit: int) -> None:
    # Blocks of padding and headers come on top of the content that the limit is about.
    if unpacked > limit + limit // 4 + (1 << 20):
        raise TooLarge(
            f"The archive unfolds to more than {limit >> 20} MiB",
            next_step="Leave out what isn't source, or have the operator raise ARCHON_REPOSITORY_LIMIT_MB.",
        )
    if unpacked > _RATIO_FROM_BYTES and unpacked > _RATIO * max(packed, 1):
        raise ArchiveRefused(
            f"The archive unfolds to more than {_RATIO} times its size, as archives do that are made to fill disks",
            next_step="Leave out files that are mostly empty.",
        )


class _Member(tarfile.TarInfo):
    """Refuses descriptions that would fill the memory, before they are read."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _DESCRIPTIVE and not 0 <= self.size <= _HEADER_BYTES:
            raise ArchiveRefused("The archive has a header that is too large", next_step=_AGAIN)
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise ArchiveRefused(f"{_shown(self.name)} is a sparse file", next_step="Leave it out.")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]  # tarfile's own hook, without a stub
        return member


def _tar_members(path: Path, *, kind: str, limit_bytes: int) -> Iterator[ArchiveEntry]:
    with path.open("rb") as packed:
        unpacked: IO[bytes] = packed
        if kind == "gz":
            unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=packed))
        elif kind == "bz2":
            unpacked = cast("IO[bytes]", bz2.BZ2File(packed))
        elif kind == "xz":
            # A dictionary as large as its header says is allocated before anything is read.
            unpacked = cast("IO[bytes]", _XzFile(packed))
        stream = _Counted(packed, unpacked, limit_bytes)
        with tarfile.open(
            fileobj=cast("IO[bytes]", stream), mode="r|", tarinfo=_Member, bufsize=_CHUNK, errorlevel=1
        ) as archive:
            for member in archive:
                # What was read is kept in a list otherwise.
                archive.members = []  # type: ignore[attr-defined]  # not in the stubs
                yield _tar_entry(archive, member)


def _tar_entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> ArchiveEntry:
    if member.issparse():
        raise ArchiveRefused(f"{_shown(member.name)} is a sparse file", next_step="Leave it out.")
    if member.isfile():
        content = archive.extractfile(member)
        return ArchiveEntry(member.name, "file", bool(member.mode & 0o100), size=member.size, content=content)
    if member.isdir():
        return ArchiveEntry(member.name, "folder")
    if member.issym():
        if len(member.linkname) > _LINK_BYTES:
            raise ArchiveRefused(f"The link {_shown(member.name)} is too long", next_step="Leave it out.")
        return ArchiveEntry(member.name, "link", target=member.linkname)
    what = "a hard link" if member.islnk() else "a device or a pipe"
    raise ArchiveRefused(
        f"{_shown(member.name)} is {what}; only files, folders and links are taken",
        next_step="Leave it out (tar: --hard-dereference stores a hard link as a file).",
    )


class _XzFile:
    """An xz file, unpacked with little memory."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._decoder = lzma.LZMADecompressor(memlimit=256 * 1024 * 1024)

    def read(self, size: int) -> bytes:
        while not self._decoder.eof:
            data = self._packed.read(_CHUNK) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not data:
                raise EOFError("it ends too early")
            chunk = self._decoder.decompress(data, max_length=size)
            if chunk:
                return chunk
        return b""


# --- zip --------------------------------------------------------------------------------------------------------------


def _zip_members(path: Path, limit_bytes: int) -> Iterator[ArchiveEntry]:
    _zip_directory_check(path)
    packed = path.stat().st_size
    total = 0
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if info.flag_bits & 1:
                raise ArchiveRefused(f"{_shown(info.filename)} is encrypted", next_step="Make it without a password.")
            if info.is_dir():
                yield ArchiveEntry(info.orig_filename, "folder")
                continue
            kind = stat.S_IFMT(mode)
            if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
                raise ArchiveRefused(f"{_shown(info.filename)} is a device or a pipe", next_step="Leave it out.")
            total += info.file_size
            _growth_check(total, packed, limit_bytes)
            with archive.open(info) as content:
                if kind == stat.S_IFLNK:
                    target = content.read(_LINK_BYTES + 1)
                    if len(target) > _LINK_BYTES:
                        raise ArchiveRefused(f"The link {_shown(info.filename)} is too long", next_step="Leave it out.")
                    yield ArchiveEntry(info.orig_filename, "link", target=target.decode("utf-8", "surrogateescape"))
                else:
                    # zipfile stops at this size whatever unfolds, and compares a checksum.
                    yield ArchiveEntry(
                        info.orig_filename, "file", bool(mode & 0o100), size=info.file_size, content=content
                    )


def _zip_directory_check(path: Path) -> None:
    """The directory is read as a whole: not one that would fill the memory."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 65_557))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) < at + 22:
            raise ArchiveRefused("The archive is damaged: it has no directory", next_step=_AGAIN)
        entries = int.from_bytes(tail[at + 10 : at + 12], "little")
        directory = int.from_bytes(tail[at + 12 : at + 16], "little")
        locator = tail[at - 20 : at] if at >= 20 else b""
        if locator.startswith(b"PK\x06\x07"):
            file.seek(int.from_bytes(locator[8:16], "little"))
            record = file.read(56)
            entries = int.from_bytes(record[32:40], "little")
            directory = int.from_bytes(record[40:48], "little")
    if entries > ENTRIES or directory > _DIRECTORY_BYTES:
        raise TooLarge(f"The archive has more than {ENTRIES} entries", next_step="Leave out what isn't source.")

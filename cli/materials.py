"""What goes with a goal besides words: attached files, and issues or logs to start from."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cli.client import Api
from cli.errors import ApiError, CliError

SourceKind = Literal["issue", "ci_log"]
_NAMES: dict[SourceKind, str] = {"issue": "issue.md", "ci_log": "ci-log.txt"}


@dataclass(frozen=True)
class Source:
    """An issue or a log: an address that the server fetches, or a file that is uploaded."""

    kind: SourceKind
    url: str = ""
    path: Path | None = None


@dataclass(frozen=True)
class Materials:
    """Files and sources that were named, all of them there to be read."""

    files: tuple[Path, ...] = ()
    sources: tuple[Source, ...] = ()


@dataclass
class Uploaded:
    """Members of a request, once everything is on the server."""

    attachments: list[str] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)

    def members(self) -> dict[str, Any]:
        named = {"attachments": self.attachments, "sources": self.sources}
        return {name: value for name, value in named.items() if value}


@contextmanager
def materials_open(
    *, attach: Sequence[Path] | None = None, issue: str | None = None, log: str | None = None
) -> Iterator[Materials]:
    """What the options name; standard input (``-``) is kept in a file for as long as the block lasts."""
    if issue == "-" and log == "-":
        raise CliError("standard input can't be both the issue and the log", next_step="name a file for one of them")
    files = tuple(_readable(path) for path in attach or ())
    with tempfile.TemporaryDirectory(prefix="archon-") as folder:
        given: list[tuple[SourceKind, str | None]] = [("issue", issue), ("ci_log", log)]
        sources = tuple(_source(kind, value, Path(folder)) for kind, value in given if value is not None)
        yield Materials(files, sources)


def materials_upload(api: Api, materials: Materials) -> Uploaded:
    """Bring the files to the server; what the request has to name then."""
    uploaded = Uploaded(attachments=[_upload(api, path) for path in materials.files])
    for source in materials.sources:
        if source.path is None:
            uploaded.sources.append({"kind": source.kind, "url": source.url})
        else:
            identifier = _upload(api, source.path, name=_NAMES[source.kind])
            uploaded.sources.append({"kind": source.kind, "attachment": identifier})
    return uploaded


def _upload(api: Api, path: Path, *, name: str = "") -> str:
    try:
        return api.attachment_upload(path, name=name)
    except ApiError as error:
        # Refused by its size alone, before the server looked at what it is.
        if error.code != "too_large":
            raise
        raise CliError(
            f"{path} is too large to be sent along ({path.stat().st_size / 1024 / 1024:.1f} MiB): {error.message}",
            next_step="send a part of it, or have the operator raise ARCHON_ATTACHMENT_LIMIT_MB",
            code=error.code,
        ) from error


def _source(kind: SourceKind, value: str, folder: Path) -> Source:
    if value.startswith(("http://", "https://")):
        return Source(kind, url=value)
    if value != "-":
        return Source(kind, path=_readable(Path(value)))
    if sys.stdin.isatty():
        raise CliError("nothing comes from standard input", next_step="pipe the text in, or name a file")
    path = folder / _NAMES[kind]
    path.write_bytes(sys.stdin.buffer.read())
    return Source(kind, path=_readable(path))


def _readable(path: Path) -> Path:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise CliError(
            f"{path} can't be read: {error.strerror}", next_step="name a file that is there", code="invalid_input"
        ) from error
    if empty:
        raise CliError(f"{path} is empty", next_step="name a file with something in it", code="invalid_input")
    return path

"""Archives of sources: wheels, npm packages and Debian packages. They are read in place; nothing is unpacked or run."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from training.licences import debian_licence, npm_licence, wheel_licence

Registry = Literal["pypi", "npm", "debian"]
_FILE_BYTES = 600_000
_WHEEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)-.+\.whl$")
_DEBIAN = re.compile(r"(?P<name>[^_]+)_(?P<version>[^_]+)_[a-z0-9]+\.deb$")


class UnreadableArchive(Exception):
    """It is no archive of a kind that is known here, or it is broken."""


class About(NamedTuple):
    """What an archive says of itself."""

    registry: Registry
    name: str
    version: str
    licence: str


class SourceFile(NamedTuple):
    path: str
    content: bytes


def archive_sha256(archive: Path) -> str:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def archive_about(archive: Path) -> About:
    try:
        if archive.suffix == ".whl":
            match = _WHEEL.match(archive.name)
            assert match is not None, archive.name
            with zipfile.ZipFile(archive) as opened:
                found = [name for name in opened.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
                metadata = opened.read(found[0]).decode("utf-8", "replace")
            return About("pypi", match["name"].lower().replace("_", "-"), match["version"], wheel_licence(metadata))
        if archive.suffix == ".tgz":
            # Not always first, but there is one.
            with tarfile.open(archive) as tar:
                for member in tar:
                    if re.fullmatch(r"[^/]+/package\.json", member.name):
                        file = tar.extractfile(member)
                        assert file is not None
                        text = file.read().decode("utf-8", "replace")
                        told = json.loads(text)
                        return About("npm", told["name"], told["version"], npm_licence(text))
            raise UnreadableArchive(f"{archive.name} has no package.json")
        if archive.suffix == ".deb":
            match = _DEBIAN.match(archive.name)
            assert match is not None, archive.name
            found_text = ""
            for path, content in _debian_files(archive):
                if re.fullmatch(r"usr/share/doc/[^/]+/copyright", path):
                    found_text = content.decode("utf-8", "replace")
                    break
            return About("debian", match["name"], match["version"].replace("%3a", ":"), debian_licence(found_text))
    except (OSError, ValueError, LookupError, TypeError, AssertionError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise UnreadableArchive(f"{archive.name}: {error!r}") from error
    raise UnreadableArchive(f"{archive.name} is no wheel, npm package or Debian package")


def archive_files(archive: Path) -> Iterator[SourceFile]:
    """The files of a size that people write, in the archive's order."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir() and info.file_size <= _FILE_BYTES:
                    yield SourceFile(info.filename, opened.read(info))
    elif archive.suffix == ".tgz":
        with tarfile.open(archive) as tar:
            yield from _members(tar, strip=1)
    else:
        for name, content in _debian_files(archive):
            # Where Debian puts it says nothing of what it is.
            path = re.sub(r"^usr/(share/(gocode/src|cargo/registry)|src|lib|include)/", "", name)
            yield SourceFile(path, content)


def _debian_files(archive: Path) -> Iterator[tuple[str, bytes]]:
    packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], capture_output=True, check=False, timeout=300)
    if packed.returncode:
        raise UnreadableArchive(f"{archive.name}: {packed.stderr.decode('utf-8', 'replace').strip()[:200]}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
        yield from _members(tar, strip=0)


def _members(tar: tarfile.TarFile, *, strip: int) -> Iterator[SourceFile]:
    for member in tar:
        if member.isfile() and member.size <= _FILE_BYTES:
            file = tar.extractfile(member)
            if file is not None:
                path = member.name.removeprefix("./")
                yield SourceFile(path.split("/", strip)[-1] if strip else path, file.read())

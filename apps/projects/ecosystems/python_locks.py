"""The versions that a Python project's lock file holds it to, whichever tool wrote it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

#: In the order in which they are asked; the first that says anything counts.
_LOCK_FILES = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "Pipfile.lock")
_MAX_BYTES = 16 * 1024 * 1024
_MAX_PACKAGES = 5_000
_NAME = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9][\w.!+-]*")


def locked_versions(root: Path) -> dict[str, str]:
    """The version that each package is locked to on this Python and platform; one with several is left out.

    To be used as constraints, which hold what gets installed to these versions and install nothing by themselves.
    """
    for name in _LOCK_FILES:
        path = root / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_BYTES:
            continue
        versions: dict[str, set[str]] = {}
        for package, version in _packages(path):
            if _NAME.fullmatch(package) and _VERSION.fullmatch(version):
                versions.setdefault(re.sub(r"[-_.]+", "-", package).lower(), set()).add(version)
        single = {package: found.pop() for package, found in sorted(versions.items()) if len(found) == 1}
        if single:
            return dict(list(single.items())[:_MAX_PACKAGES])
    return {}


def _packages(path: Path) -> Iterator[tuple[str, str]]:
    """Names and versions that the file lists; nothing where it can't be read as what its name says."""
    try:
        text = path.read_text("utf-8", "replace")
        document: Any = json.loads(text) if path.name == "Pipfile.lock" else tomllib.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict):
        return
    if path.name == "Pipfile.lock":
        for section in ("default", "develop"):
            table = document.get(section)
            for package, entry in table.items() if isinstance(table, dict) else ():
                if isinstance(entry, dict):
                    yield package, str(entry.get("version", "")).removeprefix("==")
        return
    for key in ("package", "packages"):
        entries = document.get(key)
        for entry in entries if isinstance(entries, list) else ():
            # What comes from a folder or a repository has no version to hold anything to.
            if (
                isinstance(entry, dict)
                and isinstance(entry.get("name"), str)
                and not _is_local(entry.get("source"))
                and _applies(entry)
            ):
                yield entry["name"], str(entry.get("version", ""))


def _applies(entry: dict[str, Any]) -> bool:
    """Whether the entry is for an interpreter like ours, which is the one that environments are made for."""
    markers = entry.get("resolution-markers") or entry.get("markers") or entry.get("marker") or ()
    # Poetry has one for each group.
    listed = markers.values() if isinstance(markers, dict) else [markers] if isinstance(markers, str) else markers
    if not isinstance(listed, Iterable):
        return True
    known = []
    for marker in listed:
        try:
            known.append(Marker(str(marker)).evaluate())
        except (InvalidMarker, UndefinedEnvironmentName, UndefinedComparison):
            return True
    return not known or any(known)


def _is_local(source: object) -> bool:
    return isinstance(source, dict) and bool({"editable", "virtual", "directory", "path", "git"} & set(source))

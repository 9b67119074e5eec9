"""Which files of a project import which: what imports say, matched with the paths that there are. No Django in here.

Languages write imports in few ways: a dotted or slashed name that ends like a path, or a path relative to the file.
What several files could be is the one that is nearest to who imports it; what none could be is from elsewhere.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

#: Files that stand for the folder that they are in.
_FOLDER_FILES = frozenset({"__init__", "index", "mod", "lib"})
#: Prefixes that mean "of this project".
_OWN_PREFIXES = ("crate", "self", "super", "@", "~", "src")


class ImportResolver:
    """Finds the files that imports name, among these paths."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_last: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        self._paths = set(paths)
        self._folders: dict[str, list[str]] = {}
        for path in sorted(self._paths):
            stem = posixpath.splitext(path)[0]
            parts = tuple(stem.split("/"))
            if parts[-1] in _FOLDER_FILES and len(parts) > 1:
                parts = parts[:-1]
            self._by_last.setdefault(parts[-1], []).append((path, parts))
            self._folders.setdefault(posixpath.dirname(path), []).append(path)

    def resolve(self, *, importer: str, module: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """The files that this import of ``importer`` names; none: it is from elsewhere."""
        written = module.strip().strip("\"'<>`;")
        if not written:
            return ()
        found: list[str] = []
        if written.startswith("."):
            base = self._relative(importer, written)
            found = [] if base is None else self._at(base)
            if base is not None:
                # `from . import name` takes modules as well.
                found += [path for name in names for path in self._at(posixpath.join(base, name))]
        else:
            parts = _parts(written)
            whole = self._named(importer, parts)
            found = [whole] if whole else []
            for name in names:
                inner = self._named(importer, (*parts, name)) if parts else None
                if inner is not None and inner != whole:
                    found.append(inner)
            if not found and len(parts) > 1:
                # The last part may be what is in the file: a class, a function.
                outer = self._named(importer, parts[:-1])
                found = [outer] if outer else []
        return tuple(dict.fromkeys(path for path in found if path != importer))

    def _relative(self, importer: str, written: str) -> str | None:
        folder = posixpath.dirname(importer)
        if written.startswith(("./", "../")) or (
            written in (".", "..") and "/" in importer and not importer.endswith(".py")
        ):
            joined = posixpath.normpath(posixpath.join(folder, written))
        else:
            dots = len(written) - len(written.lstrip("."))
            for _ in range(dots - 1):
                if not folder:
                    return None
                folder = posixpath.dirname(folder)
            joined = posixpath.normpath(posixpath.join(folder, written[dots:].replace(".", "/")))
        return None if joined.startswith("../") else ("" if joined == "." else joined)

    def _at(self, base: str) -> list[str]:
        """The file at a path that may lack its ending, or that stands for the folder."""
        if base in self._paths:
            return [base]
        stem = posixpath.splitext(base)[0] if posixpath.splitext(base)[1] in (".js", ".jsx", ".mjs") else base
        for wanted in (base, stem):
            parts = tuple(wanted.split("/")) if wanted else ()
            if not parts:
                continue
            for path, known in self._by_last.get(parts[-1], ()):
                if known == parts:
                    return [path]
        return []

    def _named(self, importer: str, parts: tuple[str, ...]) -> str | None:
        if not parts:
            return None
        candidates = [
            path
            for path, known in self._by_last.get(parts[-1], ())
            if known[-len(parts) :] == parts and path != importer
        ]
        # One word is a name that many packages have: only a file beside the importer, or at the top, is meant.
        if len(parts) == 1:
            near = {posixpath.dirname(importer), "", "src"}
            candidates = [
                path
                for path in candidates
                if posixpath.dirname(path) in near or posixpath.dirname(posixpath.dirname(path)) in near
            ]
        ending = posixpath.splitext(importer)[1]
        return min(
            candidates,
            key=lambda path: (
                posixpath.splitext(path)[1] != ending,
                -_common(path, importer),
                path.count("/"),
                path,
            ),
            default=None,
        )


def _parts(written: str) -> tuple[str, ...]:
    if "/" in written and not written.endswith("/"):
        written = posixpath.splitext(written)[0] if posixpath.splitext(written)[1] in _ENDINGS else written
    for separator in ("::", "\\", "/"):
        written = written.replace(separator, ".") if separator in written else written
    parts = tuple(part for part in written.split(".") if part and part != "*")
    if len(parts) == 2 and parts[1] in ("h", "hpp", "hh", "hxx"):
        parts = parts[:1]
    while parts and parts[0] in _OWN_PREFIXES:
        parts = parts[1:]
    return parts


_ENDINGS = frozenset({".h", ".hpp", ".hh", ".hxx", ".js", ".jsx", ".ts", ".tsx", ".css", ".scss", ".php", ".rb"})


def _common(one: str, other: str) -> int:
    count = 0
    for left, right in zip(one.split("/"), other.split("/"), strict=False):
        if left != right:
            break
        count += 1
    return count

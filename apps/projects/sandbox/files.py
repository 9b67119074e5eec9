"""The server's own access to a worktree in which an agent may do anything at any time.

Every path is resolved against a descriptor of the worktree (see ``beneath``), so neither ``..``, nor a link, nor a link
that is swapped in between leads out. Links that stay within the worktree are followed for reading. Files are opened
without blocking and have to be regular, so that a FIFO never hangs.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from apps.core.errors import DiskFull
from apps.projects.sandbox.beneath import FOLDER_FLAGS, open_beneath, rename_to_free
from apps.projects.sandbox.gitignore import IgnoreRules
from apps.projects.sandbox.path_pattern import path_matcher
from apps.projects.workspace import FileEntry, FileListing, WorkspaceError

#: Left out of listings unless asked for by name: made by tools, large, and not always named in a .gitignore.
_SKIPPED = frozenset({"__pycache__", "node_modules", ".venv", ".tox", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
#: Most entries of one folder that are looked at.
_FOLDER_LIMIT = 20_000
_IGNORE_FILE_LIMIT = 200_000
_DEPTH_LIMIT = 32
#: Longest that a listing may take; a tree may be made to be slow.
_LISTING_SECONDS = 5.0


class FileTree:
    """A folder's files by paths relative to it. Every refusal is a WorkspaceError that names the path."""

    def __init__(self, root: Path, *, owner: int | None = None, beside: Mapping[str, FileTree] | None = None) -> None:
        """``owner``: to whom new files are given, when root writes them.

        ``beside``: folders that can be read and listed besides, by the absolute path that they have in the sandbox.
        """
        self._root = os.open(root, FOLDER_FLAGS)
        self._owner = owner
        self._beside = dict(beside or {})

    def close(self) -> None:
        for tree in self._beside.values():
            tree.close()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _found_beside(self, path: str) -> tuple[FileTree, str, str] | None:
        """The tree beside this one that the path is in, where that stands, and the path within it."""
        for place, tree in self._beside.items():
            if path == place or path.startswith(f"{place}/"):
                return tree, place, path[len(place) :].strip("/") or "."
        return None

    def read(self, path: str, *, max_bytes: int) -> bytes:
        if (beside := self._found_beside(path)) is not None:
            return beside[0].read(beside[2], max_bytes=max_bytes)
        name = _checked(path)
        with _explained(path):
            descriptor = open_beneath(self._root, name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                found = os.fstat(descriptor)
                if stat.S_ISDIR(found.st_mode):
                    raise WorkspaceError(f"{path} is a folder")
                if not stat.S_ISREG(found.st_mode):
                    raise WorkspaceError(f"{path} is not a regular file")
                if found.st_size > max_bytes:
                    raise WorkspaceError(f"{path} is {_size(found.st_size)}, over the limit of {_size(max_bytes)}")
                pieces = []
                left = max_bytes + 1
                while left > 0 and (piece := os.read(descriptor, left)):
                    pieces.append(piece)
                    left -= len(piece)
            finally:
                os.close(descriptor)
        if left == 0:
            raise WorkspaceError(f"{path} is over the limit of {_size(max_bytes)}")
        return b"".join(pieces)

    def write(self, path: str, content: bytes) -> None:
        """Replace atomically: a new file in the same folder, renamed over the old name."""
        folders, _, name = _changeable(path).rpartition("/")
        with _explained(path), self._folder_made(folders) as folder:
            mode = self._mode_kept(path, name, folder)
            temporary = f".archon-{secrets.token_hex(8)}"
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
            )
            try:
                try:
                    view = memoryview(content)
                    while view:
                        view = view[os.write(descriptor, view) :]
                    if self._owner is not None:
                        os.fchown(descriptor, self._owner, self._owner)
                    os.fchmod(descriptor, mode)
                finally:
                    os.close(descriptor)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise

    def entries(self, path: str, *, depth: int, limit: int) -> FileListing:
        """What is below a folder, folder by folder in order of name, without what git ignores or tools make."""
        if (beside := self._found_beside(path)) is not None:
            listing = beside[0].entries(beside[2], depth=depth, limit=limit)
            shown = (replace(entry, path=f"{beside[1]}/{entry.path}") for entry in listing.entries)
            return FileListing(tuple(shown), listing.truncated)
        start = _checked(path)
        found: list[FileEntry] = []
        truncated = False
        deadline = time.monotonic() + _LISTING_SECONDS
        with _explained(path):
            descriptor = open_beneath(self._root, start, FOLDER_FLAGS)
            try:
                rules = self._rules_above(start)
                prefix = "" if start == "." else f"{start}/"
                for entry in self._walk(descriptor, prefix, min(depth, _DEPTH_LIMIT), rules):
                    if len(found) == limit or time.monotonic() > deadline:
                        truncated = True
                        break
                    if entry is not None:
                        found.append(entry)
            finally:
                os.close(descriptor)
        return FileListing(tuple(sorted(found, key=lambda entry: entry.path)), truncated)

    def find(self, pattern: str, *, path: str, newest_first: bool, limit: int) -> FileListing:
        """Files below a folder that match, whatever the depth, without what git ignores or tools make."""
        if (beside := self._found_beside(path)) is not None:
            listing = beside[0].find(pattern, path=beside[2], newest_first=newest_first, limit=limit)
            shown = (replace(entry, path=f"{beside[1]}/{entry.path}") for entry in listing.entries)
            return FileListing(tuple(shown), listing.truncated)
        matches = path_matcher(pattern)
        start = _checked(path)
        prefix = "" if start == "." else f"{start}/"
        found: list[FileEntry] = []
        truncated = False
        deadline = time.monotonic() + _LISTING_SECONDS
        with _explained(path):
            descriptor = open_beneath(self._root, start, FOLDER_FLAGS)
            try:
                for entry in self._walk(descriptor, prefix, _DEPTH_LIMIT, self._rules_above(start)):
                    if time.monotonic() > deadline:
                        truncated = True
                        break
                    if entry is not None and entry.kind != "directory" and matches(entry.path.removeprefix(prefix)):
                        found.append(entry)
            finally:
                os.close(descriptor)
        found.sort(key=lambda entry: (-entry.modified, entry.path) if newest_first else (0.0, entry.path))
        return FileListing(tuple(found[:limit]), truncated or len(found) > limit)

    def entry(self, path: str) -> FileEntry:
        """What is at the path, a link as a link."""
        name = _checked(path)
        with _explained(path), self._folder_of(name) as (folder, last):
            found = os.stat(last, dir_fd=folder, follow_symlinks=False)
        return FileEntry(name, _kind(found.st_mode), found.st_size, found.st_mtime)

    def move(self, source: str, target: str) -> None:
        """Rename, whatever it is; nothing may be at the target."""
        name, wanted = _changeable(source), _changeable(target)
        with _explained(source), self._folder_of(name) as (folder, last):
            os.stat(last, dir_fd=folder, follow_symlinks=False)
            if f"{wanted}/".startswith(f"{name}/"):
                raise WorkspaceError(f"{source} can't be moved to itself or into itself")
            folders, _, new = wanted.rpartition("/")
            with _explained(target), self._folder_made(folders) as destination:
                _rename_to_free(folder, last, destination, new, target)

    def delete(self, path: str, *, folder: bool) -> None:
        """Delete a file or link, or with ``folder`` a folder and all in it."""
        name = _changeable(path)
        with _explained(path), self._folder_of(name) as (above, last):
            found = os.stat(last, dir_fd=above, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(last, dir_fd=above)
            elif not folder:
                raise WorkspaceError(f"{path} is a folder: say so to delete it with all that is in it")
            else:
                # Goes by descriptors and follows no link, whatever is swapped in meanwhile.
                shutil.rmtree(last, dir_fd=above)

    # --- folders ------------------------------------------------------------------------------------------------------
    @contextmanager
    def _folder_of(self, name: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that a path is in, and its last part."""
        folders, _, last = name.rpartition("/")
        if last in (".", ".."):
            raise WorkspaceError(f"{name} is a folder")
        descriptor = open_beneath(self._root, folders or ".", FOLDER_FLAGS)
        try:
            yield descriptor, last
        finally:
            os.close(descriptor)

    @contextmanager
    def _folder_made(self, path: str) -> Iterator[int]:
        """A descriptor of the folder, made with those above it where it isn't there."""
        descriptor = os.dup(self._root)
        try:
            try:
                descriptor = _swapped(descriptor, open_beneath(self._root, path or ".", FOLDER_FLAGS))
            except FileNotFoundError:
                # Links are followed as far as the path exists; what is made is made one name at a time.
                parent, _, name = path.rpartition("/")
                with self._folder_made(parent) as above:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o755, dir_fd=above)
                        if self._owner is not None:
                            os.chown(name, self._owner, self._owner, dir_fd=above, follow_symlinks=False)
                    descriptor = _swapped(descriptor, open_beneath(above, name, FOLDER_FLAGS, follow=False))
            yield descriptor
        finally:
            os.close(descriptor)

    def _mode_kept(self, path: str, name: str, folder: int) -> int:
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return 0o644
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(name, dir_fd=folder)
            raise WorkspaceError(
                f"{path} is a link to {target}; write the file that it points to, within the workspace"
            )
        if stat.S_ISDIR(found.st_mode):
            raise WorkspaceError(f"{path} is a folder")
        if not stat.S_ISREG(found.st_mode):
            raise WorkspaceError(f"{path} is not a regular file")
        # Never more than permissions: no set-user-id.
        return found.st_mode & 0o777

    def _walk(self, folder: int, prefix: str, depth: int, rules: IgnoreRules) -> Iterator[FileEntry | None]:
        """Entries, and None for what is left out: the caller looks at the clock."""
        rules = rules.with_file(prefix, self._ignore_file(folder))
        for name in _names(folder):
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError:  # gone meanwhile
                continue
            is_folder = stat.S_ISDIR(found.st_mode)
            path = prefix + name
            if name == ".git" or (is_folder and name in _SKIPPED) or rules.ignores(path, is_folder=is_folder):
                yield None
                continue
            shown = os.fsencode(path).decode(errors="replace")
            yield FileEntry(shown, _kind(found.st_mode), found.st_size, found.st_mtime)
            if is_folder and depth > 1:
                try:
                    below = open_beneath(folder, name, FOLDER_FLAGS, follow=False)
                except OSError:
                    continue
                try:
                    yield from self._walk(below, f"{path}/", depth - 1, rules)
                finally:
                    os.close(below)

    def _rules_above(self, path: str) -> IgnoreRules:
        """The rules of the folders above a folder."""
        rules = IgnoreRules()
        parts = [part for part in path.split("/") if part != "."]
        for count in range(len(parts)):
            above = "/".join(parts[:count])
            with suppress(OSError):
                folder = open_beneath(self._root, above or ".", FOLDER_FLAGS)
                try:
                    rules = rules.with_file(f"{above}/" if above else "", self._ignore_file(folder))
                finally:
                    os.close(folder)
        return rules

    def _ignore_file(self, folder: int) -> str:
        try:
            descriptor = open_beneath(folder, ".gitignore", os.O_RDONLY | os.O_NONBLOCK, follow=False)
        except OSError:
            return ""
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return ""
            return os.read(descriptor, _IGNORE_FILE_LIMIT).decode(errors="surrogateescape")
        finally:
            os.close(descriptor)


def _checked(path: str) -> str:
    """The path without what means nothing; an empty one, one from the root or one with NUL is refused."""
    if "\0" in path or not path.strip():
        raise WorkspaceError("a path is needed, without NUL characters")
    if path.startswith("/"):
        raise WorkspaceError(f"{path} leaves the workspace; paths are relative to it, without a leading slash")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/".join(parts) or "."


def _changeable(path: str) -> str:
    """The checked path of something that may be written, moved or deleted: no part of git's, nor the root."""
    name = _checked(path)
    parts = name.split("/")
    if parts[-1] in (".", ".."):
        raise WorkspaceError(f"{path} is a folder")
    if ".git" in parts:
        raise WorkspaceError(f"{path} belongs to git and can't be written")
    return name


def _rename_to_free(folder: int, name: str, destination: int, new: str, target: str) -> None:
    try:
        rename_to_free(folder, name, destination, new)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise WorkspaceError(f"{target} is there already: delete it first, or choose another place") from error
        raise


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn the kernel's refusals into words for a model."""
    try:
        yield
    except OSError as error:
        match error.errno:
            case errno.ENOENT:
                reason = f"no such file: {path}"
            case errno.EXDEV:
                reason = f"{path} leaves the workspace"
            case errno.ENOTDIR:
                reason = f"{path} is not a folder, or one of the folders in it is a file"
            case errno.EISDIR:
                reason = f"{path} is a folder"
            case errno.ELOOP:
                reason = f"{path} has a link in it that leads nowhere or is not followed here"
            case errno.EACCES | errno.EPERM:
                reason = f"{path}: permission denied"
            case errno.ENAMETOOLONG:
                reason = f"{path[:200]}... is too long for a path"
            case errno.ENXIO | errno.ENODEV:
                reason = f"{path} is not a regular file"
            case errno.ENOSPC | errno.EDQUOT:
                # Nothing that a model could do anything about.
                raise DiskFull(f"{path} could not be written") from error
            case _:
                reason = f"{path}: {error.strerror}"
        raise WorkspaceError(reason) from error
    except UnicodeEncodeError as error:
        raise WorkspaceError(f"{path!r} is not a path that can be written in UTF-8") from error


def _names(folder: int) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) == _FOLDER_LIMIT:
                break
    return sorted(names)


def _kind(mode: int) -> Literal["file", "directory", "link", "other"]:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"


def _swapped(old: int, new: int) -> int:
    os.close(old)
    return new


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"

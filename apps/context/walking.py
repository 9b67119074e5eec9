"""Which files of a commit (or of any tree) belong into the index, and why the others don't.

Everything is read from the server's own repository: a tree can't change while it is read, has no link that leads out of
it, and no loops.
"""

from __future__ import annotations

import hashlib
import posixpath
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from apps.context.parser_version import PARSER_VERSION
from apps.projects.git import git_run, path_decode, path_display
from apps.projects.sandbox.gitignore import IgnoreRules

#: What names the files that are left out; the second one is ours alone, and has the last word.
IGNORE_FILES = (".gitignore", ".archonignore")
_IGNORE_BYTES = 200_000
_LISTING_BYTES = 256 * 1024 * 1024
_CONTENT_BYTES = 256 * 1024 * 1024
_SECONDS = 300
#: Nobody writes code deeper than that; rules are looked at for each folder on the way.
_DEPTH = 60
#: Of a path; Linux has no longer ones in one piece, and a longer one would not fit into an index of PostgreSQL's.
_PATH_BYTES = 1_500
_CUT = "…#"
#: Files after which whoever walks says that it is still at it.
_HELD_FILES = 1_000
_LINK, _MODULE = "120000", "160000"
#: Where git looks for a NUL to tell what is binary.
_HEAD_BYTES = 8000
#: What no line of text is in, told by its name so that it needn't be read.
_BINARY_TEXT = """
    .7z .a .avi .bin .bmp .bz2 .class .db .dll .dylib .eot .exe .flac .gif .gz .ico .jar
    .jpeg .jpg .lib .mkv .mo .mov .mp3 .mp4 .npy .npz .o .obj .ogg .otf .parquet .pdf .pickle
    .pkl .png .psd .pyc .pyd .rar .so .sqlite .sqlite3 .tar .tgz .tif .tiff .ttf .wasm .wav
    .webm .webp .whl .woff .woff2 .xls .xlsx .xz .zip .zst
    """
_BINARY_ENDINGS = frozenset(_BINARY_TEXT.split())


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file of a tree, and why it is not to be read (empty: it is)."""

    path: str
    blob: str
    size: int
    skip: str = ""

    @property
    def parser(self) -> int:
        """What its row is keyed by: nobody has read what the rules leave out."""
        return 0 if self.skip else PARSER_VERSION


@dataclass(frozen=True, slots=True)
class Added:
    """What people have said of a path: a content that stands there (empty: the tree's own), or that nothing does."""

    blob: str = ""
    size: int = 0
    hidden: bool = False


@dataclass(frozen=True)
class Change:
    """A path that is otherwise in one tree than in another; ``file`` is None where it is gone."""

    path: str
    file: TreeFile | None


@dataclass(frozen=True)
class Walk:
    files: tuple[TreeFile, ...]
    #: The listing was cut: there are more files than an index takes.
    cut: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: str
    blob: str
    size: int
    path: str


class _Held:
    """Has what holds the lease called while git works."""

    def __init__(self, hold: Callable[[], None]) -> None:
        self._hold = hold

    def tick(self) -> None:
        self._hold()

    def progress(self, text: str) -> None:
        """git has nothing to say here."""


def tree_walk(
    *,
    git_dir: Path,
    revision: str,
    added: Mapping[str, Added] | None = None,
    hold: Callable[[], None] | None = None,
) -> Walk:
    """Every file of the tree, at most ``ARCHON_INDEX_FILES``, and besides those that were ``added`` by hand.

    ``hold`` is called again and again meanwhile: very large trees take longer than a lease lasts.
    """
    listing = git_run(
        "ls-tree", "-r", "-l", "-z", "--full-tree", revision,
        git_dir=git_dir, max_output=_LISTING_BYTES, cut_output=True, timeout=_SECONDS,
        watch=_Held(hold) if hold is not None else None,
    )  # fmt: skip
    entries = list(_entries(listing.stdout))
    cut = listing.truncated or len(entries) > settings.ARCHON_INDEX_FILES
    if cut:
        # What lies near the top is what people wrote; heaps of small files lie deep.
        entries.sort(key=lambda entry: (entry.path.count("/"), entry.path))
        entries = entries[: settings.ARCHON_INDEX_FILES]
    rules = IgnoredPaths(_ignore_texts(git_dir, entries))
    seen: set[str] = set()
    files = []
    for number, entry in enumerate(entries):
        if hold is not None and number % _HELD_FILES == 0:
            hold()
        # Two names that no text can tell apart are one.
        if entry.path not in seen:
            seen.add(entry.path)
            files.append(_tree_file(entry, rules, added or {}))
    files += [
        TreeFile(path, one.blob, one.size) for path, one in (added or {}).items() if one.blob and path not in seen
    ]
    return Walk(tuple(files), cut=cut)


def tree_changes(
    *, git_dir: Path, old: str, new: str, added: Mapping[str, Added] | None = None
) -> tuple[Change, ...] | None:
    """What is otherwise in ``new`` than in ``old``; None when an ignore file, or one
    that was added, is among it: then walk the whole tree."""
    listing = git_run(
        "diff-tree", "-r", "-z", "--no-renames", "--raw", "--no-abbrev", old, new,
        git_dir=git_dir, max_output=_LISTING_BYTES, timeout=_SECONDS,
    ).stdout.split(b"\0")  # fmt: skip
    changed: dict[str, tuple[str, str]] = {}
    for facts, raw_path in zip(listing[::2], listing[1::2], strict=False):
        if not facts.startswith(b":"):
            continue
        _, mode, _, blob, _ = facts.decode().split(" ")
        path = _path_kept(path_display(path_decode(raw_path)))
        if posixpath.basename(path) in IGNORE_FILES:
            return None
        changed[path] = (mode, blob)
    if added and any(path in added for path in changed):
        return None
    present = {path: (mode, blob) for path, (mode, blob) in changed.items() if mode != "000000"}
    if not present:
        return tuple(Change(path, None) for path in changed)
    sizes = _sizes(git_dir, {blob for mode, blob in present.values() if mode != _MODULE})
    rules = _rules_above(git_dir, new, present)
    changes = []
    for path, (mode, blob) in changed.items():
        if path not in present:
            changes.append(Change(path, None))
            continue
        entry = _Entry(mode, blob, sizes.get(blob, 0), path)
        changes.append(Change(path, _tree_file(entry, rules, {})))
    return tuple(changes)


def contents_read(*, git_dir: Path, blobs: Sequence[str]) -> Iterator[bytes]:
    """The contents, in order."""
    asked = "".join(f"{blob}\n" for blob in blobs).encode()
    output = git_run("cat-file", "--batch", git_dir=git_dir, stdin=asked, max_output=_CONTENT_BYTES, timeout=_SECONDS)
    found = memoryview(output.stdout)
    position = 0
    for blob in blobs:
        end = output.stdout.index(b"\n", position)
        head = output.stdout[position:end].split(b" ")
        if len(head) != 3:
            raise LookupError(f"the repository has no {blob}")
        size = int(head[2])
        yield bytes(found[end + 1 : end + 1 + size])
        position = end + 1 + size + 1


def is_binary(content: bytes) -> bool:
    """Whether it is no text: as git tells, but for text of two bytes a character that says so."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    return b"\0" in content[:_HEAD_BYTES]


def configuration_key() -> str:
    """What decides over files besides ignore files and what was added; ends in a ``+``, so that none begins another."""
    return f"{PARSER_VERSION}-{settings.ARCHON_INDEX_FILE_KB}-{settings.ARCHON_INDEX_FILES}+"


class IgnoredPaths:
    """Which paths the tree's ignore files name. A folder that is named takes all below it along."""

    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        """``texts``: of the ignore files, in the order in which they count, by folder (empty, or ending in a slash)."""
        self._texts = texts
        self._rules: dict[str, IgnoreRules | None] = {}

    def ignores(self, path: str) -> bool:
        folder, _, _ = path.rpartition("/")
        rules = self._rules_of(f"{folder}/" if folder else "")
        return rules is None or rules.ignores(path, is_folder=False)

    def _rules_of(self, folder: str) -> IgnoreRules | None:
        """The rules that hold in the folder; None when it is ignored itself."""
        # Not recursive: a path may be very deep.
        missing = []
        while folder not in self._rules:
            missing.append(folder)
            if not folder:
                break
            folder = folder[:-1].rpartition("/")[0] + "/" if "/" in folder[:-1] else ""
        for name in reversed(missing):
            if not name:
                rules: IgnoreRules | None = IgnoreRules()
            else:
                above = name[:-1].rpartition("/")[0]
                rules = self._rules[f"{above}/" if above else ""]
                if rules is not None and rules.ignores(name[:-1], is_folder=True):
                    rules = None
            if rules is not None:
                for text in self._texts.get(name, ()):
                    rules = rules.with_file(name, text)
            self._rules[name] = rules
        return self._rules[missing[0] if missing else folder]


def _entries(listing: bytes) -> Iterator[_Entry]:
    # Not split: of a million files that would be a second copy of the listing.
    start = 0
    while (end := listing.find(b"\0", start)) >= 0:
        facts, tab, name = listing[start:end].partition(b"\t")
        start = end + 1
        parts = facts.split()
        if tab and len(parts) == 4:
            mode, _, blob, size = parts
            path = _path_kept(path_display(path_decode(name)))
            yield _Entry(sys.intern(mode.decode()), blob.decode(), 0 if size == b"-" else int(size), path)


def _path_kept(path: str) -> str:
    """The path; of one that is longer than an index of the database takes its beginning, and what tells it apart."""
    raw = path.encode("utf-8", "surrogateescape")
    if len(raw) <= _PATH_BYTES:
        return path
    return f"{path_display(path_decode(raw[:_PATH_BYTES]))}{_CUT}{hashlib.sha256(raw).hexdigest()[:16]}"


def _tree_file(entry: _Entry, rules: IgnoredPaths, added: Mapping[str, Added]) -> TreeFile:
    if entry.path in added and entry.mode not in (_LINK, _MODULE):
        one = added[entry.path]
        if one.hidden:
            return TreeFile(entry.path, entry.blob, entry.size, "it was hidden by hand")
        return TreeFile(entry.path, one.blob or entry.blob, one.size if one.blob else entry.size)
    return TreeFile(entry.path, entry.blob, entry.size, _skip_reason(entry, rules))


def _skip_reason(entry: _Entry, rules: IgnoredPaths) -> str:
    if entry.mode == _LINK:
        return "it is a symbolic link"
    if entry.mode == _MODULE:
        return "it is a submodule"
    if len(entry.path) > 200 and _CUT in entry.path and len(entry.path.encode()) > _PATH_BYTES:
        return f"its path has more than {_PATH_BYTES} bytes"
    if entry.path.count("/") > _DEPTH:
        return f"it lies more than {_DEPTH} folders deep"
    if rules.ignores(entry.path):
        return "an ignore file names it"
    if posixpath.splitext(entry.path)[1].lower() in _BINARY_ENDINGS:
        return "it is binary, by its name"
    if entry.size > settings.ARCHON_INDEX_FILE_KB * 1024:
        return f"it has {entry.size // 1024} KiB, more than the {settings.ARCHON_INDEX_FILE_KB} KiB of a file"
    return ""


def _ignore_texts(git_dir: Path, entries: Iterable[_Entry]) -> dict[str, list[str]]:
    found = [
        entry
        for entry in entries
        if posixpath.basename(entry.path) in IGNORE_FILES
        and entry.mode not in (_LINK, _MODULE)
        and entry.size <= _IGNORE_BYTES
    ]
    return _texts_by_folder(git_dir, [(entry.path, entry.blob) for entry in found])


def _texts_by_folder(git_dir: Path, files: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    if files:
        # Of one folder ours comes last: then it has the last word.
        ordered = sorted(files, key=lambda file: IGNORE_FILES.index(posixpath.basename(file[0])))
        contents = contents_read(git_dir=git_dir, blobs=[blob for _, blob in ordered])
        for (path, _), content in zip(ordered, contents, strict=True):
            folder = posixpath.dirname(path)
            texts.setdefault(f"{folder}/" if folder else "", []).append(content.decode("utf-8", "replace"))
    return texts


def _rules_above(git_dir: Path, revision: str, paths: Collection[str]) -> IgnoredPaths:
    """The rules of the folders that these paths are in."""
    folders = {""}
    for path in paths:
        folder = posixpath.dirname(path)
        while folder and folder not in folders:
            folders.add(folder)
            folder = posixpath.dirname(folder)
    wanted = [posixpath.join(folder, name) for folder in folders for name in IGNORE_FILES]
    asked = "".join(f"{revision}:{path}\n" for path in wanted if "\n" not in path).encode("utf-8", "replace")
    output = git_run(
        "cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)",
        git_dir=git_dir, stdin=asked, timeout=_SECONDS,
    ).stdout.splitlines()  # fmt: skip
    found = []
    for path, line in zip((path for path in wanted if "\n" not in path), output, strict=False):
        parts = line.decode("utf-8", "replace").split(" ")
        if len(parts) == 3 and parts[1] == "blob" and parts[2].isdigit() and int(parts[2]) <= _IGNORE_BYTES:
            found.append((path, parts[0]))
    return IgnoredPaths(_texts_by_folder(git_dir, found))


def _sizes(git_dir: Path, blobs: Collection[str]) -> dict[str, int]:
    asked = "".join(f"{blob}\n" for blob in blobs).encode()
    output = git_run(
        "cat-file", "--batch-check=%(objectname) %(objectsize)", git_dir=git_dir, stdin=asked, timeout=_SECONDS
    ).stdout.decode("utf-8", "replace")
    pairs = (line.split(" ") for line in output.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}

"""Read a repository's history: who changed what together, and why, as the messages say."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: What git is asked for. Merges say nothing of their own: what they bring is in the commits that they merge.
LOG_FORMAT = "--format=%x01%H%x00%P%x00%ct%x00%B%x02"
LOG_ARGUMENTS = (
    "log",
    "--topo-order",
    "--name-status",
    "-z",
    "-M",
    "-l400",
    "--no-show-signature",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    LOG_FORMAT,
)
MESSAGE_LIMIT = 8_000
#: A commit that touches more files is no change of one thing; its files are not kept.
FILES_LIMIT = 300
_TRAILER = re.compile(
    r"^(?:signed-off-by|co-authored-by|reviewed-by|acked-by|tested-by|cc|change-id|git-svn-id|reported-by|suggested-by|"
    r"cherry picked from|\(cherry picked from|backport of|approved-by|pull-request-url|reviewed-on|pr-url)\b.*$",
    re.IGNORECASE | re.MULTILINE,
)
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")

#: Runs git with these arguments on one repository and returns what it prints.
Git = Callable[[Sequence[str]], bytes]


@dataclass(frozen=True, slots=True)
class Commit:
    """``files`` are paths as they are after the commit; ``renames`` are (before, after)."""

    sha: str
    parents: tuple[str, ...]
    time: int
    message: str
    files: tuple[str, ...]
    renames: tuple[tuple[str, str], ...]


def history_read(*, git: Git, heads: Sequence[str], known: Sequence[str] = (), limit: int = 0) -> list[Commit]:
    """The commits that lead to ``heads`` and not to ``known``, the newest first; no more than a limit."""
    if not heads:
        return []
    most = [f"--max-count={limit}"] if limit else []
    arguments = [*LOG_ARGUMENTS, *most, *heads, *(f"^{sha}" for sha in known), "--"]
    return commits_of_log(git(arguments))


def commits_of_log(printed: bytes) -> list[Commit]:
    """The commits in what ``git log`` printed with LOG_ARGUMENTS; what can't be read is left out."""
    commits = []
    for record in printed.split(b"\x01")[1:]:
        head, _, changes = record.partition(b"\x02")
        parts = head.split(b"\x00", 3)
        if len(parts) != 4:
            continue
        sha = parts[0].decode("ascii", "replace")
        if not _HASH.match(sha) or not parts[2].lstrip(b"-").isdigit():
            continue
        files, renames = _changes(changes)
        message = parts[3][:MESSAGE_LIMIT].decode("utf-8", "replace")
        commits.append(
            Commit(
                sha,
                tuple(parts[1].decode("ascii", "replace").split()),
                int(parts[2]),
                _TRAILER.sub("", message).strip(),
                files,
                renames,
            )
        )
    return commits


def _changes(printed: bytes) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    fields = iter(printed.strip(b"\x00\n").split(b"\x00"))
    files: list[str] = []
    renames: list[tuple[str, str]] = []
    for raw in fields:
        status = raw.strip(b"\n")[:1]
        if not status:
            continue
        path = next(fields, b"").decode("utf-8", "replace")
        if status in (b"R", b"C"):
            before, path = path, next(fields, b"").decode("utf-8", "replace")
            if status == b"R":
                renames.append((before, path))
        if path and status != b"D":
            files.append(path)
    if len(files) > FILES_LIMIT:
        files = []
    return tuple(files), tuple(renames[:5_000])

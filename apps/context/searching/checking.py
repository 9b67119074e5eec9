"""From candidates to hits: each is looked up in the file as it is now before it is said.

What is searched may lag behind: the branch has moved, or a session's agent is writing. A file that is as it was read
confirms its candidates; in one that is otherwise a candidate is looked for by its text, and dropped where it isn't.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from django.db import connection

from apps.context.models import AddedFile
from apps.context.searching.candidates import Candidate
from apps.context.terms import text_terms
from apps.context.types import Hit, SearchRequest, Snippet, WorkFiles
from apps.context.walking import contents_read
from apps.projects.git import git_run, path_decode, path_display
from apps.projects.sandbox.files import FileTree
from apps.projects.workspace import WorkspaceError
from apps.projects.worktree import worktree_path

_MAX_BYTES = 64 << 20
_MAX_LINE = 400
_MAX_SNIPPET_LINES = 200
#: Over how many lines a signature is looked for, and how long a line is that may begin one.
_SIGNATURE_LINES, _SIGNATURE_LINE = 40, 2_000
_INNER_KINDS = frozenset({"function", "method", "class", "interface", "struct", "enum", "trait", "type", "section"})
_WHOLE_KINDS = frozenset({"function", "method"})


@dataclass(frozen=True)
class Now:
    """Where files are as they are now."""

    project_id: uuid.UUID
    git_dir: Path
    #: What the index has, and what the branch is at.
    commit: str
    head_commit: str
    #: Whose checkout is looked into; None: nobody's.
    files: WorkFiles | None = None


@dataclass(frozen=True)
class Checked:
    hits: tuple[Hit, ...]
    stale: int


def hits_check(*, candidates: Sequence[Candidate], limit: int, now: Now, request: SearchRequest) -> Checked:
    """The first candidates that are in their files, as hits."""
    hits: list[Hit] = []
    stale = 0
    weights = _word_weights(request.query) if request.mode != "regex" else {}
    start = 0
    while len(hits) < limit and start < len(candidates):
        piece = candidates[start : start + max(limit - len(hits), 5)]
        start += len(piece)
        current = _current_blobs(now, piece)
        contents = _contents(now, piece, current)
        for candidate in piece:
            blob = current.get(candidate.path, candidate.blob)
            lines = contents.get((candidate.path, blob))
            found = None if lines is None else _confirm(candidate, lines, changed=blob != candidate.blob)
            if found is None:
                stale += 1
                continue
            placed, moved = found
            commit = now.head_commit if moved and now.files is None else now.commit
            hits.append(_hit(placed, lines or [], weights, request, commit=commit, moved=moved))
    return Checked(_symbols_named(hits[:limit], candidates), stale)


# --- The files as they are now ----------------------------------------------------------------------------------------


def blob_of(content: bytes) -> str:
    """git's id of a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _current_blobs(now: Now, candidates: Sequence[Candidate]) -> dict[str, str]:
    """Paths that are otherwise now than the index has them, with what they are; empty: gone."""
    paths = sorted({candidate.path for candidate in candidates})
    known = {candidate.path: candidate.blob for candidate in candidates}
    if now.files is not None:
        return {path: blob for path, blob in _worktree_blobs(now.files, paths).items() if blob != known[path]}
    if now.commit == now.head_commit or not now.head_commit:
        return {}
    listing = git_run(
        "ls-tree", "-z", "--full-tree", now.head_commit, "--", *paths,
        git_dir=now.git_dir, environment={"GIT_LITERAL_PATHSPECS": "1"}, accepted=(0, 128),
    ).stdout  # fmt: skip
    present = {}
    for line in listing.split(b"\0"):
        facts, tab, name = line.partition(b"\t")
        if tab:
            present[path_display(path_decode(name))] = facts.split()[2].decode()
    for added in AddedFile.objects.filter(index__project_id=now.project_id, path__in=paths):
        present[added.path] = "" if added.hidden else added.blob or present.get(added.path, "")
    return {path: present.get(path, "") for path in paths if present.get(path, "") != known[path]}


def _worktree_blobs(files: WorkFiles, paths: Sequence[str]) -> dict[str, str]:
    """What the files are; of those whose checkout isn't here (any more) nothing can be said."""
    root = _checkout(files)
    if not root.is_dir():
        return {}
    found = {}
    try:
        tree = FileTree(root)
    except OSError:
        return {}
    try:
        for path in paths:
            try:
                found[path] = blob_of(tree.read(path, max_bytes=_MAX_BYTES))
            except WorkspaceError:
                found[path] = ""
    finally:
        tree.close()
    return found


def _contents(
    now: Now, candidates: Sequence[Candidate], current: Mapping[str, str]
) -> dict[tuple[str, str], list[str]]:
    wanted = {(candidate.path, current.get(candidate.path, candidate.blob)) for candidate in candidates}
    contents: dict[tuple[str, str], list[str]] = {}
    if now.files is not None:
        # A content that was never kept in the repository is read from the checkout.
        changed = [(path, blob) for path, blob in wanted if blob and path in current]
        contents.update(_worktree_contents(now.files, changed))
    ordered = sorted((path, blob) for path, blob in wanted if blob and (path, blob) not in contents)
    blobs = [blob for _, blob in ordered]
    try:
        for key, content in zip(ordered, contents_read(git_dir=now.git_dir, blobs=blobs), strict=True):
            contents[key] = _lines(content)
    except LookupError:
        # One is gone from the repository: then they are looked up one by one.
        for key in ordered:
            try:
                contents[key] = _lines(next(contents_read(git_dir=now.git_dir, blobs=[key[1]])))
            except LookupError:
                continue
    return contents


def _worktree_contents(files: WorkFiles, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    if not wanted:
        return {}
    found = {}
    tree = FileTree(_checkout(files))
    try:
        for path, blob in wanted:
            try:
                content = tree.read(path, max_bytes=_MAX_BYTES)
            except WorkspaceError:
                continue
            if blob_of(content) == blob:
                found[path, blob] = _lines(content)
    finally:
        tree.close()
    return found


def _checkout(files: WorkFiles) -> Path:
    return worktree_path(session_id=files.session_id, name=files.lane or "main")


def _lines(content: bytes) -> list[str]:
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if content.startswith(mark):
            return content.decode(encoding, "replace").split("\n")
    return content.decode("utf-8", "replace").split("\n")


# --- One candidate ----------------------------------------------------------------------------------------------------


def _confirm(candidate: Candidate, lines: list[str], *, changed: bool) -> tuple[Candidate, bool] | None:
    """The candidate as it stands in the file, and whether it was found elsewhere there; None where it isn't."""
    if not changed:
        return (candidate, False) if candidate.start_line <= len(lines) else None
    text = candidate.text or candidate.signature
    # Chunks begin with the blank lines that stand before what they hold.
    blank = len(text) - len(text.lstrip("\n"))
    wanted = [line.rstrip("\r") for line in text.strip("\n").split("\n")]
    if not wanted or not any(line.strip() for line in wanted):
        return None
    stripped = [line.rstrip("\r") for line in lines]
    if not candidate.text:
        # A symbol is there while the same signature is: on one line, or spread over some as it often is.
        places = _signature_places(wanted[0], stripped)
    else:
        places = [
            number
            for number, line in enumerate(stripped)
            if line == wanted[0] and stripped[number : number + len(wanted)] == wanted
        ]
    if not places:
        return None
    first = candidate.start_line + blank
    offset = min((place + 1 - first for place in places), key=abs)
    placed = replace(
        candidate,
        start_line=first + offset,
        end_line=candidate.end_line + offset,
        line=candidate.line + offset if candidate.line else 0,
    )
    return placed, True


def _signature_places(signature: str, lines: Sequence[str]) -> list[int]:
    """Where a signature, which the index has on one line, begins."""
    sought = "".join(signature.split())
    first = signature.split()[0]
    places = []
    for number, line in enumerate(lines):
        if first in line and len(line) <= _SIGNATURE_LINE:
            after = "".join("".join(lines[number : number + _SIGNATURE_LINES]).split())
            if sought in after[: len("".join(line.split())) + len(sought) - 1]:
                places.append(number)
    return places


def _word_weights(query: str) -> dict[str, float]:
    return {term: len(term) ** 0.5 for term in list(text_terms(query[:5_000]))[:64] if len(term) > 2}


def _hit(
    candidate: Candidate,
    lines: list[str],
    weights: Mapping[str, float],
    request: SearchRequest,
    *,
    commit: str,
    moved: bool,
) -> Hit:
    first = max(1, candidate.start_line)
    last = max(first, min(candidate.end_line, len(lines)))
    line = candidate.line or _best_line(lines, first, last, weights)
    most = min(request.snippet_lines, _MAX_SNIPPET_LINES)
    if last - first + 1 > most:
        begin = max(first, min(line - most // 3, last - most + 1))
        shown = (begin, begin + most - 1)
    else:
        shown = (first, last)
    begin = max(1, shown[0] - request.context_lines)
    end = min(len(lines), shown[1] + request.context_lines)
    text = (
        "\n".join(each if len(each) <= _MAX_LINE else f"{each[:_MAX_LINE]}…" for each in lines[begin - 1 : end])
        .replace("\r", "")
        .replace("\0", "\ufffd")
    )
    return Hit(
        path=candidate.path,
        start_line=first,
        end_line=last,
        symbol=candidate.symbol,
        kind=candidate.kind,
        language=candidate.language,
        score=round(float(candidate.score), 6),
        commit=commit,
        snippet=Snippet(begin, text),
        line=line,
        signature=candidate.signature,
        moved=moved,
        scores={"chunk": candidate.chunk_id, "file": candidate.file_id},
    )


def _best_line(lines: list[str], first: int, last: int, weights: Mapping[str, float]) -> int:
    """The line that has most of what was asked for; the first of those that are as good."""
    best, most = first, 0.0
    for number in range(first, min(last, first + 400) + 1):
        text = lines[number - 1]
        if not text.strip():
            continue
        score = sum(weights.get(term, 0.0) for term in text_terms(text[:1_000]))
        if score > most:
            best, most = number, score
    return best


def _symbols_named(hits: Sequence[Hit], candidates: Sequence[Candidate]) -> tuple[Hit, ...]:
    """Give hits in what is no function of its own the innermost definition around their best line."""
    files = {
        hit.scores["file"] for hit in hits if hit.kind not in _WHOLE_KINDS and hit.kind != "lines" and not hit.moved
    }
    inner: dict[int, list[tuple[int, int, str, str]]] = {}
    if files:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT file_id, start_line, end_line, qualified_name, kind FROM context_codesymbol"
                " WHERE file_id = ANY(%s) AND kind = ANY(%s)",
                [list(files), list(_INNER_KINDS)],
            )
            for file_id, start, end, name, kind in cursor.fetchall():
                inner.setdefault(file_id, []).append((start, end, name, kind))
    named = []
    for hit in hits:
        around = [found for found in inner.get(hit.scores["file"], ()) if found[0] <= hit.line <= found[1]]
        if around and hit.kind not in _WHOLE_KINDS and not hit.signature:
            _, _, name, _ = min(around, key=lambda found: found[1] - found[0])
            hit = replace(hit, symbol=name)
        named.append(hit)
    return tuple(named)

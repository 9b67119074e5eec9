"""What is written twice: runs of lines that are the same but for spacing, in one file or in several."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: So many telling lines in a row make a duplicate.
WINDOW = 8
_LINES_LIMIT = 400_000
_PLACES_LIMIT = 40
_SPACE = re.compile(r"\s+")
#: Lines that say nothing: brackets, comments, imports.
_SILENT = re.compile(r"^(?:[\W_]*|(?:#|//|/\*|\*|--|<!--).*|(?:import|from|use|using|#include|package|require)\b.*)$")


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same lines at two places: ``lines`` telling ones each."""

    first_path: str
    first_start: int
    first_end: int
    second_path: str
    second_start: int
    second_end: int
    lines: int


@dataclass(frozen=True, slots=True)
class Duplication:
    duplicates: tuple[Duplicate, ...]
    #: For each file which share of its telling lines stands somewhere else too.
    shares: Mapping[str, float]
    truncated: bool = False


def duplicates_find(*, texts: Mapping[str, str], window: int = WINDOW, limit: int = 200) -> Duplication:
    """The longest first. Looks at a bounded number of lines; says when there were more."""
    files: list[tuple[str, list[int], list[int]]] = []
    numbers: dict[str, int] = {}
    left = _LINES_LIMIT
    for path in sorted(texts):
        lines, keys = [], []
        for at, line in enumerate(texts[path].split("\n"), 1):
            said = _SPACE.sub("", line)
            if said and not _SILENT.match(line.strip()):
                lines.append(at)
                keys.append(numbers.setdefault(said, len(numbers)))
        if len(lines) > left:
            break
        left -= len(lines)
        files.append((path, lines, keys))
    truncated = len(files) < len(texts)
    places: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for file, (_, _, keys) in enumerate(files):
        for at in range(len(keys) - window + 1):
            those = places.setdefault(tuple(keys[at : at + window]), [])
            if len(those) < _PLACES_LIMIT:
                those.append((file, at))
    covered: list[set[int]] = [set() for _ in files]
    found: list[Duplicate] = []
    #: For two files and how far apart the places in them are, up to where the first one's are done.
    done: dict[tuple[int, int, int], int] = {}
    for those in places.values():
        if len(those) < 2:
            continue
        for file, at in those:
            covered[file].update(range(at, at + window))
        first = those[0]
        for second in those[1:]:
            apart = (first[0], second[0], second[1] - first[1])
            if first[1] < done.get(apart, 0):
                continue
            length = _grow(files, first, second, window)
            done[apart] = first[1] + length - window + 1
            if first[0] == second[0] and second[1] < first[1] + length:
                continue  # a run that repeats itself
            found.append(_duplicate(files, first, second, length))
    found.sort(key=lambda each: (-each.lines, each.first_path, each.first_start, each.second_path))
    shares = {
        path: round(len(covered[file]) / len(lines), 3)
        for file, (path, lines, _) in enumerate(files)
        if lines and covered[file]
    }
    return Duplication(tuple(found[:limit]), shares, truncated)


def _grow(
    files: Sequence[tuple[str, list[int], list[int]]],
    first: tuple[int, int],
    second: tuple[int, int],
    window: int,
) -> int:
    """How far both places go on alike."""
    one, other = files[first[0]][2], files[second[0]][2]
    length = window
    while (
        first[1] + length < len(one)
        and second[1] + length < len(other)
        and one[first[1] + length] == other[second[1] + length]
    ):
        length += 1
    return length


def _duplicate(
    files: Sequence[tuple[str, list[int], list[int]]], first: tuple[int, int], second: tuple[int, int], length: int
) -> Duplicate:
    (path, lines, _), (other_path, other_lines, _) = files[first[0]], files[second[0]]
    return Duplicate(
        path,
        lines[first[1]],
        lines[first[1] + length - 1],
        other_path,
        other_lines[second[1]],
        other_lines[second[1] + length - 1],
        length,
    )

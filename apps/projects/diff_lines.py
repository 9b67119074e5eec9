"""A diff by the lines of its new side: which of them it changed, and all of them with their numbers in front."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.projects.repository_diff import Diff

_HUNK = re.compile(r"@@ -(?P<old>\d+)(?:,(?P<old_lines>\d+))? \+(?P<new>\d+)(?:,(?P<new_lines>\d+))? @@ ?(?P<where>.*)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class ChangedFile:
    """A file of a change, and the spans of lines on its new side that it changed, in order.

    Where lines were taken away and none put there, it is the lines around the place.
    """

    path: str
    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> ChangedFile:
        return cls(row["path"], tuple((first, last) for first, last in row["ranges"]))

    @property
    def whole(self) -> bool:
        """It has no lines that could be pointed at: it was deleted or only moved, isn't text, or is too large."""
        return not self.ranges

    def has(self, line: int) -> bool:
        """Whether the change touched this line; where there is none to be touched, any stands for the file."""
        return self.whole or any(first <= line <= last for first, last in self.ranges)


@dataclass
class _Section:
    """A file's part of the diff as it is read."""

    path: str = ""
    shown: list[str] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)


def lines_changed(diff: Diff) -> tuple[ChangedFile, ...]:
    """The files of a diff with the lines that it changed."""
    touched: dict[str, set[int]] = {}
    for section in _sections(diff.text):
        touched.setdefault(section.path, set()).update(section.touched)
    return tuple(ChangedFile(file.path, _spans(touched.get(file.path, set()))) for file in diff.files)


def diff_numbered(diff: Diff, *, limit: int) -> str:
    """The diff with each line's number on the new side in front; what is over ``limit`` characters is left out."""
    parts: list[str] = []
    left_out: list[str] = []
    room = limit
    known = {section.path: section for section in _sections(diff.text)}
    for file in diff.files:
        counted = f", +{file.additions} -{file.deletions}" if file.additions is not None else ", not text"
        moved = f" from {file.previous_path}" if file.previous_path else ""
        lines = [f"{file.path} ({file.status}{moved}{counted})"]
        section = known.get(file.path)
        for line in section.shown if section is not None else ():
            if len(line) + 1 > room:
                left_out.append(file.path)
                break
            lines.append(line)
            room -= len(line) + 1
        if section is None and file.additions:
            left_out.append(file.path)
        parts.append("\n".join(lines))
    text = "\n\n".join(parts)
    return f"{text}\n\n[the rest of the diff is left out, of {', '.join(left_out)}]" if left_out else text


def _sections(text: str) -> Iterator[_Section]:
    section: _Section | None = None
    old_left = new_left = number = 0
    gap = False
    for line in text.removesuffix("\n").split("\n"):
        if old_left > 0 or new_left > 0:
            assert section is not None
            mark, said = line[:1], line[1:]
            if mark == "+":
                section.shown.append(f"{number:>6} +{said}")
                section.touched.add(number)
                # What was taken away here has come back as something else.
                gap, number, new_left = False, number + 1, new_left - 1
            elif mark == "-":
                section.shown.append(f"{'':>6} -{said}")
                gap, old_left = True, old_left - 1
                if not new_left and number > 1:
                    section.touched.add(number - 1)
            elif mark == "\\":
                section.shown.append(f"{'':>6} {line}")
            else:
                if gap:
                    section.touched |= {max(number - 1, 1), number}
                section.shown.append(f"{number:>6}  {said}")
                gap, number, old_left, new_left = False, number + 1, old_left - 1, new_left - 1
        elif line.startswith("diff --git "):
            if section is not None and section.path:
                yield section
            section = _Section()
        elif section is not None and line.startswith("--- ") and not section.path:
            section.path = _path(line, "a/")
        elif section is not None and line.startswith("+++ "):
            section.path = _path(line, "b/") or section.path
        elif section is not None and (hunk := _HUNK.match(line)):
            old_left, new_left = int(hunk["old_lines"] or 1), int(hunk["new_lines"] or 1)
            number, gap = int(hunk["new"]), False
            section.shown.append(f"{'':>6} @@ {hunk['where']}".rstrip())
    if section is not None and section.path:
        yield section


def _path(line: str, prefix: str) -> str:
    """The path of a ``---`` or ``+++`` line; empty: there is no such file on that side."""
    name = line[4:]
    if quoted := _QUOTED.match(name):
        raw, _ = codecs.escape_decode(quoted[1].encode("utf-8", "surrogateescape"))
        name = raw.decode("utf-8", "replace")
    else:
        name = name.partition("\t")[0]
    return name.removeprefix(prefix) if name != "/dev/null" else ""


def _spans(touched: set[int]) -> tuple[tuple[int, int], ...]:
    spans: list[tuple[int, int]] = []
    for line in sorted(touched):
        if spans and spans[-1][1] == line - 1:
            spans[-1] = (spans[-1][0], line)
        else:
            spans.append((line, line))
    return tuple(spans)

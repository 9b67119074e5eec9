"""Finding the place of each hunk in a file, and putting its lines there."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from apps.agents.tools.patch.types import Hunk, PatchError
from apps.agents.tools.text import CLOSE_LINES, lines_number, text_display

#: How lines are compared, the strictest first; what is not said by these is not the same line.
_EXACT: Callable[[str], str] = str
_WITHOUT_TRAILING_SPACE: Callable[[str], str] = str.rstrip


def hunks_apply(text: str, hunks: Sequence[Hunk], *, path: str, says_ends: bool = False) -> str:
    """The text with every hunk applied, in the order of the file.

    A hunk fits where its old lines are, but for white space at their ends. Its line number may be off when there is no
    other such place. Lines that stay keep every byte; lines that come in by way of a place that fits only without
    regard to white space get the file's own line ends. Without ``says_ends`` the file's end stays as it is, with or
    without a newline. PatchError names the hunk that has no place, or several.
    """
    lines = text.split("\n")
    lines = [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    open_ended = bool(lines) and not lines[-1].endswith("\n") and not says_ends
    if open_ended:
        lines[-1] += "\n"
    line_end = "\r\n" if lines and sum(line.endswith("\r\n") for line in lines) * 2 > len(lines) else "\n"
    result: list[str] = []
    done = 0
    for hunk in hunks:
        start, exact = _place(lines, hunk, done, path)
        result += lines[done:start]
        result += _replacement(lines, hunk, start, line_end=None if exact else line_end)
        done = start + len(hunk.old)
    result += lines[done:]
    for index, line in enumerate(result[:-1]):
        if not line.endswith("\n"):
            result[index] = line + line_end
    if open_ended and result:
        result[-1] = result[-1].removesuffix("\n").removesuffix("\r")
    return "".join(result)


def _replacement(lines: list[str], hunk: Hunk, start: int, *, line_end: str | None) -> list[str]:
    placed = []
    for line, origin in zip(hunk.new, hunk.kept, strict=True):
        if origin >= 0:
            placed.append(lines[start + origin])
        elif line_end is None:
            placed.append(line)
        else:
            placed.append(line.removesuffix("\n").removesuffix("\r") + line_end)
    return placed


def _place(lines: list[str], hunk: Hunk, done: int, path: str) -> tuple[int, bool]:
    """Where the hunk's old lines begin, and whether they are there to the byte."""
    first = _below_anchors(lines, hunk, done, path)
    if not hunk.old:
        return _place_of_addition(lines, hunk, first, path)
    for key in (_EXACT, _WITHOUT_TRAILING_SPACE):
        places = _places(lines, hunk, first, key)
        if hunk.line and hunk.line - 1 in places:
            return hunk.line - 1, key is _EXACT
        if len(places) == 1 or (places and hunk.anchors):
            return places[0], key is _EXACT
        if places:
            numbers = ", ".join(str(place + 1) for place in places[:10])
            raise PatchError(
                f"{hunk.name} fits in {path} in more than one place (lines {numbers}): give more lines around it, or "
                "the line above it with `@@`"
            )
    raise PatchError(f"{hunk.name} doesn't fit in {path}. {_closest(lines, hunk, first, done)}")


def _place_of_addition(lines: list[str], hunk: Hunk, first: int, path: str) -> tuple[int, bool]:
    """Lines alone go to the end, or right below the line that is said to be above them."""
    if hunk.anchors and not hunk.at_end:
        return first + 1, False
    if hunk.line and lines:
        raise PatchError(f"{hunk.name} of {path} has no line that is there already: give lines around it")
    return len(lines), not lines


def _below_anchors(lines: list[str], hunk: Hunk, done: int, path: str) -> int:
    """The line of the last anchor: the hunk may begin there."""
    at = done
    for number, anchor in enumerate(hunk.anchors):
        start = at + (1 if number else 0)
        below = range(start, len(lines))
        found = next((index for index in below if lines[index].strip() == anchor), None)
        if found is None:
            found = next((index for index in below if lines[index].strip().startswith(anchor)), None)
        if found is None:
            raise PatchError(f"`@@ {anchor}` names no line of {path} (below line {start})")
        at = found
    return at


def _places(lines: list[str], hunk: Hunk, first: int, key: Callable[[str], str]) -> list[int]:
    old = [key(line) for line in hunk.old]
    last = len(lines) - len(old)
    candidates = [last] if hunk.at_end else range(first, last + 1)
    return [
        start
        for start in candidates
        if start >= first and all(key(lines[start + index]) == line for index, line in enumerate(old))
    ]


def _closest(lines: list[str], hunk: Hunk, first: int, done: int) -> str:
    """Where the file comes closest, for the model to look at."""
    if _places(lines, hunk, 0, _WITHOUT_TRAILING_SPACE):
        where = f"below line {first + 1}" if hunk.anchors or done else "at its end"
        return f"Its old lines are in the file, but not {where}, where it is asked for: hunks go in the file's order."
    stripped = [line.strip() for line in lines]
    wanted = [line.strip() for line in hunk.old]
    for start in range(len(lines) - len(wanted) + 1):
        if stripped[start : start + len(wanted)] == wanted:
            return f"It differs in indentation from lines {start + 1} to {start + len(wanted)}:\n" + _shown(
                lines, start, start + len(wanted)
            )
    if len(lines) > CLOSE_LINES:
        return "The file is long: search for the place, and read it again."
    matcher = difflib.SequenceMatcher(None, stripped, wanted, autojunk=False)
    found = matcher.find_longest_match(0, len(stripped), 0, len(wanted))
    if found.size and any(stripped[found.a : found.a + found.size]):
        start = max(0, found.a - found.b)
    else:
        close = difflib.get_close_matches(max(wanted, key=len), stripped, n=1, cutoff=0.6)
        if not close:
            return "Nothing in it is close; read the file again."
        start = max(0, stripped.index(close[0]) - 3)
    return "The closest place:\n" + _shown(lines, start, min(len(lines), start + max(len(wanted), 7)))


def _shown(lines: list[str], start: int, end: int) -> str:
    return text_display(lines_number([line.rstrip("\r\n") for line in lines[start:end]], start + 1))

"""Glob patterns over paths, in time that no pattern can blow up."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from apps.projects.workspace import WorkspaceError

#: Longest pattern, in characters, and most alternatives that its braces may stand for.
_LENGTH = 500
_ALTERNATIVES = 64

_Segment = Callable[[str], object]


def path_matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path matches: ``*`` and ``?`` within a name, ``**`` over folders, ``[abc]``, ``{a,b}``.

    A pattern without a slash is for the name, in whatever folder. WorkspaceError for one that cannot be read.
    """
    text = pattern.strip().removeprefix("./").lstrip("/")
    if not text or "\0" in text or len(text) > _LENGTH:
        raise WorkspaceError("a pattern is needed, such as `*.py` or `src/**/test_*.ts`")
    alternatives = [_segments(alternative) for alternative in _braces_expand(text, pattern)]

    def matches(path: str) -> bool:
        names = path.split("/")
        return any(_match(names, segments) for segments in alternatives)

    return matches


def _segments(text: str) -> list[_Segment | None]:
    """A matcher for each name of the path; None stands for any number of folders."""
    if text.endswith("/"):
        text += "**"
    if "/" not in text:
        text = f"**/{text}"
    parts: list[_Segment | None] = []
    for name in text.split("/"):
        if name != "**":
            parts.append(re.compile(_name_translate(name), re.DOTALL).fullmatch)
        elif not parts or parts[-1] is not None:
            parts.append(None)
    if parts[-1] is None:
        # A folder's content is what is in it, not the folder.
        parts.append(re.compile(".*", re.DOTALL).fullmatch)
    return parts


def _match(names: Sequence[str], segments: Sequence[_Segment | None]) -> bool:
    """The first place that fits is always a right one, so only the last ``**`` is ever gone back to."""
    at = segment = 0
    resume: tuple[int, int] | None = None
    while at < len(names):
        present = segments[segment] if segment < len(segments) else _never
        if present is None:
            resume = (at, segment)
            segment += 1
        elif present(names[at]):
            at, segment = at + 1, segment + 1
        elif resume is None:
            return False
        else:
            at, segment = resume[0] + 1, resume[1] + 1
            resume = (at, resume[1])
    return segment == len(segments)


def _never(name: str) -> bool:
    return False


def _name_translate(name: str) -> str:
    """A regular expression that doesn't go back over a ``*``: again the first place that fits is a right one."""
    pieces = [""]
    at = 0
    while at < len(name):
        character = name[at]
        closing = name.find("]", at + 2) if character == "[" else -1
        at += 1
        if character == "*":
            if len(pieces) == 1 or pieces[-1]:
                pieces.append("")
        elif character == "?":
            pieces[-1] += "."
        elif closing > 0:
            inside = name[at:closing]
            negated = inside[0] in "!^"
            pieces[-1] += _class_translate(inside[1:] if negated else inside, negated=negated)
            at = closing + 1
        else:
            pieces[-1] += re.escape(character)
    first, rest = pieces[0], pieces[1:]
    if not rest:
        return first
    return first + "".join(f"(?>.*?{piece})" for piece in rest[:-1]) + f".*{rest[-1]}"


def _class_translate(inside: str, *, negated: bool) -> str:
    ranges: list[str] = []
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            first, last = inside[at], inside[at + 2]
            if first <= last:
                ranges.append(f"{re.escape(first)}-{re.escape(last)}")
            at += 3
        else:
            ranges.append(re.escape(inside[at]))
            at += 1
    if not ranges:
        return "." if negated else "(?!)"
    return f"[{'^' if negated else ''}{''.join(ranges)}]"


def _braces_expand(text: str, pattern: str) -> list[str]:
    done: list[str] = []
    pending = [text]
    while pending:
        present = pending.pop()
        opening = present.find("{")
        if opening < 0:
            done.append(present)
        else:
            start, end, options = _brace_read(present, opening, pattern)
            pending += [present[:start] + option + present[end:] for option in options]
        if len(done) + len(pending) > _ALTERNATIVES:
            raise WorkspaceError(f"the pattern {pattern!r} stands for too many others: use fewer braces")
    return done


def _brace_read(text: str, opening: int, pattern: str) -> tuple[int, int, list[str]]:
    options, depth = [""], 0
    for at in range(opening, len(text)):
        character = text[at]
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return opening, at + 1, options
        if at == opening:
            continue
        if character == "," and depth == 1:
            options.append("")
        else:
            options[-1] += character
    raise WorkspaceError(f"the braces of the pattern {pattern!r} don't match")

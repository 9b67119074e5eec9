"""Unified diffs, as git, diff and models write them."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field

from apps.agents.tools.patch.types import FileChange, Hunk, PatchError

_HUNK = re.compile(r"@@+ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@+ ?(.*)")
_NO_END = "\\"
_NULL = "/dev/null"
#: Lines that git puts before the hunks of a file.
_EXTENDED = (
    "index ",
    "old mode ",
    "new mode ",
    "new file mode ",
    "deleted file mode ",
    "similarity index ",
    "dissimilarity index ",
    "rename from ",
    "rename to ",
    "copy from ",
    "copy to ",
)


@dataclass
class _Section:
    """What is known of one file so far."""

    old: str = ""
    new: str = ""
    from_git: tuple[str, str] = ("", "")
    created: bool = False
    deleted: bool = False
    rename_to: str = ""
    rename_from: str = ""
    hunks: list[Hunk] = field(default_factory=list)
    ends_said: bool = False


def unified_parse(text: str) -> tuple[FileChange, ...]:
    """The files' changes in order; what stands around them (a mail, a commit's message) is passed over."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    sections: list[_Section] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("diff --git "):
            sections.append(_Section(from_git=_git_paths(line)))
        elif line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            if not sections or sections[-1].hunks or sections[-1].old:
                sections.append(_Section())
            sections[-1].old, sections[-1].new = _named(line), _named(lines[at + 1])
            at += 1
        elif line.startswith("@@"):
            if not sections:
                raise PatchError("a hunk stands before the name of its file: begin with `--- a/PATH` and `+++ b/PATH`")
            hunk, at, said = _hunk_read(lines, at)
            sections[-1].hunks.append(hunk)
            sections[-1].ends_said |= said
            continue
        elif line.startswith(("GIT binary patch", "Binary files ")):
            raise PatchError("the patch has a binary file in it, which can't be applied")
        elif sections and line.startswith(_EXTENDED):
            _extended_read(sections[-1], line)
        elif sections and sections[-1].hunks and line[:1] in ("+", "-"):
            raise PatchError(f"this line belongs to no hunk: {line[:200]!r}")
        at += 1
    return tuple(_change(section) for section in sections)


def _change(section: _Section) -> FileChange:
    old, new = section.old or section.from_git[0], section.new or section.from_git[1]
    created = section.created or section.old == _NULL
    deleted = section.deleted or section.new == _NULL
    if section.rename_from:
        source, target = section.rename_from, section.rename_to
    else:
        source, target = _paths(old, new)
    path = target if created else source
    if not path:
        raise PatchError("a file of the patch has no name: begin with `--- a/PATH` and `+++ b/PATH`")
    hunks = tuple(section.hunks)
    if created:
        if any(hunk.old for hunk in hunks):
            raise PatchError(f"{path} is to be a new file, but a hunk of it has old lines")
        return FileChange(path, "add", hunks, says_ends=True)
    if deleted:
        return FileChange(path, "delete", hunks, says_ends=section.ends_said)
    move_to = target if target != source else ""
    if not hunks and not move_to:
        raise PatchError(f"the patch names {path} and changes nothing in it")
    return FileChange(path, "update", hunks, move_to, says_ends=section.ends_said)


def _paths(old: str, new: str) -> tuple[str, str]:
    """Both names without the prefixes that diff programs put there."""
    if old == _NULL:
        return "", new[2:] if new.startswith("b/") else new
    if new == _NULL:
        return (old[2:] if old.startswith("a/") else old), ""
    if old.startswith("a/") and new.startswith("b/"):
        return old[2:], new[2:]
    return old, new


def _named(line: str) -> str:
    """The path of a ``---`` or ``+++`` line, without the time that may follow it."""
    name = line[4:].rstrip("\r")
    if name.startswith('"'):
        return _unquoted(name)
    return name.partition("\t")[0].rstrip()


def _git_paths(line: str) -> tuple[str, str]:
    """Both paths of a ``diff --git`` line; only needed where nothing else names the file."""
    rest = line.removeprefix("diff --git ").rstrip()
    quoted = re.fullmatch(r'("(?:[^"\\]|\\.)*"|\S+) ("(?:[^"\\]|\\.)*"|\S+)', rest)
    if quoted is not None:
        return _unquoted(quoted[1]), _unquoted(quoted[2])
    # Names with spaces: both are the same, but for the prefix.
    half = len(rest) // 2
    return rest[:half], rest[half + 1 :]


def _unquoted(name: str) -> str:
    """git's spelling of unusual names: in quotes, with octal numbers for bytes."""
    found = re.match(r'"((?:[^"\\]|\\.)*)"', name)
    if found is None:
        return name
    raw, _ = codecs.escape_decode(found[1].encode("utf-8", "surrogateescape"))
    text: str = raw.decode("utf-8", "surrogateescape")
    return text


def _extended_read(section: _Section, line: str) -> None:
    if line.startswith("new file mode "):
        section.created = True
    elif line.startswith("deleted file mode "):
        section.deleted = True
    elif line.startswith("rename from "):
        section.rename_from = _unquoted(line.removeprefix("rename from "))
    elif line.startswith("rename to "):
        section.rename_to = _unquoted(line.removeprefix("rename to "))
    elif line.startswith(("copy from ", "copy to ")):
        raise PatchError("the patch copies a file, which can't be applied: add the copy as a new file")


def _hunk_read(lines: list[str], at: int) -> tuple[Hunk, int, bool]:
    """The hunk that begins at a line, where the next thing begins, and whether it says which lines have no end."""
    head = _HUNK.match(lines[at])
    anchors: tuple[str, ...] = ()
    line, old_left, new_left = 0, -1, -1
    if head is not None:
        line = int(head[1])
        old_left, new_left = int(head[2] or 1), int(head[4] or 1)
    else:
        # Without numbers, as models write it: the rest may be a line that is somewhere above.
        anchor = lines[at].strip("@ \r")
        anchors = (anchor,) if anchor else ()
    counted = head is not None
    body: list[str] = []
    at += 1
    while at < len(lines):
        if _ends_hunk(lines, at, sure=counted and (old_left, new_left) == (0, 0), last=(old_left, new_left) == (1, 1)):
            break
        sign = lines[at][:1]
        body.append(lines[at])
        old_left -= sign in (" ", "-", "")
        new_left -= sign in (" ", "+", "")
        at += 1
    while body and not body[-1] and (not counted or old_left < 0 or new_left < 0):
        # Empty lines after the hunk are for the eye.
        body.pop()
        old_left, new_left = old_left + 1, new_left + 1
    hunk, said = _hunk(body, line, anchors)
    return hunk, at, said


def _ends_hunk(lines: list[str], at: int, *, sure: bool, last: bool) -> bool:
    """Whether a hunk is over before this line. Numbers in its head may be wrong; no line of a body looks like this."""
    line = lines[at]
    if line[:1] not in (" ", "-", "+", _NO_END, ""):
        return True
    if sure:
        # By the numbers it is over. They are often too small: then lines of it go on.
        return line[:1] == "" or _heads_file(lines, at)
    return not last and _heads_file(lines, at)


def _heads_file(lines: list[str], at: int) -> bool:
    following = lines[at : at + 3]
    return (
        len(following) == 3
        and following[0].startswith("--- ")
        and following[1].startswith("+++ ")
        and following[2].startswith("@@")
    )


def _hunk(body: list[str], line: int, anchors: tuple[str, ...]) -> tuple[Hunk, bool]:
    old: list[str] = []
    new: list[str] = []
    kept: list[int] = []
    said = False
    sign = ""
    for text in body:
        if text.startswith(_NO_END):
            said = True
            if sign in (" ", "-") and old:
                old[-1] = old[-1].removesuffix("\n")
            if sign in (" ", "+") and new:
                new[-1] = new[-1].removesuffix("\n")
            continue
        sign = text[:1] or " "
        content = f"{text[1:]}\n"
        if sign in (" ", "-"):
            if sign == " ":
                kept.append(len(old))
            old.append(content)
        if sign in (" ", "+"):
            if sign == "+":
                kept.append(-1)
            new.append(content)
    return Hunk(tuple(old), tuple(new), tuple(kept), line=line, anchors=anchors), said

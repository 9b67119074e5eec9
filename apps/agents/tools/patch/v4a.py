"""The V4A format: sections of files between ``*** Begin Patch`` and ``*** End Patch``, hunks without line numbers."""

from __future__ import annotations

from collections.abc import Iterator

from apps.agents.tools.patch.types import FileChange, Hunk, PatchError

_BEGIN, _END, _END_OF_FILE = "*** Begin Patch", "*** End Patch", "*** End of File"
_UPDATE, _ADD, _DELETE, _MOVE = "*** Update File:", "*** Add File:", "*** Delete File:", "*** Move to:"


def v4a_parse(text: str) -> tuple[FileChange, ...]:
    """The sections in order."""
    lines = text.split("\n")
    # Some models wrap it into a command.
    starts = [at for at, line in enumerate(lines) if line.strip() == _BEGIN]
    if not starts:
        raise PatchError(f"the patch has no line `{_BEGIN}`")
    ends = [at for at, line in enumerate(lines) if line.strip() == _END]
    if not ends or ends[-1] < starts[0]:
        raise PatchError(f"the patch has no line `{_END}`: it may have been cut off, so nothing of it is applied")
    return tuple(_sections(lines[starts[0] + 1 : ends[-1]]))


def _sections(lines: list[str]) -> Iterator[FileChange]:
    at = 0
    while at < len(lines):
        line = lines[at].rstrip()
        at += 1
        end = next((index for index in range(at, len(lines)) if _heads_section(lines[index])), len(lines))
        body = lines[at:end]
        if line.startswith(_ADD):
            yield _added(_path(line, _ADD), body)
        elif line.startswith(_DELETE):
            path = _path(line, _DELETE)
            if any(part.strip() for part in body):
                raise PatchError(f"the section that deletes {path} has lines in it")
            yield FileChange(path, "delete")
        elif line.startswith(_UPDATE):
            yield _updated(_path(line, _UPDATE), body)
        elif line:
            raise PatchError(f"a section of the patch begins with none of `{_UPDATE}`, `{_ADD}`, `{_DELETE}`: {line!r}")
        else:
            end = at
        at = end


def _heads_section(line: str) -> bool:
    return line.startswith((_UPDATE, _ADD, _DELETE))


def _path(line: str, head: str) -> str:
    path = line.removeprefix(head).strip()
    if not path:
        raise PatchError(f"`{head}` needs a path")
    return path


def _added(path: str, body: list[str]) -> FileChange:
    while body and not body[-1].strip() and not body[-1].startswith("+"):
        body = body[:-1]
    wrong = next((line for line in body if not line.startswith("+")), None)
    if wrong is not None:
        raise PatchError(f"every line of the new file {path} begins with `+`; this one doesn't: {wrong[:200]!r}")
    new = tuple(f"{line[1:]}\n" for line in body)
    return FileChange(path, "add", (Hunk((), new, (-1,) * len(new)),))


def _updated(path: str, body: list[str]) -> FileChange:
    move_to = ""
    if body and body[0].startswith(_MOVE):
        move_to = _path(body[0].rstrip(), _MOVE)
        body = body[1:]
    # Empty lines before the next section are for the eye.
    while body and not body[-1]:
        body = body[:-1]
    hunks: list[Hunk] = []
    anchors: list[str] = []
    lines: list[str] = []

    def close(at_end: bool = False) -> None:
        if lines or at_end:
            hunks.append(_hunk(path, lines, tuple(anchors), at_end))
            anchors.clear()
            lines.clear()

    for line in body:
        if line.rstrip() == _END_OF_FILE:
            close(at_end=True)
        elif line.startswith("@@"):
            close()
            anchor = line[2:].strip().removesuffix("@@").strip()
            if anchor:
                anchors.append(anchor)
        else:
            lines.append(line)
    close()
    if anchors:
        raise PatchError(f"nothing follows `@@ {anchors[-1]}` in the section of {path}")
    if not hunks and not move_to:
        raise PatchError(f"the section of {path} changes nothing")
    return FileChange(path, "update", tuple(hunks), move_to)


def _hunk(path: str, lines: list[str], anchors: tuple[str, ...], at_end: bool) -> Hunk:
    old: list[str] = []
    new: list[str] = []
    kept: list[int] = []
    for line in lines:
        sign, text = line[:1], f"{line[1:]}\n"
        if sign in (" ", ""):  # models leave out the space of an empty line
            kept.append(len(old))
            old.append(text)
            new.append(text)
        elif sign == "-":
            old.append(text)
        elif sign == "+":
            kept.append(-1)
            new.append(text)
        else:
            raise PatchError(
                f"a line in a hunk begins with a space, `-` or `+`; this one in the section of {path} doesn't: "
                f"{line[:200]!r}"
            )
    return Hunk(tuple(old), tuple(new), tuple(kept), anchors=anchors, at_end=at_end)

"""Files as a model reads and changes them: decoding that loses no byte, numbered lines, exact replacement."""

from __future__ import annotations

import ast
import difflib
import json
import tomllib

from apps.projects.workspace import WorkspaceError

#: A file with more lines is not searched for the closest one: that takes seconds, in which other sessions stand still.
CLOSE_LINES = 3000


def text_decode(content: bytes, path: str) -> str:
    """The file as text in which every byte survives being written back; WorkspaceError for a binary file."""
    if b"\x00" in content[:8192]:
        raise WorkspaceError(f"{path} is a binary file ({len(content)} bytes)")
    return content.decode("utf-8", "surrogateescape")


def text_encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def text_display(text: str) -> str:
    """The text for a model or a person: bytes that aren't UTF-8 shown as replacement characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def lines_number(lines: list[str], first: int) -> str:
    """Lines with their numbers in front, as ``   12\ttext``."""
    return "\n".join(f"{number:6}\t{line}" for number, line in enumerate(lines, first))


class EditError(WorkspaceError):
    """The edit doesn't fit the file as it is; the message says where, and what to do."""


def text_replace(text: str, *, old: str, new: str, path: str) -> str:
    """The text with the one place that says ``old`` changed; EditError when there is none, or more than one."""
    if not old:
        raise EditError("old_text is empty: give the exact text to replace, or use write_file for a new file")
    if old == new:
        raise EditError("old_text and new_text are the same: nothing would change")
    if "\r\n" in text and "\r\n" not in old:
        # Models answer with plain newlines; keep the file's own.
        old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
    count = text.count(old)
    if count == 1:
        return text.replace(old, new)
    if count > 1:
        places = ", ".join(str(number) for number in _line_numbers(text, old)[:10])
        raise EditError(
            f"old_text is in {path} {count} times (lines {places}): add lines around it until it is there once"
        )
    raise EditError(f"old_text isn't in {path}. {_nearest(text, old)}")


def _line_numbers(text: str, needle: str) -> list[int]:
    numbers, start = [], text.find(needle)
    while start >= 0:
        numbers.append(text.count("\n", 0, start) + 1)
        start = text.find(needle, start + 1)
    return numbers


def _nearest(text: str, old: str) -> str:
    """Where the file comes closest to the missing text, since it is mostly white space or a stale copy."""
    lines, wanted = text.splitlines(), old.splitlines()
    stripped = [line.strip() for line in lines]
    target = [line.strip() for line in wanted]
    for start in range(len(lines) - len(wanted) + 1):
        if stripped[start : start + len(wanted)] == target:
            found = lines_number(lines[start : start + len(wanted)], start + 1)
            return f"It differs in white space from lines {start + 1} to {start + len(wanted)}:\n{text_display(found)}"
    longest = max(target, key=len, default="")
    if len(lines) > CLOSE_LINES:
        return "The file is long: search for the place, and read it again."
    close = difflib.get_close_matches(longest, stripped, n=1, cutoff=0.6)
    if not close:
        return "Nothing in it is close; read the file again."
    at = stripped.index(close[0])
    start = max(0, at - 3)
    return f"The closest place:\n{text_display(lines_number(lines[start : at + 4], start + 1))}"


def syntax_error_find(path: str, content: bytes) -> str | None:
    """What keeps the file from parsing, for the formats that the standard library can read; None when it parses."""
    try:
        if path.endswith((".py", ".pyi")):
            ast.parse(content)
        elif path.endswith(".json"):
            json.loads(content)
        elif path.endswith(".toml"):
            tomllib.loads(content.decode("utf-8"))
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except (RecursionError, MemoryError):  # what Python's parser raises for the latter is no lack of memory
        return "nested too deeply to parse"
    except ValueError as error:
        return str(error)
    return None

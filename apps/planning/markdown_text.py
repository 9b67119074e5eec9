"""Texts, names and commands within a plan's Markdown: written so that they are read back as they were."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

#: What stands between a key and a title, and between a command and what it shows.
KEY_MARK, NAME_MARK = " · ", " — "
#: What one list may name.
MAX_NAMES = 500
#: In place of keys: none.
NOTHING = frozenset({"nothing", "none", "-"})

_PUNCTUATION = re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
#: A line of text that could be taken for something else.
_UNPLAIN = re.compile(r"[\s#>\-*+<`~|\\=_\d\[]|.*\s$")


def title_write(title: str) -> str:
    """A title as it stands in a heading or an item."""
    if not _is_line(title):
        return _quoted(title)
    escaped = re.sub(rf"\\(?=[{_PUNCTUATION}]|$)", r"\\\\", title)
    escaped = re.sub(r"<(?=[A-Za-z/!?])", r"\\<", escaped)
    # What ends in hashes would be a heading's end.
    return re.sub(r"(^| )(#+)$", r"\1\\\2", escaped)


def title_read(text: str) -> str:
    text = text.strip(" \t")
    if (literal := _whole_literal(text)) is not None:
        return literal
    name = text.rstrip("#")
    # Hashes that stand alone at the end are a heading's end.
    text = name if not name or name[-1] in " \t" else text
    return re.sub(rf"\\([{_PUNCTUATION}])", r"\1", text).strip(" \t")


def line_write(text: str) -> str:
    """A text of one line; another one in quotes."""
    return text if _is_line(text) else _quoted(text)


def line_read(text: str) -> str:
    literal = _whole_literal(text)
    return text.strip(" \t") if literal is None else literal


def code_write(text: str) -> str:
    """A path or a command: as code, or in quotes where that can't be."""
    if not _is_line(text, quotes=True) or text.startswith("`") or text.endswith("`"):
        return _quoted(text)
    marks = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    if len(marks) > 50:
        return _quoted(text)
    return f"{marks}{text}{marks}" if len(marks) == 1 else f"{marks} {text} {marks}"


def code_read(text: str) -> tuple[str, str] | None:
    """The code or quoted text that a text begins with, and the rest; None where it begins with neither."""
    if text.startswith('"'):
        try:
            value, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            return None
        return value, text[end:]
    marks = re.match(r"`{1,50}(?!`)", text)
    if marks is None:
        return None
    closing = re.search(rf"(?<!`){marks[0]}(?!`)", text[marks.end() :])
    if closing is None:
        return None
    content = text[marks.end() : marks.end() + closing.start()]
    if len(content) > 2 and content[0] == content[-1] == " " and content.strip(" "):
        content = content[1:-1]
    return content, text[marks.end() + closing.end() :]


def keys_write(keys: Sequence[str]) -> str:
    return ", ".join(_quoted(key) if key.lower() in NOTHING else key for key in keys)


def names_read(text: str) -> Iterator[str]:
    """The items of a list: code, quoted or bare, with commas between. Raises ValueError."""
    rest, count = text.strip(" \t"), 0
    while rest:
        count += 1
        if count > MAX_NAMES:
            raise ValueError(f"at most {MAX_NAMES} can stand there")
        literal = code_read(rest)
        if literal is None:
            item, _, rest = rest.partition(",")
            if '"' in item[:1] or "`" in item[:1]:
                raise ValueError(f"{item[:60]} doesn't end")
            item = item.strip(" \t")
            if item:
                yield item
        else:
            item, rest = literal
            yield item
            rest = rest.lstrip(" \t")
            if rest and not rest.startswith(","):
                raise ValueError(f"a comma is missing before {rest[:60]}")
            rest = rest[1:]
        rest = rest.lstrip(" \t")


def block_write(text: str) -> list[str] | None:
    """A text of several lines, as it is or as a quotation; None where only quotes can hold it."""
    if _CONTROL.search(text):
        return None
    lines = text.split("\n")
    if text == text.strip() and not any(_UNPLAIN.match(line) for line in lines if line):
        return lines
    return [f"> {line}" if line else ">" for line in lines]


def indented_write(text: str) -> list[str] | None:
    """A text of several lines within an item; None where only quotes can hold it."""
    if _CONTROL.search(text) or text != text.strip():
        return None
    return [f"  {line}" if line else "" for line in text.split("\n")]


def quoted_write(text: str) -> str:
    return _quoted(text)


def _is_line(text: str, *, quotes: bool = False) -> bool:
    """It can stand in a line as it is, and isn't taken for code or quoted text there."""
    if not text or text != text.strip() or "\n" in text or "\t" in text or _CONTROL.search(text):
        return False
    return quotes or text[0] not in '"`'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _whole_literal(text: str) -> str | None:
    """What stands in quotes, where that is all there is."""
    if len(text) < 2 or not text.startswith('"') or not text.endswith('"'):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, str) else None

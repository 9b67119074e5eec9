"""What a text to be embedded is made of: a piece of code has its path and its name on the first line.

Of the rest, the first line (mostly the signature), names that are called, and what is said in comments and strings
weigh otherwise than other words.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from integrations.embedders.static.stems import WORD

#: In this order, wherever fields are numbered.
FIELDS = ("name", "qualifier", "path", "signature", "call", "prose", "body")
NAME = FIELDS.index("name")
#: Those before it stand in the header.
FIRST_BODY = FIELDS.index("signature")
#: As ``chunk_header`` writes it: a path that has an extension, and what the piece is called.
_HEADER = re.compile(r"(\S*[\w)\]-])\.[A-Za-z0-9_+-]{1,12}(?: ([^\n]{1,300}))?(?:\n|$)")
#: A comment or a string; or a word, and whether it is called. Cut by what most languages write, not by any one's rules.
_PIECE = re.compile(
    r"(#[ #!:][^\n]*|//[^\n]*|/\*[\s\S]*?\*/|\"{3}[\s\S]*?\"{3}|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'"
    r"|`[^`\n]*`|^\s*\*\s[^\n]*)|([A-Za-z_][A-Za-z0-9_]*)(\()?",
    re.MULTILINE,
)


class Fields(NamedTuple):
    name: str
    qualifier: str
    path: str
    body: str


def text_fields(text: str) -> Fields:
    """The fields of a text; one without a header is all body."""
    match = _HEADER.match(text)
    if match is None:
        return Fields("", "", "", text)
    qualifier, _, name = (match[2] or "").rpartition(".")
    return Fields(name, qualifier, match[1], text[match.end() :])


def text_words(text: str) -> tuple[list[str], ...]:
    """The words of each field, in the order of :data:`FIELDS`. A text without a header is prose."""
    name, qualifier, path, body = text_fields(text)
    words = WORD.findall
    if not path:
        return [], [], [], [], [], words(body), []
    first, _, rest = body.partition("\n")
    pieces = _PIECE.findall(rest)
    return (
        words(name),
        words(qualifier),
        words(path),
        words(first),
        [word for _, word, called in pieces if called],
        words("\n".join([said for said, _, _ in pieces if said])),
        [word for _, word, called in pieces if word and not called],
    )

"""What a text to be embedded is made of: a piece of code has its path and its name on the first line."""

from __future__ import annotations

import re
from typing import NamedTuple

#: In this order, wherever fields are numbered.
FIELDS = ("name", "qualifier", "path", "body")
BODY = FIELDS.index("body")
#: As ``chunk_header`` writes it: a path that has an extension, and what the piece is called.
_HEADER = re.compile(r"(\S*[\w)\]-])\.[A-Za-z0-9_+-]{1,12}(?: ([^\n]{1,300}))?(?:\n|$)")


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

"""Rows in the binary form of PostgreSQL's COPY: made where the parsing is done, so that the writer only passes them on.

No Django in here.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_NULL = struct.pack(">i", -1)
_LENGTH = struct.Struct(">i").pack
_BIG = struct.Struct(">iq").pack
_INT = struct.Struct(">ii").pack
_SMALL = struct.Struct(">ih").pack
_FIELDS = struct.Struct(">h").pack


def text_field(value: str) -> bytes:
    """Text as PostgreSQL can hold it: without NUL and half characters."""
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "replace")
    if b"\0" in raw:
        raw = raw.replace(b"\0", b"\xef\xbf\xbd")
    return _LENGTH(len(raw)) + raw


def bytes_field(value: bytes) -> bytes:
    return _LENGTH(len(value)) + value


def big_field(value: int | None) -> bytes:
    return _NULL if value is None else _BIG(8, value)


def int_field(value: int) -> bytes:
    return _INT(4, min(value, 2**31 - 1))


def small_field(value: int) -> bytes:
    return _SMALL(2, value)


def time_field(value: datetime) -> bytes:
    return _BIG(8, round((value - _EPOCH).total_seconds() * 1_000_000))


def row(*fields: bytes) -> bytes:
    return _FIELDS(len(fields)) + b"".join(fields)

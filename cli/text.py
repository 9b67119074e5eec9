"""Text from models, repositories and servers, made fit for a terminal."""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size

# Control characters could move the cursor, set the title or answer for the user; bidirectional overrides could show a
# diff other than it is. Newlines and tabs stay.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def text_clean(text: str) -> str:
    """The text without characters that command a terminal."""
    return _UNSAFE.sub("", text)


def text_line(text: str, *, width: int) -> str:
    """The text as one line of at most ``width`` columns; some characters take two of them, some none."""
    line = " ".join(text_clean(text).split())
    return line if cell_len(line) <= width else set_cell_size(line, max(width - 1, 0)).rstrip() + "…"


def duration_format(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    whole = max(int(seconds), 0)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def money_format(dollars: float, *, priced: bool = True) -> str:
    """`$0.00`, `$0.0042`, `$1.30`: as many digits as say something; not ``priced``: a part of it, or none, is known."""
    amount = f"${dollars:.4f}" if 0 < dollars < 0.01 else f"${dollars:.2f}"
    if priced:
        return amount
    return f"more than {amount}" if dollars > 0 else "price unknown"

"""A report's Markdown on a terminal: what forges fold away is shown, under a line of its own."""

from __future__ import annotations

import html
import re

from rich.console import Console
from rich.markdown import Markdown

from cli.text import text_clean

_FOLD = re.compile(r"<details><summary>(?P<title>.*)</summary>")
_FENCE = re.compile(r" *(?P<mark>`{3,}|~{3,})")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
#: What keeps forges from reading names and numbers; a terminal reads none.
_APART = "\u200b"


def report_print(text: str, *, console: Console) -> None:
    console.print(Markdown(report_unfolded(text_clean(text)), code_theme="ansi_dark", hyperlinks=False))


def report_unfolded(text: str) -> str:
    """The Markdown without HTML around what is folded away."""
    lines: list[str] = []
    mark = ""
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if fence is not None and not mark:
            mark = fence["mark"]
        elif mark:
            if fence is not None and line.strip() == mark:
                mark = ""
        elif (fold := _FOLD.fullmatch(line)) is not None:
            title = html.unescape(fold["title"])
            line = f"**{_PUNCTUATION.sub(lambda found: chr(92) + found.group(), title)}**"
        elif line == "</details>" or re.fullmatch(r"<!-- .* -->", line):
            continue
        lines.append(line)
    return "\n".join(lines).replace("&#8203;", "").replace(_APART, "")

"""Words of others (models, programs, people) within Markdown of ours: they are shown, and never do anything.

What comes out has no HTML, opens and closes nothing around it, breaks no table, and calls nobody: forges read names
behind `@` and numbers behind `#` or `!` off the finished page, so a space of no width is put in between. GitLab reads
two things off the source instead, code included: commands at the beginning of a line (`/assign @root`), which it
carries out when the request is opened, and `closes #12`, which closes the issue with the merge.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

#: A space that is not seen, as Markdown and HTML write it.
_APART = "&#8203;"
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# Control characters, and those that show a line other than it is. Newlines and tabs stay.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_CALLS = re.compile(r"[@#](?=\w)|[!$&](?=\d)|\bGH-(?=\d)", re.IGNORECASE)
#: As GitLab reads it, one space or more between the words; in Jira's and in addresses' form too.
_CLOSES = re.compile(
    r"\b(?P<word>(?:clos(?:e[sd]?|ing)|fix(?:e[sd]|ing)?|resolv(?:e[sd]?|ing)|implement(?:s|ed|ing)?):?) +"
    r"(?=(?:issues? +)?(?:[^\s#]*#\d|https?://|[A-Z][A-Z0-9_]+-\d))",
    re.IGNORECASE,
)
#: Looks like a space, and is none to what looks for one.
_JOINED = "\u00a0"
_COMMAND = re.compile(r"^(?=/[a-z])", re.IGNORECASE | re.MULTILINE)
_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")
_ADDRESS = re.compile(r"(?:https?://|ftp://|www\.)[^\s<>`|]*[^\s<>`|.,;:!?)\]'\"]", re.IGNORECASE)
#: What is kept of a writer's own Markdown within a line: code, and words that are made to stand out.
_KEPT = re.compile(r"(?P<ticks>`+)(?P<code>[^`](?:.*?[^`])?)(?P=ticks)(?!`)|\*\*(?P<strong>[^*\s](?:[^*]*[^*\s])?)\*\*")
_BULLET = re.compile(r"(?P<indent> *)(?:[-*+]|\d{1,9}[.)]) +(?P<text>.*)")
_FENCE = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,})(?P<info>[^`]*)")
_HEADING = re.compile(r" {0,3}#{1,6} +(?P<text>.*?)(?: +#+)? *")
#: What would be more than text at the beginning of a line: a heading, a list, a quote, a rule, a table's second line,
#: a command.
_LINE_START = re.compile(r"(?P<mark>[#>+=/-]|:(?=-))|(?P<number>\d{1,9})(?P<stop>[.)])(?=\s|$)")


def clean(text: str) -> str:
    """The text without what commands a terminal or hides from the eye."""
    return _UNSAFE.sub("", _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


def inline(text: str, *, cell: bool = False) -> str:
    """The text on one line of Markdown, whatever it holds; ``cell``: within a table."""
    return _line_begun("".join(_pieces(_line(text), cell=cell)))


def html_text(text: str) -> str:
    """The text on one line of HTML."""
    return _called(_line(text), in_html=True)


def code(text: str, *, cell: bool = False) -> str:
    """The text as code on one line; empty for none. ``cell``: within a table."""
    line = _line(text)
    if not line:
        return ""
    ticks = "`" * (_run(line) + 1)
    padding = " " if line.startswith("`") or line.endswith("`") else ""
    if cell:
        # A bar ends the cell even in code, and only there can it be escaped in code.
        line = line.replace("|", "\\|")
    return f"{ticks}{padding}{line}{padding}{ticks}"


def fenced(text: str) -> str:
    """The text as a block of code, which nothing in it can end.

    A line that begins like a command is set in by a space: ticks within the block, or a single one somewhere before it,
    are enough for GitLab to take it for no code.
    """
    shown = _COMMAND.sub(" ", _closing_nothing(clean(text))).rstrip()
    ticks = "`" * max(3, _run(shown) + 1)
    return f"{ticks}text\n{shown}\n{ticks}"


def block(text: str) -> str:
    """Paragraphs of somebody's: lists, code and bold words stay what they are, all else is text."""
    lines: list[str] = []
    held: list[str] | None = None
    mark = ""
    for line in clean(text).strip("\n").split("\n"):
        fence = _FENCE.fullmatch(line)
        if held is not None:
            if fence is not None and fence["mark"][0] == mark[0] and len(fence["mark"]) >= len(mark):
                lines += ["", fenced("\n".join(held)), ""]
                held = None
            else:
                held.append(line)
        elif fence is not None:
            held, mark = [], fence["mark"]
        else:
            lines.append(_block_line(line))
    if held is not None:
        lines += ["", fenced("\n".join(held)), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def quoted(text: str) -> str:
    """The same as a quotation."""
    return "\n".join(f"> {line}".rstrip() for line in block(text).split("\n"))


def tail(text: str, limit: int) -> str:
    """The end of an output, from the beginning of a line where that is near; said to be no more than that."""
    text = clean(text).strip("\n")
    if len(text) <= limit:
        return text
    kept = text[-limit:]
    start = kept.find("\n", 0, max(1, limit // 4))
    kept = kept[start + 1 :]
    return f"… {len(text) - len(kept):,} characters before\n{kept}"


def head(text: str, limit: int) -> str:
    """The beginning of a text, with a mark where it was cut."""
    return text if len(text) <= limit else text[: max(limit - 2, 0)].rstrip() + " …"


def _line(text: str) -> str:
    return _closing_nothing(" ".join(clean(text).split()))


def _closing_nothing(text: str) -> str:
    return _CLOSES.sub(lambda found: found["word"] + _JOINED, text)


def _block_line(line: str) -> str:
    line = line.rstrip().expandtabs(4)
    heading, bullet = _HEADING.fullmatch(line), _BULLET.fullmatch(line)
    if heading is not None:
        return f"**{inline(heading['text'].replace('**', ''))}**" if heading["text"].strip("* ") else ""
    if bullet is not None:
        # One level is told apart from the next, no more: deeper ones could become code.
        indent = "  " if len(bullet["indent"]) >= 2 else ""
        return f"{indent}- {inline(bullet['text'])}".rstrip()
    return inline(line)


def _pieces(line: str, *, cell: bool) -> Iterator[str]:
    at = 0
    for found in _KEPT.finditer(line):
        yield _plain(line[at : found.start()], cell=cell)
        strong = "" if found["ticks"] else _plain(found["strong"], cell=cell)
        yield f"**{strong}**" if strong else code(found["code"], cell=cell)
        at = found.end()
    yield _plain(line[at:], cell=cell)


def _plain(text: str, *, cell: bool) -> str:
    parts: list[str] = []
    at = 0
    for found in _ADDRESS.finditer(text):
        # As code, so that it is no link, and the page that it leads to is not told of it.
        parts += [_called(text[at : found.start()]), code(found.group(), cell=cell)]
        at = found.end()
    return "".join([*parts, _called(text[at:])])


def _called(text: str, *, in_html: bool = False) -> str:
    parts: list[str] = []
    at = 0
    for found in _CALLS.finditer(text):
        parts += [_escaped(text[at : found.end()], in_html=in_html), _APART]
        at = found.end()
    return "".join([*parts, _escaped(text[at:], in_html=in_html)])


def _escaped(text: str, *, in_html: bool) -> str:
    if in_html:
        return html.escape(text)
    return html.escape(_MARKS.sub(lambda mark: "\\" + mark.group(), text), quote=False)


def _line_begun(line: str) -> str:
    found = _LINE_START.match(line)
    if found is None:
        return line
    if found["mark"]:
        return "\\" + line
    return f"{found['number']}\\{line[len(found['number']) :]}"


def _run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)

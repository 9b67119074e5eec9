"""Read what somebody wrote: an issue, a goal, a failing test's output. What matters in it, and how much."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

from apps.context.locating.terms import STOP_WORDS, terms_of_text
from apps.context.locating.traces import Frame, frames_of, is_frame_line

#: Of longer texts the start and the end are read.
TEXT_LIMIT = 40_000
_TERMS = 500
_TITLE_WEIGHT, _REPEATS = 4.0, 3
_COMMENT_BEGINS, _COMMENT_ENDS = "<!--", "-->"
_FENCE = re.compile(r"^\s*(?:```|~~~)")
_HEADING = re.compile(r"^\s*(?:#{1,6}\s+(.*?)\s*#*|\*\*(.{3,60}?)\*\*:?)\s*$")
#: Headings of templates, which say nothing; under the latter all is left out too.
_TEMPLATE = re.compile(
    r"^(?:describe the (?:bug|issue|problem)|description|(?:bug )?summary|bug report|feature request|"
    r"expected.*|actual.*|"
    r"(?:steps )?to reproduce|steps.*reproduc.*|reproduc.*|how to reproduce|current behaviou?r|what happened\??|"
    r"what (?:did|do) you .*|additional (?:context|information).*|screenshots?|logs?|output|code(?: for reproduction)?|"
    r"minimal .*example|is your feature .*|possible solution|proposed solution|checklist|details?|"
    r"code for reproduction|describe the solution.*)[:?]*$",
    re.IGNORECASE,
)
_ENVIRONMENT = re.compile(
    r"^(?:(?:your |my |system |desktop |version |package )?(?:environment|versions?|system|platform|info(?:rmation)?|"
    r"details|os|setup|configuration)(?: info(?:rmation)?| details| of .*)*|"
    r"(?:matplotlib|python|pytest|django|numpy|node|"
    r"go|rust\w*|ruby|php|java) versions?|desktop.*|smartphone.*|installed packages|pip (?:list|freeze).*|"
    r"versions? of .*|output of .*version.*)[:?]*$",
    re.IGNORECASE,
)
_CODE_LINE = re.compile(
    r"^(?:\s{4,}|\t)\S|^\s*(?:>>>|\.\.\. |In \[\d+\]|Out\[\d+\]|\$ )|[;{}]\s*$|"
    r"^\s*(?:def|class|import|from|func|fn|let|"
    r"const|var|public|private|static|return|#include|package|use|require|if|for|while)\b.*[(:;={]|^\s*[\w.]+\s*=\s*\S+|"
    r"^\s*@\w+|^\s*[\w.]+\([^)]*\)\s*;?$"
)
_BACKTICKED = re.compile(r"`([^`\n]{2,120})`")
_CALLED = re.compile(r"\b([A-Za-z_]\w+)\s*\(")
_DOTTED = re.compile(r"\b[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)+")
_SNAKE = re.compile(r"\b_{0,2}[a-z0-9]+(?:_[a-z0-9]+)+_{0,2}\b|\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b|\b__\w+__\b")
_WORD = re.compile(r"\b[A-Za-z][A-Za-z0-9]{2,79}\b")
_HUMP = re.compile(r"[a-z0-9][A-Z]|[A-Z]{2}[a-z]")
#: It begins where no character of a path stands before: from each of them on it would take the square of their number.
_PATH = re.compile(
    r"(?<![\w/\\.@~+-])(?:[A-Za-z]:)?[\w.@~+-]*(?:[\\/][\w.@+-]+)*(?<=[\w-])\.[A-Za-z][\w+]{0,9}\b(?!\()"
)
_MODULE = re.compile(r"\b[a-z_]\w*(?:\.[a-z_]\w*){1,8}\b")
_NUMBER = re.compile(
    r"(?:#|\b(?:gh|issue|ticket|pr|pull|bug|refs?|fix(?:es|ed)?|close[sd]?)[\s#/-]+(?:request\s+)?#?)(\d{2,6})\b", re.I
)
_ISSUE_ADDRESS = re.compile(r"/(?:issues|pull|ticket|tickets|pulls)/(\d{1,6})\b")
_HASH = re.compile(r"\b(?=[0-9a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,40}\b")
_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an issue asks for, as the ranking takes it."""

    #: Each term with its weight, the heaviest first.
    weights: dict[str, float]
    title: Counter[str]
    #: Names that look like code, whole.
    names: tuple[str, ...]
    #: Paths and dotted modules that are named.
    paths: tuple[str, ...]
    frames: tuple[Frame, ...]
    #: Issue numbers, and beginnings of commit hashes.
    numbers: tuple[str, ...]
    hashes: tuple[str, ...]


def issue_read(text: str) -> Wanted:
    """Any text is taken; of an empty one nothing is wanted."""
    text = _comments_dropped(_cut(text).replace("\r\n", "\n").replace("\x00", " "))
    title, prose, code, traceback = _zones(text)
    counts = [Counter(terms_of_text("\n".join(zone))) for zone in (prose, code, traceback)]
    title_terms = Counter(terms_of_text(title))
    weights: dict[str, float] = {}
    for term in [*title_terms, *(term for each in counts for term in each)]:
        if term not in weights:
            weight = _TITLE_WEIGHT * (term in title_terms)
            weights[term] = weight + sum(math.sqrt(min(each[term], _REPEATS)) for each in counts)
    heaviest = sorted(weights, key=lambda term: -weights[term])[:_TERMS]
    return Wanted(
        weights={term: weights[term] for term in heaviest},
        title=title_terms,
        names=_names("\n".join([title, *prose, *code, *traceback])),
        paths=_paths(text),
        frames=frames_of(text),
        numbers=tuple(dict.fromkeys(_NUMBER.findall(text) + _ISSUE_ADDRESS.findall(text)))[:_LIMIT],
        hashes=tuple(dict.fromkeys(_HASH.findall(text)))[:_LIMIT],
    )


def _comments_dropped(text: str) -> str:
    """Without HTML's comments; one that doesn't end is none. Not by an expression, which looks for each one's end."""
    pieces: list[str] = []
    at = 0
    while (begin := text.find(_COMMENT_BEGINS, at)) >= 0:
        end = text.find(_COMMENT_ENDS, begin + len(_COMMENT_BEGINS))
        if end < 0:
            break
        pieces.append(text[at:begin])
        at = end + len(_COMMENT_ENDS)
    return " ".join([*pieces, text[at:]])


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT * 3 // 4]}\n{text[-TEXT_LIMIT // 4 :]}"


def _zones(text: str) -> tuple[str, list[str], list[str], list[str]]:
    """Title, prose, code and traceback, by lines."""
    lines = text.strip().split("\n")
    title = re.sub(r"^#+\s*", "", lines[0].strip()) if lines else ""
    prose: list[str] = []
    code: list[str] = []
    traceback: list[str] = []
    fenced = left_out = False
    after_frame = 0
    for line in lines[1:]:
        line = line[:2_000]
        if _FENCE.match(line):
            fenced = not fenced
            continue
        heading = None if fenced else _HEADING.match(line)
        if heading is not None:
            words = (heading[1] or heading[2] or "").strip()
            left_out = bool(_ENVIRONMENT.match(words))
            if not left_out and not _TEMPLATE.match(words):
                prose.append(words)
            continue
        if left_out or not line.strip():
            continue
        if is_frame_line(line):
            traceback.append(line)
            after_frame = 1
        elif after_frame and line.startswith((" ", "\t")):
            traceback.append(line)  # the frame's source line
            after_frame = 0
        elif fenced or _CODE_LINE.search(line):
            code.append(line)
            after_frame = 0
        elif not _TEMPLATE.match(line.strip()):
            prose.append(line)
            after_frame = 0
    return title, prose, code, traceback


def _names(text: str) -> tuple[str, ...]:
    """Strong names: snake, camel, called, dotted, in backticks."""
    found: dict[str, None] = {}

    def take(name: str) -> None:
        if len(name) > 2 and name.lower() not in STOP_WORDS:
            found.setdefault(name)

    for match in _BACKTICKED.finditer(text):
        for word in re.findall(r"[A-Za-z_]\w+", match[1]):
            take(word)
    for match in _SNAKE.finditer(text):
        take(match[0])
    for match in _WORD.finditer(text):
        if _HUMP.search(match[0]):
            take(match[0])
    for match in _CALLED.finditer(text):
        take(match[1])
    for match in _DOTTED.finditer(text):
        for part in re.split(r"\.|::|->", match[0]):
            take(part)
    return tuple(found)[:_LIMIT]


def _paths(text: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for pattern in (_PATH, _MODULE):
        for match in pattern.finditer(text):
            found.setdefault(match[0].replace("\\", "/"))
    return tuple(found)[:_LIMIT]

"""What a question asks for, a class or a function, told from its words.

``Base class for …`` describes a class and ``Return the …`` a function. What each word says of that was learnt from doc
comments (``./archon train kinds``; docs/reference/archon-static.md); no rule is written by hand.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: Beside this module: what each word says, and what it was made of.
FILE = Path(__file__).parent / "asked.json"
#: Changes when the same file would be read otherwise.
FORMAT = 1
#: What is said of one word and of words that aren't known: a name, another language, nothing at all. It is more than
#: a half, since a name is that of a class as often, and its methods bear it as well (figures: ADR 0019).
NEUTRAL = 0.7
#: The questions that were learnt from are shorter; the beginning of longer ones tells.
READ = 300
_WORD = re.compile(r"[a-z_][a-z0-9_]*")
#: Where a word stands: the first and the second word say more than the others do.
PLACES = ("first", "second", "anywhere")


@dataclass(frozen=True)
class Asked:
    """How much each word at each place speaks for a class, and what is said by none: log odds, which add up."""

    bias: float
    words: Mapping[str, Mapping[str, float]]


def words_placed(query: str) -> Iterator[tuple[str, str]]:
    """The words of a question in lower case, each once for each place where it stands."""
    words = _WORD.findall(query[:READ].lower())
    yield from zip(PLACES, words[:2], strict=False)
    for word in dict.fromkeys(words):
        yield "anywhere", word


def asks_for_class(query: str) -> float:
    """How likely the question is one for a class rather than a function, between 0 and 1.

    ``NEUTRAL`` where it has one word alone, or none that is known. The same for the same words, whatever their case;
    nothing but the first call reads the file.
    """
    asked, placed = asked_read(), list(words_placed(query))
    known = [asked.words[place][word] for place, word in placed if word in asked.words[place]]
    if not known or not any(place == "second" for place, _ in placed):
        return NEUTRAL
    return 1 / (1 + math.exp(-(asked.bias + math.fsum(known))))


@cache
def asked_read(file: Path = FILE) -> Asked:
    told = json.loads(file.read_text("utf-8"))
    if told["format"] != FORMAT:
        raise ValueError(f"{file} has the format {told['format']}, and {FORMAT} is read here")
    return Asked(told["bias"], {place: told["words"][place] for place in PLACES})

"""From text to stems: what a word or an identifier is made of, as people read it, less its ending.

``parseHTTPHeaders`` is ``pars``, ``http``, ``header``, and so is ``parsing of HTTP headers``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: `HTTPServer` is `HTTP` `Server`, `utf8Name` is `utf` `8` `Name`.
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
#: They say nothing of what a piece of code is for.
STOP_WORDS = frozenset(
    ("a", "an", "the", "of", "to", "in", "is", "it", "for", "and", "or", "that", "this", "with", "by", "be", "as", "on")
    + ("if", "from", "are", "at", "not", "self", "cls", "def", "return", "none")
)
#: Longer ones are data.
_MAX_PART = 24
_MIN_STEM = 3
_MAX_WORD = 200
#: Longer ones hardly come twice, and would fill the memory.
_MAX_KEPT = 64


def stem(word: str) -> str:
    """The word, in lower case, less its ending: ``creates``, ``created`` and ``creating`` are one."""
    for ending in ("ings", "ing", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= _MIN_STEM:
            if ending == "s" and word[-2] in "sui":
                return word
            return word[: -len(ending)] + ("y" if ending == "ies" else "")
    return word[:-1] if len(word) > _MIN_STEM and word[-1] == "e" else word


def word_parts(word: str) -> list[str]:
    """What a word or an identifier is made of, in lower case, without what says nothing."""
    return [
        part
        for part in (found.lower() for found in _PART.findall(word))
        if 1 < len(part) <= _MAX_PART and part not in STOP_WORDS and not part.isdigit()
    ]


def word_stems(word: str) -> list[str]:
    return [stem(part) for part in word_parts(word)]


def text_stems(text: str) -> frozenset[str]:
    """The stems of all words of a text, each once."""
    return frozenset(stem for word in WORD.findall(text) for stem in word_stems(word))


class Vocabulary(dict[str, tuple[int, ...]]):
    """The numbers of a word's stems. A stem that isn't known is cut into known pieces, the longest first.

    A dictionary that fills itself, since nearly all words of a text were seen before; bounded in words and in their
    length.
    """

    _LIMIT = 300_000

    def __init__(self, stems: Iterable[str]) -> None:
        super().__init__()
        self.numbers = {each: number for number, each in enumerate(stems)}

    def __missing__(self, word: str) -> tuple[int, ...]:
        found: list[int] = []
        # A word that is longer than any name is data: its beginning will do.
        for each in word_stems(word[:_MAX_WORD]):
            found.extend(self.stem_numbers(each))
        made = tuple(found)
        if len(word) > _MAX_KEPT:
            return made
        if len(self) >= self._LIMIT:
            self.clear()
        self[word] = made
        return made

    def stem_numbers(self, stem: str) -> list[int]:
        """The number of a stem, or those of its pieces."""
        number = self.numbers.get(stem)
        return self._pieces(stem) if number is None else [number]

    def _pieces(self, word: str) -> list[int]:
        numbers, found, start = self.numbers, [], 0
        while start < len(word) - 1:
            for end in range(len(word), start + 1, -1):
                number = numbers.get(word[start:end])
                if number is not None:
                    found.append(number)
                    start = end
                    break
            else:
                start += 1
        return found

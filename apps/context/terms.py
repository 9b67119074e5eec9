"""From text to terms: identifiers as they stand, and split where people read them as words. No Django in here.

The same rule makes the terms of code and of queries, so that ``getUserById`` is found by ``get user``, by
``get_user_by_id`` and by itself.
"""

from __future__ import annotations

import re
from collections import Counter

_WORD = re.compile(r"\w+")
#: `HTTPServer` is `HTTP` `Server`, `utf8Name` is `utf` `8` `Name`.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\dA-Za-z_]+")
#: Longer words are data: base64, hashes, tables of numbers.
MAX_WORD = 64
#: The term of chunks that have such words: looking for part of one has to look at these.
LONG_WORD = "\x01long"
_CACHE_LIMIT = 200_000

_known: dict[str, tuple[str, ...]] = {}


def word_terms(word: str) -> tuple[str, ...]:
    """The terms of one word: itself in lower case, and its parts when there are several."""
    found = _known.get(word)
    if found is None:
        if len(_known) > _CACHE_LIMIT:
            _known.clear()
        found = _known[word] = _split(word)
    return found


def _split(word: str) -> tuple[str, ...]:
    if len(word) > MAX_WORD:
        return (LONG_WORD,)
    folded = word.lower()
    parts = [part.lower() for part in _PART.findall(word)]
    if len(parts) < 2:
        return (folded,)
    # A word that is one letter says nothing of its own, but for being asked for whole.
    return (folded, *(part for part in parts if len(part) > 1))


def words_count(text: str) -> Counter[str]:
    """How often each word is in the text, as it stands."""
    return Counter(_WORD.findall(text))


def text_terms(text: str) -> Counter[str]:
    """How often each term is in the text."""
    counts: Counter[str] = Counter()
    for word, times in words_count(text).items():
        for term in word_terms(word):
            counts[term] += times
    return counts

"""Words that code and people have in common: identifiers whole and split, in lower case, lightly stemmed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

_WORD = re.compile(r"[^\W\d]\w*|\d{2,}", re.UNICODE)
_WORD_BYTES = re.compile(rb"[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*|[0-9]{2,}")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\dA-Za-z_]+|\d+")
_WORD_BYTES_LIMIT = 80
#: Words that tell nothing apart: of English, of issues, and some that are in every program.
_STOPPED = """
    a an the and or not no of to in on at by for from with without as is are was were be been being am do does
    did done it its this that these those there here he she we you they i me my our your their his her them us
    who what which when where why how all any both each few more most other some such only own same so than too
    very can will just should would could may might must shall have has had having if else then but because
    while until about into through during before after above below up down out off over under again further once
    also however since still even yet self cls def none true false null nil undefined using use used using uses
    get got like seems expected actual behavior behaviour issue bug problem example code following want need
    please thanks hi hello steps reproduce please something anything way make makes made see work works working
    worked trying tried don doesn isn didn won cannot
"""
STOP_WORDS = frozenset(_STOPPED.split())
_SHORTEST, _LONGEST = 2, 60
_cache: dict[str, tuple[str, ...]] = {}
_CACHE = 400_000


def stem(word: str) -> str:
    """Lightly: the plural, -ed and -ing go; a word that is too short for it stays."""
    length = len(word)
    if length > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if length > 4 and word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if length > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
        length -= 1
    for ending in ("ing", "ed"):
        if length > len(ending) + 3 and word.endswith(ending):
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    if len(word) > 4 and word.endswith("e"):
        word = word[:-1]
    return word


def terms_of_word(word: str) -> tuple[str, ...]:
    """An identifier's terms: itself where it has parts, and each of its parts."""
    found = _cache.get(word)
    if found is not None:
        return found
    lower = word.lower().strip("_")
    parts = [part.lower() for part in _PART.findall(word)]
    made: list[str] = []
    if len(parts) > 1 and _SHORTEST <= len(lower) <= _LONGEST:
        made.append(lower)
    for part in parts or [lower]:
        if _SHORTEST <= len(part) <= _LONGEST and part not in STOP_WORDS:
            made.append(stem(part))
    result = tuple(made)
    if len(_cache) < _CACHE:
        _cache[word] = result
    return result


def words_of_bytes(content: bytes) -> Counter[bytes]:
    """How often each identifier stands there."""
    return Counter(_WORD_BYTES.findall(content))


def terms_of_words(words: Mapping[bytes, int]) -> dict[str, int]:
    """The terms of identifiers, each as often as they."""
    terms: dict[str, int] = {}
    for raw, count in words.items():
        if len(raw) > _WORD_BYTES_LIMIT:
            continue
        for term in terms_of_word(raw.decode("utf-8", "replace")):
            terms[term] = terms.get(term, 0) + count
    return terms


def terms_of_text(text: str) -> list[str]:
    """The terms of a text, in its order."""
    return [term for word in _WORD.findall(text) if len(word) <= _WORD_BYTES_LIMIT for term in terms_of_word(word)]


def count_terms(texts: Iterable[str]) -> Counter[str]:
    return Counter(term for text in texts for term in terms_of_text(text))

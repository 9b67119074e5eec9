"""From an archive to a file of pairs, kept by what they were made from: done once, whatever stops in between."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from apps.context.parsing.languages import language_of
from training.archives import archive_files
from training.grammar_pairs import grammar_pairs
from training.manifest import Package
from training.pairs import SKIPPED_PATH, Pair, code_key, query_key
from training.python_pairs import python_pairs

#: Changes when the same archive would give other pairs.
RULES = 1
#: Of one package, so that none speaks for all.
MAX_PAIRS = 9_000
_MAX_BYTES = {"python": 60_000_000}
_MAX_OTHER_BYTES = 8_000_000
LANGUAGES = frozenset(
    {
        "python",
        "javascript",
        "typescript",
        "tsx",
        "go",
        "rust",
        "java",
        "c",
        "cpp",
        "csharp",
        "ruby",
        "php",
        "kotlin",
        "scala",
        "swift",
    }
)
#: A package has its sources, and what was made of them for others to load: the sources come first.
_BUILT = (
    re.compile(r"(?:^|/)(?:src|source|sources)/"),
    re.compile(r"(?:^|/)(?:esm?\d*|modules?|fesm\d+|dist-es\w*)/"),
    re.compile(r"(?:^|/)(?:lib|packages|core)/"),
)
#: Django is what the model is held against: what is Django's, or speaks of it, may be learnt from by no way.
_DJANGO_PATH = re.compile(r"(?:^|/)django[^/]*(?:/|$)")
_MENTIONS_DJANGO = re.compile(rb"\A.{0,4000}django|^\s*(?:from|import) django", re.MULTILINE | re.DOTALL)


def pairs_file(package: Package, folder: Path) -> Path:
    return folder / f"{package.slug}.{package.sha256[:8]}.{RULES}.jsonl.gz"


def package_mine(package: Package, archive: Path, folder: Path) -> int:
    """Make the package's file of pairs, unless it is there. Returns how many it has, or -1: it was there."""
    made = pairs_file(package, folder)
    if made.exists():
        return -1
    pairs = list(_unique(archive_pairs(archive, with_django=package.use == "evaluate")))
    random.Random(package.name).shuffle(pairs)
    folder.mkdir(parents=True, exist_ok=True)
    half = made.with_suffix(f".{os.getpid()}")
    with gzip.open(half, "wt", encoding="utf-8", compresslevel=1) as file:
        for pair in pairs[:MAX_PAIRS]:
            file.write(json.dumps(pair) + "\n")
    half.replace(made)
    return min(len(pairs), MAX_PAIRS)


def pairs_read(made: Path) -> Iterator[Pair]:
    with gzip.open(made, "rt", encoding="utf-8") as file:
        for line in file:
            yield Pair(*json.loads(line))


def archive_pairs(archive: Path, *, with_django: bool = False) -> Iterator[Pair]:
    """All pairs of an archive, its sources before what was built of them."""
    found = []
    for path, content in archive_files(archive):
        language = language_of(path, content[:200])
        if language in LANGUAGES and not SKIPPED_PATH.search(path) and b"\x00" not in content:
            found.append((_rank(path), path, language, content))
    found.sort(key=lambda each: each[:2])
    read: Counter[str] = Counter()
    for _, path, language, content in found:
        read[language] += len(content)
        if read[language] > _MAX_BYTES.get(language, _MAX_OTHER_BYTES):
            continue
        if not with_django and (_DJANGO_PATH.search(path) or _MENTIONS_DJANGO.search(content)):
            continue
        if language == "python":
            yield from python_pairs(path=path, content=content)
        else:
            yield from grammar_pairs(path=path, content=content)


def _rank(path: str) -> int:
    return next((rank for rank, pattern in enumerate(_BUILT) if pattern.search(path)), len(_BUILT))


def _unique(pairs: Iterator[Pair]) -> Iterator[Pair]:
    """Without queries that stand at several pieces of code, since none of these is the answer, and without copies."""
    kept: dict[str, Pair] = {}
    for pair in pairs:
        kept.setdefault(code_key(pair.text), pair)
    queries = Counter(query_key(pair.query) for pair in kept.values())
    for pair in kept.values():
        if queries[query_key(pair.query)] == 1:
            yield pair

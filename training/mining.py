"""From an archive to a file of pairs, kept by what they were made from: done once, whatever stops in between."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from apps.context.parsing.languages import language_of
from training.archives import archive_about, archive_files
from training.grammar_pairs import grammar_pairs
from training.manifest import Package
from training.pairs import SKIPPED_PATH, Pair, code_key, query_key
from training.python_pairs import python_pairs

#: Changes when the same archive would give other pairs.
RULES = 2
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
#: What has or uses one of the others that it is held against.
_EVALUATED_PATH = re.compile(
    r"(?:^|/)(?:twisted|scrapy|celery|mitmproxy|zenml|rxjs|go-git|petgraph)(?:\.\w+)?(?:/|$)", re.IGNORECASE
)
_EVALUATED_NAMES = tuple(b"twisted scrapy celery mitmproxy zenml rxjs ol go-git petgraph".split())
_EVALUATED_USED = re.compile(
    rb"""^\s*(?:from|import)\s+(?:twisted|scrapy|celery|mitmproxy|zenml)\b"""
    rb"""|(?:from|import|require\()\s*["'](?:rxjs|ol)(?:/[^"'\n]{0,80})?["']|["/]go-git/|\bpetgraph::""",
    re.MULTILINE,
)


class LicenceDiffers(Exception):
    """An archive states another licence than the list says."""


def pairs_file(package: Package, folder: Path) -> Path:
    return folder / f"{package.slug}.{package.sha256[:8]}.{RULES}.jsonl.gz"


def package_mine(package: Package, archive: Path, folder: Path) -> int:
    """Make the package's file of pairs, unless it is there. Returns how many it has, or -1: it was there.

    Raises :class:`LicenceDiffers`, and UnreadableArchive.
    """
    made = pairs_file(package, folder)
    if made.exists():
        return -1
    stated = archive_about(archive).licence
    if stated != package.licence:
        raise LicenceDiffers(
            f"{package.file} states {stated or 'no licence'}, and the list says {package.licence}: put it on the list "
            "anew with ./archon train packages, or take it off."
        )
    found, using = archive_pairs(archive, evaluated=package.use == "evaluate")
    pairs = list(_unique(found))
    random.Random(package.name).shuffle(pairs)
    # After the sample: what joins the packages that are held out changes no other pairs.
    pairs = [pair for pair in pairs[:MAX_PAIRS] if pair.path not in using]
    folder.mkdir(parents=True, exist_ok=True)
    half = made.with_suffix(f".{os.getpid()}")
    with gzip.open(half, "wt", encoding="utf-8", compresslevel=1) as file:
        for pair in pairs:
            file.write(json.dumps(pair) + "\n")
    half.replace(made)
    return len(pairs)


def pairs_read(made: Path) -> Iterator[Pair]:
    with gzip.open(made, "rt", encoding="utf-8") as file:
        for line in file:
            yield Pair(*json.loads(line))


def archive_pairs(archive: Path, *, evaluated: bool = False) -> tuple[list[Pair], set[str]]:
    """All pairs of an archive, its sources before what was built of them; and the files that use what is held out."""
    found = []
    for path, content in archive_files(archive):
        language = language_of(path, content[:200])
        if language in LANGUAGES and not SKIPPED_PATH.search(path) and b"\x00" not in content:
            found.append((_rank(path), path, language, content))
    found.sort(key=lambda each: each[:2])
    read: Counter[str] = Counter()
    pairs: list[Pair] = []
    using: set[str] = set()
    for _, path, language, content in found:
        read[language] += len(content)
        if read[language] > _MAX_BYTES.get(language, _MAX_OTHER_BYTES):
            continue
        if not evaluated:
            if _DJANGO_PATH.search(path) or _MENTIONS_DJANGO.search(content):
                continue
            if uses_evaluated(path, content):
                using.add(path)
        if language == "python":
            pairs.extend(python_pairs(path=path, content=content))
        else:
            pairs.extend(grammar_pairs(path=path, content=content))
    return pairs, using


def uses_evaluated(path: str, content: bytes) -> bool:
    if _EVALUATED_PATH.search(path):
        return True
    return any(name in content for name in _EVALUATED_NAMES) and _EVALUATED_USED.search(content) is not None


def _rank(path: str) -> int:
    return next((rank for rank, pattern in enumerate(_BUILT) if pattern.search(path)), len(_BUILT))


def _unique(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Without queries that stand at several pieces of code, since none of these is the answer, and without copies."""
    kept: dict[str, Pair] = {}
    for pair in pairs:
        kept.setdefault(code_key(pair.text), pair)
    queries = Counter(query_key(pair.query) for pair in kept.values())
    for pair in kept.values():
        if queries[query_key(pair.query)] == 1:
            yield pair

"""Which definitions matter: PageRank over who uses what, drawn towards what a task mentions.

A file votes for the files that define the names it uses; what many use and few define weighs most, and what the task
names weighs more. A file's rank then goes to its definitions by how they are used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: A name that the task mentions, that is long enough to be of this project, that is private, that many files define.
MENTIONED, TELLING, PRIVATE, COMMON = 10.0, 3.0, 0.1, 0.1
_TELLING_LENGTH, _COMMON_FILES = 8, 5
#: A reference from a file that the task names is worth so much more.
FROM_MENTIONED = 20.0
DAMPING, ROUNDS = 0.85, 40
#: How much of the jumps goes to files that the task mentions.
TOWARDS_TASK = 0.7
_TELLING = re.compile(r"_|[a-z][A-Z]|-")


@dataclass(frozen=True, slots=True)
class MapSymbol:
    name: str
    qualified_name: str
    kind: str
    line: int
    signature: str


@dataclass(frozen=True, slots=True)
class MapFile:
    """A file as the map takes it. ``references`` says how often it uses each name."""

    path: str
    symbols: Sequence[MapSymbol]
    references: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RankedSymbol:
    path: str
    symbol: MapSymbol
    rank: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """``files`` has all files, the highest rank first; ``symbols`` what is defined in them, likewise."""

    files: tuple[tuple[str, float], ...]
    symbols: tuple[RankedSymbol, ...]


def symbols_rank(
    *, files: Sequence[MapFile], mentioned_names: Sequence[str] = (), mentioned_paths: Mapping[str, float] | None = None
) -> Ranking:
    """Rank all definitions. ``mentioned_paths`` are files that the task is about, with how much."""
    if not files:
        return Ranking((), ())
    towards = dict(mentioned_paths or {})
    names = set(mentioned_names)
    number = {file.path: index for index, file in enumerate(files)}
    defining: dict[str, list[int]] = {}
    for index, file in enumerate(files):
        for name in {symbol.name for symbol in file.symbols}:
            defining.setdefault(name, []).append(index)
    sources, targets, weights, used = [], [], [], []
    for index, file in enumerate(files):
        factor = FROM_MENTIONED if file.path in towards else 1.0
        for name, count in file.references.items():
            those = defining.get(name)
            if not those:
                continue
            worth = factor * _worth(name, len(those), names) * math.sqrt(count) / len(those)
            for target in those:
                if target != index:
                    sources.append(index)
                    targets.append(target)
                    weights.append(worth)
                    used.append(name)
    ranks = _page_rank(
        len(files),
        np.array(sources, dtype=np.int64),
        np.array(targets, dtype=np.int64),
        np.array(weights, dtype=np.float64),
        _jumps(files, number, towards, names),
    )
    return Ranking(
        tuple((files[at].path, float(ranks[at])) for at in np.argsort(-ranks, kind="stable")),
        _symbols(files, ranks, sources, targets, weights, used, names),
    )


def _worth(name: str, defined_in: int, names: set[str]) -> float:
    worth = 1.0
    if name in names:
        worth *= MENTIONED
    if len(name) >= _TELLING_LENGTH and _TELLING.search(name):
        worth *= TELLING
    if name.startswith("_"):
        worth *= PRIVATE
    if defined_in > _COMMON_FILES:
        worth *= COMMON
    return worth


def _jumps(
    files: Sequence[MapFile], number: Mapping[str, int], towards: Mapping[str, float], names: set[str]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    drawn = np.zeros(len(files))
    for path, weight in towards.items():
        if path in number:
            drawn[number[path]] += weight
    for index, file in enumerate(files):
        if names and any(symbol.name in names for symbol in file.symbols):
            drawn[index] += 0.5
    even = np.full(len(files), 1 / len(files))
    if drawn.sum() <= 0:
        return even
    return np.asarray(TOWARDS_TASK * drawn / drawn.sum() + (1 - TOWARDS_TASK) * even)


def _page_rank(
    size: int,
    sources: np.ndarray[tuple[int], np.dtype[np.int64]],
    targets: np.ndarray[tuple[int], np.dtype[np.int64]],
    weights: np.ndarray[tuple[int], np.dtype[np.float64]],
    jumps: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    given = np.bincount(sources, weights, size)
    share = weights / given[sources] if len(weights) else weights
    silent = given == 0
    ranks = jumps.copy()
    for _ in range(ROUNDS):
        moved = np.bincount(targets, share * ranks[sources], size)
        following = DAMPING * (moved + jumps * ranks[silent].sum()) + (1 - DAMPING) * jumps
        if np.abs(following - ranks).sum() < 1e-9:
            ranks = following
            break
        ranks = following
    return np.asarray(ranks)


def _symbols(
    files: Sequence[MapFile],
    ranks: np.ndarray[tuple[int], np.dtype[np.float64]],
    sources: Sequence[int],
    targets: Sequence[int],
    weights: Sequence[float],
    used: Sequence[str],
    names: set[str],
) -> tuple[RankedSymbol, ...]:
    votes: dict[tuple[int, str], float] = {}
    for source, target, weight, name in zip(sources, targets, weights, used, strict=True):
        gain = float(weight * (ranks[source] + 1e-6))
        votes[target, name] = votes.get((target, name), 0.0) + gain
    total: dict[int, float] = {}
    for (target, _), vote in votes.items():
        total[target] = total.get(target, 0.0) + vote
    ranked = []
    for index, file in enumerate(files):
        rank = float(ranks[index])
        for symbol in file.symbols:
            vote = votes.get((index, symbol.name), 0.0)
            share = vote / total[index] if total.get(index, 0.0) > 0 else 0.0
            named = 0.5 if symbol.name in names else 0.0
            ranked.append(RankedSymbol(file.path, symbol, rank * (0.02 + share + named)))
    ranked.sort(key=lambda each: (-each.rank, each.path, each.symbol.line))
    return tuple(ranked)

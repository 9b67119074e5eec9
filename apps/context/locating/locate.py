"""Rank the files of a tree, and functions in them, by how likely a text asks for their change, and say why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from apps.context.locating.files_index import FILE_SATURATION, FilesIndex
from apps.context.locating.issue import Wanted, issue_read
from apps.context.locating.memory import MemoryView, Remembered
from apps.context.locating.postings import Floats, over_maximum

#: Fitted on 407 issues of twelve repositories, and reported on 300 others.
WITH_HISTORY: Mapping[str, float] = {
    "bm25f": 2.15,
    "chunk": 1.32,
    "kprof": 2.78,
    "ksum": 0.62,
    "ktitle": 0.20,
    "path": 1.62,
    "title": 1.48,
    "sym": 1.04,
    "mention": 1.15,
    "ref": 3.67,
    "cochange": 0.44,
    "initial": -0.58,
}
WITHOUT_HISTORY: Mapping[str, float] = {
    "bm25f": 4.24,
    "chunk": 2.55,
    "path": 2.0,
    "title": 1.53,
    "sym": 1.38,
    "mention": 1.14,
    "initial": -0.47,
}
#: With fewer commits a history says nothing.
COMMITS_LEAST = 30
#: A name that more files define is not strong, a path that more may mean is none.
DEFINED_MOST, MEANT_MOST = 5, 3
FUNCTIONS = 3
_REASONS = 5
_PLACES = frozenset({"function", "method", "class", "section"})


@dataclass(frozen=True, slots=True)
class LocatedFunction:
    qualified_name: str
    kind: str
    start_line: int
    end_line: int
    score: float


@dataclass(frozen=True, slots=True)
class Located:
    """A file, the functions in it that fit best, and the reasons in words, the strongest first."""

    path: str
    score: float
    functions: tuple[LocatedFunction, ...]
    reasons: tuple[str, ...]
    #: What each signal says, from 0 to 1, before its weight.
    signals: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Scored:
    features: dict[str, Floats]
    total: Floats
    chunks: Floats
    remembered: Remembered | None
    cited: dict[int, str]
    defined: dict[int, list[str]]
    meant: dict[int, str]


def locate(*, files: FilesIndex, memory: MemoryView | None, text: str, limit: int = 10) -> list[Located]:
    """The files most likely to change, the likeliest first; none of a text that has nothing in common with them."""
    wanted = issue_read(text)
    if not len(files):
        return []
    if memory is not None and len(memory.commits) < COMMITS_LEAST:
        memory = None
    scored = _score(files, memory, wanted)
    order = np.argsort(-scored.total, kind="stable")[: max(0, limit)]
    return [_located(files, memory, wanted, scored, int(at)) for at in order if scored.total[at] > 0]


def _score(files: FilesIndex, memory: MemoryView | None, wanted: Wanted) -> _Scored:
    query = files.vocabulary.query(wanted.weights)
    title = files.vocabulary.query(wanted.title)
    chunks, by_file = files.chunk_scores(query)
    defined = _defined(files, wanted)
    meant = _meant(files, wanted)
    code = files.is_code
    features: dict[str, Floats] = {
        "bm25f": over_maximum(files.file_scores(query), code),
        "chunk": over_maximum(by_file, code),
        "path": over_maximum(files.path_scores(query), code),
        "title": over_maximum(files.file_scores(title), code),
        "sym": _of(files, {file: _saturated(files, names) for file, names in defined.items()}),
        "mention": _of(files, dict.fromkeys(meant, 1.0)),
        "initial": files.is_initial.astype(np.float32),
    }
    weights, remembered, cited = WITHOUT_HISTORY, None, {}
    if memory is not None:
        weights = WITH_HISTORY
        remembered = memory.remember(memory.vocabulary.query(wanted.weights), memory.vocabulary.query(wanted.title))
        cited = memory.cited(numbers=wanted.numbers, hashes=wanted.hashes)
        features["kprof"] = over_maximum(remembered.kprof, code)
        features["ksum"] = over_maximum(remembered.ksum, code)
        features["ktitle"] = over_maximum(remembered.ktitle, code)
        features["ref"] = _of(files, dict.fromkeys(cited, 1.0))
    total = _sum(files, features, weights)
    if memory is not None:
        features["cochange"] = over_maximum(memory.cochange(total), code)
        total = _sum(files, features, weights)
    return _Scored(features, total, chunks, remembered, cited, defined, meant)


def _sum(files: FilesIndex, features: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    total = np.zeros(len(files), np.float32)
    for name, values in features.items():
        total += np.float32(weights[name]) * values
    return (np.maximum(total, 0) * files.worth).astype(np.float32)


def _of(files: FilesIndex, values: Mapping[int, float]) -> Floats:
    result = np.zeros(len(files), np.float32)
    for file, value in values.items():
        result[file] = value
    return result


def _defined(files: FilesIndex, wanted: Wanted) -> dict[int, list[str]]:
    """The strong names of the text that each file defines, of those that few define."""
    found: dict[int, list[str]] = {}
    for name in wanted.names:
        defining = files.defining.get(name, ())
        code = [file for file in defining if files.is_code[file]]
        if 0 < len(code) <= DEFINED_MOST:
            for file in code:
                found.setdefault(file, []).append(name)
    return found


def _saturated(files: FilesIndex, names: list[str]) -> float:
    strength = sum(
        1 / max(1, sum(1 for file in files.defining[name] if files.is_code[file])) for name in dict.fromkeys(names)
    )
    return strength / (strength + 0.5)


def _meant(files: FilesIndex, wanted: Wanted) -> dict[int, str]:
    """The files that paths and stack traces in the text resolve to, and how they were named."""
    found: dict[int, str] = {}
    for frame in wanted.frames:
        resolved = files.resolve(frame.path)
        if len(resolved) <= MEANT_MOST:
            for file in resolved:
                found.setdefault(file, f"in a stack trace, line {frame.line}" if frame.line else "in a stack trace")
    for path in wanted.paths:
        resolved = files.resolve(path) or files.resolve_module(path)
        if len(resolved) <= MEANT_MOST:
            for file in resolved:
                found.setdefault(file, f"named in the text ({path[-80:]})")
    return found


def _located(files: FilesIndex, memory: MemoryView | None, wanted: Wanted, scored: _Scored, file: int) -> Located:
    functions: list[LocatedFunction] = []
    for best in files.best_chunks(file, scored.chunks, limit=3 * FUNCTIONS):
        place = best.place
        if place.kind in _PLACES and place.qualified_name and len(functions) < FUNCTIONS:
            functions.append(
                LocatedFunction(
                    place.qualified_name, place.kind, place.start_line, place.end_line, round(best.score, 3)
                )
            )
    signals = {name: round(float(values[file]), 3) for name, values in scored.features.items() if values[file] > 0}
    return Located(
        files.paths[file],
        round(float(scored.total[file]), 4),
        tuple(functions),
        tuple(_reasons(files, memory, wanted, scored, file))[:_REASONS],
        signals,
    )


def _reasons(files: FilesIndex, memory: MemoryView | None, wanted: Wanted, scored: _Scored, file: int) -> list[str]:
    reasons = []
    if file in scored.meant:
        reasons.append(scored.meant[file])
    if file in scored.cited:
        reasons.append(f"changed by a commit about {scored.cited[file]}")
    if names := scored.defined.get(file):
        reasons.append(f"defines {', '.join(names[:4])}")
    query = files.vocabulary.query(wanted.weights)
    gains = files.fields.gain(file, query, saturation=FILE_SATURATION)
    if gains:
        terms = {number: term for term, number in _numbers(files, wanted).items()}
        strongest = sorted(gains, key=lambda term: -gains[term])[:5]
        reasons.append(f"says {', '.join(terms[term] for term in strongest)}")
    if memory is not None and scored.remembered is not None:
        at = int(scored.remembered.best_commit[file])
        if at >= 0 and scored.features["ksum"][file] > 0.15:
            commit = memory.commits[at]
            subject = commit.message.split("\n", 1)[0][:80]
            reasons.append(f"changed by {commit.sha[:10]} “{subject}”")
        if scored.features["cochange"][file] > 0.5:
            reasons.append("changes together with others of these")
    return reasons


def _numbers(files: FilesIndex, wanted: Wanted) -> dict[str, int]:
    numbers = files.vocabulary.numbers
    return {term: numbers[term] for term in wanted.weights if term in numbers}

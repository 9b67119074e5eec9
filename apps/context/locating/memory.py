"""What a repository's commits remember: which words of past messages led to which files.

A ``CommitMemory`` holds all commits that were read, and grows by those that are new; ``to_bytes`` is its compact form.
A ``MemoryView`` is what one commit remembers: its ancestors alone, and their files under the names they bear now.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from apps.context.locating.files_index import FilesIndex
from apps.context.locating.history import Commit, Git, history_read
from apps.context.locating.kinds import is_code, is_test
from apps.context.locating.postings import Floats, Numbers, Postings, Vocabulary
from apps.context.locating.terms import terms_of_text
from apps.context.parsing.languages import language_of

VERSION = 1
#: Commits that touch more files than this tell little of each.
TOUCHED_MOST = 60
SATURATION, LENGTH = 1.2, 0.75
#: Of how many commits past changes are added up, and how much a year takes from them.
SIMILAR, DECAY = 100, 0.3
TITLE_SIMILAR, TITLE_DECAY = 60, 0.15
COCHANGE_BEST = 20
_YEAR = 365.25 * 24 * 3600
#: So many characters of a hash are compared with messages, which shorten it.
_HASH = 10
_CITED = re.compile(r"(?:#|\bgh-|/issues/|/pull/|\bissue |\bticket )(\d{1,6})\b", re.IGNORECASE)


@dataclass(slots=True)
class CommitMemory:
    """All commits that were read, each once, the oldest first where they follow each other."""

    commits: list[Commit]
    heads: set[str]

    @classmethod
    def empty(cls) -> CommitMemory:
        return cls([], set())

    def grow(self, *, git: Git, heads: Sequence[str], limit: int = 0) -> int:
        """Read what is new on the way to these commits (of very many the newest); returns how many commits that was."""
        known = {commit.sha for commit in self.commits}
        wanted = [head for head in dict.fromkeys(heads) if head not in known]
        if not wanted:
            return 0
        read = history_read(git=git, heads=wanted, known=sorted(self.heads), limit=limit)
        new = [commit for commit in reversed(read) if commit.sha not in known]
        self.commits.extend(new)
        parents = {parent for commit in new for parent in commit.parents}
        self.heads = {sha for sha in (*self.heads, *wanted) if sha not in parents}
        return len(new)

    def to_bytes(self) -> bytes:
        rows = [[c.sha, c.parents, c.time, c.message, c.files, c.renames] for c in self.commits]
        text = json.dumps([sorted(self.heads), rows], ensure_ascii=False, separators=(",", ":"))
        return bytes([VERSION]) + zlib.compress(text.encode("utf-8", "replace"), 3)

    @classmethod
    def from_bytes(cls, stored: bytes) -> CommitMemory:
        """ValueError where it was stored by another version, or is damaged."""
        if not stored or stored[0] != VERSION:
            raise ValueError("stored by another version")
        try:
            heads, rows = json.loads(zlib.decompress(stored[1:]))
        except (zlib.error, ValueError) as error:
            raise ValueError("damaged") from error
        commits = [
            Commit(sha, tuple(parents), time, message, tuple(files), tuple((a, b) for a, b in renames))
            for sha, parents, time, message, files, renames in rows
        ]
        return cls(commits, set(heads))


class MemoryTerms:
    """The words of all messages of a memory, counted once for all views."""

    def __init__(self, memory: CommitMemory) -> None:
        self.vocabulary = Vocabulary()
        self.commits: list[Commit] = []
        self._terms: list[Numbers] = []
        self._counts: list[Numbers] = []
        self._number: dict[str, int] = {}
        #: The commits whose messages cite an issue's number.
        self.citing: dict[str, list[int]] = {}
        self.follow(memory)

    def follow(self, memory: CommitMemory) -> None:
        """Count what the memory has learnt since."""
        for commit in memory.commits[len(self.commits) :]:
            counts = Counter(terms_of_text(commit.message))
            self._number[commit.sha] = len(self.commits)
            for number in dict.fromkeys(_CITED.findall(commit.message)):
                self.citing.setdefault(number, []).append(len(self.commits))
            self._terms.append(self.vocabulary.add(counts))
            self._counts.append(np.fromiter(counts.values(), np.int64, len(counts)))
            self.commits.append(commit)

    def has(self, commit: str) -> bool:
        return commit in self._number

    def ancestors(self, head: str) -> list[int]:
        """The numbers of the commits that lead to this one, itself included, the oldest first."""
        number = self._number.get(head)
        if number is None:
            return []
        seen = {number}
        waiting = [number]
        while waiting:
            for parent in self.commits[waiting.pop()].parents:
                found = self._number.get(parent)
                if found is not None and found not in seen:
                    seen.add(found)
                    waiting.append(found)
        return sorted(seen)

    def rows(self, numbers: Sequence[int]) -> tuple[Numbers, Numbers, Numbers]:
        """(term, which of these commits, count) for all of them."""
        sizes = [len(self._terms[number]) for number in numbers]
        documents = np.repeat(np.arange(len(numbers), dtype=np.int64), sizes)
        empty = np.zeros(0, np.int64)
        terms = np.concatenate([*(self._terms[number] for number in numbers), empty])
        counts = np.concatenate([*(self._counts[number] for number in numbers), empty])
        return terms, documents, counts


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the memory says to one query, by file."""

    ksum: Floats
    kprof: Floats
    ktitle: Floats
    #: For each file the commit that brought it most, -1: none.
    best_commit: Numbers


class MemoryView:
    """What one commit remembers of the files of its tree."""

    def __init__(self, terms: MemoryTerms, *, head: str, files: FilesIndex) -> None:
        ancestors = terms.ancestors(head)
        self.now = terms.commits[ancestors[-1]].time if ancestors else 0
        if head in terms._number:
            self.now = terms.commits[terms._number[head]].time
        touched = _touched([terms.commits[number] for number in ancestors], files)
        kept = [index for index, those in enumerate(touched) if those]
        self.commits = [terms.commits[ancestors[index]] for index in kept]
        #: All ancestors by their number, and their files: for what a text cites.
        self._touched = {number: touched[index] for index, number in enumerate(ancestors)}
        self._terms = terms
        self.vocabulary = terms.vocabulary
        self.files = len(files)
        sizes = np.array([len(touched[index]) for index in kept], dtype=np.int64)
        self._file_starts = np.concatenate(([0], np.cumsum(sizes)))
        self._files = np.array([file for index in kept for file in touched[index]], dtype=np.int64)
        self._commit_of = np.repeat(np.arange(len(kept), dtype=np.int64), sizes)
        self._sizes = sizes
        times = np.array([commit.time for commit in self.commits], dtype=np.float64)
        self._ages = np.maximum(self.now - times, 0) / _YEAR
        rows, documents, counts = terms.rows([ancestors[index] for index in kept])
        self.messages = self._index(rows, documents, counts.astype(np.float32), len(kept))
        self.profiles = self._profiles(rows, documents, counts)

    def remember(self, query: Mapping[int, float], title: Mapping[int, float]) -> Remembered:
        empty = np.zeros(self.files, np.float32)
        if not self.commits:
            return Remembered(empty, empty, empty, np.full(self.files, -1))
        ksum, best = self._similar(query, SIMILAR, DECAY)
        ktitle, _ = self._similar(title, TITLE_SIMILAR, TITLE_DECAY)
        return Remembered(ksum, self.profiles.scores(query, saturation=None), ktitle, best)

    def cited(self, *, numbers: Sequence[str], hashes: Sequence[str]) -> dict[int, str]:
        """The files of ancestors that are cited, or whose messages cite the same issue; and what was cited."""
        found: dict[int, str] = {}
        for number in numbers:
            for commit in self._terms.citing.get(number, ()):
                for file in self._touched.get(commit, ()):
                    found.setdefault(file, f"#{number}")
        if hashes:
            for commit, files in self._touched.items():
                told = self._terms.commits[commit]
                for each in hashes:
                    if files and (told.sha.startswith(each) or each[:_HASH] in told.message):
                        for file in files:
                            found.setdefault(file, each[:_HASH])
        return found

    def cochange(self, scores: Floats) -> Floats:
        """Files that changed together with the best ones, the more so the fewer changed besides."""
        result = np.zeros(self.files, np.float64)
        if not self.commits:
            return result.astype(np.float32)
        best = np.argsort(-scores, kind="stable")[:COCHANGE_BEST]
        best = best[scores[best] > 0]
        if not len(best):
            return result.astype(np.float32)
        weight = np.zeros(self.files)
        changes = np.maximum(np.bincount(self._files, minlength=self.files), 1)
        weight[best] = scores[best] / np.sqrt(changes[best])
        by_commit = np.bincount(self._commit_of, weight[self._files], len(self.commits))
        share = by_commit / np.maximum(self._sizes, 1)
        result = np.bincount(self._files, share[self._commit_of], self.files) / np.sqrt(changes)
        # What a file has from its own changes is no news.
        own = np.bincount(self._files, (weight[self._files] / self._sizes[self._commit_of]), self.files)
        return np.maximum(result - own / np.sqrt(changes), 0).astype(np.float32)

    def _similar(self, query: Mapping[int, float], limit: int, decay: float) -> tuple[Floats, Numbers]:
        scores = self.messages.scores(query, saturation=None).astype(np.float64)
        order = np.argsort(-scores, kind="stable")[:limit]
        order = order[scores[order] > 0]
        result = np.zeros(self.files, np.float64)
        best: Numbers = np.full(self.files, -1, dtype=np.int64)
        most = np.zeros(self.files)
        if len(order):
            highest = scores[order[0]]
            for at in order:
                gain = (scores[at] / highest) ** 3 / np.sqrt(self._sizes[at]) * np.exp(-decay * self._ages[at])
                those = self._files[self._file_starts[at] : self._file_starts[at + 1]]
                result[those] += gain
                better = those[most[those] < gain]
                most[better] = gain
                best[better] = at
        return result.astype(np.float32), best

    def _index(self, terms: Numbers, documents: Numbers, counts: Floats, size: int) -> Postings:
        """Postings whose weights are BM25's of a count in a document of its length."""
        lengths = np.bincount(documents, counts, size) if size else np.zeros(0)
        average = max(float(lengths.mean()) if size else 1.0, 1e-9)
        norm = SATURATION * (1 - LENGTH + LENGTH * lengths / average)
        weights = (counts / (counts + norm[documents])).astype(np.float32)
        return Postings(terms, documents, weights, terms_count=len(self.vocabulary), size=size)

    def _profiles(self, terms: Numbers, documents: Numbers, counts: Numbers) -> Postings:
        """The same over files: each is described by all messages of the commits that touched it."""
        commits = len(self.commits)
        starts = np.searchsorted(documents, np.arange(commits + 1))
        sizes = np.diff(starts)
        # Every file of every commit takes that commit's terms.
        repeated = sizes[self._commit_of] if commits else np.zeros(0, np.int64)
        total = int(repeated.sum())
        offsets = np.repeat(starts[self._commit_of] - np.concatenate(([0], np.cumsum(repeated)))[:-1], repeated)
        at = np.arange(total, dtype=np.int64) + offsets if total else np.zeros(0, np.int64)
        files = np.repeat(self._files, repeated)
        raw = Postings(
            terms[at], files, counts[at].astype(np.float32), terms_count=len(self.vocabulary), size=self.files
        )
        lengths = np.bincount(raw.documents, raw.weights, self.files)
        average = max(float(lengths[lengths > 0].mean()) if lengths.any() else 1.0, 1e-9)
        norm = SATURATION * (1 - LENGTH + LENGTH * lengths / average)
        raw.weights = (raw.weights / (raw.weights + norm[raw.documents])).astype(np.float32)
        return raw


def _touched(commits: Sequence[Commit], files: FilesIndex) -> list[list[int]]:
    """For each commit the files of the tree that it touched, under the names that they bear in the tree."""
    now: dict[str, str] = {}
    touched: list[list[int]] = [[] for _ in commits]
    for index in range(len(commits) - 1, -1, -1):
        commit = commits[index]
        current = [now.get(path, path) for path in commit.files]
        sources = sum(1 for path in current if _is_source(path))
        if 1 <= sources <= TOUCHED_MOST:
            touched[index] = [
                number for path in dict.fromkeys(current) if (number := files.number.get(path)) is not None
            ]
        for before, after in commit.renames:
            target = now.pop(after, after)
            if before not in files.number:
                now[before] = target
    return touched


@lru_cache(maxsize=200_000)
def _is_source(path: str) -> bool:
    language = language_of(path, b"")
    return language is not None and (is_code(path, language) or is_test(path))

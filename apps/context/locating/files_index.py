"""All files of a tree, ready to be ranked: fields, chunks, paths, names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from apps.context.locating import kinds
from apps.context.locating.document import FIELDS, ChunkPlace, FileTerms
from apps.context.locating.postings import Floats, Numbers, Postings, Vocabulary
from apps.context.locating.terms import terms_of_text

#: A field's weight, and how much its length counts.
PATH_WEIGHT, PATH_LENGTH = 10.0, 0.6
WEIGHTS = {
    "names": (8.0, 0.5),
    "docstrings": (2.0, 0.75),
    #: Strings and comments are in it: their weights are the same, and telling them apart brought nothing.
    "code": (1.0, 0.4),
}
FILE_SATURATION, PATH_SATURATION = 2.0, 1.0
CHUNK_SATURATION, CHUNK_LENGTH = 4.0, 0.6
#: A file's chunks count in the order of their scores, each this much of the one before, no more than so many.
CHUNK_DECAY, CHUNKS_COUNTED = 0.9, 5


@dataclass(frozen=True, slots=True)
class BestChunk:
    """A chunk of a file and its score."""

    place: ChunkPlace
    score: float


class FilesIndex:
    """Built from the terms of all files of a tree. Asking it changes nothing, so that threads may share it."""

    def __init__(self, files: Mapping[str, FileTerms]) -> None:
        self.paths = sorted(files)
        self.number = {path: index for index, path in enumerate(self.paths)}
        those = [files[path] for path in self.paths]
        self.languages = [each.language for each in those]
        self.vocabulary = Vocabulary()
        numbers = [self.vocabulary.add(each.terms) for each in those]
        path_terms = [self.vocabulary.add(terms_of_text(path.replace("/", " "))) for path in self.paths]
        self.fields = self._fields_index(those, numbers, path_terms)
        self.path_field = self._path_index(path_terms)
        self.chunks, self.chunk_file = self._chunks_index(those, numbers)
        self.places = [each.places for each in those]
        self._chunk_start = np.searchsorted(self.chunk_file, np.arange(len(those) + 1))
        self.defining: dict[str, list[int]] = {}
        for index, each in enumerate(those):
            for name in each.defined:
                self.defining.setdefault(name, []).append(index)
        self.is_code: npt.NDArray[np.bool_] = np.array(
            [kinds.is_code(path, language) for path, language in zip(self.paths, self.languages, strict=True)], bool
        )
        self.worth = np.array(
            [kinds.worth(path, language) for path, language in zip(self.paths, self.languages, strict=True)], np.float32
        )
        self.is_initial: npt.NDArray[np.bool_] = np.array([kinds.is_initial(path) for path in self.paths], bool)
        self._by_name: dict[str, list[int]] = {}
        for index, path in enumerate(self.paths):
            self._by_name.setdefault(PurePosixPath(path).name.lower(), []).append(index)

    def __len__(self) -> int:
        return len(self.paths)

    def file_scores(self, query: Mapping[int, float]) -> Floats:
        return self.fields.scores(query, saturation=FILE_SATURATION)

    def path_scores(self, query: Mapping[int, float]) -> Floats:
        return self.path_field.scores(query, saturation=PATH_SATURATION)

    def chunk_scores(self, query: Mapping[int, float]) -> tuple[Floats, Floats]:
        """Each chunk's score, and each file's from its best ones."""
        scores = self.chunks.scores(query, saturation=None)
        by_file = np.zeros(len(self), np.float32)
        hit = np.flatnonzero(scores > 0)
        if len(hit):
            files, those = self.chunk_file[hit], scores[hit]
            order = np.lexsort((-those, files))
            files, those = files[order], those[order]
            first = np.searchsorted(files, files)
            rank = np.arange(len(files)) - first
            counted = rank < CHUNKS_COUNTED
            gains = those[counted] * CHUNK_DECAY ** rank[counted]
            by_file = np.bincount(files[counted], gains, len(self)).astype(np.float32)
        return scores, by_file

    def best_chunks(self, file: int, scores: Floats, *, limit: int) -> list[BestChunk]:
        """The file's chunks with the highest scores."""
        start, end = int(self._chunk_start[file]), int(self._chunk_start[file + 1])
        those = scores[start:end]
        order = np.argsort(-those, kind="stable")[:limit]
        return [BestChunk(self.places[file][int(at)], float(those[at])) for at in order if those[at] > 0]

    def resolve(self, path: str) -> list[int]:
        """The files that a path in a text may mean: those that share the most of its end; none for names alone that
        many files bear."""
        parts = [part for part in path.lower().split("/") if part not in ("", ".", "..", "~")]
        if not parts:
            return []
        candidates = self._by_name.get(parts[-1], [])
        best: list[int] = []
        longest = 0
        for index in candidates:
            theirs = self.paths[index].lower().split("/")
            shared = 0
            while shared < min(len(parts), len(theirs)) and parts[-1 - shared] == theirs[-1 - shared]:
                shared += 1
            if shared > longest:
                best, longest = [index], shared
            elif shared == longest:
                best.append(index)
        return best

    def resolve_module(self, dotted: str) -> list[int]:
        """The files of a dotted module, or of what is taken from it: ``a.b.Store`` is in a/b.py or a/b/Store.java."""
        parts = dotted.split(".")
        for count in (len(parts), len(parts) - 1, len(parts) - 2):
            if count < 2:
                break
            tail = "/".join(parts[:count])
            found = [
                index
                for ending in (
                    ".py",
                    "/__init__.py",
                    ".java",
                    ".kt",
                    ".scala",
                    ".rb",
                    ".php",
                    ".go",
                    ".ts",
                    ".js",
                    ".cs",
                )
                for index in self._by_name.get(PurePosixPath(f"{tail}{ending}").name.lower(), ())
                if f"/{self.paths[index]}".lower().endswith(f"/{tail}{ending}".lower())
            ]
            if found:
                return found
        return []

    def _fields_index(
        self, those: Sequence[FileTerms], numbers: Sequence[Numbers], path_terms: Sequence[Numbers]
    ) -> Postings:
        lengths = np.zeros((len(those), len(FIELDS)))
        for index, each in enumerate(those):
            if len(each.fields):
                lengths[index] = np.bincount(each.fields[:, 0], each.fields[:, 2], len(FIELDS))[: len(FIELDS)]
        weight = np.array([WEIGHTS[field][0] for field in FIELDS])
        b = np.array([WEIGHTS[field][1] for field in FIELDS])
        average = np.maximum(lengths.mean(axis=0) if len(those) else np.ones(len(FIELDS)), 1e-9)
        factor = weight / (1 - b + b * lengths / average)
        sizes = [len(each.fields) for each in those]
        terms = [own[each.fields[:, 1]] for each, own in zip(those, numbers, strict=True)]
        documents = np.repeat(np.arange(len(those)), sizes)
        rows = np.concatenate([each.fields for each in those]) if those else np.zeros((0, 3), np.uint32)
        weights = rows[:, 2] * factor[documents, rows[:, 0]]
        path_documents, path_weights = self._path_weights(path_terms)
        return Postings(
            np.concatenate([*terms, *path_terms, np.zeros(0, np.int64)]),
            np.concatenate([documents, path_documents]).astype(np.int64),
            np.concatenate([weights, PATH_WEIGHT * path_weights]).astype(np.float32),
            terms_count=len(self.vocabulary),
            size=len(those),
        )

    def _path_index(self, path_terms: Sequence[Numbers]) -> Postings:
        documents, weights = self._path_weights(path_terms)
        return Postings(
            np.concatenate([*path_terms, np.zeros(0, np.int64)]),
            documents.astype(np.int64),
            weights.astype(np.float32),
            terms_count=len(self.vocabulary),
            size=len(path_terms),
        )

    @staticmethod
    def _path_weights(path_terms: Sequence[Numbers]) -> tuple[Numbers, npt.NDArray[np.float64]]:
        sizes = np.array([len(each) for each in path_terms], dtype=np.int64)
        average = max(float(sizes.mean()) if len(sizes) else 1.0, 1e-9)
        documents = np.repeat(np.arange(len(path_terms)), sizes)
        return documents, np.repeat(1.0 / (1 - PATH_LENGTH + PATH_LENGTH * sizes / average), sizes)

    def _chunks_index(self, those: Sequence[FileTerms], numbers: Sequence[Numbers]) -> tuple[Postings, Numbers]:
        counts = np.array([len(each.places) for each in those], dtype=np.int64)
        starts = np.concatenate(([0], np.cumsum(counts)))[:-1] if len(those) else np.zeros(0, np.int64)
        total = int(counts.sum())
        terms = [own[each.chunks[:, 1]] for each, own in zip(those, numbers, strict=True)]
        documents = [start + each.chunks[:, 0].astype(np.int64) for each, start in zip(those, starts, strict=True)]
        tf = [each.chunks[:, 2] for each in those]
        all_documents = np.concatenate([*documents, np.zeros(0, np.int64)])
        all_tf = np.concatenate([*tf, np.zeros(0, np.uint32)]).astype(np.float32)
        lengths = np.bincount(all_documents, all_tf, total) if total else np.zeros(0)
        average = max(float(lengths.mean()) if total else 1.0, 1e-9)
        norm = CHUNK_SATURATION * (1 - CHUNK_LENGTH + CHUNK_LENGTH * lengths / average)
        weights = (all_tf / (all_tf + norm[all_documents])).astype(np.float32)
        chunks = Postings(
            np.concatenate([*terms, np.zeros(0, np.int64)]),
            all_documents,
            weights,
            terms_count=len(self.vocabulary),
            size=total,
        )
        return chunks, np.repeat(np.arange(len(those), dtype=np.int64), counts)

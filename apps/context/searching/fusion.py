"""One ranking out of two: each scaled to between 0 and 1 over its best, then weighed (figures: ADR 0019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from apps.context.searching.candidates import Candidate

#: How many of each ranking are fused.
DEPTH = 100
TEXT_WEIGHT = 0.4
#: What a chunk counts by its kind; others 1. What lies between a module's or a class's functions is rarely what is
#: asked for, but has many words: on docstrings of networkx this takes a fused ranking from .626 to .667 MRR@10, on
#: Django's from .493 to .510 (ADR 0019).
KIND_WEIGHTS = {"module": 0.7, "class": 0.8}


def kind_weight(kind: str) -> float:
    """What a score counts by the kind of its chunk."""
    return KIND_WEIGHTS.get(kind, 1.0)


@dataclass(frozen=True)
class Fused:
    candidate: Candidate
    text: float | None
    vector: float | None
    text_scaled: float
    vector_scaled: float


def rankings_fuse(
    *, text: Sequence[Candidate], vector: Sequence[Candidate], text_weight: float = TEXT_WEIGHT
) -> list[Fused]:
    """Best first. What only one ranking has counts nothing in the other."""
    text_scaled, vector_scaled = scores_scale(text), scores_scale(vector)
    raw_text = {candidate.chunk_id: candidate.score for candidate in text}
    raw_vector = {candidate.chunk_id: candidate.score for candidate in vector}
    fused = []
    for chunk_id, candidate in {candidate.chunk_id: candidate for candidate in (*vector, *text)}.items():
        of_text, of_vector = text_scaled.get(chunk_id, 0.0), vector_scaled.get(chunk_id, 0.0)
        score = (text_weight * of_text + (1 - text_weight) * of_vector) * kind_weight(candidate.kind)
        fused.append(
            Fused(
                replace(candidate, score=score),
                text=raw_text.get(chunk_id),
                vector=raw_vector.get(chunk_id),
                text_scaled=of_text,
                vector_scaled=of_vector,
            )
        )
    return sorted(fused, key=lambda each: (-each.candidate.score, each.candidate.chunk_id))


def kinds_weigh(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Best first, by scores that count what their kinds are worth."""
    weighed = [replace(candidate, score=candidate.score * kind_weight(candidate.kind)) for candidate in candidates]
    return sorted(weighed, key=lambda each: -each.score)


def scores_scale(ranking: Sequence[Candidate]) -> dict[int, float]:
    """Scores between 0 (the last one's) and 1 (the first one's), by chunk."""
    if not ranking:
        return {}
    scores = [candidate.score for candidate in ranking]
    least, most = min(scores), max(scores)
    if most <= least:
        return {candidate.chunk_id: 1.0 for candidate in ranking}
    return {candidate.chunk_id: (candidate.score - least) / (most - least) for candidate in ranking}

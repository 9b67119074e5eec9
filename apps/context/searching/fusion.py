"""One ranking out of several: each scaled to between 0 and 1 over its best, then weighed (figures: ADR 0019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from apps.context.searching.asked import asks_for_class
from apps.context.searching.candidates import Candidate

#: How many of each ranking are fused.
DEPTH = 100
#: What words count beside the vectors of our own model, beside one embedder's by the beginning of its key, and beside
#: those of any other.
STATIC_TEXT_WEIGHT = 0.3
TEXT_WEIGHTS = {"local:archon-static:": STATIC_TEXT_WEIGHT}
TEXT_WEIGHT = 0.4
#: What a chunk counts that lies between a module's functions: rarely what is asked for, and full of words.
MODULE_WEIGHT = 0.6
#: What one counts that lies between a class's methods, where a question surely asks for a function, and how much more
#: where it surely asks for a class. Functions count 1 (figures: ADR 0019).
CLASS_WEIGHT, CLASS_ASKED = 0.5, 0.7
#: ``vector`` and ``second`` are the project's slots of vectors.
SignalName = Literal["text", "vector", "second"]
KindWeights = Mapping[str, float]
#: What scores by words can be compared with: their like alone.
TEXT_SCALE = "text"


@dataclass(frozen=True)
class Signal:
    """One ranking, the best first."""

    name: SignalName
    #: ``TEXT_SCALE``, or the key of the embedder that made it.
    scale: str
    ranking: Sequence[Candidate]
    #: Chunks of which it knows nothing, since they have no vector yet: the other signals decide on them.
    unknown: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Share:
    """What a signal says of one chunk. ``value``: its own score; None: the chunk is not among its best."""

    name: SignalName
    scale: str
    weight: float
    value: float | None
    scaled: float


@dataclass(frozen=True)
class Fused:
    candidate: Candidate
    shares: tuple[Share, ...]


def kind_weights(query: str) -> KindWeights:
    """What a score counts by the kind of its chunk, for this question; kinds that aren't there count 1."""
    return {"module": MODULE_WEIGHT, "class": round(CLASS_WEIGHT + CLASS_ASKED * asks_for_class(query), 3)}


def signal_weights(signals: Sequence[Signal]) -> Mapping[SignalName, float]:
    """What each of them counts; together 1."""
    embedders = [signal for signal in signals if signal.scale != TEXT_SCALE]
    if len(signals) != 2 or len(embedders) != 1:
        return {signal.name: 1 / len(signals) for signal in signals}
    text = next((weight for key, weight in TEXT_WEIGHTS.items() if embedders[0].scale.startswith(key)), TEXT_WEIGHT)
    return {signal.name: 1 - text if signal is embedders[0] else text for signal in signals}


def rankings_fuse(signals: Sequence[Signal], *, kinds: KindWeights) -> list[Fused]:
    """Best first, by what is said of them and what their kinds count.

    A chunk that is not among a signal's best has nothing of it; of one that it can't know nothing is said by it, for or
    against.
    """
    weights = signal_weights(signals)
    scaled = {signal.name: scores_scale(signal.ranking) for signal in signals}
    raw = {signal.name: {each.chunk_id: each.score for each in signal.ranking} for signal in signals}
    fused = []
    candidates = {each.chunk_id: each for signal in reversed(signals) for each in signal.ranking}
    for chunk_id, candidate in candidates.items():
        shares = tuple(
            Share(
                signal.name,
                signal.scale,
                weights[signal.name],
                raw[signal.name].get(chunk_id),
                scaled[signal.name].get(chunk_id, 0.0),
            )
            for signal in signals
            if chunk_id not in signal.unknown
        )
        score = shares_sum([(share.weight, share.scaled) for share in shares]) * kinds.get(candidate.kind, 1.0)
        fused.append(Fused(replace(candidate, score=score), shares))
    return sorted(fused, key=lambda each: (-each.candidate.score, each.candidate.chunk_id))


def shares_sum(shares: Sequence[tuple[float, float]]) -> float:
    """The mean of values by their weights."""
    total = sum(weight for weight, _ in shares)
    return sum(weight * value for weight, value in shares) / total if total else 0.0


def kinds_weigh(candidates: Sequence[Candidate], *, kinds: KindWeights) -> list[Candidate]:
    """Best first, by scores that count what their kinds are worth."""
    weighed = [replace(each, score=each.score * kinds.get(each.kind, 1.0)) for each in candidates]
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

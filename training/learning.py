"""The way from a corpus to what is learnt: batches, Adam, and a state that a stopped training goes on from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from integrations.embedders.static.fields import FIRST_BODY, NAME
from training.arrays import arrays_write
from training.corpus import Bags, Corpus
from training.network import Parameters, Side, loss_and_gradients

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_WARM_STEPS = 50
_LAST_RATE = 0.02
_BETAS = (0.9, 0.98)
_EPSILON = 1e-9
#: Steps between two states that are kept.
_KEEP_STEPS = 50


@dataclass(frozen=True)
class Recipe:
    """All that the result depends on, beside the corpus and the vectors to begin with."""

    dimension: int = 256
    epochs: int = 2
    batch: int = 2_048
    #: Pairs of one package that stand together: what is near is what has to be told apart.
    together: int = 512
    table_rate: float = 0.004
    weight_rate: float = 0.01
    #: How much of a body, and how often the name, is left out: a query knows neither.
    body_dropout: float = 0.3
    name_dropout: float = 0.15
    body_entries: int = 96
    #: How often all of the prose is the query, where there is some.
    prose_share: float = 0.25
    seed: int = 1


class Adam:
    """Adam, for each parameter on its own, in place."""

    def __init__(self, parameters: Parameters) -> None:
        self.step = 0
        self.first = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.second = {name: np.zeros_like(value) for name, value in parameters.items()}

    def move(self, parameters: Parameters, gradients: Parameters, rates: dict[str, float]) -> None:
        self.step += 1
        whole = (1 - _BETAS[0] ** self.step, 1 - _BETAS[1] ** self.step)
        for name, gradient in gradients.items():
            first, second = self.first[name], self.second[name]
            first *= _BETAS[0]
            first += (1 - _BETAS[0]) * gradient
            second *= _BETAS[1]
            gradient *= gradient
            second += (1 - _BETAS[1]) * gradient
            np.sqrt(second, out=gradient)
            gradient *= 1 / np.sqrt(whole[1])
            gradient += _EPSILON
            np.divide(first, gradient, out=gradient)
            gradient *= rates[name] / whole[0]
            parameters[name] -= gradient


def learn(
    corpus: Corpus, start: Parameters, recipe: Recipe, *, state: Path | None, tell: Callable[[str], None]
) -> Parameters:
    """What is learnt. With a ``state`` a training that was stopped goes on where it was, to the same end."""
    parameters = {name: value.copy() for name, value in start.items()}
    optimiser = Adam(parameters)
    begun = _state_read(state, recipe, parameters, optimiser)
    total = max(1, len(corpus) // recipe.batch * recipe.epochs)
    began, smooth = time.monotonic(), 0.0
    for step, rows in enumerate(_batches(corpus, recipe)):
        if step < begun:
            continue
        queries, documents = batch_sides(corpus, rows, recipe, np.random.default_rng((recipe.seed, 1, step)))
        loss, gradients = loss_and_gradients(
            parameters, queries, documents, corpus.query_numbers[rows].astype(np.int64)
        )
        rate = min(1.0, (step + 1) / _WARM_STEPS) * max(_LAST_RATE, 1 - step / total)
        rates = dict.fromkeys(parameters, rate * recipe.weight_rate) | {"table": rate * recipe.table_rate}
        optimiser.move(parameters, gradients, rates)
        smooth = loss if step == begun else 0.95 * smooth + 0.05 * loss
        if (step + 1) % _KEEP_STEPS == 0:
            left = (time.monotonic() - began) / (step + 1 - begun) * (total - step - 1)
            tell(f"step {step + 1} of {total}, loss {smooth:.3f}, {left / 60:.1f} min left")
            _state_write(state, recipe, parameters, optimiser)
    return parameters


def _batches(corpus: Corpus, recipe: Recipe) -> Iterator[Ints]:
    """The pairs of each batch: runs of one package's pairs, in an order that the seed decides."""
    for epoch in range(recipe.epochs):
        random = np.random.default_rng((recipe.seed, 0, epoch))
        order = np.lexsort((random.random(len(corpus)), corpus.packages))
        borders = [*np.flatnonzero(np.diff(corpus.packages[order], prepend=-1)).tolist(), len(corpus)]
        runs = [
            order[at : min(at + recipe.together, last)]
            for first, last in pairwise(borders)
            for at in range(first, last, recipe.together)
        ]
        stream = np.concatenate([runs[number] for number in random.permutation(len(runs))])
        for at in range(0, max(1, len(stream) - recipe.batch + 1), recipe.batch):
            yield stream[at : at + recipe.batch].astype(np.int64)


def batch_sides(corpus: Corpus, rows: Ints, recipe: Recipe, random: np.random.Generator) -> tuple[Side, Side]:
    """The queries and documents of a batch, with what is left out of them this time."""
    prosaic = corpus.proses.bounds[rows + 1] > corpus.proses.bounds[rows]
    prosaic &= random.random(len(rows)) < recipe.prose_share
    short, long = np.flatnonzero(~prosaic), np.flatnonzero(prosaic)
    entries, owners = _entries(corpus.queries, rows[short])
    side = _side(corpus.queries, entries, short[owners], len(rows))
    entries, owners = _entries(corpus.proses, rows[long])
    other = _side(corpus.proses, entries, long[owners], len(rows))
    owners = np.concatenate([side.rows, other.rows])
    order = np.argsort(owners, kind="stable")
    joined = (np.concatenate(pair)[order] for pair in ((side.stems, other.stems), (side.fields, other.fields)))
    stems, zeros = joined
    times = np.concatenate([side.times, other.times])[order]
    queries = Side(owners[order], stems, zeros, times, len(rows))
    return queries, _documents(corpus.documents, rows, recipe, random)


def _documents(bags: Bags, rows: Ints, recipe: Recipe, random: np.random.Generator) -> Side:
    entries, owners = _entries(bags, rows)
    fields = bags.fields[entries]
    body = fields >= FIRST_BODY
    sizes = np.bincount(owners, body, len(rows))
    keep = random.random(len(entries)) < np.minimum(1.0, recipe.body_entries / np.maximum(sizes, 1))[owners]
    keep &= random.random(len(entries)) >= recipe.body_dropout
    keep |= ~body
    keep &= ~((fields == NAME) & (random.random(len(rows)) < recipe.name_dropout)[owners])
    return _side(bags, entries[keep], owners[keep], len(rows))


def _entries(bags: Bags, rows: Ints) -> tuple[Ints, Ints]:
    """Where the entries of these rows are, and to which of them each belongs."""
    starts, sizes = bags.bounds[rows], bags.bounds[rows + 1] - bags.bounds[rows]
    owners = np.repeat(np.arange(len(rows)), sizes)
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes) + starts[owners], owners


def _side(bags: Bags, entries: Ints, owners: Ints, size: int) -> Side:
    times = np.log1p(bags.times[entries].astype(np.float32))
    return Side(owners, bags.stems[entries].astype(np.int64), bags.fields[entries].astype(np.int64), times, size)


def _state_write(path: Path | None, recipe: Recipe, parameters: Parameters, optimiser: Adam) -> None:
    if path is None:
        return
    kept: dict[str, Any] = {f"p_{name}": value for name, value in parameters.items()}
    kept |= {f"m_{name}": value for name, value in optimiser.first.items()}
    kept |= {f"v_{name}": value for name, value in optimiser.second.items()}
    arrays_write(path, recipe=np.array(json.dumps(asdict(recipe))), step=np.array(optimiser.step), **kept)


def _state_read(path: Path | None, recipe: Recipe, parameters: Parameters, optimiser: Adam) -> int:
    """Take up a state of the same recipe; the steps that were done."""
    if path is None or not path.exists():
        return 0
    with np.load(path) as found:
        same = str(found["recipe"]) == json.dumps(asdict(recipe))
        if not same or found["p_table"].shape != parameters["table"].shape:
            return 0
        for name in parameters:
            parameters[name] = found[f"p_{name}"]
            optimiser.first[name], optimiser.second[name] = found[f"m_{name}"], found[f"v_{name}"]
        optimiser.step = int(found["step"])
    return optimiser.step

"""What is learnt, and how: two bags of stems, a query's and a document's, are to point the same way.

A vector is the sum of its stems' vectors, each times ``exp(weight) * log(1 + times)``, made one long. The loss is
InfoNCE both ways: among all documents of a batch the query's own is to be nearest, and among all queries the
document's own; where two pairs have the same query, neither counts against the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from integrations.embedders.static.fields import FIELDS, FIRST_BODY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Ints = NDArray[np.int64]

#: How much of the loss is from query to document; the rest is the way back.
FORWARD = 0.6
_START_SCALE, _MAX_SCALE = 20.0, 60.0
#: Names count for more than bodies before anything is learnt.
_START_FIELDS = {"name": 1.0, "qualifier": 0.3}

Parameters = dict[str, "Floats"]


@dataclass(frozen=True)
class Side:
    """One side of a batch: entries of row, stem, field and log(1 + times), in the order of rows."""

    rows: Ints
    stems: Ints
    fields: Ints
    times: Floats
    size: int


def parameters_start(vectors: Floats, frequencies: Floats, *, dtype: type[np.floating] = np.float32) -> Parameters:
    """``table``: a vector a stem; ``query``, ``names``, ``bodies``: logarithms of its weight, by where it stands."""
    weights = np.log(frequencies / frequencies.mean())
    return {
        "table": vectors.astype(dtype),
        "query": weights.astype(dtype),
        "names": weights.astype(dtype),
        "bodies": weights.astype(dtype),
        "fields": np.array([_START_FIELDS.get(each, 0.0) for each in FIELDS], dtype=dtype),
        "scale": np.array([np.log(_START_SCALE)], dtype=dtype),
    }


def query_weights(parameters: Parameters, side: Side) -> Floats:
    return np.exp(parameters["query"][side.stems]) * side.times


def document_weights(parameters: Parameters, side: Side) -> Floats:
    body = side.fields >= FIRST_BODY
    where = np.where(body, parameters["bodies"][side.stems], parameters["names"][side.stems])
    return np.exp(where + parameters["fields"][side.fields]) * side.times


def loss_and_gradients(
    parameters: Parameters, queries: Side, documents: Side, query_numbers: Ints
) -> tuple[float, Parameters]:
    table = parameters["table"]
    weights_q, weights_d = query_weights(parameters, queries), document_weights(parameters, documents)
    sums_q, sums_d = _pooled(table, queries, weights_q), _pooled(table, documents, weights_d)
    lengths_q, lengths_d = _lengths(sums_q), _lengths(sums_d)
    unit_q, unit_d = sums_q / lengths_q, sums_d / lengths_d
    told = float(parameters["scale"][0])
    scale = min(np.exp(told), _MAX_SCALE)
    loss, wrong = _contrast(unit_q @ unit_d.T, scale, query_numbers)
    gradient_scale = float(wrong[1]) if np.exp(told) < _MAX_SCALE else 0.0
    back_q, back_d = wrong[0] @ unit_d, wrong[0].T @ unit_q
    # Through the length: what points along the vector changes nothing.
    back_q = (back_q - (back_q * unit_q).sum(1, keepdims=True) * unit_q) / lengths_q
    back_d = (back_d - (back_d * unit_d).sum(1, keepdims=True) * unit_d) / lengths_d
    gradients = {name: np.zeros_like(value) for name, value in parameters.items()}
    gradients["scale"][0] = gradient_scale
    entry_q = _weight_gradients(table, queries, back_q) * weights_q
    entry_d = _weight_gradients(table, documents, back_d) * weights_d
    stems = len(table)
    gradients["query"] += np.bincount(queries.stems, entry_q, stems).astype(table.dtype)
    body = documents.fields >= FIRST_BODY
    gradients["bodies"] += np.bincount(documents.stems[body], entry_d[body], stems).astype(table.dtype)
    gradients["names"] += np.bincount(documents.stems[~body], entry_d[~body], stems).astype(table.dtype)
    gradients["fields"] += np.bincount(documents.fields, entry_d, len(FIELDS)).astype(table.dtype)
    _table_gradients(gradients["table"], queries, weights_q, back_q, documents, weights_d, back_d)
    return loss, gradients


def _contrast(cosines: Floats, scale: float, query_numbers: Ints) -> tuple[float, tuple[Floats, float]]:
    """The loss, its gradient by the cosines, and by the scale's logarithm."""
    size = len(cosines)
    scores = cosines * cosines.dtype.type(scale)
    # The scale is bounded, so that no exponential of single precision overflows, and one does for both ways.
    wrong = np.exp(scores)
    same = query_numbers[:, None] == query_numbers[None, :]
    np.fill_diagonal(same, False)
    wrong[same] = 0
    forth, back = wrong.sum(1), wrong.sum(0)
    own = scores.diagonal()
    loss = float((FORWARD * np.log(forth) + (1 - FORWARD) * np.log(back) - own).mean())
    wrong *= (FORWARD / size / forth)[:, None] + ((1 - FORWARD) / size / back)[None, :]
    wrong[np.arange(size), np.arange(size)] -= cosines.dtype.type(1 / size)
    by_scale = float(np.vdot(wrong, scores))
    wrong *= cosines.dtype.type(scale)
    return loss, (wrong, by_scale)


def _lengths(sums: Floats) -> Floats:
    lengths: Floats = np.maximum(np.sqrt((sums * sums).sum(1, keepdims=True)), 1e-9)
    return lengths


def _bounds(side: Side) -> list[int]:
    bounds: list[int] = np.searchsorted(side.rows, np.arange(side.size + 1)).tolist()
    return bounds


def _pooled(table: Floats, side: Side, weights: Floats) -> Floats:
    made = np.zeros((side.size, table.shape[1]), dtype=table.dtype)
    bounds = _bounds(side)
    for row in range(side.size):
        start, end = bounds[row], bounds[row + 1]
        if start < end:
            made[row] = weights[start:end] @ table[side.stems[start:end]]
    return made


def _weight_gradients(table: Floats, side: Side, back: Floats) -> Floats:
    made = np.zeros(len(side.stems), dtype=table.dtype)
    bounds = _bounds(side)
    for row in range(side.size):
        start, end = bounds[row], bounds[row + 1]
        if start < end:
            made[start:end] = table[side.stems[start:end]] @ back[row]
    return made


def _table_gradients(
    made: Floats, queries: Side, weights_q: Floats, back_q: Floats, documents: Side, weights_d: Floats, back_d: Floats
) -> None:
    """Stem by stem: the sum of what comes back from the rows that it stands in."""
    stems = np.concatenate([queries.stems, documents.stems])
    rows = np.concatenate([queries.rows, documents.rows + queries.size])
    weights = np.concatenate([weights_q, weights_d])
    back = np.concatenate([back_q, back_d])
    order = np.argsort(stems, kind="stable")
    stems, rows, weights = stems[order], rows[order], weights[order]
    starts = np.flatnonzero(np.diff(stems, prepend=-1))
    bounds = [*starts.tolist(), len(stems)]
    numbers = stems[starts].tolist()
    for at, number in enumerate(numbers):
        start, end = bounds[at], bounds[at + 1]
        made[number] = weights[start:end] @ back[rows[start:end]]

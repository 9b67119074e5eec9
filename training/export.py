"""From what was learnt to the model that ships: int8 vectors, and half-precision weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from integrations.embedders.static.fields import FIELDS
from integrations.embedders.static.model import (
    BODIES,
    DESCRIPTION,
    FORMAT,
    NAMES,
    QUERY,
    SCALE,
    STEMS,
    VECTORS,
    WEIGHTS,
)
from training.corpus import Corpus
from training.network import Parameters


def model_write(parameters: Parameters, corpus: Corpus, folder: Path, *, version: str, made_of: dict[str, Any]) -> None:
    """Write the model's folder; ``made_of`` says from what, for people."""
    folder.mkdir(parents=True, exist_ok=True)
    table = parameters["table"]
    scale = np.maximum(np.abs(table).max(1), 1e-6).astype(np.float32) / 127
    # As it will be read.
    scale = scale.astype(np.float16).astype(np.float32)
    vectors = np.clip(np.round(table / scale[:, None]), -127, 127).astype(np.int8)
    weights = np.zeros((len(table), 4), dtype=np.float16)
    weights[:, SCALE] = scale
    for column, name in ((QUERY, "query"), (NAMES, "names"), (BODIES, "bodies")):
        weights[:, column] = np.clip(parameters[name], -15, 15)
    np.save(folder / VECTORS, vectors)
    np.save(folder / WEIGHTS, weights)
    lines = (f"{stem}\t{count}\n" for stem, count in zip(corpus.stems, corpus.counts.tolist(), strict=True))
    (folder / STEMS).write_text("".join(lines), "utf-8")
    description = {
        "format": FORMAT,
        "version": version,
        "dimension": int(table.shape[1]),
        "fields": {name: round(float(value), 4) for name, value in zip(FIELDS, parameters["fields"], strict=True)},
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (STEMS, WEIGHTS, VECTORS)
        },
        "made_of": made_of,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", "utf-8")

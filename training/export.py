"""From what was learnt to the model that ships: int8 vectors, and half-precision weights."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
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


class ModelInTheWay(Exception):
    """What is in the folder may not be replaced: another model of the same version, or no model at all."""


def model_refuse(folder: Path, *, version: str, made_of: dict[str, Any]) -> None:
    """Raise :class:`ModelInTheWay` where the folder has what a model made of this may not take the place of.

    Programs map the table into memory and keep vectors under the version: another table of that version would be
    compared with vectors that it did not make.
    """
    if not folder.exists():
        return
    there = _description(folder)
    if there is None:
        raise ModelInTheWay(f"{folder} is there and is no model's folder. Give another one with --out.")
    if there.get("version") == version:
        said = there.get("made_of")
        differing = [key for key, value in made_of.items() if not isinstance(said, dict) or said.get(key) != value]
        if differing:
            raise _another(folder, version, f"its {', '.join(differing)} differ")


def model_write(parameters: Parameters, corpus: Corpus, folder: Path, *, version: str, made_of: dict[str, Any]) -> None:
    """Have the model in the folder; ``made_of`` says from what, for people. Raises :class:`ModelInTheWay`.

    It is written beside the folder and takes its place whole. Programs that have mapped the former files keep these.
    """
    model_refuse(folder, version=version, made_of=made_of)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-new-", dir=folder.parent))
    try:
        _write(parameters, corpus, fresh, version=version, made_of=made_of)
        fresh.chmod(0o755)
        there = _description(folder)
        if there is not None and there.get("version") == version:
            if there.get("sha256") != _description(fresh)["sha256"]:
                raise _another(folder, version, "it has other numbers")
            return
        _put(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _another(folder: Path, version: str, why: str) -> ModelInTheWay:
    return ModelInTheWay(
        f"{folder} has another model of version {version} ({why}). Give a version with --model-version, or another "
        "folder with --out; what was done so far is kept."
    )


def _description(folder: Path) -> Any:
    """What the folder says of its model; None where it holds none, or anything besides."""
    try:
        if {path.name for path in folder.iterdir()} - {DESCRIPTION, STEMS, WEIGHTS, VECTORS}:
            return None
        told = json.loads((folder / DESCRIPTION).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _put(fresh: Path, folder: Path) -> None:
    """One folder in the place of another, if there is one; for a moment there is none."""
    former = fresh.with_name(fresh.name.replace("-new-", "-old-"))
    if folder.exists():
        folder.rename(former)
    try:
        fresh.rename(folder)
    except OSError:
        if former.exists():
            former.rename(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _write(parameters: Parameters, corpus: Corpus, folder: Path, *, version: str, made_of: dict[str, Any]) -> None:
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

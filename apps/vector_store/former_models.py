"""What embedded before an upgrade: a copy of our own model is kept for as long as vectors of its version serve.

An upgrade brings a model whose vectors can't be compared with those that are there. Until they are made anew, which
goes on in the background, questions and changed code are embedded by the version that the others are from.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from integrations.embedders.errors import EmbedderMissing

if TYPE_CHECKING:
    from integrations.embedders.static.model import StaticModel

logger = logging.getLogger(__name__)

_UNFINISHED = ".new-"
#: Whoever made a younger copy may be about to fill the first vectors of it, or be at copying it.
_YOUNG_SECONDS = 3_600.0


def model_keep(*, key: str, source: Path) -> None:
    """Have a copy of the model's folder, under the key of its vectors. Where that can't be, the log says so."""
    target = _folder(key)
    if target.exists():
        return
    unfinished = target.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, unfinished)
        # Copying gives it the age of what was copied.
        os.utime(unfinished)
        os.rename(unfinished, target)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not target.exists():
            logger.warning("no copy of %s is kept, it won't serve after an upgrade: %s", key, error)


def model_find(key: str) -> StaticModel | None:
    """The model of that key, if there is a copy of it that can be read."""
    folder = _folder(key)
    try:
        return _loaded(folder, folder.stat().st_mtime_ns) if folder.is_dir() else None
    except (EmbedderMissing, OSError) as error:
        logger.warning("the copy of %s cannot be used: %s", key, error)
        return None


def models_prune(*, keys: Collection[str]) -> int:
    """Take copies away that are of none of the keys, and older than an hour; says how many that were."""
    kept = {_folder(key).name for key in keys}
    pruned = 0
    for folder in _root().glob("*"):
        try:
            is_young = time.time() - folder.stat().st_mtime < _YOUNG_SECONDS
        except FileNotFoundError:
            continue
        if folder.name not in kept and not is_young:
            shutil.rmtree(folder, ignore_errors=True)
            pruned += 1
    return pruned


def _root() -> Path:
    return settings.ARCHON_HOME / "embedders"


def _folder(key: str) -> Path:
    return _root() / key.replace(":", "-")


@lru_cache(maxsize=2)
def _loaded(folder: Path, _made_at: int) -> StaticModel:
    # An API process that embeds nothing loads no numpy.
    from integrations.embedders.static.model import StaticModel

    return StaticModel(folder)

"""Files of arrays that a run which was stopped takes up: each is there whole, or as it was before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def arrays_write(path: Path, **arrays: Any) -> None:
    """Have these arrays, by name, in the file."""
    half = path.with_suffix(".half.npz")
    np.savez(half, **arrays)
    half.replace(path)

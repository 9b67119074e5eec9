"""MiniLM in processes of its own: what it makes, and how the processes start, end, die and are made anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from integrations.embedders import minilm
from integrations.embedders.errors import EmbedError
from integrations.embedders.processes import ProcessPool

ROOT = Path(__file__).resolve().parents[2]
SORT = "def sort_users(users): return sorted(users, key=lambda user: user.name)"
HTTP = "async def fetch(url): async with session.get(url) as response: return await response.text()"


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPool]:
    made = minilm.pool(size=2, idle_s=60.0, niceness=5)
    yield made
    made.close()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def is_alive(pid: int) -> bool:
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def test_texts_that_mean_the_same_are_near(pool: ProcessPool) -> None:
    vectors = pool.embed([SORT, HTTP, "order people by their name", "download a web page"])
    assert vectors.shape == (4, minilm.DIMENSION)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-4)
    near = vectors[:2] @ vectors[2:].T
    assert near[0, 0] > near[0, 1] + 0.1
    assert near[1, 1] > near[1, 0] + 0.1


def test_vectors_are_those_of_the_published_model(pool: ProcessPool) -> None:
    """From its own library in full precision: sentences of its model card, and their cosine."""
    one, other = pool.embed(["That is a happy person", "That is a very happy person"])
    assert float(one @ other) == pytest.approx(0.9429, abs=0.02)


def test_a_text_gets_its_own_vector_whatever_is_beside_it(pool: ProcessPool) -> None:
    texts = [f"def function_{number}(): " + "pass " * (number % 40) for number in range(50)]
    together = pool.embed(texts)
    alone = np.concatenate([pool.embed([text]) for text in texts[::7]])
    assert (together[::7] * alone).sum(axis=1).min() > 0.98


@pytest.mark.parametrize("text", ["", " \n\t", "\x00\x01\x7f", "\ud800 half", "é" * 100_000, "漢字かな", "x" * 200_000])
def test_any_text_has_a_vector(pool: ProcessPool, text: str) -> None:
    (vector,) = pool.embed([text])
    assert np.isfinite(vector).all()
    assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-4)


def test_nothing_embedded_is_no_vectors(pool: ProcessPool) -> None:
    assert pool.embed([]).shape == (0, minilm.DIMENSION)


def test_a_process_that_was_killed_is_replaced() -> None:
    pool = minilm.pool(size=1, idle_s=60.0, niceness=5)
    try:
        before = pool.embed([SORT])
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGKILL)
        assert pool.embed([SORT]) == pytest.approx(before)
        assert pool.pids() != [pid]
    finally:
        pool.close()


def test_processes_end_when_there_is_nothing_to_do_and_start_again() -> None:
    pool = minilm.pool(size=2, idle_s=0.2, niceness=5)
    try:
        pool.embed([SORT] * 40)
        assert wait_for(lambda: pool.pids() == [])
        assert pool.embed([SORT]).shape == (1, minilm.DIMENSION)
    finally:
        pool.close()


def test_processes_end_with_their_parent_even_if_it_is_killed() -> None:
    code = (
        "import time; from integrations.embedders import minilm; p = minilm.pool(size=1, idle_s=60, niceness=5);"
        "p.embed(['x']); print(*p.pids(), flush=True); p.embed(['word ' * 200] * 4000)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_for(lambda: not is_alive(pid))


def test_memory_is_bounded_whatever_is_embedded() -> None:
    pool = minilm.pool(size=1, idle_s=60.0, niceness=5)
    try:
        pool.embed(["some words of code " * 100] * 64)
        (pid,) = pool.pids()
        assert psutil.Process(pid).memory_info().rss < 450 * 1024 * 1024
    finally:
        pool.close()


def test_nothing_of_the_servers_environment_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    pool = minilm.pool(size=1, idle_s=60.0, niceness=5)
    try:
        pool.embed([SORT])
        (pid,) = pool.pids()
        assert "canary" not in str(psutil.Process(pid).environ())
    finally:
        pool.close()


def test_a_model_file_that_is_another_is_not_run(tmp_path: Path) -> None:
    other = tmp_path / "model.onnx"
    other.write_bytes(b"not the model")
    pool = ProcessPool(
        program=Path(minilm.__file__).with_name("process.py"),
        arguments=(str(other), minilm.MODEL_SHA256, str(minilm.VOCABULARY), minilm.VOCABULARY_SHA256, "128"),
        dimension=minilm.DIMENSION,
        max_characters=100,
        size=1,
        idle_s=60.0,
    )
    with pytest.raises(EmbedError, match="is not the file") as caught:
        pool.embed(["x"])
    assert caught.value.kind == "crashed"
    pool.close()


def test_a_program_that_ends_is_tried_again_and_then_told(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, struct\n"
        "sys.stdout.buffer.write(b'R' + struct.pack('<I', 0)); sys.stdout.flush()\n"
        "sys.stdin.buffer.read(4)\nprint('no memory left', file=sys.stderr)\nsys.exit(7)\n"
    )
    pool = ProcessPool(program=program, arguments=(), dimension=3, max_characters=100, size=1, idle_s=60.0)
    with pytest.raises(EmbedError, match="exit code 7: no memory left") as caught:
        pool.embed(["x"])
    assert (caught.value.kind, caught.value.retryable) == ("crashed", True)
    assert pool.pids() == []
    pool.close()

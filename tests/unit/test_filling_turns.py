"""Projects whose vectors are filled by one process take turns."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import pytest

from apps.context import filling
from apps.context.filling import vectors_run

LARGE, SMALL = uuid.uuid4(), uuid.uuid4()


class Filler:
    """Stands for the database: it fills as many pieces as a project has, and stops where it is told to."""

    def __init__(self, **pieces: int) -> None:
        self.left = {LARGE: pieces["large"], SMALL: pieces["small"]}
        self.done: list[uuid.UUID] = []
        self.after_each: Callable[[], None] = lambda: None

    def fill(self, *, project_id: uuid.UUID, stop: Callable[[], bool]) -> str:
        while self.left[project_id]:
            self.left[project_id] -= 1
            self.done.append(project_id)
            self.after_each()
            if stop():
                return "filling"
        return "ready"


@pytest.fixture
def filler(monkeypatch: pytest.MonkeyPatch) -> Filler:
    made = Filler(large=5, small=2)
    monkeypatch.setattr(filling, "vectors_fill", made.fill)
    monkeypatch.setattr(filling, "TURN_SECONDS", -1.0)
    return made


def test_a_large_project_lets_others_go_before_its_end(filler: Filler) -> None:
    def another_comes() -> None:
        if len(filler.done) == 2:
            # From another thread of the worker, which is not held up by it.
            other = threading.Thread(target=vectors_run, kwargs={"project_id": SMALL})
            other.start()
            other.join()

    filler.after_each = another_comes
    vectors_run(project_id=LARGE)
    assert filler.left == {LARGE: 0, SMALL: 0}
    assert filler.done[:4] == [LARGE, LARGE, SMALL, LARGE]


def test_without_others_a_project_is_filled_in_one_go(filler: Filler) -> None:
    vectors_run(project_id=LARGE)
    assert filler.done == [LARGE] * 5


def test_a_bug_in_one_leaves_the_next_to_whoever_comes(filler: Filler) -> None:
    def break_down() -> None:
        raise RuntimeError

    filler.after_each = break_down
    with pytest.raises(RuntimeError):
        vectors_run(project_id=LARGE)
    filler.after_each = lambda: None
    vectors_run(project_id=SMALL)
    assert filler.left[SMALL] == 0

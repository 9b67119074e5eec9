"""Output keeps its beginning and its end within the limit, and the listener hears the beginning."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apps.projects.sandbox.output import OutputBuffer


@given(pieces=st.lists(st.binary(max_size=40), max_size=30), limit=st.integers(min_value=1, max_value=200))
def test_head_and_tail_are_kept_whatever_the_pieces(pieces: list[bytes], limit: int) -> None:
    buffer = OutputBuffer(limit=limit)
    for piece in pieces:
        buffer.add(piece)
    whole = b"".join(pieces)
    if len(whole) <= limit:
        assert not buffer.truncated
        assert buffer.text() == whole.decode(errors="replace")
        return
    assert buffer.truncated
    head, tail = whole[: (limit + 1) // 2], whole[len(whole) - limit // 2 :]
    left_out = len(whole) - len(head) - len(tail)
    assert buffer.text() == (
        f"{head.decode(errors='replace')}\n[... {left_out} bytes left out ...]\n{tail.decode(errors='replace')}"
    )


def test_the_listener_gets_whole_characters_and_no_more_than_the_limit() -> None:
    heard: list[str] = []
    buffer = OutputBuffer(limit=10, listener=heard.append)
    for byte in "äöü".encode():
        buffer.add(bytes([byte]))
    buffer.add(b"x" * 1000)
    assert "".join(heard) == "äöüxxxx"

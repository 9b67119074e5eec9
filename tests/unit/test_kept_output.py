"""Output that is kept to be read in pages: nothing is shown twice, nothing in a wrong place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apps.projects.sandbox.kept_output import KeptOutput


@given(st.lists(st.text(alphabet="aé€\n", max_size=30)), st.integers(8, 400), st.integers(4, 50))
def test_pages_in_a_row_are_what_is_kept(pieces: list[str], kept: int, page_size: int) -> None:
    output = KeptOutput(limit=kept)
    data = "".join(pieces).encode()
    for piece in pieces:
        output.add(piece.encode())
    gap, resumed = output.missing
    assert (gap, resumed) == (gap, gap) if len(data) <= kept else resumed - gap >= len(data) - kept - kept
    at, read = 0, []
    while True:
        page = output.page(offset=at, limit=page_size)
        assert page.total == len(data) and at <= page.offset
        # Only the gap is ever passed over, and pages are what was printed there.
        assert page.offset in (at, resumed)
        raw = data[page.offset : page.next_offset]
        assert page.text == raw.decode(errors="replace")
        read.append((page.offset, page.next_offset))
        if page.next_offset >= page.total:
            break
        assert page.next_offset > page.offset
        at = page.next_offset
    assert sum(end - start for start, end in read) == len(data) - (resumed - gap)


@given(st.text(alphabet="aé€😀", max_size=60), st.integers(4, 20))
def test_a_page_ends_within_no_character(text: str, page_size: int) -> None:
    output = KeptOutput(limit=10_000)
    output.add(text.encode())
    at, shown = 0, ""
    while at < output.total:
        page = output.page(offset=at, limit=page_size)
        shown, at = shown + page.text, page.next_offset
    assert shown == text


def test_a_negative_offset_counts_from_the_end() -> None:
    output = KeptOutput(limit=100)
    output.add(b"0123456789")
    assert output.page(offset=-3, limit=100).text == "789"
    assert output.page(offset=-300, limit=2).text == "01"
    past = output.page(offset=300, limit=2)
    assert (past.text, past.offset, past.next_offset) == ("", 10, 10)

"""Long outputs in files: found again by their id, in pages, within a bound, and nowhere but in their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.agents.tools.kept_outputs import ONE_LIMIT, KeptOutputs


def outputs(folder: Path, *, execution: str = "one", limit: int = 10_000_000) -> KeptOutputs:
    return KeptOutputs(folder=folder / "outputs", execution=execution, limit=limit)


def read(kept: KeptOutputs, name: str, *, limit: int) -> str:
    text, offset = "", 0
    while True:
        page = kept.page(name, offset=offset, limit=limit)
        assert page is not None
        text += page.text
        if page.next_offset >= page.total:
            return text
        assert page.next_offset > offset
        offset = page.next_offset


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8"), max_size=400), limit=st.integers(4, 100))
def test_pages_put_together_are_the_whole(tmp_path: Path, text: str, limit: int) -> None:
    assert outputs(tmp_path).keep("c3", text)
    # By another worker.
    assert read(outputs(tmp_path), "c3", limit=limit) == text


def test_another_execution_has_others(tmp_path: Path) -> None:
    outputs(tmp_path).keep("c3", "mine")
    assert outputs(tmp_path, execution="two").page("c3", offset=0, limit=100) is None
    outputs(tmp_path, execution="two").keep("c3", "yours")
    assert read(outputs(tmp_path), "c3", limit=100) == "mine"


def test_a_huge_output_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    kept = outputs(tmp_path)
    assert kept.keep("c1", "begin" + "x" * 3 * ONE_LIMIT + "end")
    text = read(kept, "c1", limit=100_000)
    assert text.startswith("begin") and text.endswith("end") and "are not kept" in text
    assert len(text) < ONE_LIMIT + 100


def test_the_oldest_go_first_over_all_executions(tmp_path: Path) -> None:
    for number in range(6):
        kept = outputs(tmp_path, execution=f"e{number % 2}", limit=3_500)
        assert kept.keep(f"c{number}", f"{number}" * 1_000)
        os.utime(tmp_path / "outputs" / f"e{number % 2}" / f"c{number}", ns=(number, number))
    files = sorted(path.name for path in (tmp_path / "outputs").glob("*/*"))
    assert files == ["c3", "c4", "c5"]
    assert not outputs(tmp_path, limit=10).keep("c9", "more than all that may be kept")


@pytest.mark.parametrize("name", ["../../etc/passwd", "c1/../../x", "/etc/passwd", "", "c", "c1-", "x1", ".new-1"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("secret")
    kept = outputs(tmp_path)
    assert kept.page(name, offset=0, limit=100) is None
    with pytest.raises(ValueError):
        kept.keep(name, "text")


def test_where_nothing_can_be_written_the_rest_is_lost_and_said(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file where the folder should be")
    assert outputs(tmp_path).keep("c1", "text") is False

"""Logs of CI runs: noise goes, what failed stays, and the limit holds whatever comes."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.agents.services.ci_logs import log_clean, log_cut

GITHUB = (
    "test\tRun tests\t\ufeff2026-01-02T03:04:05.1234567Z ##[group]Run pytest\n"
    "test\tRun tests\t2026-01-02T03:04:05.2234567Z \x1b[36;1mpytest -q\x1b[0m\n"
    "test\tRun tests\t2026-01-02T03:04:05.3234567Z ##[endgroup]\n"
    "test\tRun tests\t2026-01-02T03:04:06.1234567Z \x1b[31mFAILED\x1b[0m tests/test_a.py::test_sum - assert 4 == 5\n"
    "test\tRun tests\t2026-01-02T03:04:06.2234567Z ##[error]Process completed with exit code 1.\n"
    "test\tRun tests\t2026-01-02T03:04:06.2234567Z ##[debug]secret of the runner\n"
)
GAP = re.compile(r"^\[\.\.\. \d+ lines left out \.\.\.\]$")

lines = st.lists(
    st.one_of(
        st.text(alphabet=st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=90),
        st.sampled_from(
            ["FAILED tests/test_a.py::test_b", "Traceback (most recent call last):", "E   assert 1 == 2", "ok"]
        ),
        st.integers(min_value=500, max_value=1500).map(lambda width: "x" * width),
    ),
    max_size=120,
)


def test_what_a_runner_adds_is_taken_away() -> None:
    assert log_clean(GITHUB).splitlines() == [
        "Run pytest",
        "pytest -q",
        "FAILED tests/test_a.py::test_sum - assert 4 == 5",
        "error: Process completed with exit code 1.",
    ]


def test_gitlab_sections_bars_and_repeated_lines() -> None:
    log = (
        "section_start:1700000000:script[collapsed=true]\r\x1b[0KRunning script\r\n"
        "  1%\r 50%\r100%\r\n" + "waiting\n" * 40 + "section_end:1700000000:script\r\x1b[0K\ndone\n"
    )
    assert log_clean(log).splitlines() == [
        "Running script",
        "100%",
        "waiting",
        "[the line before: 39 times more]",
        "",
        "done",
    ]


def test_the_failure_in_the_middle_of_a_long_log_is_kept() -> None:
    failure = "Traceback (most recent call last):\n  File a.py, line 3\nValueError: no such currency: XAU"
    log = "\n".join(
        [*(f"compiling module {n}" for n in range(5000)), failure, *(f"uploading {n}" for n in range(5000)), "exit 1"]
    )
    cut = log_cut(log, limit=4000)
    assert len(cut) <= 4000
    assert failure in cut
    assert cut.endswith("exit 1")
    assert "lines left out" in cut


def test_every_named_failure_is_kept_when_they_fit() -> None:
    named = [f"FAILED tests/test_{n}.py::test_it - AssertionError" for n in range(20)]
    noise = [f"downloading part {n} of the archive" for n in range(3000)]
    cut = log_cut("\n".join([*noise, *named, *noise, "end"]), limit=6000)
    assert [line for line in named if line in cut] == named


@settings(max_examples=150, deadline=None)
@given(lines, st.integers(min_value=200, max_value=6000))
def test_cutting_keeps_whole_lines_in_order_within_the_limit(content: list[str], limit: int) -> None:
    log = log_clean("\n".join(content))
    cut = log_cut(log, limit=limit)
    assert len(cut) <= limit
    if len(log) <= limit:
        assert cut == log
        return
    originals = iter(log.split("\n"))
    for line in cut.split("\n"):
        if not GAP.match(line):
            shown = line.partition(" […] ")[0]
            assert any(original == line or original.startswith(shown) for original in originals)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_cleaning_twice_changes_nothing_that_a_terminal_would_notice(text: str) -> None:
    cleaned = log_clean(text)
    assert "\x1b" not in cleaned
    assert len(cleaned) <= len(text) + 60 * (text.count("\n") + 1)

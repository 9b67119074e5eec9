"""What runners leave in a sandbox is read test by test, and whatever else is there does no harm."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.projects.ecosystems.junit import junit_parse
from apps.projects.ecosystems.node_results import node_results
from apps.projects.ecosystems.results import junit_results, results_merge
from apps.projects.ecosystems.types import Results, TestResult


def left(folder: Path, place: str = "") -> Results:
    return Results(folder, folder, place, "")


def line(name: list[str], result: str, file: str = "/workspace/test/a.test.js") -> str:
    return json.dumps({"file": file, "name": name, "result": result}) + "\n"


def jest(*cases: tuple[str, str], status: str = "passed") -> str:
    assertions = [{"ancestorTitles": ["s"], "title": title, "status": state} for title, state in cases]
    return json.dumps({"testResults": [{"name": "/workspace/a.js", "status": status, "assertionResults": assertions}]})


def test_each_runners_results_have_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "node-1.jsonl").write_text(line(["s", "a"], "passed") + line(["s", "b"], "failed"))
    (tmp_path / "jest-2.json").write_text(jest(("c", "passed"), ("d", "pending"), ("e", "todo"), ("f", "failed")))
    assert node_results(left(tmp_path)) == {
        "test/a.test.js::s > a": "passed",
        "test/a.test.js::s > b": "failed",
        "a.js::s > c": "passed",
        "a.js::s > d": "skipped",
        "a.js::s > e": "skipped",
        "a.js::s > f": "failed",
    }


def test_names_are_seen_from_the_projects_folder(tmp_path: Path) -> None:
    (tmp_path / "node-1.jsonl").write_text(
        line(["a"], "passed", "/workspace/web/a.js") + line(["b"], "passed", "/x.js")
    )
    assert list(node_results(left(tmp_path, "web"))) == ["a.js::a", "/x.js::b"]


def test_of_two_results_the_worse_one_counts(tmp_path: Path) -> None:
    (tmp_path / "node-1.jsonl").write_text(line(["a"], "failed"))
    (tmp_path / "node-2.jsonl").write_text(line(["a"], "passed"))
    assert list(node_results(left(tmp_path)).values()) == ["failed"]


def test_a_file_that_could_not_be_loaded_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "jest-1.json").write_text(jest(status="failed"))
    (tmp_path / "vitest-1.json").write_text(jest(("a", "skipped"), status="failed"))
    assert node_results(left(tmp_path)) == {"a.js": "error", "a.js::s > a": "skipped"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"testResults": 7}',
        '{"testResults": [7]}',
        '{"testResults": [{"assertionResults": [7]}]}',
        '{"testResults": [{"assertionResults": [{"status": "passed", "ancestorTitles": 7}]}]}',
        '{"testResults": [{"assertionResults": [{"status": "splendid", "ancestorTitles": []}]}]}',
        '{"testResults": [{"assertionResults": [{"status": {}, "ancestorTitles": []}]}]}',
    ],
)
def test_what_is_no_document_of_results_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "jest-1.json").write_text(content)
    (tmp_path / "node-1.jsonl").write_text(content)
    assert node_results(left(tmp_path)) == {}


def test_links_pipes_and_huge_files_are_not_read(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (tmp_path / "true.jsonl").write_text(line(["a"], "passed"))
    (results / "link.jsonl").symlink_to(tmp_path / "true.jsonl")
    (results / "folder").symlink_to(tmp_path)
    os.mkfifo(results / "pipe.jsonl")
    with (results / "huge.xml").open("wb") as file:
        file.truncate(1 << 40)
    assert node_results(left(results)) == {} and junit_results(left(results)) == {}


def test_thousands_of_tests_are_read(tmp_path: Path) -> None:
    cases = "".join(
        f'<testcase classname="m" name="t{number}"><system-out>x</system-out></testcase>' for number in range(20_000)
    )
    (tmp_path / "junit.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert len(junit_results(left(tmp_path))) == 20_000


def test_a_document_that_breaks_off_is_none() -> None:
    assert junit_parse(b'<testsuite><testcase name="a"/>') == {}
    assert junit_parse(b"<testsuite>" * 50_000) == {}


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reading(content: bytes) -> None:
    assert isinstance(junit_parse(content), dict)


_RESULT = st.sampled_from(["passed", "failed", "error", "skipped"])


@given(st.lists(st.dictionaries(st.sampled_from("abc"), _RESULT), max_size=4))
def test_merging_never_hides_a_failure(parts: list[dict[str, TestResult]]) -> None:
    merged = results_merge(parts)
    for part in parts:
        for name, result in part.items():
            assert result not in ("failed", "error") or merged[name] in ("failed", "error")
    assert results_merge(reversed(parts)) == merged

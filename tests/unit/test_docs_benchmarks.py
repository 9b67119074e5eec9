"""docs/reference/benchmarks.md has every benchmark, and every key of what it prints."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "benchmarks.md").read_text()
BENCHMARKS = sorted(
    path.stem.replace("_", "-") for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("_")
)


def _sections() -> dict[str, str]:
    parts = re.split(r"^## `([\w-]+)`$", PAGE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _keys(name: str) -> set[str]:
    """Of the largest dictionary that the benchmark writes out, which is its report."""
    tree = ast.parse((ROOT / "benchmarks" / f"{name.replace('-', '_')}.py").read_text())
    dictionaries = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    largest = max(dictionaries, key=lambda node: len(node.keys))
    return {str(key.value) for key in largest.keys if isinstance(key, ast.Constant)}


def test_every_benchmark_has_a_section_and_no_other() -> None:
    assert sorted(_sections()) == BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_keys_are_those_of_the_report(name: str) -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", _sections()[name], re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", "".join(rows))) == _keys(name)

"""The JSON that ``rspec --format json --out FILE`` writes."""

from __future__ import annotations

import json
import re
from typing import Any

from apps.projects.checks.results.types import NO_RESULTS, RunnerResults, names_numbered, results_merge
from apps.projects.checks.types import TestResult

_RESULTS: dict[str, TestResult] = {"passed": "passed", "failed": "failed", "pending": "skipped"}
_PLACE = re.compile(r"\[(\d{1,9}(?::\d{1,9}){0,50})\]$")


def rspec_read(content: bytes) -> RunnerResults:
    """Results by example, as ``spec/adder_spec.rb::Adder adds``; none when this is no such document."""
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        return NO_RESULTS
    examples = document.get("examples") if isinstance(document, dict) else None
    if not isinstance(examples, list):
        return NO_RESULTS
    found: list[tuple[tuple[int, ...], str, TestResult]] = []
    for example in examples:
        if not isinstance(example, dict):
            continue
        values = (example.get(key) for key in ("id", "file_path", "full_description", "status"))
        place, file, name, status = (value if isinstance(value, str) else "" for value in values)
        if file and status in _RESULTS:
            found.append((_place(place), f"{file.removeprefix('./')}::{name}", _RESULTS[status]))
    # Examples made in a loop bear one name. They are told in the order in which they ran, which may be a random one.
    found.sort(key=lambda example: example[:2])
    names = names_numbered(name for _, name, _ in found)
    results = (result for _, _, result in found)
    return RunnerResults(results_merge(zip(names, results, strict=True)), _problem(document))


def _place(identifier: str) -> tuple[int, ...]:
    """Where an example stands in its file, from ``./spec/adder_spec.rb[1:2:1]``."""
    match = _PLACE.search(identifier)
    return tuple(int(number) for number in match[1].split(":")) if match else ()


def _problem(document: dict[str, Any]) -> str:
    summary = document.get("summary")
    outside = summary.get("errors_outside_of_examples_count") if isinstance(summary, dict) else None
    if isinstance(outside, int) and outside > 0:
        return f"{outside} error(s) happened outside of examples"
    return ""

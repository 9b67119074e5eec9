"""The JSON that ``rspec --format json --out FILE`` writes."""

from __future__ import annotations

import json
import re
from typing import Any

from apps.projects.ecosystems.named_results import names_numbered, results_named
from apps.projects.ecosystems.types import TestResult

_RESULTS: dict[str, TestResult] = {"passed": "passed", "failed": "failed", "pending": "skipped"}
_PLACE = re.compile(r"\[(\d{1,9}(?::\d{1,9}){0,50})\]$")


def rspec_read(content: bytes) -> dict[str, TestResult]:
    """Results by example, as ``spec/adder_spec.rb::Adder adds``; none when this is no such document."""
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    examples = document.get("examples") if isinstance(document, dict) else None
    if not isinstance(examples, list):
        return {}
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
    return results_named(zip(names, results, strict=True))


def _place(identifier: str) -> tuple[int, ...]:
    """Where an example stands in its file, from ``./spec/adder_spec.rb[1:2:1]``."""
    match = _PLACE.search(identifier)
    return tuple(int(number) for number in match[1].split(":")) if match else ()

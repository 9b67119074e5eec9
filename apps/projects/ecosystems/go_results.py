"""The events of ``go test -json``, one JSON object a line, with what the compiler prints between them."""

from __future__ import annotations

import json
from typing import Any

from apps.projects.ecosystems.named_results import results_named
from apps.projects.ecosystems.types import TestResult

_RESULTS: dict[str, TestResult] = {"pass": "passed", "fail": "failed", "skip": "skipped"}


def go_events_read(text: str) -> dict[str, TestResult]:
    """Results by test, as ``example.com/adder::TestAdd/one_two``.

    A package that can't be built has none. A test that began and did not end (its process did) is an error.
    """
    began: dict[str, TestResult] = {}
    found: list[tuple[str, TestResult]] = []
    for line in text.splitlines():
        event = _event(line)
        if event is None:
            continue
        action, package, test = event
        name = f"{package}::{test}"
        if action == "run":
            began.setdefault(name, "error")
        elif action in _RESULTS and name in began:
            # Without having begun, it is a line that a test printed.
            found.append((name, _RESULTS[action]))
            began.pop(name)
    return results_named([*found, *began.items()])


def _event(line: str) -> tuple[str, str, str] | None:
    if not line.startswith("{"):
        return None
    try:
        event: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    values = tuple(event.get(key) for key in ("Action", "Package", "Test"))
    action, package, test = values
    if isinstance(action, str) and isinstance(package, str) and isinstance(test, str):
        return action, package, test
    return None

"""Results by names that came out of a sandbox: storable, bounded, one of each."""

from __future__ import annotations

from collections.abc import Iterable

from apps.core.storable import text_storable
from apps.projects.ecosystems.results import MAX_NAME, results_merge
from apps.projects.ecosystems.types import TestResult


def results_named(found: Iterable[tuple[str, TestResult]]) -> dict[str, TestResult]:
    """One result for each name, the worst one; what has no name counts for nothing."""
    cleaned = ((text_storable(name).strip()[:MAX_NAME], result) for name, result in found)
    return results_merge({name: result} for name, result in cleaned if name)


def names_numbered(names: Iterable[str]) -> list[str]:
    """The names in order, the second of the same name as ``name (2)`` and so on."""
    seen: dict[str, int] = {}
    numbered = []
    for name in names:
        seen[name] = number = seen.get(name, 0) + 1
        numbered.append(name if number == 1 else f"{name} ({number})")
    return numbered

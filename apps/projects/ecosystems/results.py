"""Reading files that came out of a sandbox: bounded, and following no link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from apps.projects.ecosystems.junit import junit_parse
from apps.projects.ecosystems.types import Results, TestResult

MAX_BYTES = 64 * 1024 * 1024
MAX_FILES = 2_000
MAX_NAME = 500
#: More tests than any project has; beyond, a file is somebody's joke.
MAX_TESTS = 200_000
#: The worse one counts when a test is reported twice (its teardown failed, a subtest did, or it ran twice).
_WEIGHT: dict[TestResult, int] = {"skipped": 0, "passed": 1, "failed": 2, "error": 3}


def file_read(path: Path, *, limit: int = MAX_BYTES) -> bytes | None:
    """A regular file's content; None when it is none, or larger than ``limit``."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode) or os.fstat(handle).st_size > limit:
            return None
        with open(handle, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(handle)


def files_find(root: Path, *, suffix: str, folder_name: str = "") -> Iterator[Path]:
    """Files below ``root`` by suffix, in order, through no link; with ``folder_name`` only those in such folders."""
    found = 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in (".git", "node_modules"))
        if folder_name and os.path.basename(folder) != folder_name:
            continue
        for name in sorted(files):
            if name.endswith(suffix):
                found += 1
                if found > MAX_FILES:
                    return
                yield Path(folder, name)


def results_merge(parts: Iterable[Mapping[str, TestResult]]) -> dict[str, TestResult]:
    """One result for each test, the worst that was reported."""
    tests: dict[str, TestResult] = {}
    for part in parts:
        for name, result in part.items():
            if name not in tests:
                if len(tests) >= MAX_TESTS:
                    continue
                tests[name] = result
            elif _WEIGHT[result] > _WEIGHT[tests[name]]:
                tests[name] = result
    return tests


def junit_read(path: Path) -> dict[str, TestResult]:
    """Results by test; empty when there is no such file or it is none."""
    content = file_read(path)
    return {} if content is None else junit_parse(content)


def junit_results(results: Results) -> dict[str, TestResult]:
    """Of every JUnit file in the folder for results, wherever in it."""
    left = MAX_BYTES
    parts = []
    for path in files_find(results.folder, suffix=".xml"):
        content = file_read(path, limit=left)
        if content is not None:
            left -= len(content)
            parts.append(junit_parse(content))
    return results_merge(parts)

"""Folders of JUnit files that a build tool leaves in the checkout, since it can't be told to write them elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence

from apps.projects.ecosystems.junit import junit_parse
from apps.projects.ecosystems.results import MAX_BYTES, MAX_FILES, file_read, results_merge
from apps.projects.ecosystems.types import Results, TestResult

_MAX_DEPTH = 24


def reports_remove(folder: str) -> str:
    """A command line that takes such folders out of a checkout, so that none that was committed is read."""
    return f"find . -type d -path '*/{folder}' -prune -exec rm -rf {{}} +"


def reports_read(results: Results, *, folders: Sequence[str], prefix: str = "") -> dict[str, TestResult]:
    """Results of the ``.xml`` files (whose names begin with ``prefix``) in or below folders whose path ends so."""
    root = results.workspace / results.place
    wanted = tuple(f"/{folder.strip('/')}/" for folder in folders)
    left, seen = MAX_BYTES, 0
    parts: list[dict[str, TestResult]] = []
    for place, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in (".git", "node_modules"))
        below = place.removeprefix(str(root)) + "/"
        if below.count("/") > _MAX_DEPTH:
            inner.clear()
        if not any(folder in below for folder in wanted):
            continue
        for name in sorted(files):
            if not (name.startswith(prefix) and name.endswith(".xml")):
                continue
            seen += 1
            if seen > MAX_FILES * 10:
                return results_merge(parts)
            # The sandbox has ended, so that no folder on the way changes into a link any more.
            content = file_read(results.workspace / place / name, limit=left)
            if content is not None:
                left -= len(content)
                parts.append(junit_parse(content))
    return results_merge(parts)

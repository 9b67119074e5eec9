"""The tests as they were before a change, put back into the changed commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apps.projects.checks.judgement import original_paths
from apps.projects.checks.types import CheckReport, CheckSpec
from apps.projects.ecosystems.registry import inner_tests, runner_get
from apps.projects.repository import commit_files


@dataclass(frozen=True)
class Originals:
    """What of a change has to be undone to see whether the original tests pass."""

    #: Files to be as they were.
    paths: tuple[str, ...]
    #: Files with code and tests, to have the new code and the old tests.
    contents: Mapping[str, bytes]
    #: Files in which tests may have been changed that can't be put back.
    untold: tuple[str, ...]


def originals_find(
    *, project_id: object, base: str, commit: str, changed: Sequence[str], in_the_way: Sequence[str]
) -> Originals:
    """What differs between the commits of tests, their configuration, and what is in a runner's way."""
    paths = tuple(sorted({*original_paths(changed), *in_the_way}))
    # Only kinds of files in which tests may stand beside code are read.
    mixed = [path for path in changed if path not in paths and inner_tests(path, old="", new="") is not None]
    before = commit_files(project_id=project_id, commit=base, paths=mixed)
    after = commit_files(project_id=project_id, commit=commit, paths=mixed)
    contents: dict[str, bytes] = {}
    untold: list[str] = []
    for path in mixed:
        if path not in before or path not in after:
            # Tests of a file that is gone are gone by name; those of a new one are new.
            continue
        old, new = (content.decode("utf-8", "surrogateescape") for content in (before[path], after[path]))
        original = inner_tests(path, old=old, new=new)
        if original is None:
            continue
        if original.text != new:
            contents[path] = original.text.encode("utf-8", "surrogateescape")
        if not original.complete:
            untold.append(path)
    return Originals(paths, contents, tuple(untold))


def unbuilt(
    specs: Sequence[CheckSpec], before: Sequence[CheckReport], with_originals: Sequence[CheckReport]
) -> tuple[str, ...]:
    """The checks whose tests, put back, don't even compile with the changed code: those say nothing."""
    compiled = {spec.name for spec in specs if runner_get(spec.runner).compiles}
    had = {report.name: {_group(test) for test in report.tests} for report in before}
    return tuple(
        report.name
        for report in with_originals
        if report.name in compiled
        and not report.passed
        and not report.killed
        and had.get(report.name, set()) - {_group(test) for test in report.tests}
    )


def _group(test: str) -> str:
    """What is compiled as one: a package or a binary, where the test's name tells it."""
    return test.partition("::")[0] if "::" in test else ""

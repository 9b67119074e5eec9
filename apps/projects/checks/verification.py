"""The server's own word on a commit: its checks, against those of the commit that it started from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from apps.projects.checks.judgement import checks_compare, outcome_judge
from apps.projects.checks.originals import Originals, originals_find, unbuilt
from apps.projects.checks.reruns import Again, failures_rerun, is_failing, passes_rerun
from apps.projects.checks.running import checks_run
from apps.projects.checks.scripts import scripts_changed
from apps.projects.checks.types import CheckReport, CheckSpec, Verification
from apps.projects.ecosystems.registry import paths_in_the_way
from apps.projects.environment.types import Environment
from apps.projects.repository import changed_paths, commit_overlay, commit_paths


async def checks_baseline(
    *,
    project_id: object,
    commit: str,
    specs: Sequence[CheckSpec],
    environment: Environment,
    on_progress: Callable[[str], None] | None = None,
) -> tuple[CheckReport, ...]:
    """Run the checks on a commit that changes will be compared with; what fails is run again, to tell what is flaky."""
    reports = await checks_run(
        project_id=project_id, commit=commit, specs=specs, environment=environment, on_progress=on_progress
    )
    again = Again(project_id, commit, environment, on_progress)
    # Once: what is mended later will be looked at again.
    return tuple(
        [await failures_rerun(again, spec, report, times=1) for spec, report in zip(specs, reports, strict=True)]
    )


async def checks_verify(
    *,
    project_id: object,
    base_commit: str,
    commit: str,
    specs: Sequence[CheckSpec],
    before: Sequence[CheckReport],
    base_environment: Environment,
    environment: Environment,
    on_progress: Callable[[str], None] | None = None,
) -> Verification:
    """Run the checks on ``commit`` and judge it. ``before``: the reports of ``base_commit``.

    When anything between the two touches tests, what configures them, or puts modules before those of the runner, the
    checks run once more with those files as they were, in the environment of ``base_commit``: a change can make tests
    pass by changing them, or by what it installs. Of files that hold code and tests, only the tests are put back. A
    check that runs a changed file by its name has to pass with that as it was, too. Tests that fail are run again, and
    so are those that were mended, so that flaky ones are known for what they are.
    """
    changed, in_the_way = await asyncio.to_thread(
        _changes_find, project_id, base_commit, commit, base_environment, specs
    )
    originals = await asyncio.to_thread(
        originals_find,
        project_id=project_id, base=base_commit, commit=commit, changed=changed, in_the_way=in_the_way,
    )  # fmt: skip
    after = await checks_run(
        project_id=project_id, commit=commit, specs=specs, environment=environment, on_progress=on_progress
    )
    at_base = Again(project_id, base_commit, base_environment, on_progress)
    at_commit = Again(project_id, commit, environment, on_progress)
    before, after = await _rerun(specs, before, after, at_base=at_base, at_commit=at_commit)
    with_originals: tuple[CheckReport, ...] = ()
    silent: tuple[str, ...] = ()
    if (originals.paths or originals.contents) and all(report.passed or report.passes_again for report in after):
        mixed = await asyncio.to_thread(
            commit_overlay,
            project_id=project_id, commit=commit, base=base_commit, paths=originals.paths, contents=originals.contents,
        )  # fmt: skip
        with_originals = await checks_run(
            project_id=project_id, commit=mixed, specs=specs, environment=base_environment, on_progress=on_progress
        )
        at_mixed = Again(project_id, mixed, base_environment, on_progress)
        with_originals = tuple(
            [await failures_rerun(at_mixed, spec, report) for spec, report in zip(specs, with_originals, strict=True)]
        )
        silent = unbuilt(specs, before, with_originals)
        with_originals = tuple(report for report in with_originals if report.name not in silent)
    comparisons = checks_compare(
        before=before, after=after, changed_files=changed, in_the_way=in_the_way, with_originals=with_originals
    )
    outcome, reasons = outcome_judge(comparisons)
    # Tests are among them: as they were, they are asked above what they tell test by test, and a script tells nothing.
    left = set(changed).difference(originals.contents)
    scripts = await asyncio.to_thread(
        scripts_changed, project_id=project_id, base=base_commit, specs=specs, changed=left
    )
    told = {check.name for check in comparisons if check.passes_only_with_changes or check.broken_originals}
    passing = [
        spec
        for spec, report in zip(specs, after, strict=True)
        if (report.passed or report.passes_again) and spec.name not in told
    ]
    rewritten = [
        await _only_as_changed(at_commit, spec, base_commit, scripts[spec.name])
        for spec in passing
        if spec.name in scripts
    ]
    doubts = (*_doubts(originals, silent), *(doubt for doubt in rewritten if doubt))
    if doubts:
        outcome = "unverified" if outcome == "verified" else outcome
    return Verification(outcome, (*reasons, *doubts), comparisons, after)


async def _only_as_changed(at: Again, spec: CheckSpec, base: str, scripts: Sequence[str]) -> str:
    """What speaks against a check that passes on a commit which changes these files, which it runs; empty: nothing."""
    commit = await asyncio.to_thread(
        commit_overlay, project_id=at.project_id, commit=at.commit, base=base, paths=scripts, contents={}
    )
    [report] = await checks_run(
        project_id=at.project_id,
        commit=commit,
        specs=[spec],
        environment=at.environment,
        on_progress=at.on_progress,
    )
    report = await failures_rerun(replace(at, commit=commit), spec, report)
    if report.passed or report.passes_again:
        return ""
    return f"{spec.name}: passes only since what it runs was changed: {', '.join(scripts)}."


def _doubts(originals: Originals, silent: Sequence[str]) -> tuple[str, ...]:
    """What the original tests could not be asked."""
    doubts = [f"{name}: with the original tests and their configuration the code does not build." for name in silent]
    if originals.untold:
        listed = ", ".join(originals.untold[:5]) + (", …" if len(originals.untold) > 5 else "")
        doubts.append(f"Tests in changed source files can't be told from the change: {listed}.")
    return tuple(doubts)


async def _rerun(
    specs: Sequence[CheckSpec],
    before: Sequence[CheckReport],
    after: Sequence[CheckReport],
    *,
    at_base: Again,
    at_commit: Again,
) -> tuple[tuple[CheckReport, ...], tuple[CheckReport, ...]]:
    """Both reports with what is flaky in them, as far as the verdict depends on it.

    What fails since the change is run again, and so is what the change mended: passing once could be chance. What turns
    out flaky and passed before is run again there, too: it may always have been so.
    """
    earlier = {report.name: report for report in before}
    again: list[CheckReport] = []
    for spec, report in zip(specs, after, strict=True):
        old = earlier.get(report.name)
        if old is None:
            again.append(report)
            continue
        as_before = [test for test in old.tests if is_failing(old.tests, test) and test not in old.flaky]
        known = [test for test in as_before if is_failing(report.tests, test)]
        failed_as_a_whole = not report.tests and not old.passed and not old.flaky
        if report.tests or not failed_as_a_whole:
            report = await failures_rerun(at_commit, spec, report, but=known, whole=True)
        if report.tests:
            mended = [test for test in old.tests if is_failing(old.tests, test) and report.tests.get(test) == "passed"]
            report = await passes_rerun(at_commit, spec, report, mended)
        elif report.passed and not old.passed:
            report = await passes_rerun(at_commit, spec, report, (report.name,))
        passed_before = [test for test in report.flaky if old.tests.get(test, "passed") == "passed"]
        passed_before = [test for test in passed_before if test in old.tests or (not old.tests and old.passed)]
        if passed_before:
            earlier[report.name] = await passes_rerun(at_base, spec, old, passed_before)
        again.append(report)
    return tuple(earlier[report.name] for report in before), tuple(again)


def _changes_find(
    project_id: object, base_commit: str, commit: str, environment: Environment, specs: Sequence[CheckSpec]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paths that differ from ``base_commit``, and those among them that are in the runner's way."""
    changed = changed_paths(project_id=project_id, base=base_commit, head=commit)
    before = commit_paths(project_id=project_id, commit=base_commit)
    folders = tuple(spec.folder for spec in specs)
    return changed, paths_in_the_way(changed, before=before, environment=environment.path, folders=folders)

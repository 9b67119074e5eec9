"""The server's own word on a commit: its checks, against those of the commit that it started from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from apps.projects.checks.judgement import checks_compare, original_paths, outcome_judge
from apps.projects.checks.running import checks_run
from apps.projects.checks.types import CheckReport, CheckSpec, Verification
from apps.projects.ecosystems.registry import paths_in_the_way
from apps.projects.environment.types import Environment
from apps.projects.repository import changed_paths, commit_paths


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
    pass by changing them, or by what it installs.
    """
    changed, in_the_way = await asyncio.to_thread(_changes_find, project_id, base_commit, commit, base_environment)
    after = await checks_run(
        project_id=project_id, commit=commit, specs=specs, environment=environment, on_progress=on_progress
    )
    with_originals: tuple[CheckReport, ...] = ()
    restored = tuple(sorted({*original_paths(changed), *in_the_way}))
    if restored and all(report.passed for report in after):
        with_originals = await checks_run(
            project_id=project_id,
            commit=commit,
            specs=specs,
            environment=base_environment,
            on_progress=on_progress,
            overlay_from=base_commit,
            overlay_paths=restored,
        )
    comparisons = checks_compare(
        before=before, after=after, changed_files=changed, in_the_way=in_the_way, with_originals=with_originals
    )
    outcome, reasons = outcome_judge(comparisons)
    return Verification(outcome, reasons, comparisons, after)


def _changes_find(
    project_id: object, base_commit: str, commit: str, environment: Environment
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paths that differ from ``base_commit``, and those among them that are in the runner's way."""
    changed = changed_paths(project_id=project_id, base=base_commit, head=commit)
    before = commit_paths(project_id=project_id, commit=base_commit)
    return changed, paths_in_the_way(changed, before=before, environment=environment.path)

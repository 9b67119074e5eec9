"""The server's own word on a commit: its checks, against those of the commit that it started from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from apps.projects.checks.judgement import checks_compare, original_paths, outcome_judge
from apps.projects.checks.running import checks_run
from apps.projects.checks.types import CheckReport, CheckSpec, Verification
from apps.projects.environment.types import Environment


async def checks_verify(
    *,
    project_id: object,
    base_commit: str,
    commit: str,
    specs: Sequence[CheckSpec],
    before: Sequence[CheckReport],
    changed_files: Sequence[str],
    base_environment: Environment,
    environment: Environment,
    on_progress: Callable[[str], None] | None = None,
) -> Verification:
    """Run the checks on ``commit`` and judge it. ``before``: the reports of ``base_commit``.

    When the change touches tests or what configures them, the checks run once more with those files as they were, in
    the environment of ``base_commit``: a change can make tests pass by changing them, or by what it installs.
    """
    after = await checks_run(
        project_id=project_id, commit=commit, specs=specs, environment=environment, on_progress=on_progress
    )
    with_originals: tuple[CheckReport, ...] = ()
    restored = original_paths(changed_files)
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
    comparisons = checks_compare(before=before, after=after, changed_files=changed_files, with_originals=with_originals)
    outcome, reasons = outcome_judge(comparisons)
    return Verification(outcome, reasons, comparisons, after)

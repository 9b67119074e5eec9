"""Real packages of npm's, as released, are set up, found broken and found mended, whatever runs their tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.projects.checks import checks_detect, checks_run, checks_verify
from apps.projects.environment import environment_detect, environment_prepare
from apps.projects.repository import repository_import_path
from tests.integration.project_sample import git, reachable_home
from tests.npm_packages import CASES, NpmCase

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.enable_socket, pytest.mark.timeout(600)]


@pytest.fixture
def folder(tmp_path: Path, settings) -> Iterator[Path]:  # type: ignore[no-untyped-def]
    with reachable_home() as home:
        settings.ARCHON_HOME = home
        settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path)]
        yield tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {case.runner}")
def test_a_release_is_set_up_found_broken_and_found_mended(case: NpmCase, folder: Path) -> None:
    source = case.checkout(folder)
    broken = repository_import_path(project_id="p", source=str(source)).head_commit
    spec = environment_detect(checkout=source)
    specs = checks_detect(checkout=source)
    assert [(check.command, check.runner) for check in specs] == [(case.command, case.runner)]

    async def scenario() -> None:
        environment = await environment_prepare(project_id="p", commit=broken, spec=spec)
        before = await checks_run(project_id="p", commit=broken, specs=specs, environment=environment)
        assert [report.passed for report in before] == [False]
        assert before[0].exit_code and before[0].tests, before[0].output
        case.mend(source)
        git(source, "commit", "-qam", "Mend it")
        mended = repository_import_path(project_id="p", source=str(source)).head_commit
        verification = await checks_verify(
            project_id="p", base_commit=broken, commit=mended, specs=specs, before=before,
            base_environment=environment, environment=environment,
        )  # fmt: skip
        (check,) = verification.comparisons
        assert verification.outcome == "verified", (verification.reasons, verification.reports[0].output)
        assert (check.fixed, check.tests_after) == (case.fixed, case.tests), before[0].tests

    asyncio.run(scenario())

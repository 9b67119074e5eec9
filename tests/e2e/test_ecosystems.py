"""Small projects in many languages are set up, found broken, found mended, and found mended wrongly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.projects.checks import checks_detect, checks_run, checks_verify
from apps.projects.environment import environment_detect, environment_prepare
from apps.projects.sandbox.toolchains import toolchain_list
from tests.ecosystems import MAVEN_SETTINGS, SAMPLES, Sample
from tests.integration.project_sample import project_import, reachable_home

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.enable_socket]


@pytest.fixture
def source(tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # type: ignore[no-untyped-def]
    (tmp_path / "home/.m2").mkdir(parents=True)
    (tmp_path / "home/.m2/settings.xml").write_text(MAVEN_SETTINGS)
    # Where the host's toolchains are stays as it is.
    toolchain_list()
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: tmp_path / "home"))
    with reachable_home() as home:
        settings.ARCHON_HOME = home
        settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path)]
        yield tmp_path / "source"


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_project_is_set_up_found_broken_and_found_mended(sample: Sample, source: Path) -> None:
    base = project_import(source, sample.files)
    spec = environment_detect(checkout=source)
    specs = checks_detect(checkout=source)
    assert len(specs) == 1

    async def scenario() -> None:
        environment = await environment_prepare(project_id="p", commit=base, spec=spec)
        before = await checks_run(project_id="p", commit=base, specs=specs, environment=environment)
        (report,) = before
        assert not report.passed
        assert report.tests.get(sample.failing) == "failed", (report.output, report.tests, environment.log)
        assert report.tests[sample.passing] == "passed"

        async def verify(files: dict[str, str]):  # type: ignore[no-untyped-def]
            commit = project_import(source, files)
            assert environment_detect(checkout=source).key == spec.key
            return await checks_verify(
                project_id="p", base_commit=base, commit=commit, specs=specs, before=before,
                base_environment=environment, environment=environment,
            )  # fmt: skip

        good = await verify(sample.mended())
        assert good.outcome == "verified", (good.reasons, good.reports[0].output)
        assert sample.failing in good.comparisons[0].fixed
        wrong = await verify(sample.mended_wrongly())
        assert wrong.outcome == "failing"
        assert sample.failing in wrong.reasons[0]

    asyncio.run(scenario())

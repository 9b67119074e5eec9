"""Small projects in many languages are set up, found broken, found mended, and found mended wrongly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apps.projects.checks import checks_detect, checks_run, checks_verify
from apps.projects.environment import environment_detect, environment_prepare
from tests.ecosystems import CMAKE, GO, RUST, SAMPLES, Sample
from tests.integration.project_sample import project_import, reachable_home

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.sampled(3),
    pytest.mark.enable_socket,
    pytest.mark.timeout(900),
]


@pytest.fixture
def source(tmp_path: Path, settings) -> Iterator[Path]:  # type: ignore[no-untyped-def]
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


NEW_TEST = "    #[test]\n    fn adds_nothing() {\n        assert_eq!(add(0, 0), 0);\n    }\n\n    #[test]\n"
INNER = """\
pub fn add(a: i32, b: i32) -> i32 {
    a - b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds() {
        assert_eq!(add(1, 2), 3);
    }
}
"""
MANIFEST = '[package]\nname = "adder"\nversion = "0.1.0"\nedition = "2021"\n'


@pytest.mark.parametrize(
    ("change", "outcome", "said"),
    [
        # A new test in the same module as the old one, beside the mended code.
        (lambda text: text.replace("a - b", "a + b").replace("    #[test]\n", NEW_TEST, 1), "verified", ""),
        (lambda text: text.replace("add(1, 2), 3", "add(1, 2), -1"), "failing", "passes only with changed tests"),
        (lambda text: text.replace("    #[test]", "    #[test]\n    #[ignore]"), "failing", "every test was skipped"),
        # The old test can't be compiled with the new code.
        (lambda text: text.replace("a - b", "a + b").replace("b: i32", "b: &i32").replace("+ b", "+ *b")
         .replace("add(1, 2)", "add(1, &2)"), "unverified", "does not build"),
    ],
    ids=["new test", "weakened", "ignored", "signature"],
)  # fmt: skip
def test_tests_within_a_rust_source_file_are_put_back(
    change: Callable[[str], str], outcome: str, said: str, source: Path
) -> None:
    base = project_import(source, {"Cargo.toml": MANIFEST, "src/lib.rs": INNER})
    spec, specs = environment_detect(checkout=source), checks_detect(checkout=source)

    async def scenario() -> None:
        environment = await environment_prepare(project_id="p", commit=base, spec=spec)
        before = await checks_run(project_id="p", commit=base, specs=specs, environment=environment)
        commit = project_import(source, {"Cargo.toml": MANIFEST, "src/lib.rs": change(INNER)})
        verification = await checks_verify(
            project_id="p", base_commit=base, commit=commit, specs=specs, before=before,
            base_environment=environment, environment=environment,
        )  # fmt: skip
        assert verification.outcome == outcome, verification.reasons
        assert said in "".join(verification.reasons)

    asyncio.run(scenario())


@pytest.mark.parametrize("sample", [RUST, GO, CMAKE], ids=lambda sample: sample.name)
def test_a_project_that_does_not_compile_is_set_up_and_mended(sample: Sample, source: Path) -> None:
    base = project_import(source, {**sample.files, sample.path: "this is no program\n"})
    spec, specs = environment_detect(checkout=source), checks_detect(checkout=source)

    async def scenario() -> None:
        environment = await environment_prepare(project_id="p", commit=base, spec=spec)
        before = await checks_run(project_id="p", commit=base, specs=specs, environment=environment)
        assert not before[0].passed and not before[0].tests
        commit = project_import(source, sample.mended())
        verification = await checks_verify(
            project_id="p", base_commit=base, commit=commit, specs=specs, before=before,
            base_environment=environment, environment=environment,
        )  # fmt: skip
        assert verification.outcome == "verified", (verification.reasons, verification.reports[0].output)
        assert verification.reports[0].tests[sample.failing] == "passed"

    asyncio.run(scenario())


def test_a_crate_of_the_hosts_mirror_is_compiled_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reachable_home() as host:
        crate = host / "crates/strings"
        (crate / "src").mkdir(parents=True)
        (crate / "Cargo.toml").write_text('[package]\nname = "strings"\nversion = "1.0.0"\nedition = "2021"\n')
        (crate / "src/lib.rs").write_text("pub fn text(a: i32) -> String {\n    a.to_string()\n}\n")
        (crate / ".cargo-checksum.json").write_text('{"files": {}, "package": null}')
        (host / "config.toml").write_text(
            '[source.crates-io]\nreplace-with = "mirror"\n'
            f'[source.mirror]\ndirectory = "{host}/crates"\n[registry]\ntoken = "a-secret"\n'
        )
        monkeypatch.setenv("CARGO_HOME", str(host))
        files = {
            "Cargo.toml": MANIFEST + '\n[dependencies]\nstrings = "1"\n',
            "src/lib.rs": INNER + "\npub fn shown(a: i32) -> String {\n    strings::text(a)\n}\n",
        }
        base = project_import(source, files)
        spec, specs = environment_detect(checkout=source), checks_detect(checkout=source)

        async def scenario() -> None:
            environment = await environment_prepare(project_id="p", commit=base, spec=spec)
            assert environment.path is not None
            compiled = [path.name for path in (environment.path / "cargo-target/debug/deps").glob("lib*.rlib")]
            # The crate, and not what stands in the repository itself.
            assert [name.partition("-")[0] for name in compiled] == ["libstrings"]
            assert "a-secret" not in (environment.path / "cargo/config.toml").read_text()
            (report,) = await checks_run(project_id="p", commit=base, specs=specs, environment=environment)
            assert report.tests == {"adder src/lib.rs::tests::adds": "failed"}, report.output
            assert "Compiling adder" in report.output and "Compiling strings" not in report.output

        asyncio.run(scenario())

"""Projects in many languages are found by their files, and host configuration is read without its secrets."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from apps.projects.checks import checks_detect
from apps.projects.ecosystems.maven import MAVEN
from apps.projects.ecosystems.registry import (
    is_check_configuration,
    is_setup_file,
    is_test_file,
    outputs_find,
    runner_find,
    runner_get,
)
from apps.projects.ecosystems.rust import RUST
from apps.projects.ecosystems.sources import SourceCollector
from apps.projects.ecosystems.types import RunnerCall
from apps.projects.environment import detection, environment_detect
from tests.ecosystems import GO, MAKE, SAMPLES, Sample


def checkout(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture(autouse=True)
def _all_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every toolchain counts as installed: nothing is run here."""
    monkeypatch.setattr(detection, "programs_missing", lambda ecosystem, *, environment: ())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_each_kind_of_project_is_found_by_its_files(tmp_path: Path, sample: Sample) -> None:
    [spec] = checks_detect(checkout=checkout(tmp_path, sample.files))
    assert spec.ecosystem == sample.name
    environment = environment_detect(checkout=tmp_path)
    assert environment.ecosystem == ("none" if sample.name in ("cmake", "make") else sample.name)


RUST_TEST = {"Cargo.toml": "[package]\nname='a'\n", "src/lib.rs": "#[test]\nfn a() {}\n"}
POM = "<project/>"
MAKEFILE = "test:\n\ttrue\n"


@pytest.mark.parametrize(
    ("files", "commands"),
    [
        # The language's own runner goes before make, which goes before nothing.
        ({**RUST_TEST, "Makefile": MAKEFILE}, ["cargo test --no-fail-fast"]),
        ({"Makefile": MAKEFILE, "a.c": ""}, ["make test"]),
        ({"Makefile": "check: all\n"}, ["make check"]),
        ({"Makefile": "all:\n\ntest := 1\n"}, []),
        # No tests, no check.
        ({"Cargo.toml": "[package]\n", "src/lib.rs": "fn a() {}\n"}, []),
        ({"go.mod": "module a\n", "a.go": "package a\n"}, []),
        ({"pom.xml": POM}, []),
        ({"CMakeLists.txt": "project(a)\n"}, []),
        ({"composer.json": "{}", "tests/ATest.php": ""}, []),
        ({"Gemfile": ""}, []),
        # Several languages in one repository, and projects below its top.
        (
            {**RUST_TEST, "web/go.mod": "module a\n", "web/a_test.go": "package a\n", "spec/a_spec.rb": ""},
            ["cargo test --no-fail-fast", "go test ./...", "rspec"],
        ),
        ({"a/pom.xml": POM, "a/b/pom.xml": POM, "a/b/src/test/java/ATest.java": ""},
         ["mvn --batch-mode --fail-at-end test"]),
        ({"vendor/x/go.mod": "module x\n", "vendor/x/x_test.go": ""}, []),
        ({"phpunit.xml.dist": "<phpunit/>", "tests/ATest.php": ""}, ["phpunit"]),
        ({"composer.json": '{"require-dev": {"phpunit/phpunit": "^10"}}', "tests/ATest.php": ""},
         ["vendor/bin/phpunit tests"]),
        ({"Gemfile": 'gem "rspec"', "spec/a_spec.rb": ""}, ["bundle exec rspec"]),
        ({"settings.gradle.kts": "", "app/build.gradle.kts": "", "app/src/test/kotlin/ATest.kt": ""},
         ["gradle --console=plain --continue test"]),
        # What can't be read is no reason to fail.
        ({"Cargo.toml": "[[[", "src/lib.rs": "#[test]\nfn a() {}\n"}, ["cargo test --no-fail-fast"]),
        ({"composer.json": "[" * 10_000, "tests/ATest.php": ""}, []),
    ],
)  # fmt: skip
def test_checks_of_a_checkout(tmp_path: Path, files: dict[str, str], commands: list[str]) -> None:
    assert [spec.command for spec in checks_detect(checkout=checkout(tmp_path, files))] == commands


@pytest.mark.parametrize(
    ("command", "runner"),
    [
        ("cargo test --workspace", "cargo"), ("cargo +nightly test", "cargo"), ("cargo build", "command"),
        ("go test -race ./...", "go"), ("go vet ./...", "command"), ("mvn -q verify", "maven"),
        ("gradle check", "gradle"), ("./gradlew test", "command"), ("ctest --test-dir b", "ctest"),
        ("bundle exec rspec spec", "rspec"), ("bundle exec rake", "command"), ("vendor/bin/phpunit", "phpunit"),
        ("php vendor/bin/phpunit tests", "phpunit"), ("make test", "command"), ("cargo test && true", "command"),
    ],
)  # fmt: skip
def test_given_commands_are_known_for_what_they_call(command: str, runner: str) -> None:
    assert runner_find(command) == runner


@pytest.mark.parametrize(
    ("command", "tests", "selected"),
    [
        ("cargo test", ["tests/cli.rs::a b", "x src/lib.rs::tests::c"], "cargo test -- --exact 'a b' tests::c"),
        ("cargo test", ["x doc::src/lib.rs - add"], None),
        ("cargo test -- --nocapture", ["tests/cli.rs::a"], None),
        ("go test ./...", ["m::TestA/x", "m::TestB"], "go test -run '^(TestA|TestB)$' ./..."),
        ("ctest", ["adds.nothing"], r"ctest -R '^(adds\.nothing)$'"),
        ("ctest", ["adds (1)"], None),
        ("rspec", ["spec/a_spec.rb::A is (2)"], "rspec -e 'A is'"),
        ("phpunit", ['tests/A.php::A::testX with data set "a"'], "phpunit --filter '/::(testX)( |$)/'"),
        ("mvn test", ["a.b.CTest.works"],
         "mvn test '-Dtest=CTest#works' -DfailIfNoTests=false -Dsurefire.failIfNoSpecifiedTests=false"),
        ("mvn test", ["A strange name"], None),
        ("gradle test", ["a.CTest.works"], "gradle test --tests a.CTest.works"),
    ],
)  # fmt: skip
def test_single_tests_are_selected_where_that_can_be_said(command: str, tests: list[str], selected: str | None) -> None:
    runner = runner_get(runner_find(command))
    assert runner.select is not None
    call = runner.select(RunnerCall(command, {}), tests)
    assert (call.command if call else None) == selected


def test_files_are_known_for_what_they_decide() -> None:
    assert all(
        map(is_test_file, ("a/b_test.go", "src/test/java/ATest.java", "tests/x.rs", "spec/a_spec.rb", "src/tests.rs"))
    )
    assert not any(map(is_test_file, ("src/lib.rs", "adder.go", "src/main/java/Adder.java", "lib/adder.rb")))
    configuration = (
        "Cargo.toml", "build.rs", "a/.cargo/config.toml", "pom.xml", "CMakeLists.txt", "phpunit.xml.dist", ".rspec",
        "spec/spec_helper.rb", "Makefile", "go.mod", "app/build.gradle.kts", ".mvn/jvm.config",
    )  # fmt: skip
    assert all(map(is_check_configuration, configuration))
    assert all(map(is_setup_file, ("Cargo.lock", "go.sum", "Gemfile.lock", "composer.lock", "pom.xml")))


def test_sources_change_no_environment_but_of_what_compiles_them(tmp_path: Path) -> None:
    before = environment_detect(checkout=checkout(tmp_path, {**RUST_TEST, "a.c": "1"})).key
    checkout(tmp_path, {"src/lib.rs": "#[test]\nfn b() {}\n", "a.c": "2"})
    assert environment_detect(checkout=tmp_path).key == before
    checkout(tmp_path, {"Cargo.toml": "[package]\nname='b'\n"})
    assert environment_detect(checkout=tmp_path).key != before


def test_what_builds_write_is_known_unless_the_repository_has_it(tmp_path: Path) -> None:
    checkout(
        tmp_path, {**RUST_TEST, **GO.files, "jvm/pom.xml": POM, "jvm/core/pom.xml": POM, "tools/go.mod": "module t"}
    )
    assert set(outputs_find(tmp_path)) == {"target", ".go-build", "jvm/target", "jvm/core/target"}
    checkout(tmp_path, {"target/kept.txt": ""})
    assert "target" not in outputs_find(tmp_path)


def test_a_makefile_counts_as_configuration_of_what_it_checks(tmp_path: Path) -> None:
    assert is_check_configuration("Makefile") and is_test_file("tests/adding.c")
    assert checks_detect(checkout=checkout(tmp_path, MAKE.files))[0].runner == "command"


def test_cargo_sources_are_taken_over_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "config.toml").write_text(
        '[source.crates-io]\nreplace-with = "mirror"\n'
        '[source.mirror]\nregistry = "sparse+https://user:a-secret@crates.example:8443/index/"\n'
        f'[source.local]\ndirectory = "{tmp_path}/mirror"\n'
        '[registries.ours]\nindex = "sparse+https://ours.example/"\ntoken = "a-secret"\n'
        '[registry]\ntoken = "a-secret"\n'
    )
    monkeypatch.setenv("CARGO_HOME", str(tmp_path))
    collector = SourceCollector()
    assert RUST.sources is not None
    RUST.sources(collector)
    told = collector.environment["ARCHON_CARGO_CONFIG"]
    assert "secret" not in told
    assert tomllib.loads(told)["source"]["mirror"]["registry"] == "sparse+https://crates.example:8443/index/"
    assert collector.hosts == {("crates.example", 8443), ("ours.example", 443)}
    assert [bind.target for bind in collector.binds()] == [f"{tmp_path}/mirror"]
    (tmp_path / "config.toml").write_text("not toml [")
    collector = SourceCollector()
    RUST.sources(collector)
    assert "ARCHON_CARGO_CONFIG" not in collector.environment and collector.hosts


def test_maven_mirrors_are_taken_over_without_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".m2").mkdir()
    (tmp_path / ".m2/settings.xml").write_text(
        '<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xsi:schemaLocation="http://maven.apache.org/SETTINGS/1.2.0 https://maven.apache.org/xsd/settings-1.2.0.xsd">'
        "<servers><server><id>m</id><password>a-secret</password></server></servers><mirrors><mirror><id>m</id>"
        "<mirrorOf>*</mirrorOf><url>https://user:a-secret@maven.example/all</url></mirror></mirrors></settings>"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MAVEN_HOME", str(tmp_path / "none"))
    collector = SourceCollector()
    assert MAVEN.sources is not None
    MAVEN.sources(collector)
    told = collector.environment["ARCHON_MAVEN_MIRRORS"]
    assert told == "<mirror><id>m</id><mirrorOf>*</mirrorOf><url>https://maven.example/all</url></mirror>"
    assert collector.hosts == {("maven.example", 443)}
    assert collector.notes == ["The credentials for maven.example are not handed to the set-up."]
    (tmp_path / ".m2/settings.xml").write_text("<settings>")
    collector = SourceCollector()
    MAVEN.sources(collector)
    assert collector.hosts == {("repo.maven.apache.org", 443)}

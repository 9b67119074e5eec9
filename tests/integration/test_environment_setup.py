"""A project's dependencies are installed once, from where the host says, without a way to anywhere else."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.projects.checks import checks_detect, checks_run
from apps.projects.environment import (
    Environment,
    EnvironmentSetupFailed,
    environment_apply,
    environment_detect,
    environment_prepare,
    environments_delete,
)
from apps.projects.repository import diff_read
from apps.projects.worktree import worktree_changed_files, worktree_create, worktree_exclude
from tests.integration.project_sample import SAMPLE, project_import, reachable_home

pytestmark = pytest.mark.usefixtures("each_sandbox")


@pytest.fixture
def source(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for a repository, on a host whose pip gets packages from a folder alone."""
    with reachable_home() as home:
        wheels = home / "wheels"
        wheels.mkdir()
        info = "lent-2.0.dist-info"
        with zipfile.ZipFile(wheels / "lent-2.0-py3-none-any.whl", "w") as archive:
            archive.writestr("lent.py", "VALUE = 7\n")
            archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: lent\nVersion: 2.0\n")
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", f"lent.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
        settings.ARCHON_HOME = home / "archon"
        settings.ARCHON_HOME.mkdir()
        settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path)]
        yield tmp_path / "source"


def prepare(commit: str, folder: Path, command: str = "", told: list[str] | None = None) -> Environment:
    spec = environment_detect(checkout=folder, setup_command=command)
    on_progress = told.append if told is not None else None
    return asyncio.run(environment_prepare(project_id="p", commit=commit, spec=spec, on_progress=on_progress))


def test_a_package_is_installed_and_its_tests_see_it_and_every_change(source: Path) -> None:
    base = project_import(source, SAMPLE)
    told: list[str] = []
    environment = prepare(base, source, told=told)
    assert not environment.cached and environment.path is not None and environment.ecosystem == "python"
    assert "lent==2.0" in environment.log and "lent" in "".join(told)
    again = prepare(base, source)
    assert again.cached and again.path == environment.path
    fixed = project_import(source, {**SAMPLE, "src/sample/__init__.py": "def twice(number):\n    return number * 2\n"})
    specs = checks_detect(checkout=source)
    before, after = (
        asyncio.run(checks_run(project_id="p", commit=commit, specs=specs, environment=environment))[0]
        for commit in (base, fixed)
    )
    failed = [name.rpartition(".")[2] for name, result in before.tests.items() if result != "passed"]
    assert failed == ["test_twice"], before.output
    assert after.passed and len(after.tests) == 3, after.output


def test_what_the_setup_made_in_the_checkout_is_in_every_checkout_and_in_no_commit(source: Path) -> None:
    base = project_import(source, SAMPLE)
    environment = prepare(base, source)
    worktree = worktree_create(project_id="p", session_id="s", branch="archon/s", base_commit=base)
    made = environment_apply(environment=environment, checkout=worktree.path)
    worktree_exclude(worktree=worktree, paths=made)
    assert "src/sample/_made.py" in made and (worktree.path / "src/sample/_made.py").read_text() == "MADE = True\n"
    assert worktree_changed_files(worktree=worktree) == ()


def test_those_who_ask_at_the_same_time_get_one_environment(source: Path) -> None:
    commit = project_import(source, {"a.py": "x\n"})
    spec = environment_detect(checkout=source, setup_command="sleep 1; touch /env/made; echo once")

    async def three() -> list[Environment]:
        calls = (environment_prepare(project_id="p", commit=commit, spec=spec) for _ in range(3))
        return list(await asyncio.gather(*calls))

    environments = asyncio.run(three())
    assert sorted(environment.cached for environment in environments) == [False, True, True]
    assert len({environment.path for environment in environments}) == 1
    environments_delete(project_id="p")
    assert environments[0].path is not None and not environments[0].path.exists()


@pytest.mark.slow
def test_a_setup_that_fails_says_why_and_leaves_nothing(source: Path, settings: Settings) -> None:
    commit = project_import(source, {"requirements.txt": "there-is-no-such-thing\n"})
    with pytest.raises(EnvironmentSetupFailed) as failure:
        prepare(commit, source)
    assert "there-is-no-such-thing" in failure.value.message and failure.value.next_step
    assert failure.value.code == "setup_failed" and "there-is-no-such-thing" in failure.value.extra["log"]
    folder = settings.ARCHON_HOME / "environments" / "p"
    assert [entry.name for entry in folder.glob("*") if not entry.name.startswith(".")] == []
    with pytest.raises(EnvironmentSetupFailed, match=r"exit code 9:\nNothing was printed."):
        prepare(commit, source, "exit 9")
    # Which command it was is said also where it says nothing itself.
    with pytest.raises(EnvironmentSetupFailed, match=r"nosuch: command not found\n\narchon: failed: nosuch --now"):
        prepare(commit, source, "true\nnosuch --now\necho more")
    with pytest.raises(EnvironmentSetupFailed, match="archon: failed: test -e there"):
        prepare(commit, source, "test -e there")
    assert prepare(commit, source, "true").path is not None


@pytest.mark.slow
def test_a_setup_that_does_not_end_or_waits_for_input_is_stopped(source: Path, settings: Settings) -> None:
    commit = project_import(source, {"a.py": "x\n"})
    assert "nothing was typed" in prepare(commit, source, "read line || echo nothing was typed").log
    with pytest.raises(EnvironmentSetupFailed, match="asked a question, and there is nobody to answer"):
        prepare(commit, source, "python -c \"input('Really? ')\"")
    for asking in ("read -p 'Go on? ' answer", "printf 'Save it in (/tmp/x): ' && read answer"):
        with pytest.raises(EnvironmentSetupFailed, match="asked a question"):
            prepare(commit, source, asking)
    settings.ARCHON_SETUP_SECONDS = 2
    with pytest.raises(EnvironmentSetupFailed, match="did not end within 2 s"):
        prepare(commit, source, "sleep 600")


def test_a_setup_reaches_no_host_that_is_not_a_registry(source: Path) -> None:
    commit = project_import(source, {"a.py": "x\n"})
    script = "python -c \"import urllib.request; urllib.request.urlopen('http://example.org/')\""
    with pytest.raises(EnvironmentSetupFailed) as failure:
        prepare(commit, source, script)
    assert "host example.org:80 is not a configured registry" in failure.value.message
    direct = "python -c \"import socket; socket.create_connection(('127.0.0.1', 22), 2)\""
    with pytest.raises(EnvironmentSetupFailed):
        prepare(commit, source, direct)


@pytest.mark.slow
def test_what_an_agents_commit_downloads_is_not_kept_for_others(source: Path) -> None:
    plant = 'ls "$UV_CACHE_DIR/planted" 2>/dev/null || true; mkdir -p "$UV_CACHE_DIR"; touch "$UV_CACHE_DIR/planted"'
    commit = project_import(source, {"a.py": "x\n"})
    worktree = worktree_create(project_id="p", session_id="s", branch="archon/s", base_commit=commit)
    (worktree.path / "a.py").write_text("y\n")
    from datetime import UTC, datetime

    from apps.projects.worktree import worktree_commit

    own = worktree_commit(worktree=worktree, message="Plant", parent=commit, timestamp=datetime(2026, 1, 1, tzinfo=UTC))
    assert own.commit and diff_read(project_id="p", base=commit, head=own.commit).files
    prepare(own.commit, source, plant)
    assert "planted" not in prepare(commit, source, f"{plant} # users").log
    assert "planted" in prepare(commit, source, f"{plant} # users again").log

"""Real packages, as their authors released them, are set up, found broken and found mended."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from apps.projects.checks import checks_detect, checks_run, checks_verify
from apps.projects.environment import environment_detect, environment_prepare
from apps.projects.repository import repository_import_path
from tests.integration.project_sample import git, reachable_home

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.enable_socket]


@dataclass(frozen=True)
class Package:
    requirement: str
    sha256: str
    #: A line of the release, and what it is when broken.
    file: str
    right: str
    wrong: str
    at_least: int


PACKAGES = [
    # Built by flit, its tests' requirements pinned in a file.
    Package(
        "itsdangerous==2.2.0", "e0050c0b7da1eea53ffaf149c0cfbb5c6e2e2b69c4bef22c81fa6eb73e5f6173",
        "src/itsdangerous/encoding.py", "s = s.encode(encoding, errors)", "s = s.encode(encoding, errors)[::-1]", 200,
    ),
    # A compiled module beside one in Python.
    Package(
        "MarkupSafe==2.1.5", "d283d37a890ba4c1ae73ffadf8046435c76e7bc2247bbb63c00bd1a709c6544b",
        "src/markupsafe/_native.py", '.replace("<", "&lt;")', '.replace("<", "&gt;")', 50,
    ),
    # Tests run by unittest.
    Package(
        "more-itertools==10.5.0", "5482bfef7849c25dc3c6dd53a6173ae4795da2a41a80faea6700d9f5846c5da6",
        "more_itertools/recipes.py", "return list(islice(iterable, n))", "return list(islice(iterable, n + 1))", 600,
    ),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, settings) -> Iterator[Path]:  # type: ignore[no-untyped-def]
    with reachable_home() as home:
        settings.ARCHON_HOME = home
        settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path)]
        yield tmp_path


def release_unpack(package: Package, folder: Path) -> Path:
    """The release as a git repository of one commit."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:",
         "-d", str(folder / "fetched"), package.requirement],
        check=True, timeout=300,
    )  # fmt: skip
    (archive,) = (folder / "fetched").glob("*.tar.gz")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == package.sha256
    with tarfile.open(archive) as opened:
        opened.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    git(source, "init", "-qb", "main")
    git(source, "add", "-Af")
    git(source, "commit", "-qm", "Import")
    return source


def line_change(source: Path, file: str, old: str, new: str) -> str:
    path = source / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    git(source, "commit", "-qam", "Change a line")
    return repository_import_path(project_id="p", source=str(source)).head_commit


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.requirement)
def test_a_release_is_set_up_found_broken_and_found_mended(package: Package, folder: Path) -> None:
    source = release_unpack(package, folder)
    broken = line_change(source, package.file, package.right, package.wrong)
    spec = environment_detect(checkout=source)
    specs = checks_detect(checkout=source)

    async def scenario() -> None:
        environment = await environment_prepare(project_id="p", commit=broken, spec=spec)
        before = await checks_run(project_id="p", commit=broken, specs=specs, environment=environment)
        assert [report.passed for report in before] == [False]
        mended = line_change(source, package.file, package.wrong, package.right)
        verification = await checks_verify(
            project_id="p", base_commit=broken, commit=mended, specs=specs, before=before,
            base_environment=environment, environment=environment,
        )  # fmt: skip
        (check,) = verification.comparisons
        assert verification.outcome == "verified", verification.reasons
        assert check.fixed and check.tests_after >= package.at_least
        again = await environment_prepare(project_id="p", commit=mended, spec=environment_detect(checkout=source))
        assert again.cached

    asyncio.run(scenario())

"""Projects of several kinds, tools and layouts are set up from the registries and checked test by test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.projects.checks import CheckReport, checks_detect, checks_run
from apps.projects.environment import Environment, environment_detect, environment_prepare
from tests.integration.project_sample import project_import, reachable_home
from tests.npm_packages import npm_run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.enable_socket, pytest.mark.timeout(600)]

IS_ODD = {"is-odd": "3.0.1"}
NODE_TEST = """\
const test = require('node:test');
const assert = require('node:assert');
test('odd', () => assert.ok(require('is-odd')(3)));
test('even', () => assert.ok(!require('is-odd')(4)));
"""
VITEST = """\
import assert from 'node:assert';
import odd from 'is-odd';
import { test } from 'vitest';
test('odd', () => assert.ok(odd(3)));
test('even', () => assert.ok(!odd(4)));
"""


def manifest(**more: object) -> str:
    return json.dumps({"name": "sample", "version": "1.0.0", "private": True} | more)


def node(**more: object) -> dict[str, str]:
    """A package whose tests need another one."""
    merged = {"scripts": {"test": "node --test"}, "dependencies": IS_ODD, **more}
    return {"package.json": manifest(**merged), "a.test.js": NODE_TEST}


@pytest.fixture
def source(tmp_path: Path, settings) -> Iterator[Path]:  # type: ignore[no-untyped-def]
    with reachable_home() as home:
        settings.ARCHON_HOME = home
        settings.ARCHON_REPOSITORY_ROOTS = [str(tmp_path)]
        yield tmp_path / "source"


def check(source: Path, files: dict[str, str], folder: str = "") -> tuple[Environment, tuple[CheckReport, ...]]:
    commit = project_import(source, files)
    spec = environment_detect(checkout=source, folder=folder)
    specs = checks_detect(checkout=source, folder=folder)

    async def both() -> tuple[Environment, tuple[CheckReport, ...]]:
        environment = await environment_prepare(project_id="p", commit=commit, spec=spec)
        return environment, await checks_run(project_id="p", commit=commit, specs=specs, environment=environment)

    return asyncio.run(both())


def passed(report: CheckReport) -> list[str]:
    assert report.passed, f"{report.reason}\n{report.output}"
    return sorted(name for name, result in report.tests.items() if result == "passed")


def test_tox_alone_tells_the_tests(source: Path) -> None:
    tox = "[tox]\nenvlist = lint, py3\nskipsdist = true\n[testenv]\ndeps =\n    pytest\n    toolz\nsetenv = HOW = so\n"
    tox += "commands =\n    pip list\n    pytest -o python_files=spec_*.py {posargs:specs}\n    python specs/more.py\n"
    spec = (
        "import os\nimport toolz\n\ndef test_first():\n    assert toolz.first([1]) == 1 and os.environ['HOW'] == 'so'\n"
    )
    _, (first, second) = check(source, {"tox.ini": tox, "specs/spec_a.py": spec, "specs/more.py": "assert True\n"})
    assert passed(first) == ["specs/spec_a.py::test_first"] and passed(second) == []


def test_nox_alone_tells_the_tests(source: Path) -> None:
    nox = "import nox\n\n@nox.session\ndef tests(session):\n    session.install('pytest', 'toolz')\n"
    nox += "    session.run('pytest', '-o', 'python_files=spec_*.py', *session.posargs)\n"
    spec = "import toolz\n\ndef test_first():\n    assert toolz.first([1]) == 1\n"
    _, (report,) = check(source, {"noxfile.py": nox, "specs/spec_a.py": spec})
    assert passed(report) == ["specs/spec_a.py::test_first"]


def test_a_back_end_in_python_and_a_front_end_in_node_are_both_set_up_and_checked(source: Path) -> None:
    files = {f"frontend/{name}": content for name, content in node().items()}
    files |= {"requirements.txt": "toolz==1.0.0\n", "tests/test_api.py": "import toolz\n\ndef test_api():\n    pass\n"}
    environment, (python, javascript) = check(source, files)
    assert environment.ecosystem == "python+node"
    assert passed(python) == ["tests/test_api.py::test_api"]
    assert javascript.name == "frontend: npm test" and passed(javascript) == ["a.test.js::even", "a.test.js::odd"]


@pytest.mark.parametrize("manager", ["pnpm@9.15.9", "yarn@1.22.22", "yarn@4.9.4"])
def test_each_manager_installs_what_its_lock_file_says(source: Path, tmp_path: Path, manager: str) -> None:
    name = manager.partition("@")[0]
    files = node(packageManager=manager, dependencies={"is-odd": "3.0.1"}, devDependencies={"vitest": "3.2.4"})
    files["package.json"] = files["package.json"].replace("node --test", "vitest run")
    files["a.test.js"] = VITEST
    lock = tmp_path / "lock"
    lock.mkdir()
    (lock / "package.json").write_text(files["package.json"])
    package = manager if not manager.startswith("yarn@4") else "@yarnpkg/cli-dist@4.9.4"
    arguments = {"pnpm": ["install", "--lockfile-only"], "yarn": ["install"]}[name]
    if manager.startswith("yarn@4"):
        files[".yarnrc.yml"] = "nodeLinker: node-modules\n"
        (lock / ".yarnrc.yml").write_text(files[".yarnrc.yml"])
        (lock / "yarn.lock").write_text("")
        arguments = ["install", "--mode=update-lockfile"]
    npm_run(lock, "exec", "--yes", f"--package={package}", "--", name, *arguments)
    lock_name = "pnpm-lock.yaml" if name == "pnpm" else "yarn.lock"
    _, (report,) = check(source, {**files, lock_name: (lock / lock_name).read_text()})
    assert report.name == f"{name} test" and passed(report) == ["a.test.js::even", "a.test.js::odd"]


def test_the_packages_of_a_workspace_see_each_other(source: Path) -> None:
    files = {
        "package.json": manifest(workspaces=["packages/*"], scripts={"test": "npm test --workspaces"}),
        "packages/a/package.json": manifest(name="@sample/a", main="index.js", scripts={"test": "node --test"}),
        "packages/a/index.js": "module.exports = 7;\n",
        "packages/a/a.test.js": "require('node:test')('a', () => {});\n",
        "packages/b/package.json": manifest(
            name="@sample/b", dependencies={**IS_ODD, "@sample/a": "*"}, scripts={"test": "node --test"}
        ),
        "packages/b/b.test.js": "const odd = require('is-odd');\nconst assert = require('node:assert');\n"
        "require('node:test')('b', () => assert.ok(odd(require('@sample/a'))));\n",
    }
    _, (report,) = check(source, files)
    assert passed(report) == ["packages/a/a.test.js::a", "packages/b/b.test.js::b"]
    # The same seen from one of its folders.
    _, (inner,) = check(source, files, folder="packages/b")
    assert passed(inner) == ["b.test.js::b"]


def test_scripts_of_packages_run_in_the_set_up_and_what_they_make_is_kept(source: Path) -> None:
    files = node(scripts={"test": "node --test", "postinstall": "node make.js"})
    files["make.js"] = "require('fs').writeFileSync('made.json', '7');\n"
    files["a.test.js"] += "test('made', () => assert.strictEqual(require('./made.json'), 7));\n"
    _, (report,) = check(source, files)
    assert passed(report) == ["a.test.js::even", "a.test.js::made", "a.test.js::odd"]


def test_tools_from_npm_that_cannot_be_had_do_not_hold_up_a_python_project(source: Path) -> None:
    files = {"package.json": manifest(devDependencies={"there-is-no-such-thing-as-this": "99.0.0"}), "make.py": ""}
    files["tests/test_a.py"] = "def test_a():\n    pass\n"
    environment, (report,) = check(source, files)
    assert passed(report) == ["tests/test_a.py::test_a"]
    assert "left out: the packages of Node" in environment.log

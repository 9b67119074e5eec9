"""What a package.json, its lock file and its scripts say about set-up and checks; several projects in one checkout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apps.core.errors import InvalidInput
from apps.projects.checks.detection import checks_detect, command_runner
from apps.projects.ecosystems.node_scripts import package_read, script_runner
from apps.projects.ecosystems.registry import is_check_configuration, is_test_file, paths_in_the_way
from apps.projects.environment.detection import environment_detect, is_setup_file

CASE = "import unittest\n\nclass A(unittest.TestCase):\n    def test_a(self): pass\n"
NODE_TEST = "import test from 'node:test';\n"


def checkout(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def package(**more: object) -> str:
    return json.dumps({"name": "a", **more})


def scripts(**named: str) -> str:
    return package(scripts=named)


@pytest.mark.parametrize(
    ("named", "runner"),
    [
        ({"test": "vitest run"}, "vitest"),
        ({"test": "node --test"}, "node-test"),
        ({"test": "node --import tsx --test test/*.ts"}, "node-test"),
        ({"test": "npm run build && cross-env NODE_ENV=test jest --ci"}, "jest"),
        ({"test": "c8 mocha 'test/**/*.js'"}, "mocha"),
        ({"test": "./node_modules/.bin/mocha"}, "mocha"),
        ({"test": "npm run lint && npm run test:unit", "lint": "eslint .", "test:unit": "vitest"}, "vitest"),
        ({"test": "yarn unit", "unit": "jest"}, "jest"),
        ({"test": "react-scripts test"}, "jest"),
        ({"test": "npm test"}, "command"),
        ({"test": "eslint jest.config.js"}, "command"),
        ({"test": "tape test.js"}, "command"),
        ({"test": "node --test-reporter tap x.js"}, "command"),
    ],
)
def test_a_script_comes_to_a_runner(tmp_path: Path, named: dict[str, str], runner: str) -> None:
    read = package_read(checkout(tmp_path, {"package.json": scripts(**named)}))
    assert read is not None and script_runner(read) == runner


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"package.json": scripts(test="vitest run")}, [("npm test", "vitest")]),
        ({"package.json": scripts(test="jest"), "yarn.lock": ""}, [("yarn test", "jest")]),
        ({"package.json": scripts(test="jest"), "pnpm-lock.yaml": ""}, [("pnpm test", "jest")]),
        ({"package.json": scripts(test='echo "Error: no test specified" && exit 1')}, []),
        ({"package.json": package(devDependencies={"mocha": "1"})}, [("npx mocha", "mocha")]),
        ({"package.json": scripts(build="x"), "a.test.js": NODE_TEST}, [("node --test", "node-test")]),
        ({"test/a.mjs": NODE_TEST}, [("node --test", "node-test")]),
        ({"package.json": "[[", "a.test.js": NODE_TEST}, [("node --test", "node-test")]),
        ({"package.json": '{"scripts": 7, "dependencies": []}'}, []),
        ({"node_modules/a/package.json": scripts(test="jest")}, []),
        ({"docs/package.json": scripts(test="jest")}, []),
        ({"web/package.json": scripts(test="jest"), "web/x/package.json": scripts(test="x")}, [("npm test", "jest")]),
    ],
)
def test_a_package_tells_its_checks(tmp_path: Path, files: dict[str, str], found: list[tuple[str, str]]) -> None:
    assert [(spec.command, spec.runner) for spec in checks_detect(checkout=checkout(tmp_path, files))] == found


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({"package-lock.json": "{}"}, ["npm ci"]),
        ({}, ["npm install --no-package-lock"]),
        ({"pnpm-lock.yaml": "lockfileVersion: '9.0'\n"}, ["need pnpm 9.15.9 any", "--frozen-lockfile"]),
        ({"pnpm-lock.yaml": "lockfileVersion: 5.4\n"}, ["need pnpm 7.33.7 any"]),
        ({"yarn.lock": "# yarn lockfile v1\n"}, ["need yarn 1.22.22 any yarn", "--frozen-lockfile"]),
        ({"yarn.lock": "__metadata:\n"}, ["need yarn 4.9.4 exactly @yarnpkg/cli-dist", "--immutable"]),
    ],
)
def test_the_lock_file_tells_the_manager(tmp_path: Path, files: dict[str, str], parts: list[str]) -> None:
    manifest = {"package.json": package(dependencies={"b": "1"})}
    spec = environment_detect(checkout=checkout(tmp_path, {**manifest, **files}))
    assert spec.ecosystem == "node"
    for part in parts:
        assert part in spec.setup_command


def test_the_named_version_of_a_manager_is_installed(tmp_path: Path) -> None:
    manifest = package(dependencies={"b": "1"}, packageManager="pnpm@8.6.1+sha256.abc")
    spec = environment_detect(checkout=checkout(tmp_path, {"package.json": manifest, "pnpm-lock.yaml": ""}))
    assert "need pnpm 8.6.1 exactly pnpm" in spec.setup_command
    hostile = package(dependencies={"b": "1"}, packageManager="pnpm@1.0.0;touch x")
    spec = environment_detect(checkout=checkout(tmp_path, {"package.json": hostile}))
    assert "touch x" not in spec.setup_command


def test_a_package_without_dependencies_needs_nothing(tmp_path: Path) -> None:
    spec = environment_detect(checkout=checkout(tmp_path, {"package.json": scripts(test="node --test")}))
    assert (spec.ecosystem, spec.setup_command) == ("none", "")


def test_every_lock_file_is_part_of_the_key(tmp_path: Path) -> None:
    files = {"package.json": package(dependencies={"b": "1"}), "requirements.txt": "x\n", "a.py": ""}
    key = environment_detect(checkout=checkout(tmp_path, files)).key
    for name in ("package-lock.json", "packages/a/b/package.json", "pnpm-workspace.yaml", ".npmrc"):
        assert is_setup_file(name)
        changed = environment_detect(checkout=checkout(tmp_path, {name: "{}"})).key
        assert changed != key
        key = changed


def test_a_back_end_and_a_front_end_are_both_found(tmp_path: Path) -> None:
    files = {
        "backend/requirements.txt": "x\n",
        "backend/tests/test_a.py": CASE,
        "frontend/package.json": package(scripts={"test": "jest"}, dependencies={"b": "1"}),
    }
    spec = environment_detect(checkout=checkout(tmp_path, files))
    assert spec.ecosystem == "python+node"
    assert "(\ncd backend\n" in spec.setup_command and "(\ncd frontend\n" in spec.setup_command
    specs = checks_detect(checkout=tmp_path)
    assert [(found.name, found.folder) for found in specs] == [
        ("backend: unittest", "backend"),
        ("frontend: npm test", "frontend"),
    ]
    # Tests outside of both are tests of the whole.
    checkout(tmp_path, {"tests/test_all.py": CASE})
    assert checks_detect(checkout=tmp_path)[0].folder == ""


def test_a_named_folder_is_all_that_is_looked_at(tmp_path: Path) -> None:
    files = {"package.json": scripts(test="jest"), "a b/package.json": scripts(test="mocha"), "a b/x/y.txt": ""}
    checkout(tmp_path, files)
    (found,) = checks_detect(checkout=tmp_path, folder="a b/")
    assert (found.name, found.runner, found.folder) == ("npm test", "mocha", "a b")
    (given,) = checks_detect(checkout=tmp_path, folder="a b", commands=["make test"])
    assert given.folder == "a b"
    assert (
        "cd 'a b'\nmake deps"
        in environment_detect(checkout=tmp_path, folder="a b", setup_command="make deps").setup_command
    )
    (tmp_path / "out").symlink_to("/etc")
    for folder in ("missing", "../x", "/etc", "out", "a b/../../x", "package.json"):
        with pytest.raises(InvalidInput):
            checks_detect(checkout=tmp_path, folder=folder)


@pytest.mark.parametrize(
    ("command", "runner"),
    [
        ("npx vitest run", "vitest"),
        ("npx --yes jest", "jest"),
        ("pnpm exec mocha test", "mocha"),
        ("node --test", "node-test"),
        ("node --test-only --test x", "node-test"),
        ("node x.js --test", "command"),
        ("npm test", "command"),
        ("vitest run && true", "command"),
    ],
)
def test_plain_calls_are_recognised(command: str, runner: str) -> None:
    assert command_runner(command) == runner


def test_files_of_the_node_world_are_told_apart() -> None:
    configuration = (
        "package.json", "web/vite.config.ts", "vitest.config.mts", ".mocharc.yml", "jest.setup.js", ".npmrc",
        "babel.config.js", "tsconfig.json", "test/setup-tests.ts", "yarn.lock", "src/setupTests.ts", ".env.test",
    )  # fmt: skip
    assert [path for path in configuration if not is_check_configuration(path)] == []
    tests = (
        "a.test.ts",
        "src/a.spec.jsx",
        "__mocks__/fs.js",
        "src/__snapshots__/a.snap",
        "test.js",
        "test-a.mjs",
        "run-tests.js",
    )
    assert [path for path in tests if not is_test_file(path)] == []
    source = ("src/a.ts", "src/latest.js", "src/contest.js", "index.js", "src/config.js", "src/environment.ts")
    assert [path for path in source if is_test_file(path) or is_check_configuration(path)] == []
    changed = ["src/a.js", "node_modules/vitest/index.js", "src/node_modules/b.js", "node_modules"]
    assert paths_in_the_way(changed, before=[], environment=None) == tuple(sorted(changed[1:]))

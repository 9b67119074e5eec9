"""Packages of npm's as they were released, with tests of what they do, and a bug."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders import git
from tests.packages import CACHE


@dataclass(frozen=True)
class NpmCase:
    name: str
    version: str
    #: As the registry has told it for good.
    integrity: str
    #: The file with the bug, what stands there, and what takes its place.
    path: str
    good: str
    bad: str
    #: The runner that is found, the command, and what the package then needs and calls.
    runner: str
    command: str
    script: str
    needs: tuple[str, ...]
    test_path: str
    test: str
    fixed: tuple[str, ...]
    tests: int
    #: Make a lock file by this manager.
    lock: bool = False

    def checkout(self, folder: Path) -> Path:
        """A repository with a commit of the package and its tests, and one that brings the bug."""
        root = folder / self.name
        with tarfile.open(self._archive()) as archive:
            archive.extractall(folder / "unpacked", filter="data")
        shutil.move(folder / "unpacked" / "package", root)
        manifest = json.loads((root / "package.json").read_text())
        manifest["scripts"] = {"test": self.script}
        manifest["devDependencies"] = dict(need.rsplit("@", 1) for need in self.needs)
        (root / "package.json").write_text(json.dumps(manifest, indent=2) + "\n")
        (root / self.test_path).parent.mkdir(exist_ok=True)
        (root / self.test_path).write_text(self.test)
        if self.lock:
            npm_run(root, "install", "--package-lock-only", "--no-audit", "--no-fund")
        git(root, "init", "--quiet", "--initial-branch", "main")
        git(root, "add", "--all", "--force")
        git(root, "commit", "--quiet", "--message", f"{self.name} {self.version}")
        self._replace(root, self.good, self.bad)
        git(root, "commit", "--quiet", "--all", "--message", "Simplify")
        return root

    def mend(self, root: Path) -> None:
        self._replace(root, self.bad, self.good)

    def _replace(self, root: Path, old: str, new: str) -> None:
        text = (root / self.path).read_text()
        assert text.count(old) == 1, f"{self.path} is not as expected"
        (root / self.path).write_text(text.replace(old, new))

    def _archive(self) -> Path:
        CACHE.mkdir(parents=True, exist_ok=True)
        path = CACHE / f"{self.name}-{self.version}.tgz"
        with (CACHE / "npm.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                npm_run(CACHE, "pack", "--silent", f"{self.name}@{self.version}")
            digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
            assert f"sha512-{digest}" == self.integrity, f"{path.name} is another one"
        return path


def npm_run(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["npm", *arguments], cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "CI": "1"}
    )
    if done.returncode != 0:
        pytest.fail(f"npm {arguments[0]} failed:\n{done.stderr[-2000:]}")


MS = NpmCase(
    name="ms",
    version="2.1.3",
    integrity="sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA==",
    path="index.js",
    good="var d = h * 24;",
    bad="var d = h * 12;",
    runner="node-test",
    command="npm test",
    script="node --test",
    needs=(),
    test_path="test/ms.test.js",
    test="""\
const { describe, it } = require('node:test');
const assert = require('node:assert');
const ms = require('..');

describe('ms', () => {
  it('parses days', () => assert.strictEqual(ms('2 days'), 172800000));
  it('parses hours', () => assert.strictEqual(ms('1h'), 3600000));
  describe('long', () => {
    it('writes days', () => assert.strictEqual(ms(172800000, { long: true }), '2 days'));
    it('writes minutes', () => assert.strictEqual(ms(-3 * 60000, { long: true }), '-3 minutes'));
  });
});
""",
    fixed=("test/ms.test.js::ms > parses days", "test/ms.test.js::ms > long > writes days"),
    tests=4,
)
CAMELCASE = NpmCase(
    name="camelcase",
    version="8.0.0",
    integrity="sha512-8WB3Jcas3swSvjIeA2yvCJ+Miyz5l1ZmB6HFb9R1317dt9LCQoswg/BGrmAmkWVEszSrrg4RwmO46qIm2OEnSA==",
    path="index.js",
    good="const SEPARATORS = /[_.\\- ]+/;",
    bad="const SEPARATORS = /[_\\- ]+/;",
    runner="vitest",
    command="npm test",
    script="vitest run",
    needs=("vitest@3.2.4",),
    test_path="test/camelcase.test.js",
    test="""\
import { describe, expect, it } from 'vitest';
import camelCase from '../index.js';

describe('camelcase', () => {
  it('joins at dots', () => expect(camelCase('foo.bar')).toBe('fooBar'));
  it('joins at dashes', () => expect(camelCase('--foo-bar--')).toBe('fooBar'));
  it.each([['a_b', 'AB'], ['x-y', 'XY']])('writes %s in Pascal case', (given, made) => {
    expect(camelCase(given, { pascalCase: true })).toBe(made);
  });
  it.skip('waits', () => {});
});
""",
    fixed=("test/camelcase.test.js::camelcase > joins at dots",),
    tests=4,
    lock=True,
)
SEMVER = NpmCase(
    name="semver",
    version="7.7.2",
    integrity="sha512-RF0Fw+rO5AMf9MAyaRXI4AV0Ulj5lMHqVxxdSgiVbixSCXoEmmX/jk0CuJw4+3SqroYO9VoUh+HcuJivvtJemA==",
    path="functions/gt.js",
    good="compare(a, b, loose) > 0",
    bad="compare(a, b, loose) >= 0",
    runner="jest",
    command="npm test",
    script="npm run lint --if-present && NODE_OPTIONS=--no-warnings jest",
    needs=("jest@30.2.0",),
    test_path="__tests__/compare.js",
    test="""\
const semver = require('..');

describe('semver', () => {
  test('an equal version is not greater', () => expect(semver.gt('1.2.3', '1.2.3')).toBe(false));
  test('a greater version is', () => expect(semver.gt('1.10.0', '1.9.0')).toBe(true));
  test('a prerelease comes before', () => expect(semver.gt('1.0.0-rc.1', '1.0.0')).toBe(false));
});
""",
    fixed=("__tests__/compare.js::semver > an equal version is not greater",),
    tests=3,
)
ESCAPE = NpmCase(
    name="escape-string-regexp",
    version="4.0.0",
    integrity="sha512-TtpcNJ3XAzx3Gq8sWRzJaVajRs0uVxA2YAkdb1jm2YkPz4G6egUFAyA3n5vtEIZefPk5Wa4UXbKuS5fKkJWdgA==",
    path="index.js",
    good="'\\\\x2d'",
    bad="'\\\\-'",
    runner="mocha",
    command="npm test",
    script="mocha --reporter dot test && echo done",
    needs=("mocha@11.7.4",),
    test_path="test/escape.js",
    test="""\
const assert = require('assert');
const escape = require('..');

describe('escape', () => {
  it('escapes dashes for every flag', () => assert.strictEqual(escape('a-b'), 'a\\\\x2db'));
  it('escapes what has a meaning', () => assert.strictEqual(escape('(*.*)'), '\\\\(\\\\*\\\\.\\\\*\\\\)'));
});
""",
    fixed=("test/escape.js::escape > escapes dashes for every flag",),
    tests=2,
)
CASES = (MS, CAMELCASE, SEMVER, ESCAPE)

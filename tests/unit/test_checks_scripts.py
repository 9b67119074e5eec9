"""Which files a check runs by name: those that say what it asks for."""

from __future__ import annotations

import json

import pytest

from apps.projects.checks.scripts import scripts_named

SCRIPTS = {"smoke": "npm run inner", "inner": "node run.js && npm run smoke", "all": "sh ../ci/smoke.sh", "ci": "ci"}
FILES = {
    "verify.py": "",
    "ci/smoke.sh": "",
    "tools/verify/__main__.py": "",
    "src/calc.py": "",
    "CHANGES": "",
    "run": "",
    "web/run.js": "",
    "web/package.json": json.dumps({"scripts": SCRIPTS}),
}


def named(command: str, files: dict[str, str], folder: str = "") -> tuple[str, ...]:
    return scripts_named(command, folder=folder, paths=files, read=lambda path: files.get(path, ""))


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("python3 verify.py", ("verify.py",)),
        ("PYTHONPATH=src python -W error ./verify.py --all", ("verify.py",)),
        ("python -m tools.verify", ("tools/verify/__main__.py",)),
        ("uv run python verify.py && sh ci/smoke.sh", ("verify.py", "ci/smoke.sh")),
        ("cd ci && bash -e smoke.sh", ("ci/smoke.sh",)),
        ("(cd ci; ./smoke.sh)", ("ci/smoke.sh",)),
        ("./run", ("run",)),
        ("/workspace/run | tee out", ("run",)),
        ("timeout 5 true; . ci/smoke.sh", ("ci/smoke.sh",)),
        ("cd web && npm run -s smoke", ("web/run.js",)),
        ("npm --prefix web run smoke; yarn --cwd=web all", ("web/run.js", "ci/smoke.sh")),
        # As bash takes a line apart.
        ("timeout 60 env -C ci bash -euo pipefail smoke.sh", ("ci/smoke.sh",)),
        ("bash -c 'cd ci && sh smoke.sh'", ("ci/smoke.sh",)),
        ("(cd web); sh smoke.sh; (cd ci && sh smoke.sh)", ("ci/smoke.sh",)),
        ("pushd web >/dev/null && popd && python3 verify.py", ("verify.py",)),
        ("pushd ci; sh smoke.sh; cd ..; popd; ./run", ("ci/smoke.sh", "run")),
        ("if [ -d ci ]; then cd ci; fi; sh smoke.sh", ("ci/smoke.sh",)),
        ("bash <<'E'\npython3 verify.py\nE", ("verify.py",)),
        ("ls | xargs -n1 sh ci/smoke.sh", ("ci/smoke.sh",)),
        ('cd "$(git rev-parse --show-toplevel)" && sh "$PWD/ci/smoke.sh"', ("ci/smoke.sh",)),
        ("sh 'ci/smoke.sh' ';' ./run", ("ci/smoke.sh",)),
        ("echo 'a; sh ci/smoke.sh'; cat <<E\nsh ci/smoke.sh\nE", ()),
        # A line that the grammar doesn't take.
        ("sh ci/smoke.sh; case x in esac <<", ("ci/smoke.sh",)),
        # What is only looked at is the code that is checked, and so is what a runner is told to look at.
        ("grep -q hex CHANGES", ()),
        ("test -s verify.py", ()),
        ("python -m compileall -q src/calc.py", ()),
        ("python -c 'import verify' verify.py", ()),
        ("ruff check src/calc.py", ()),
        ("run", ()),
        ("", ()),
        ("echo 'unfinished", ()),
    ],
)
def test_scripts_of_a_command(command: str, found: tuple[str, ...]) -> None:
    assert named(command, FILES) == found


def test_where_the_check_runs_counts() -> None:
    assert named("sh smoke.sh", FILES, "ci") == ("ci/smoke.sh",)
    assert named("sh smoke.sh", FILES) == ()


CALLED = {
    "verify.sh": "#!/bin/sh\nset -e\nsh helpers/run_checks.sh\n./bin/tool --check\npython3 checks.py\nsh build.sh\n",
    "helpers/run_checks.sh": 'cd "$(dirname "$0")/.."\n. ci/lint.sh\n"$ROOT/qa/all" && sh verify.sh\n',
    "ci/lint.sh": "sh ../helpers/run_checks.sh\nsh helpers/run_checks.sh\n",
    "qa/all": "#!/usr/bin/env bash\n( cd qa; bash more-checks )\n",
    "qa/more-checks": "exec ./bin/check\n",
    "bin/check": "#!/usr/bin/env python3\n",
    "bin/tool": "#!/bin/sh\n",
    "checks.py": "",
    "build.sh": "",
    "Makefile": (
        "CI = ci\nall:\n\t./bin/tool\n\ncheck: lint ## all of them\n\t@python3 checks.py && $(MAKE) -C . more\n"
        "lint: ; -sh $(CI)/lint.sh\nmore:\n\tcd qa && \\\n\t  bash ./all\n\tsh build.sh\n"
    ),
    "package.json": json.dumps({"scripts": {"verify": "sh verify.sh", "py": "make check && python3 checks.py"}}),
}
DRIVERS = ("helpers/run_checks.sh", "ci/lint.sh", "qa/all", "qa/more-checks")


@pytest.mark.parametrize(
    ("command", "found"),
    [
        # Scripts of the shell whose names tell of checks are a part of the check; the rest may be what it looks at.
        ("sh verify.sh", ("verify.sh", *DRIVERS)),
        ("npm run verify", ("verify.sh", *DRIVERS)),
        ("make check", ("verify.sh", *DRIVERS)),
        ("make", ()),
        ("env -C qa make -f ../Makefile nothing", ()),
        # What the package says is the check's own line.
        ("npm run py", ("verify.sh", *DRIVERS, "checks.py")),
        ("sh build.sh", ("build.sh",)),
    ],
)
def test_what_a_script_calls_in_turn(command: str, found: tuple[str, ...]) -> None:
    assert sorted(named(command, CALLED)) == sorted(found)


def test_what_calls_itself_or_goes_deep_comes_to_an_end() -> None:
    files = {f"check-{number}.sh": f"sh check-{number + 1}.sh; sh check-{number}.sh" for number in range(50)}
    assert named("sh check-0.sh", files) == tuple(f"check-{number}.sh" for number in range(8))
    assert named("make a", {"Makefile": "a: b\n\tmake a\nb: a\n\tsh check.sh\n", "check.sh": ""}) == ("check.sh",)
    assert named("npm test", {"package.json": '{"scripts": {"test": "npm test && npm run no"}}'}) == ()
    assert named("npm test", {"package.json": "[]"}) == named("npm test", {"package.json": "{"}) == ()
    assert named("npm test", {"package.json": "[" * 100_000}) == ()

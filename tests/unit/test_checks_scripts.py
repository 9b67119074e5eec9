"""Which files a check runs by name: those that say what it asks for."""

from __future__ import annotations

import pytest

from apps.projects.checks.scripts import scripts_named

PATHS = {"verify.py", "ci/smoke.sh", "tools/verify/__main__.py", "src/calc.py", "CHANGES", "run", "web/run.js"}


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
        # What is only looked at is the code that is checked, and so is what a runner is told to look at.
        ("grep -q hex CHANGES", ()),
        ("test -s verify.py", ()),
        ("python -m compileall -q src/calc.py", ()),
        ("python -c 'import verify' verify.py", ()),
        ("ruff check src/calc.py", ()),
        ("", ()),
        ("echo 'unfinished", ()),
    ],
)
def test_scripts_of_a_command(command: str, found: tuple[str, ...]) -> None:
    scripts = {"smoke": "npm run inner", "inner": "node run.js && npm run smoke"}
    assert scripts_named(command, paths=PATHS, scripts=scripts) == found


def test_where_the_check_runs_counts() -> None:
    assert scripts_named("sh smoke.sh", folder="ci", paths=PATHS) == ("ci/smoke.sh",)
    assert scripts_named("sh smoke.sh", paths=PATHS) == ()

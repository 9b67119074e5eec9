"""What kind of project a checkout is, and the script that installs what it needs."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from apps.projects.environment.python_tests import PythonTests, python_tests_find
from apps.projects.environment.requirements import (
    PythonRequirements,
    requirements_read,
    text_read,
)
from apps.projects.environment.types import EnvironmentSpec
from apps.projects.sandbox import sandbox_python
from apps.projects.workspace import SANDBOX_ENVIRONMENT

#: Part of every key: raised when the same files would give another environment.
_FORMAT = "1"
#: Files that decide what gets installed, wherever they are.
_LOCK_NAMES = re.compile(
    r"pyproject\.toml|setup\.(py|cfg)|tox\.ini|.*requirements?.*\.txt|MANIFEST\.in|Pipfile(\.lock)?|poetry\.lock|uv\.lock|"
    r"pdm\.lock|pylock.*\.toml|environment\.ya?ml|constraints?.*\.txt|PKG-INFO|package(-lock)?\.json|pnpm-lock\.yaml|"
    r"yarn\.lock|go\.(mod|sum)|Cargo\.(toml|lock)|pom\.xml|build\.gradle(\.kts)?|Gemfile(\.lock)?"
)
#: Sources that a set-up compiles.
_COMPILED_SUFFIXES = {".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".pyx", ".pxd", ".pyf", ".f90", ".rs", ".s"}
_SKIPPED_FOLDERS = {".git", "node_modules", ".venv", "venv", ".tox", "__pycache__"}
_VERSION = re.compile(r"^Version:\s*([\w.!+-]+)\s*$", re.MULTILINE)

#: Projects that turn warnings into errors and don't bound pytest's version would fail over what a newer pytest than
#: theirs announces.
_PYTEST_ENV = {"PYTEST_ADDOPTS": "-W ignore::pytest.PytestDeprecationWarning"}

_SCRIPT = """\
note() {{ echo "archon: $*" >&2; }}
install() {{ uv pip install "$@"; }}
uv venv --quiet --python {python} {environment}
# What `python -m venv` would have put there, from the copies that Python carries for that.
bundled=$(python -c "import ensurepip as e; print(getattr(e, '_WHEEL_PKG_DIR', None) or e.__path__[0] + '/_bundled')")
export UV_COMPILE_BYTECODE=0
install --quiet --no-index --find-links "$bundled" pip setuptools || note "pip is not in the environment"
export UV_COMPILE_BYTECODE=1
"""


def environment_detect(*, checkout: Path, setup_command: str = "") -> EnvironmentSpec:
    """What the checkout needs. A given command is run in an activated, otherwise empty Python environment; without one
    the script is put together from what the project declares. Nothing of the project is run for this."""
    tests = python_tests_find(checkout)
    if setup_command.strip():
        script = _script() + setup_command.strip() + "\n"
        return _spec(checkout, "command", "the project's set-up command", script)
    needs = requirements_read(checkout, tests=(text_read(checkout / name) for name in tests.files[:400]))
    # Any Python at all gets an environment, if an empty one: the interpreter has one name and place in it everywhere.
    has_python = tests.files or any(checkout.glob("*.py")) or any(checkout.glob("*/*.py"))
    if not (needs.installable or needs.base_files or needs.test_files or tests.runner or has_python):
        return EnvironmentSpec("none", "no dependencies found", "", "")
    return _spec(checkout, "python", _describe(needs, tests), _script() + _python_script(needs, tests))


def setup_files(checkout: Path) -> tuple[str, ...]:
    """The files that the environment's key is made from, by path."""
    found: list[str] = []
    for folder, folders, files in os.walk(checkout):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS and not name.endswith(".egg-info"))
        depth = len(Path(folder).relative_to(checkout).parts)
        for name in files:
            compiled = os.path.splitext(name)[1].lower() in _COMPILED_SUFFIXES
            if compiled or (depth <= 2 and _LOCK_NAMES.fullmatch(name)):
                found.append((Path(folder) / name).relative_to(checkout).as_posix())
    return tuple(sorted(found))


def is_setup_file(path: str) -> bool:
    """Whether a change of this file can change the environment."""
    return bool(_LOCK_NAMES.fullmatch(Path(path).name)) or Path(path).suffix.lower() in _COMPILED_SUFFIXES


def _spec(checkout: Path, ecosystem: str, description: str, script: str) -> EnvironmentSpec:
    digest = hashlib.sha256()
    for part in (_FORMAT, sys.version, platform.machine(), script):
        digest.update(f"{part}\0".encode())
    for name in setup_files(checkout):
        path = checkout / name
        if not path.is_symlink():
            digest.update(
                f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode("utf-8", "surrogateescape")
            )
    return EnvironmentSpec(
        ecosystem=ecosystem,
        description=description,
        setup_command=script,
        key=digest.hexdigest()[:32],
        variables=_version_variables(checkout),
        env=dict(_PYTEST_ENV),
    )


def _script() -> str:
    return _SCRIPT.format(python=shlex.quote(sandbox_python()), environment=SANDBOX_ENVIRONMENT)


def _python_script(needs: PythonRequirements, tests: PythonTests) -> str:
    """Everything in one resolution; where that fails, what can't be done without, and the rest piece by piece."""
    project = ["-e", f".[{','.join(needs.extras)}]" if needs.extras else "."] if needs.installable else []
    base = [argument for name in needs.base_files for argument in ("-r", name)]
    tested = ["pytest"] if tests.runner == "pytest" else []
    pieces: list[list[str]] = [
        *(["--group", name] for name in needs.groups),
        *(["-r", name] for name in needs.test_files),
        *([requirement] for requirement in needs.test_requirements),
    ]
    everything = [*project, *base, *(argument for piece in pieces for argument in piece), *tested]
    if not pieces and not needs.extras:
        return f"install {shlex.join(everything)}\n" if everything else ""
    necessary = [*(["-e", "."] if project else []), *base, *tested]
    lines = [f"if ! install {shlex.join(everything)}; then"]
    lines.append('  note "not everything can be installed together; trying the parts"')
    lines.append(f"  install {shlex.join(necessary)}" if necessary else "  :")
    optional = [["-e", f".[{extra}]"] for extra in needs.extras] + pieces
    for piece in optional:
        words = shlex.join(piece)
        lines.append(f"  install {words} || note {shlex.quote(f'left out: {words}')}")
    lines.append("fi")
    return "\n".join(lines) + "\n"


def _version_variables(checkout: Path) -> dict[str, str]:
    """The version for projects that take it from git's tags, in a source archive, which has none but says it."""
    match = _VERSION.search(text_read(checkout / "PKG-INFO"))
    if match is None:
        return {}
    names = ("SETUPTOOLS_SCM_PRETEND_VERSION", "PBR_VERSION", "PDM_BUILD_SCM_VERSION", "UV_DYNAMIC_VERSIONING_BYPASS")
    return dict.fromkeys((*names, "POETRY_DYNAMIC_VERSIONING_BYPASS"), match[1])


def _describe(needs: PythonRequirements, tests: PythonTests) -> str:
    parts: Iterable[str] = (
        f"extras {', '.join(needs.extras)}" if needs.extras else "",
        f"groups {', '.join(needs.groups)}" if needs.groups else "",
        f"from {', '.join(needs.sources)}" if needs.sources else "",
        f"tests run by {tests.runner}" if tests.runner else "",
    )
    return "Python: " + "; ".join(part for part in parts if part)

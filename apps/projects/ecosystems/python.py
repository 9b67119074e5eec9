"""Python: an environment made by uv, tests run by pytest or unittest."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from apps.projects.ecosystems.commands import command_words
from apps.projects.ecosystems.python_locks import locked_versions
from apps.projects.ecosystems.python_requirements import PythonRequirements, requirements_read, text_read
from apps.projects.ecosystems.python_tests import PythonTests, python_tests_find
from apps.projects.ecosystems.python_tox import tool_commands, tool_installs
from apps.projects.ecosystems.results import junit_results
from apps.projects.ecosystems.types import RESULTS, CheckCommand, Ecosystem, Runner, RunnerCall, SetupPlan
from apps.projects.sandbox import sandbox_python
from apps.projects.workspace import SANDBOX_ENVIRONMENT

#: Where the runner for unittest is in a check's sandbox.
UNITTEST_PROGRAM = "/run/unittest_results.py"
_JUNIT = f"{RESULTS}/junit.xml"
_MAX_TEST_FILES = 400
_MAX_NAME = 80
_MANIFESTS = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")
_SKIPPED_FOLDERS = {
    "test", "tests", "testing", "docs", "doc", "examples", "example", "node_modules", "vendor", "third_party", "venv",
    "env", "requirements", "site-packages", "tools", "scripts", "build", "dist", "benchmarks", "fixtures", "templates",
}  # fmt: skip
_MAX_PLACES = 8
#: What pytest collects by default.
_PYTEST_FILE = re.compile(r"test_.*\.py|.*_test\.py")
_VERSION = re.compile(r"^Version:\s*([\w.!+-]+)\s*$", re.MULTILINE)

#: Projects that turn warnings into errors and don't bound pytest's version would fail over what a newer pytest than
#: theirs announces.
PYTEST_ENV = {"PYTEST_ADDOPTS": "-W ignore::pytest.PytestDeprecationWarning"}

_PRELUDE = """\
note() {{ echo "archon: $*" >&2; }}
install() {{ uv pip install "$@"; }}
uv venv --quiet --python {python} {environment}
# What `python -m venv` would have put there, from the copies that Python carries for that.
bundled=$(python -c "import ensurepip as e; print(getattr(e, '_WHEEL_PKG_DIR', None) or e.__path__[0] + '/_bundled')")
export UV_COMPILE_BYTECODE=0
install --quiet --no-index --find-links "$bundled" pip setuptools || note "pip is not in the environment"
export UV_COMPILE_BYTECODE=1
"""


def python_prelude() -> str:
    """Bash that makes an empty environment, with which the rest of a script runs."""
    return _PRELUDE.format(python=shlex.quote(sandbox_python()), environment=SANDBOX_ENVIRONMENT)


def _places(checkout: Path) -> tuple[str, ...]:
    """The checkout itself, unless only folders in it declare anything and all tests are in those."""
    if _declares(checkout):
        return ("",)
    folders = [
        path.parent for name in _MANIFESTS for path in (*checkout.glob(f"*/{name}"), *checkout.glob(f"*/*/{name}"))
    ]
    found: list[str] = []
    for folder in sorted({folder.relative_to(checkout).as_posix() for folder in folders}):
        parts = PurePosixPath(folder).parts
        skipped = any(part in _SKIPPED_FOLDERS or part.startswith(".") for part in parts)
        if not skipped and not _is_within(folder, found) and _declares(checkout / folder):
            found.append(folder)
    tests = python_tests_find(checkout).files if found else ()
    if not found or any(not _is_within(test, found) for test in tests):
        return ("",)
    return tuple(found[:_MAX_PLACES])


def _is_within(path: str, folders: Sequence[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(folder) for folder in folders)


def _declares(root: Path) -> bool:
    needs = requirements_read(root)
    return bool(needs.installable or needs.base_files)


def _setup(checkout: Path, place: str) -> SetupPlan | None:
    root = checkout / place
    tests = python_tests_find(root)
    tools = () if tests.runner else tool_commands(root)
    needs = requirements_read(root, tests=(text_read(root / name) for name in tests.files[:_MAX_TEST_FILES]))
    if not tests.runner:
        needs.test_requirements = sorted({*needs.test_requirements, *tool_installs(root)})
    # Any Python at all gets an environment, if an empty one: the interpreter has one name and place in it everywhere.
    has_python = tests.files or any(root.glob("*.py")) or any(root.glob("*/*.py"))
    if not (needs.installable or needs.base_files or needs.test_files or tests.runner or has_python):
        return None
    wants_pytest = tests.runner == "pytest" or any(found.runner == "pytest" for found in tools)
    script = _script(needs, locked_versions(root), wants_pytest=wants_pytest)
    return SetupPlan(_describe(needs, tests), script, version_variables(root), dict(PYTEST_ENV))


def _checks(checkout: Path, place: str) -> tuple[CheckCommand, ...]:
    tests = python_tests_find(checkout / place)
    if tests.runner == "pytest":
        return (CheckCommand("pytest", "python -m pytest", "pytest"),)
    if tests.runner == "unittest":
        commands = [
            shlex.join(["python", "-m", "unittest", "discover", "-v", "-s", start, "-t", top])
            for start, top in tests.starts
        ]
        names = ["unittest"] if len(commands) == 1 else [f"unittest {start}" for start, _ in tests.starts]
        return tuple(CheckCommand(name, command, "unittest") for name, command in zip(names, commands, strict=True))
    return tuple(
        CheckCommand(f"{found.tool}: {found.command}"[:_MAX_NAME], found.command, found.runner)
        for found in tool_commands(checkout / place)
    )


def _in_the_way(
    changed: Sequence[str], before: frozenset[str], environment: Path | None, folders: Sequence[str]
) -> tuple[str, ...]:
    """New files that Python would import for a module of its own, or for an installed one such as the runner."""
    installed = environment.glob("lib/python3*/site-packages/*") if environment is not None else ()
    names = {entry.name.partition(".")[0] for entry in installed}
    return modules_in_the_way(changed, before=before, installed=names, folders=folders)


def modules_in_the_way(
    changed_files: Iterable[str], *, before: Iterable[str], installed: Iterable[str], folders: Iterable[str] = ()
) -> tuple[str, ...]:
    """New files that Python would import for a module of its own, or for an installed one such as the runner.

    ``before``: the files that there were; ``installed``: the names of installed modules; ``folders``: where checks run.
    """
    there, changes = frozenset(before), tuple(changed_files)
    taken = sys.stdlib_module_names | set(installed)
    found: set[str] = set()
    for root in _import_roots(there, folders):
        named = {path: name for path in changes if (name := _module_name(path, root)) in taken}
        # There may be as many roots as folders with tests, and all files are looked through for few of them.
        known = {_module_name(path, root) for path in there} if named else set()
        found.update(path for path, name in named.items() if name not in known)
    return tuple(sorted(found))


def _import_roots(paths: frozenset[str], folders: Iterable[str]) -> frozenset[str]:
    """Where imports are looked for: where a check starts, ``src`` and ``lib`` there, and, by pytest's default, the
    first folder from each test file upwards that is no package."""
    starts = {"", *folders}
    roots = starts | {posixpath.join(start, name) for start in starts for name in ("src", "lib")}
    for folder in {posixpath.dirname(path) for path in paths if _PYTEST_FILE.fullmatch(posixpath.basename(path))}:
        while folder and posixpath.join(folder, "__init__.py") in paths:
            folder = posixpath.dirname(folder)
        roots.add(folder)
    return frozenset(roots)


def _module_name(path: str, root: str) -> str:
    """The top-level module that a file belongs to below that folder; empty where it is elsewhere."""
    if root and not path.startswith(f"{root}/"):
        return ""
    first, separator, _ = path.removeprefix(f"{root}/" if root else "").partition("/")
    return first if separator else first.partition(".")[0]


# --- The set-up -------------------------------------------------------------------------------------------------------


def _script(needs: PythonRequirements, locked: Mapping[str, str], *, wants_pytest: bool) -> str:
    """Everything in one resolution, at the locked versions if there are any; where that fails, what can't be done
    without, and the rest piece by piece."""
    project = ["-e", f".[{','.join(needs.extras)}]" if needs.extras else "."] if needs.installable else []
    base = [argument for name in needs.base_files for argument in ("-r", name)]
    tested = ["pytest"] if wants_pytest else []
    pieces: list[list[str]] = [
        *(["--group", name] for name in needs.groups),
        *(["-r", name] for name in needs.test_files),
        *([requirement] for requirement in needs.test_requirements),
    ]
    everything = [*project, *base, *(argument for piece in pieces for argument in piece), *tested]
    if not everything:
        return ""
    whole = f"install {shlex.join(everything)}"
    if not pieces and not needs.extras:
        return _at_locked_versions(locked, whole, [whole])
    necessary = [*(["-e", "."] if project else []), *base, *tested]
    lines = [f"if ! {whole}; then"]
    lines.append('  note "not everything can be installed together; trying the parts"')
    lines.append(f"  install {shlex.join(necessary)}" if necessary else "  :")
    optional = [["-e", f".[{extra}]"] for extra in needs.extras] + pieces
    for piece in optional:
        words = shlex.join(piece)
        lines.append(f"  install {words} || note {shlex.quote(f'left out: {words}')}")
    lines.append("fi")
    return _at_locked_versions(locked, whole, lines)


def _at_locked_versions(locked: Mapping[str, str], whole: str, otherwise: Sequence[str]) -> str:
    """``whole`` with the locked versions as constraints; where these can't be had (on another Python, say), without."""
    if not locked:
        return "\n".join(otherwise) + "\n"
    lines = ["cat > /tmp/archon-constraints.txt <<'ARCHON_END'"]
    lines += [f"{package}=={version}" for package, version in locked.items()]
    lines += ["ARCHON_END", "export UV_CONSTRAINT=/tmp/archon-constraints.txt", f"if ! {whole}; then"]
    lines += ["  unset UV_CONSTRAINT", '  note "the lock file does not hold here; installing without it"']
    lines += [f"  {line}" for line in otherwise]
    return "\n".join([*lines, "fi"]) + "\n"


def version_variables(root: Path) -> dict[str, str]:
    """The version for projects that take it from git's tags, in a source archive, which has none but says it."""
    match = _VERSION.search(text_read(root / "PKG-INFO"))
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


# --- The runners ------------------------------------------------------------------------------------------------------


def _is_python_module(words: Sequence[str], module: str) -> bool:
    return bool(words) and bool(re.fullmatch(r"python(3(\.\d+)?)?", words[0])) and list(words[1:3]) == ["-m", module]


def _calls_pytest(words: Sequence[str]) -> bool:
    return bool(words) and (words[0] in ("pytest", "py.test") or _is_python_module(words, "pytest"))


def _ask_pytest(call: RunnerCall) -> RunnerCall:
    # Not in the command: this also reaches a pytest that a given command calls.
    options = f"{call.env.get('PYTEST_ADDOPTS', '')} --junitxml={_JUNIT} -o junit_family=xunit1".strip()
    return replace(call, env={**call.env, "PYTEST_ADDOPTS": options})


def _ask_unittest(call: RunnerCall) -> RunnerCall:
    """``python -m unittest …`` → our runner, which does the same and writes the results."""
    words = command_words(call.command)
    if not words:
        return call
    return replace(call, command=shlex.join([words[0], UNITTEST_PROGRAM, _JUNIT, *words[3:]]))


def _select_pytest(call: RunnerCall, tests: Sequence[str]) -> RunnerCall | None:
    words = command_words(call.command)
    options = words[3:] if words[1:2] == ["-m"] else words[1:]
    # Given files or folders would be run as well, and what isn't named by a file can't be asked for.
    if not words or any(not word.startswith("-") for word in options) or any("::" not in test for test in tests):
        return None
    return replace(call, command=shlex.join([*words, *tests]))


def _select_unittest(call: RunnerCall, tests: Sequence[str]) -> RunnerCall | None:
    """By the names of their methods, seen from the folder that discovery would have put on the path."""
    words = command_words(call.command)
    names = dict.fromkeys(test.partition(" (")[0] for test in tests)
    if words[3:4] != ["discover"] or any(not re.fullmatch(r"\w+(\.\w+){2,}", name) for name in names):
        return None
    top = words[words.index("-t") + 1] if "-t" in words[:-1] else "."
    path = os.pathsep.join(part for part in (top, call.env.get("PYTHONPATH", "")) if part)
    return RunnerCall(shlex.join([*words[:3], "-v", *names]), {**call.env, "PYTHONPATH": path})


PYTEST = Runner(
    name="pytest",
    calls=_calls_pytest,
    ask=_ask_pytest,
    read=junit_results,
    select=_select_pytest,
    reaches_inside=True,
    no_tests=frozenset({5}),
)
UNITTEST = Runner(
    name="unittest",
    calls=lambda words: _is_python_module(words, "unittest"),
    ask=_ask_unittest,
    read=junit_results,
    select=_select_unittest,
)

PYTHON = Ecosystem(
    name="python",
    title="Python",
    places=_places,
    setup=_setup,
    checks=_checks,
    prelude=python_prelude,
    runners=(PYTEST, UNITTEST),
    setup_names=re.compile(
        r"pyproject\.toml|setup\.(py|cfg)|tox\.ini|noxfile\.py|.*requirements?.*\.txt|MANIFEST\.in|Pipfile(\.lock)?|"
        r"poetry\.lock|uv\.lock|pdm\.lock|pylock.*\.toml|environment\.ya?ml|constraints?.*\.txt|PKG-INFO"
    ),
    compiled_suffixes=frozenset(
        {".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".pyx", ".pxd", ".pyf", ".f90", ".rs", ".s"}
    ),
    configuration_names=re.compile(
        r"conftest\.py|\.?pytest\.(ini|toml)|pyproject\.toml|setup\.(cfg|py)|tox\.(ini|toml)|noxfile\.py|\.coveragerc|"
        r"(site|user)customize\.py|.*\.pth|.*requirements?.*\.txt"
    ),
    test_names=re.compile(r"test_.*|.*_tests?\.\w+|tests?\.py"),
    in_the_way=_in_the_way,
)

"""What a Python project says that it needs to be tested, wherever it says so."""

from __future__ import annotations

import ast
import configparser
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TEST_NAME = re.compile(
    r"(unit[-_]?)?(test|tests|testing|pytest|unittest|unittests|check|ci)([-_]?(all|deps|extra|requirements|requires|dependencies|min|minimal|base|unit))?"
)
_DEVELOPMENT_NAME = re.compile(r"dev|develop|development|devel")
_BASE_NAME = re.compile(r"requirements|base|main|common|runtime|install|prod|production")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,\s.-]*\])?\s*([<>=!~@;(].*)?")
_MAX_BYTES = 1_000_000

#: Test tools that are often used and not declared: by the module that tests import, the package that has it.
_TOOLS_BY_MODULE = {
    "asynctest": "asynctest",
    "flaky": "flaky",
    "freezegun": "freezegun",
    "hypothesis": "hypothesis",
    "mock": "mock",
    "nose": "nose",
    "parameterized": "parameterized",
    "pretend": "pretend",
    "pytest_asyncio": "pytest-asyncio",
    "pytest_mock": "pytest-mock",
    "pytest_subtests": "pytest-subtests",
    "requests_mock": "requests-mock",
    "respx": "respx",
    "responses": "responses",
    "testfixtures": "testfixtures",
    "time_machine": "time-machine",
    "trustme": "trustme",
    "yaml": "PyYAML",
}
#: pytest's plugins by what only works with them.
_PLUGINS_BY_USE = {
    r"--cov\b|--no-cov\b": "pytest-cov",
    r"--timeout[ =]|\btimeout\s*=": "pytest-timeout",
    r"(?<![\w-])-n[ =]?(auto|logical|\d+)|--numprocesses|--dist[ =]": "pytest-xdist",
    r"\basyncio_mode\b|asyncio_default_fixture_loop_scope": "pytest-asyncio",
    r"--benchmark-": "pytest-benchmark",
    r"--reruns": "pytest-rerunfailures",
    r"--mypy\b|--mypy-": "pytest-mypy",
    r"--flake8\b": "pytest-flake8",
    r"--black\b": "pytest-black",
    r"--randomly-|-p no:randomly": "pytest-randomly",
    r"--socket|--disable-socket": "pytest-socket",
    r"--subprocess-vcr|--vcr|--record-mode": "pytest-recording",
    r"DJANGO_SETTINGS_MODULE|--ds[ =]": "pytest-django",
}
_PLUGINS_BY_FIXTURE = {
    "mocker": "pytest-mock",
    "benchmark": "pytest-benchmark",
    "subtests": "pytest-subtests",
    "httpbin": "pytest-httpbin",
    "lazy_fixture": "pytest-lazy-fixture",
    "requests_mock": "requests-mock",
    "httpserver": "pytest-httpserver",
}


@dataclass
class PythonRequirements:
    """What to install, besides pytest itself."""

    #: The project can be installed.
    installable: bool = False
    extras: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    #: Requirement files, as paths in the checkout; those in `base_files` the project can't do without.
    base_files: list[str] = field(default_factory=list)
    test_files: list[str] = field(default_factory=list)
    #: Single requirements.
    test_requirements: list[str] = field(default_factory=list)
    #: Where any of it was found.
    sources: list[str] = field(default_factory=list)


def requirements_read(checkout: Path, *, tests: Iterable[str] = ()) -> PythonRequirements:
    """Read every place. ``tests``: the sources of test files, for tools that nothing declares. Broken files count as
    empty: whether they matter the set-up will say."""
    found = PythonRequirements()
    pyproject = toml_read(checkout / "pyproject.toml")
    setup_cfg = ini_read(checkout / "setup.cfg")
    found.installable = (
        "build-system" in pyproject
        or "project" in pyproject
        or "poetry" in _table(pyproject, "tool")
        or (checkout / "setup.py").is_file()
        or setup_cfg.has_section("metadata")
    )
    extras = set(_table(pyproject, "project", "optional-dependencies")) | set(
        _table(pyproject, "tool", "poetry", "extras")
    )
    if setup_cfg.has_section("options.extras_require"):
        extras |= set(setup_cfg.options("options.extras_require"))
    if setup_cfg.has_section("options"):
        found.test_requirements += _lines(setup_cfg.get("options", "tests_require", fallback=""))
    setup_py = _setup_arguments(checkout / "setup.py")
    extras |= set(setup_py.get("extras_require", {}))
    found.test_requirements += setup_py.get("tests_require", [])
    found.extras = _prefer(extras)
    found.groups = _prefer(_table(pyproject, "dependency-groups"))
    found.test_requirements += _tool_tables(_table(pyproject, "tool"))
    _requirement_files(checkout, found)
    _tox(ini_read(checkout / "tox.ini"), checkout, found, extras, set(_table(pyproject, "dependency-groups")))
    _undeclared(checkout, pyproject, tests, found)
    found.test_requirements = sorted({line for line in found.test_requirements if _REQUIREMENT.fullmatch(line)})
    manifests = ("pyproject.toml", "setup.py", "setup.cfg", "tox.ini")
    found.sources = [name for name in manifests if (checkout / name).is_file()] + found.base_files + found.test_files
    return found


def toml_read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text_read(path))
    except tomllib.TOMLDecodeError:
        return {}


def ini_read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    # Names of extras keep their case.
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    try:
        parser.read_string(text_read(path))
    except configparser.Error:
        return configparser.ConfigParser(interpolation=None)
    return parser


def text_read(path: Path) -> str:
    """A file of a checkout as text; empty when it isn't there or is no regular file of the checkout itself."""
    if path.is_symlink() or not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(_MAX_BYTES).decode("utf-8", "replace")


def _table(value: Any, *names: str) -> Mapping[str, Any]:
    for name in names:
        value = value.get(name, {}) if isinstance(value, dict) else {}
    return value if isinstance(value, dict) else {}


def _prefer(names: Iterable[str]) -> list[str]:
    """Those for tests; where there are none, those for development, which then include them."""
    ordered = sorted(names)
    for pattern in (_TEST_NAME, _DEVELOPMENT_NAME):
        if chosen := [name for name in ordered if pattern.fullmatch(name.lower())]:
            return chosen
    return []


def _tool_tables(tool: Mapping[str, Any]) -> list[str]:
    """Requirements that Poetry, PDM, Hatch and uv keep in tables of their own."""
    found: list[str] = []
    groups = _table(tool, "poetry", "group")
    tables = [_table(group, "dependencies") for name, group in groups.items() if name in _prefer(groups)]
    for table in (*tables, _table(tool, "poetry", "dev-dependencies")):
        found += [_poetry_requirement(name, value) for name, value in table.items() if name != "python"]
    pdm = _table(tool, "pdm", "dev-dependencies")
    for name in _prefer(pdm):
        found += _strings(pdm[name])
    found += _strings(_table(tool, "uv").get("dev-dependencies"))
    hatch = _table(tool, "hatch", "envs")
    for name in _prefer(hatch) or [name for name in ("hatch-test", "default") if name in hatch]:
        found += _strings(_table(hatch, name).get("dependencies")) + _strings(
            _table(hatch, name).get("extra-dependencies")
        )
    return found


def _poetry_requirement(name: str, value: object) -> str:
    """Poetry's carets and tildes as what they start from."""
    version = value if isinstance(value, str) else value.get("version", "") if isinstance(value, dict) else ""
    if isinstance(version, str) and re.fullmatch(r"[\^~]\s*\d[\w.]*", version):
        return f"{name}>={version.lstrip('^~ ')}"
    if isinstance(version, str) and re.fullmatch(r"\s*[<>=!]=?.*", version):
        return f"{name}{version}"
    return name


def _requirement_files(checkout: Path, found: PythonRequirements) -> None:
    tests: list[str] = []
    development: list[str] = []
    candidates = [
        *checkout.glob("*.txt"),
        *checkout.glob("requirements/*.txt"),
        *checkout.glob("tests/*requirements*.txt"),
        *checkout.glob("test/*requirements*.txt"),
        *checkout.glob("testing/*requirements*.txt"),
    ]
    for path in sorted(candidates):
        folder = path.parent.relative_to(checkout).as_posix()
        stem = path.stem.lower()
        if (folder == "." and "require" not in stem) or path.is_symlink() or not path.is_file():
            continue
        kind = re.sub(r"[-_.]?(requirements?|requires|reqs?|pip)[-_.]?", "", stem) or (
            "tests" if folder.startswith("test") else "requirements"
        )
        if re.fullmatch(r"py(thon)?[\d.]+", kind):
            continue
        name = path.relative_to(checkout).as_posix()
        if _BASE_NAME.fullmatch(kind):
            found.base_files.append(name)
        elif _TEST_NAME.fullmatch(kind):
            tests.append(name)
        elif _DEVELOPMENT_NAME.fullmatch(kind):
            development.append(name)
    found.test_files = tests or development


def _tox(
    tox: configparser.ConfigParser, checkout: Path, found: PythonRequirements, extras: set[str], groups: set[str]
) -> None:
    """tox's default environment, without what depends on factors or substitutions."""
    if not tox.has_section("testenv"):
        return

    def get(name: str) -> list[str]:
        return _lines(tox.get("testenv", name, fallback=""))

    for line in get("deps"):
        if file := re.fullmatch(r"-r\s*(?:\{toxinidir\}/)?([\w./-]+)", line):
            if (checkout / file[1]).is_file() and file[1] not in (*found.base_files, *found.test_files):
                found.test_files.append(file[1])
        elif _REQUIREMENT.fullmatch(line) and ":" not in line and "{" not in line:
            found.test_requirements.append(line)
    found.extras += [
        name for line in get("extras") for name in line.split(",") if name in extras and name not in found.extras
    ]
    found.groups += [name for name in get("dependency_groups") if name in groups and name not in found.groups]


def _undeclared(checkout: Path, pyproject: dict[str, Any], tests: Iterable[str], found: PythonRequirements) -> None:
    """Well-known test tools that the tests or pytest's configuration use without anything declaring them."""
    configuration = str(_table(pyproject, "tool", "pytest"))
    for name, section in (
        ("pytest.ini", "pytest"),
        (".pytest.ini", "pytest"),
        ("tox.ini", "pytest"),
        ("setup.cfg", "tool:pytest"),
    ):
        parser = ini_read(checkout / name)
        if parser.has_section(section):
            configuration += "\n".join(f"{option} = {value}" for option, value in parser.items(section))
    for pattern, package in _PLUGINS_BY_USE.items():
        if re.search(pattern, configuration):
            found.test_requirements.append(package)
    for required in re.findall(r"required_plugins['\"]?\s*[=:]\s*(.+)", configuration):
        found.test_requirements += re.findall(r"pytest-[\w-]+", required)
    for source in tests:
        for module in re.findall(r"^\s*(?:import|from)\s+(\w+)", source, re.MULTILINE):
            if module in _TOOLS_BY_MODULE:
                found.test_requirements.append(_TOOLS_BY_MODULE[module])
        for fixture, package in _PLUGINS_BY_FIXTURE.items():
            if re.search(rf"def test_\w+\([^)]*\b{fixture}\b[^)]*\)", source) and f"def {fixture}(" not in source:
                found.test_requirements.append(package)
        if "pytest.mark.asyncio" in source:
            found.test_requirements.append("pytest-asyncio")


def _setup_arguments(path: Path) -> dict[str, Any]:
    """``extras_require`` and ``tests_require`` of a setup.py, where they are written out; it is not run for this."""
    try:
        tree = ast.parse(text_read(path))
    except (SyntaxError, ValueError, RecursionError):
        return {}
    constants: dict[str, ast.expr] = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            value = constants.get(keyword.value.id) if isinstance(keyword.value, ast.Name) else keyword.value
            if keyword.arg == "extras_require" and isinstance(value, ast.Dict):
                found["extras_require"] = {key.value: None for key in value.keys if isinstance(key, ast.Constant)}
            elif keyword.arg == "tests_require" and isinstance(value, ast.List | ast.Tuple):
                found["tests_require"] = [
                    item.value for item in value.elts if isinstance(item, ast.Constant) and isinstance(item.value, str)
                ]
    return found


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _lines(value: str) -> list[str]:
    return [line for raw in value.splitlines() if (line := raw.split(" #")[0].strip()) and not line.startswith("#")]

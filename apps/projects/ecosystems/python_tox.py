"""What tox and nox would run, for projects whose tests nothing else tells.

Neither of them is run: both make environments of their own, for which there is no network where checks run. Their
commands run in the project's environment instead. Configuration is read as data, noxfiles without being executed; what
depends on anything that can't be known that way is left out.
"""

from __future__ import annotations

import ast
import configparser
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from apps.projects.ecosystems.python_requirements import ini_read, text_read, toml_read

_TEST_ENVIRONMENT = re.compile(r"(py|pypy)[\d.]*(-.*)?|tests?(-.*)?|unit(-.*)?|.*-tests?|check")
_TEST_SESSION = re.compile(r"(unit_?)?(tests?|pytest|unittest|check)(_.*|-.*)?")
_FACTORS = re.compile(r"([\w.,!{}-]+):\s+(.*)")
_NOT_CHECKS = re.compile(
    r"(python\S*\s+-m\s+)?(pip|uv|poetry|pdm)\s+(install|sync|uninstall)\b|(python\S*\s+-m\s+)?pip\b"
)


@dataclass(frozen=True)
class ToolCommand:
    """A command line that tox or nox would run to test."""

    tool: str
    command: str
    #: The runner of tests that it comes to.
    runner: str


def tool_commands(root: Path) -> tuple[ToolCommand, ...]:
    """tox's commands, or else nox's; none where there are none to be known."""
    return _tox_commands(root) or _nox_commands(root)


def tool_installs(root: Path) -> tuple[str, ...]:
    """The requirements that a noxfile's test session or tox's newer configuration installs, where written out."""
    base = _tox_document(root).get("env_run_base")
    listed = base.get("deps") if isinstance(base, dict) else None
    calls = [*_nox_calls(root, "install"), [dep for dep in listed if isinstance(dep, str)] if listed else []]
    return tuple(
        argument
        for call in calls
        for argument in call
        if not argument.startswith(("-", ".")) and "/" not in argument and "{" not in argument
    )


# --- tox --------------------------------------------------------------------------------------------------------------


def _tox_commands(root: Path) -> tuple[ToolCommand, ...]:
    found: list[ToolCommand] = []
    for section in (_tox_ini(root), _tox_toml(root)):
        if section is None:
            continue
        folder, variables, commands = section
        for command in commands:
            if _words(command) and not _NOT_CHECKS.match(command):
                found.append(ToolCommand("tox", _in_place(command, folder, variables), _runner_of(command)))
        break
    return tuple(found)


def _in_place(command: str, folder: str, variables: Mapping[str, str]) -> str:
    assignments = [f"{name}={value}" for name, value in variables.items()]
    folder = PurePosixPath(folder).as_posix()
    # tox calls programs without a shell: what one would expand is quoted.
    words = [*(["env", *assignments] if assignments else []), *_words(command)]
    return (f"cd {shlex.quote(folder)} && " if folder != "." else "") + shlex.join(words)


def _tox_ini(root: Path) -> tuple[str, dict[str, str], list[str]] | None:
    parser = ini_read(root / "tox.ini")
    if not parser.has_section("testenv"):
        legacy = toml_read(root / "pyproject.toml").get("tool", {})
        text = legacy.get("tox", {}).get("legacy_tox_ini") if isinstance(legacy, dict) else None
        if not isinstance(text, str):
            parser = ini_read(root / "setup.cfg")
        else:
            parser = configparser.ConfigParser(interpolation=None, strict=False)
            try:
                parser.read_string(text)
            except configparser.Error:
                return None
    if not parser.has_section("testenv"):
        return None

    def look_up(section: str, name: str) -> str | None:
        return parser.get(section, name, fallback=None) if parser.has_section(section) else None

    listed = look_up("tox", "envlist") or look_up("tox", "env_list") or look_up("tox:tox", "envlist") or ""
    factors = _factors(listed)
    commands = [
        line
        for raw in _logical_lines(parser.get("testenv", "commands", fallback=""))
        if (line := _resolved(raw, factors, look_up))
    ]
    variables = {}
    for raw in _logical_lines(
        parser.get("testenv", "set_env", fallback="") or parser.get("testenv", "setenv", fallback="")
    ):
        line = _resolved(raw, factors, look_up)
        name, separator, value = line.partition("=")
        if separator and re.fullmatch(r"\w+", name.strip()):
            variables[name.strip()] = value.strip()
    folder = parser.get("testenv", "changedir", fallback="") or parser.get("testenv", "change_dir", fallback="")
    return _resolved(folder.strip(), factors, look_up) if folder else "", variables, commands


def _tox_toml(root: Path) -> tuple[str, dict[str, str], list[str]] | None:
    """The newer configuration, where a command is a list of words."""
    base = _tox_document(root).get("env_run_base")
    if not isinstance(base, dict) or not isinstance(base.get("commands"), list):
        return None
    commands = []
    for words in base["commands"]:
        plain: list[str] = []
        for word in words if isinstance(words, list) else []:
            if isinstance(word, dict) and word.get("replace") == "posargs":
                plain += [default for default in word.get("default", []) if isinstance(default, str)]
            elif isinstance(word, str):
                plain.append(word)
            else:
                plain = []
                break
        line = _resolved(shlex.join(plain), frozenset(), lambda section, name: None, quoted=True)
        if line:
            commands.append(line)
    return "", {}, commands


def _tox_document(root: Path) -> dict[str, Any]:
    document = toml_read(root / "tox.toml")
    if not document:
        tool = toml_read(root / "pyproject.toml").get("tool", {})
        document = tool.get("tox", {}) if isinstance(tool, dict) else {}
    return document if isinstance(document, dict) else {}


def _factors(listed: str) -> frozenset[str]:
    """Those of the environment that tests run in: the newest that our own Python can stand for."""
    own = f"py{sys.version_info.major}{sys.version_info.minor}"
    names = [name for name in re.split(r"[,\s]+", listed) if name]
    chosen = next((name for name in names if own in name.split("-")), None)
    chosen = chosen or next((name for name in names if _TEST_ENVIRONMENT.fullmatch(name) and "{" not in name), own)
    return frozenset(chosen.split("-")) | {own, "py"}


def _logical_lines(text: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", " ", text)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def _resolved(line: str, factors: frozenset[str], look_up: Any, *, quoted: bool = False) -> str:
    """A line without tox's own syntax; empty when it isn't for us, or can't be known."""
    if match := _FACTORS.fullmatch(line):
        wanted = [alternative.split("-") for alternative in re.sub(r"[{}]", "", match[1]).split(",")]
        if not any(all((part.lstrip("!") in factors) != part.startswith("!") for part in parts) for parts in wanted):
            return ""
        line = match[2]
    # What may fail is no check.
    if line.startswith("-"):
        return ""
    line = line.removeprefix("!").strip()
    for _ in range(5):
        before = line
        line = re.sub(r"\{posargs(?::((?:[^{}]|\{[^{}]*\})*))?\}|\[\]", lambda match: match[1] or "", line)
        line = re.sub(r"\{env:\w+(?::([^{}]*))?\}", lambda match: match[1] or "", line)
        line = re.sub(r"\{(toxinidir|tox_root)\}[/\\]?", "./", line)
        line = re.sub(r"\{(envpython|env_python)\}", "python", line)
        line = re.sub(r"\{(envbindir|env_bin_dir)\}[/\\]", "", line)
        line = re.sub(
            r"\{(envtmpdir|env_tmp_dir|envlogdir|env_log_dir|toxworkdir|tox_work_dir|temp_dir)\}", "/tmp", line
        )
        line = re.sub(r"\{(/|:)\}", r"\1", line)
        line = re.sub(
            r"\{\[([\w:.-]+)\]([\w-]+)\}", lambda match: " ".join((look_up(match[1], match[2]) or "{?}").split()), line
        )
        if line == before:
            break
    if re.search(r"\{[^{}]*\}", line if not quoted else re.sub(r"'[^']*'", "", line)):
        return ""
    return " ".join(line.split())


# --- nox --------------------------------------------------------------------------------------------------------------


def _nox_commands(root: Path) -> tuple[ToolCommand, ...]:
    return tuple(
        ToolCommand("nox", shlex.join(call), _runner_of(shlex.join(call)))
        for call in _nox_calls(root, "run")
        if call and not _NOT_CHECKS.match(shlex.join(call))
    )


def _nox_calls(root: Path, method: str) -> list[list[str]]:
    """The words of each ``session.run`` (or ``session.install``) of the test session."""
    try:
        tree = ast.parse(text_read(root / "noxfile.py"))
    except (SyntaxError, ValueError, RecursionError):
        return []
    sessions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and _is_session(node)]
    session = next((node for node in sessions if _TEST_SESSION.fullmatch(_session_name(node))), None)
    if session is None or not session.args.args:
        return []
    parameter = session.args.args[0].arg
    calls: list[list[str]] = []
    for node in ast.walk(session):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == method
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == parameter
        ):
            words = [item.value for item in node.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
            # Arguments given at the command line there are none; any other that isn't written out can't be known.
            unknown = [
                item
                for item in node.args
                if not isinstance(item, ast.Constant)
                and not (isinstance(item, ast.Starred) and ast.unparse(item.value).startswith(f"{parameter}.posargs"))
            ]
            if not unknown or method == "install":
                calls.append(words)
    return calls


def _is_session(function: ast.FunctionDef) -> bool:
    return any(re.match(r"(nox\.)?session\b", ast.unparse(decorator)) for decorator in function.decorator_list)


def _session_name(function: ast.FunctionDef) -> str:
    for decorator in function.decorator_list:
        for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
            if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
    return function.name


def _runner_of(command: str) -> str:
    words = _words(command)
    if any(word in ("pytest", "py.test") for word in words):
        return "pytest"
    return "unittest" if words[:3] == ["python", "-m", "unittest"] else "command"


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []

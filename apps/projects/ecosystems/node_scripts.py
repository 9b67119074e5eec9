"""What a package.json says: its scripts, and which runner of tests they come to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.projects.ecosystems.python_requirements import text_read

_RUNNERS = ("vitest", "jest", "mocha")
_PLACEHOLDER = re.compile(r"no test specified")
_WRAPPED = re.compile(r"(?:npm|pnpm|yarn)\s+(?:run(?:-script)?\s+)?(?:--?\w[\w=-]*\s+)*([\w:.-]+)")
_DEPTH = 6
_WITH_VALUE = r"(?:-r|--require|--import|--loader|--experimental-loader|-C|--conditions|--env-file)\s+[\w./@:-]+"
_NODE_TEST = re.compile(rf"(?:^|[\s;&|\"'(])node(?:\s+(?:{_WITH_VALUE}|--?[\w=./@:-]+))*?\s+--test(?=\s|$|[\"'&;|)])")
_PROGRAM = re.compile(r"(^|[\s;&|\"'(/])(vitest|jest|mocha)(\.js|\.mjs)?(?=$|[\s;&|\"')])")
_REACT_SCRIPTS = re.compile(r"react-scripts(\s+\S+)*\s+test")


@dataclass(frozen=True)
class Package:
    """As much of a package.json as decides set-up and checks; whatever isn't as it should be counts as absent."""

    scripts: Mapping[str, str]
    dependencies: frozenset[str]
    workspaces: bool
    package_manager: str

    @property
    def test_script(self) -> str:
        script = self.scripts.get("test", "").strip()
        return "" if _PLACEHOLDER.search(script) else script


def package_read(folder: Path) -> Package | None:
    """None when there is no package.json that can be read."""
    plain = _plain(text_read(folder / "package.json"))
    if plain is None:
        return None
    kinds = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")
    manager = plain.get("packageManager")
    return Package(
        scripts=_scripts(plain),
        dependencies=frozenset(name for kind in kinds for name in _table(plain, kind)),
        workspaces=bool(plain.get("workspaces")) or (folder / "pnpm-workspace.yaml").is_file(),
        package_manager=manager if isinstance(manager, str) else "",
    )


def scripts_read(text: str) -> Mapping[str, str]:
    """The scripts of a package.json with this text, by name; none where it can't be read."""
    return _scripts(_plain(text) or {})


def script_runner(package: Package, name: str = "test") -> str:
    """The runner that a script comes to, through the scripts that it calls; `npm-script` for a test task over several
    packages, and `command` when it is none that is known."""
    return _runner(package, name, set()) or "command"


def _runner(package: Package, name: str, seen: set[str]) -> str:
    if name in seen or len(seen) > _DEPTH:
        return ""
    seen.add(name)
    text = package.scripts.get(name, "")
    if _NODE_TEST.search(text):
        return "node-test"
    if match := _PROGRAM.search(text):
        return match[2]
    if _REACT_SCRIPTS.search(text):
        return "jest"
    for called in _WRAPPED.findall(text):
        if found := _runner(package, "test" if called in ("t", "tst") else called, seen):
            return found
    return ""


def _plain(text: str) -> Mapping[str, Any] | None:
    try:
        plain = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None


def _scripts(plain: Mapping[str, Any]) -> Mapping[str, str]:
    return {name: text for name, text in _table(plain, "scripts").items() if isinstance(text, str)}


def _table(plain: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = plain.get(name)
    return value if isinstance(value, dict) else {}

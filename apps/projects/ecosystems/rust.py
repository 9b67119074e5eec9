"""Rust: crates by cargo, tests by cargo test."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from apps.projects.ecosystems.cargo_results import libtest_read
from apps.projects.ecosystems.commands import command_words
from apps.projects.ecosystems.folders import any_contains, folders_with, text_of
from apps.projects.ecosystems.kept_output import output_keep, output_kept
from apps.projects.ecosystems.rust_tests import rust_tests_restore
from apps.projects.ecosystems.sources import SourceCollector
from apps.projects.ecosystems.types import (
    CheckCommand,
    Ecosystem,
    OriginalTests,
    Results,
    Runner,
    RunnerCall,
    SetupPlan,
    TestResult,
)
from apps.projects.workspace import SANDBOX_ENVIRONMENT, SANDBOX_WORKSPACE

_HOME = f"{SANDBOX_ENVIRONMENT}/cargo"
#: Compiled dependencies; every checkout begins its own folder of compiled things with a copy.
_COMPILED = f"{SANDBOX_ENVIRONMENT}/cargo-target"
#: What cargo fetches from when nobody configures anything.
_DEFAULT_HOSTS = ("index.crates.io", "static.crates.io")
_CONFIGURATION = "ARCHON_CARGO_CONFIG"
_FOLDERS = "ARCHON_CARGO_FOLDERS"
_MANIFEST = re.compile(r"Cargo\.toml")
_SOURCE = re.compile(r".*\.rs")
_TEST = re.compile(
    r"#\[\s*(\w+::)*(test|rstest|test_case|wasm_bindgen_test|quickcheck)\b|^\s*//[/!]\s*```", re.MULTILINE
)

_SETUP = """\
mkdir -p "$CARGO_HOME"
[ -z "${ARCHON_CARGO_CONFIG:-}" ] || printf '%s' "$ARCHON_CARGO_CONFIG" > "$CARGO_HOME/config.toml"
# Checks don't have the host's folders of crates.
while IFS=$'\\t' read -r from to; do
  [ -z "$from" ] || { mkdir -p "$to" && cp -r "$from/." "$to/"; }
done <<< "${ARCHON_CARGO_FOLDERS:-}"
cargo fetch
# Path dependencies stay with the checkout: what was compiled of them is taken out again, since only their files'
# times would tell another checkout that they differ.
own=$(awk -v RS= '/^\\[\\[package\\]\\]/ && !/\\nsource = /' Cargo.lock | sed -n 's/^name = "\\(.*\\)"$/-p \\1/p')
if grep -q '^source = ' Cargo.lock; then
  if CARGO_NET_OFFLINE=true cargo test --no-run WORKSPACE; then :; else
    echo "archon: the tests don't compile at this commit; what they depend on may not be compiled yet" >&2
  fi
  cargo clean --quiet $own || rm -rf "$CARGO_TARGET_DIR"
  if [ -d "$CARGO_TARGET_DIR" ]; then
    mkdir -p COMPILED
    cp -a "$CARGO_TARGET_DIR/." COMPILED/
  fi
fi
rm -rf "$CARGO_TARGET_DIR"
mkdir -p ENVIRONMENT/bin
cat > ENVIRONMENT/bin/cargo <<'WRAPPER'
#!/bin/bash
# A checkout's folder of compiled things begins with the dependencies, which were compiled with the environment.
PATH=${PATH//ENVIRONMENT\\/bin:/}
if [ -d COMPILED ] && [ ! -e "$CARGO_TARGET_DIR" ] && [ "$1" != clean ]; then
  mkdir -p "$CARGO_TARGET_DIR" && cp -a --reflink=auto COMPILED/. "$CARGO_TARGET_DIR/"
fi
exec cargo "$@"
WRAPPER
chmod 755 ENVIRONMENT/bin/cargo
"""


def _places(checkout: Path) -> tuple[str, ...]:
    return folders_with(checkout, _MANIFEST)


def _setup(checkout: Path, place: str) -> SetupPlan | None:
    if not (checkout / place / "Cargo.toml").is_file():
        return None
    script = (
        _SETUP.replace("COMPILED", _COMPILED)
        .replace("ENVIRONMENT\\/", SANDBOX_ENVIRONMENT.replace("/", "\\/") + "\\/")
        .replace("ENVIRONMENT", SANDBOX_ENVIRONMENT)
        .replace("WORKSPACE", _workspace_option(checkout, place))
    )
    env = {"CARGO_HOME": _HOME, "CARGO_TARGET_DIR": _target(place)}
    locked = "" if (checkout / place / "Cargo.lock").is_file() else ", not locked"
    return SetupPlan(
        f"Rust: crates of {place or 'the root'}{locked}", script, env, {**env, "CARGO_NET_OFFLINE": "true"}
    )


def _target(place: str) -> str:
    return "/".join(part for part in (SANDBOX_WORKSPACE, place, "target") if part)


def _outputs(checkout: Path, place: str) -> tuple[str, ...]:
    return ("target",) if (checkout / place / "Cargo.toml").is_file() else ()


def _workspace_option(checkout: Path, place: str) -> str:
    return "--workspace" if "workspace" in _toml(checkout / place / "Cargo.toml") else ""


def _checks(checkout: Path, place: str) -> tuple[CheckCommand, ...]:
    if not (checkout / place / "Cargo.toml").is_file() or not any_contains(checkout, _SOURCE, _TEST, below=place):
        return ()
    option = _workspace_option(checkout, place)
    return (CheckCommand("cargo test", f"cargo test {option} --no-fail-fast".replace("  ", " "), "cargo"),)


def _calls(words: Sequence[str]) -> bool:
    words = [word for word in words if not word.startswith("+")]
    return list(words[:2]) in (["cargo", "test"], ["cargo", "t"])


def _ask(call: RunnerCall) -> RunnerCall:
    return replace(call, command=output_keep(call.command), env={**call.env, "CARGO_TERM_COLOR": "never"})


def _read(results: Results) -> Mapping[str, TestResult]:
    return libtest_read(output_kept(results))


def _select(call: RunnerCall, tests: Sequence[str]) -> RunnerCall | None:
    names = [name.partition("::")[2] for name in tests]
    # Documentation tests are named by lines, which aren't known here.
    if "--" in command_words(call.command) or not all(names) or any(" doc::" in name for name in tests):
        return None
    return replace(call, command=f"{call.command} -- --exact {shlex.join(names)}")


# --- Where crates come from -------------------------------------------------------------------------------------------


def _sources(collector: SourceCollector) -> None:
    """Cargo's own configuration: replaced sources and further registries, without tokens."""
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    configured = next((found for name in ("config.toml", "config") if (found := _toml(home / name))), {})
    lines: list[str] = []
    folders: dict[str, str] = {}
    sources = configured.get("source", {})
    for name, source in sources.items() if isinstance(sources, dict) else ():
        if isinstance(source, dict):
            lines += [f"[source.{_key(name)}]", *_source_lines(collector, source, folders)]
    registries = configured.get("registries", {})
    for name, registry in registries.items() if isinstance(registries, dict) else ():
        if isinstance(registry, dict) and isinstance(index := registry.get("index"), str):
            lines += [f"[registries.{_key(name)}]", f"index = {_key(_location(collector, index))}"]
    replaced = isinstance(sources, dict) and "replace-with" in sources.get("crates-io", {})
    if not replaced:
        for host in _DEFAULT_HOSTS:
            collector.host(host)
    if folders:
        collector.environment[_FOLDERS] = "\n".join(f"{place}\t{copy}" for place, copy in folders.items())
    if lines:
        collector.environment[_CONFIGURATION] = "\n".join(lines) + "\n"


def _source_lines(collector: SourceCollector, source: Mapping[str, Any], folders: dict[str, str]) -> list[str]:
    """One source as the sandbox may know it. Folders of the host are told in ``folders``, with where their copy is."""
    lines = []
    for key, value in source.items():
        if key in ("local-registry", "directory") and isinstance(value, str):
            copy = f"{_HOME}/sources/{len(folders) + 1}"
            folders[collector.location(value)] = copy
            lines.append(f"{key} = {_key(copy)}")
        elif key in ("registry", "git") and isinstance(value, str):
            lines.append(f"{key} = {_key(_location(collector, value))}")
        elif key in ("replace-with", "branch", "tag", "rev") and isinstance(value, str):
            lines.append(f"{key} = {_key(value)}")
    return lines


def _location(collector: SourceCollector, location: str) -> str:
    kind, separator, rest = location.partition("+")
    if separator and kind in ("sparse", "registry"):
        return f"{kind}+{collector.location(rest)}"
    return collector.location(location)


def _key(text: str) -> str:
    """A quoted TOML string."""
    return '"' + re.sub(r'["\\\x00-\x1f]', lambda match: f"\\u{ord(match[0]):04x}", text) + '"'


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text_of(path))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _inner_tests(path: str, old: str, new: str) -> OriginalTests | None:
    return rust_tests_restore(old, new) if path.endswith(".rs") else None


CARGO = Runner(name="cargo", calls=_calls, ask=_ask, read=_read, select=_select, compiles=True)

RUST = Ecosystem(
    name="rust",
    title="Rust",
    places=_places,
    setup=_setup,
    checks=_checks,
    runners=(CARGO,),
    programs=("cargo", "rustc"),
    packages="rustup, or Debian's cargo",
    sources=_sources,
    outputs=_outputs,
    inner_tests=_inner_tests,
    setup_names=re.compile(r"Cargo\.(toml|lock)|rust-toolchain(\.toml)?"),
    configuration_names=re.compile(r"Cargo\.(toml|lock)|build\.rs|rust-toolchain(\.toml)?|nextest\.toml"),
    test_names=re.compile(r"test_.*\.rs|.*_tests?\.rs|tests?\.rs"),
    configuration_paths=re.compile(r"(.*/)?\.cargo/config(\.toml)?"),
)

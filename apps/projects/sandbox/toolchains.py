"""The compilers and interpreters of this machine that sandboxes get to see, read-only, from where they are.

What is below ``/usr`` every sandbox has anyway. Others live in somebody's home: only the folder of the toolchain itself
is shown, never the home around it (``~/.cargo`` and ``~/.npmrc`` hold credentials).
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_VERSION = re.compile(r"\d+(\.\d+)+")
#: Kinds of which one stands on the path, in a folder of its own, and what asks for its version.
_BY_PROGRAM = {
    "node": "--version", "java": "-version", "mvn": "--version", "gradle": "--version", "cmake": "--version",
    "ruby": "--version", "php": "--version",
}  # fmt: skip
_SYSTEM_PROGRAMS = (
    "bash", "git", "gcc", "make", "cargo", "mvn", "gradle", "cmake", "ruby", "bundle", "rspec", "php", "phpunit",
    "composer",
)  # fmt: skip


@dataclass(frozen=True)
class Toolchain:
    name: str
    #: The folder to show, or None when it is in the system's own folders.
    root: Path | None
    #: The program that tells whether and in which version it is there.
    program: Path
    #: What asks the program for its version.
    version_argument: str = "--version"


def python_program() -> Path:
    """The interpreter that runs inside sandboxes: the one that this process's environment was made from."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return Path(sys.base_prefix, "bin", name)


@functools.cache
def toolchain_list() -> tuple[Toolchain, ...]:
    """What is there, the preferred one of each kind first. Looked for once in a process."""
    home = Path.home()
    found: list[Toolchain] = [_toolchain("python", Path(sys.base_prefix), python_program())]
    for versions in (home / ".pyenv/versions", home / ".local/share/uv/python"):
        for root in sorted(_folders(versions), key=_version_key, reverse=True):
            program = root / "bin/python3"
            if program.exists() and root != found[0].root and not root.is_symlink():
                found.append(_toolchain("python", root, program))
    for root in _rust_roots(home):
        found.append(_toolchain("rust", root, root / "bin/rustc"))
    go_roots = [Path("/usr/local/go"), home / ".local/go", home / "go-sdk", *_program_root("go")]
    for root in go_roots:
        if (root / "bin/go").exists():
            found.append(_toolchain("go", root, root / "bin/go", "version"))
            break
    for name, argument in _BY_PROGRAM.items():
        for root in _program_root(name):
            found.append(_toolchain(name, root, root / "bin" / name, argument))
    for name in _SYSTEM_PROGRAMS:
        path = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
        if path is not None and all(toolchain.name != name for toolchain in found):
            found.append(Toolchain(name, None, Path(path)))
    ripgrep = ripgrep_program()
    if ripgrep is not None:
        found.append(Toolchain("ripgrep", None, ripgrep))
    return tuple(found)


def toolchain_version(toolchain: Toolchain) -> str:
    """What the program says of itself, or empty when it says nothing: for people, so this starts a process."""
    try:
        answer = subprocess.run(
            [toolchain.program, toolchain.version_argument],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=10,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    # Gradle tells of its Java first.
    named = re.search(rf"^{re.escape(toolchain.name)} v?(\d+(\.\d+)+)", answer.stdout, re.MULTILINE | re.IGNORECASE)
    match = _VERSION.search(answer.stdout)
    return named.group(1) if named else match.group() if match else ""


@functools.cache
def ripgrep_program() -> Path | None:
    """The wheel's ``rg``, beside this environment's other programs, or the system's."""
    for place in (Path(sysconfig.get_path("scripts"), "rg"), Path("/usr/bin/rg")):
        if place.is_file():
            return place
    return None


def _toolchain(name: str, root: Path, program: Path, version_argument: str = "--version") -> Toolchain:
    return Toolchain(name, None if _is_system(root) else root, program, version_argument)


def _is_system(path: Path) -> bool:
    return path == Path("/") or path.is_relative_to("/usr")


def _folders(parent: Path) -> list[Path]:
    try:
        return [entry for entry in parent.iterdir() if entry.is_dir()]
    except OSError:
        return []


def _version_key(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.name))


def _program_root(program: str) -> list[Path]:
    """The folder above ``bin`` of a program on the path, unless it is a version manager's shim."""
    path = shutil.which(program)
    if path is None:
        return []
    real = Path(os.path.realpath(path))
    is_shim = real.name != program or real.parent.name != "bin"
    return [] if is_shim or real.parent.parent == Path.home() else [real.parent.parent]


def _rust_roots(home: Path) -> list[Path]:
    """Toolchains that rustup installed, its default first. Its proxies need a writable home, so they aren't used."""
    rustup = Path(os.environ.get("RUSTUP_HOME", home / ".rustup"))
    roots = [root for root in _folders(rustup / "toolchains") if (root / "bin/rustc").exists()]
    try:
        match = re.search(r'^default_toolchain = "(.+)"', (rustup / "settings.toml").read_text(), re.MULTILINE)
    except OSError:
        match = None
    default = match.group(1) if match else ""
    return sorted(roots, key=lambda root: (root.name != default, not root.name.startswith("stable"), root.name))

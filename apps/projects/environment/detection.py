"""What a checkout needs installed, over all kinds of projects in it: one script, and a key for what it makes."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from apps.projects.ecosystems.python import PYTEST_ENV, python_prelude, version_variables
from apps.projects.ecosystems.registry import (
    folder_check,
    is_compiled,
    is_lock_name,
    is_setup_file,
    places_find,
    programs_missing,
)
from apps.projects.ecosystems.types import Ecosystem, SetupPlan
from apps.projects.environment.types import EnvironmentSpec

__all__ = ["environment_detect", "is_setup_file", "setup_files"]

#: Part of every key: raised when the same files would give another environment.
_FORMAT = "2"
#: How deep in a checkout a file decides what gets installed; workspaces of monorepos are that deep.
_LOCK_DEPTH = 4
_SKIPPED_FOLDERS = {".git", "node_modules", ".venv", "venv", ".tox", "__pycache__"}


def environment_detect(*, checkout: Path, setup_command: str = "", folder: str = "") -> EnvironmentSpec:
    """What the checkout needs. A given command is run in an activated, otherwise empty Python environment; without one
    the script is put together from what its projects declare. Nothing of the project is run for this.

    ``folder``: the project is in that folder of the checkout, and nothing else is set up.
    """
    folder = folder_check(checkout, folder)
    if setup_command.strip():
        script = python_prelude() + (f"cd {shlex.quote(folder)}\n" if folder else "") + setup_command.strip() + "\n"
        command = SetupPlan(
            "the project's set-up command", script, version_variables(checkout / folder), dict(PYTEST_ENV)
        )
        return _spec(checkout, "command", script, [command])
    found: list[tuple[Ecosystem, str, SetupPlan]] = []
    for place in places_find(checkout, folder=folder):
        plan = place.ecosystem.setup(checkout, place.folder)
        # Where its programs aren't there, its checks say so; the other projects of the checkout can be worked on.
        if plan is not None and not programs_missing(place.ecosystem, environment=None):
            found.append((place.ecosystem, place.folder, plan))
    if not found:
        return EnvironmentSpec("none", "no dependencies found", "", "")
    ecosystems = list(dict.fromkeys(ecosystem.name for ecosystem, _, _ in found))
    preludes = dict.fromkeys(ecosystem.prelude() for ecosystem, _, _ in found)
    script = "".join(preludes) + "".join(_placed(place, plan.script) for _, place, plan in found)
    return _spec(checkout, "+".join(ecosystems), script, [plan for _, _, plan in found])


def setup_files(checkout: Path, *, ecosystems: Sequence[str] = ()) -> tuple[str, ...]:
    """The files that the environment's key is made from, by path: lock files and manifests of every ecosystem, and
    sources that the set-ups of ``ecosystems`` (none named: of all) compile."""
    found: list[str] = []
    for folder, folders, files in os.walk(checkout):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS and not name.endswith(".egg-info"))
        depth = len(Path(folder).relative_to(checkout).parts)
        for name in files:
            if is_compiled(name, ecosystems=ecosystems) or (depth <= _LOCK_DEPTH and is_lock_name(name)):
                found.append((Path(folder) / name).relative_to(checkout).as_posix())
    return tuple(sorted(found))


def _placed(folder: str, script: str) -> str:
    if not folder or not script:
        return script
    # In a shell of its own, so that the next one starts at the top; a failure in it is the script's.
    return f"(\ncd {shlex.quote(folder)}\n{script})\n"


def _spec(checkout: Path, ecosystem: str, script: str, plans: Sequence[SetupPlan]) -> EnvironmentSpec:
    digest = hashlib.sha256()
    for part in (_FORMAT, sys.version, platform.machine(), script):
        digest.update(f"{part}\0".encode())
    for name in setup_files(checkout, ecosystems=() if ecosystem == "command" else ecosystem.split("+")):
        path = checkout / name
        if not path.is_symlink():
            digest.update(
                f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode("utf-8", "surrogateescape")
            )
    variables: dict[str, str] = {}
    env: dict[str, str] = {}
    for plan in plans:
        variables |= plan.variables
        env |= plan.env
    return EnvironmentSpec(
        ecosystem=ecosystem,
        description="; ".join(plan.description for plan in plans),
        setup_command=script,
        key=digest.hexdigest()[:32],
        variables=variables,
        env=env,
    )

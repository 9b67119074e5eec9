"""Reading and writing what is the host's, and what is somebody else's."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings

from tests.attacks.attempt import Attempt, Outcome, Stage, inside, outside, shown
from tests.attacks.payloads import ENVIRONMENTS, MEMORY, READ, WRITE

#: In the environment and in the memory of whoever started the worker; the benchmark puts it there.
CANARY_VARIABLE = "ARCHON_ATTACK_CANARY"


def canary_halves() -> tuple[str, str]:
    """The canary in two pieces, so that the arguments of who looks for it don't hold it."""
    canary = os.environ[CANARY_VARIABLE]
    return canary[: len(canary) // 2], canary[len(canary) // 2 :]


async def _read(stage: Stage, paths: Sequence[str], *, within: Sequence[str] = ()) -> Outcome:
    """Neither the paths nor, ``within`` the sandbox, other ways to them can be read; outside one of them can."""
    control = await outside(READ, *paths)
    said = []
    async with stage.sandbox() as workspace:
        for path in (*paths, *within):
            said.append(await inside(workspace, READ, path))
    blocked = all(words.startswith("denied") for words in said)
    return Outcome(
        blocked,
        control.startswith("b'") and len(control) > 3,
        f"{', '.join(paths)}: inside {shown('; '.join(said))}; outside {len(control)} characters were read",
    )


async def shadow(stage: Stage) -> Outcome:
    own = stage.folder / "own-secret"
    own.write_text("canary")
    own.chmod(0o600)
    # Who is not root can't read the first; a file that is closed to all others stands for it then.
    paths = ["/etc/shadow"] if os.access("/etc/shadow", os.R_OK) else ["/etc/shadow", str(own)]
    return await _read(stage, paths, within=["/proc/1/root/etc/shadow"])


async def server_settings(stage: Stage) -> Outcome:
    base = Path(settings.BASE_DIR)
    home = Path(settings.ARCHON_HOME) / "secret-key"
    home.parent.mkdir(parents=True, exist_ok=True)
    home.write_text("canary")
    env_file = base / ".env" if (base / ".env").exists() else base / ".env.example"
    return await _read(stage, [str(env_file), str(home), str(base / "manage.py")])


async def parent_environment(stage: Stage) -> Outcome:
    halves = canary_halves()
    control = await outside(ENVIRONMENTS, *halves)
    async with stage.sandbox() as workspace:
        said = await inside(workspace, ENVIRONMENTS, *halves)
        other = await inside(workspace, READ, "/proc/1/environ")
    blocked = said.startswith("denied") and other.startswith("denied")
    return Outcome(blocked, control.startswith("found"), f"inside {shown(said)}, {shown(other)}; outside {control}")


async def parent_memory(stage: Stage) -> Outcome:
    halves = canary_halves()
    control = await outside(MEMORY, *halves)
    async with stage.sandbox() as workspace:
        said = await inside(workspace, MEMORY, *halves)
    return Outcome(said.startswith("denied"), control == "found", f"inside {shown(said)}; outside {control}")


async def _write(stage: Stage, path: str, *, victim: Path) -> Outcome:
    """``path``, in the worktree, leads to the victim; the same path outside changes it."""
    worktree = stage.worktree()
    victim.write_text("untouched")
    async with stage.sandbox() as workspace:
        said = await inside(workspace, WRITE, path)
    after = victim.read_text()
    victim.chmod(0o666)
    before = os.getcwd()
    os.chdir(worktree)
    try:
        control = await outside(WRITE, path)
    finally:
        os.chdir(before)
    changed = victim.read_text() == "changed"
    return Outcome(
        after == "untouched",
        changed,
        f"the file outside is {after} afterwards; inside {shown(said)}; outside {control}",
    )


async def write_upwards(stage: Stage) -> Outcome:
    return await _write(stage, "../victim", victim=stage.worktree().parent / "victim")


async def write_by_link(stage: Stage) -> Outcome:
    victim = stage.folder / "victim"
    (stage.worktree() / "link").symlink_to(victim)
    return await _write(stage, "link", victim=victim)


async def write_programs(stage: Stage) -> Outcome:
    """What a sandbox shows of the host can't be written there."""
    mark = f"attack-{secrets.token_hex(4)}"
    async with stage.sandbox() as workspace:
        said = await inside(
            workspace, WRITE, f"/usr/bin/{mark}", f"/usr/lib/{mark}", "/etc/passwd", "/run/archon/exec_server.py"
        )
    there = [path for path in (f"/usr/bin/{mark}", f"/usr/lib/{mark}") if os.path.lexists(path)]
    control = await outside(WRITE, str(stage.folder / mark))
    return Outcome(
        not there and "wrote" not in said,
        control.startswith("wrote"),
        f"on the host: {there or 'nothing new'}; inside {shown(said)}; outside, in an open folder, {control}",
    )


async def _other_worktree(stage: Stage, name: str) -> Outcome:
    other = stage.worktree(name) / "private"
    other.write_text("canary")
    async with stage.sandbox(name=name) as theirs:
        await theirs.command_run("true", timeout=60)
        return await _read(stage, [str(other)], within=[f"../../{name}/worktree/private", "/proc/1/cwd/private"])


async def other_project(stage: Stage) -> Outcome:
    return await _other_worktree(stage, "another-project")


async def other_session(stage: Stage) -> Outcome:
    return await _other_worktree(stage, "another-session")


ATTEMPTS: dict[str, Attempt] = {
    "read /etc/shadow": shadow,
    "read the server's settings and code": server_settings,
    "read the environment of the parent": parent_environment,
    "read the memory of the parent": parent_memory,
    "write through ../": write_upwards,
    "write through a symlink": write_by_link,
    "write to the system's programs": write_programs,
    "read another project's workspace": other_project,
    "read another session's workspace": other_session,
}

"""Results that somebody else wrote: what a command left behind speaks for the next one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

from apps.projects.sandbox import sandbox_run
from tests.attacks.attempt import Attempt, Outcome, Stage, shown
from tests.attacks.payloads import FORGE
from tests.sandboxing import LIMITS

#: Forges again and again, beside whatever comes next.
_LEFT_BEHIND = f"""
import os, time
if os.fork():
    os._exit(0)
os.setsid()
for _ in range(20):
    time.sleep(0.05)
    try:
        exec({FORGE!r})
    except SystemExit:
        pass
"""
#: A server as one would write it first: results go through a pipe that commands inherit.
_NAIVE = """
import json, os, subprocess, sys
results = int(sys.argv[1])
subprocess.run([sys.executable, "-I", "-c", sys.argv[2], str(results)], close_fds=False)
code = subprocess.run(["bash", "-c", "sleep 0.5; exit 5"], close_fds=False).returncode
os.write(results, json.dumps({"exit": code}).encode() + b"\\n")
"""
_NAIVE_FORGE = """
import json, os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
os.write(int(sys.argv[1]), json.dumps({"exit": 0}).encode() + b"\\n")
"""


def _naive_result() -> int:
    """The exit code that the naive server's reader takes for the failing command's."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    with subprocess.Popen([sys.executable, "-I", "-c", _NAIVE, str(writing), _NAIVE_FORGE], pass_fds=[writing]):
        os.close(writing)
        with os.fdopen(reading) as results:
            said = results.read().splitlines()
    return int(json.loads(said[0])["exit"])


async def workspace_result(stage: Stage) -> Outcome:
    async with stage.sandbox() as workspace:
        first = await workspace.command_run(["python3", "-c", _LEFT_BEHIND], timeout=30)
        second = await workspace.command_run("sleep 1.5; exit 5", timeout=30)
        third = await workspace.command_run(["python3", "-c", FORGE], timeout=30)
    control = await asyncio.to_thread(_naive_result)
    return Outcome(
        second.exit_code == 5 and third.exit_code == 5 and third.output.strip() == "[]",
        control == 0,
        f"after one that left a forger behind (exit code {first.exit_code}) a failing command counts as "
        f"{second.exit_code}, and what it can reach is {shown(third.output)}; a naive server took {control} for it",
    )


async def check_result(stage: Stage) -> Outcome:
    work = stage.worktree("check")
    command = f"python3 -c {json.dumps('exec(open(0).read())')} <<'END'\n{_LEFT_BEHIND}\nEND\nexit 5"
    result = await sandbox_run(command=command, workspace=work, limits=LIMITS, timeout=60)
    control = await asyncio.to_thread(_naive_result)
    return Outcome(
        result.exit_code == 5,
        control == 0,
        f"a failing check with a forger behind it counts as {result.exit_code} (killed={result.killed!r}); a naive "
        f"server took {control} for it",
    )


ATTEMPTS: dict[str, Attempt] = {
    "result forged by what a command left behind": workspace_result,
    "check forged by what it left behind": check_result,
}

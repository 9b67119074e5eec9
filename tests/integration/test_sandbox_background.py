"""Commands in the background: beside the others, in the same sandbox, and gone when they have to be."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from apps.projects.sandbox.held import BACKGROUND_RUNNING
from apps.projects.workspace import SandboxLimits, WorkspaceError
from tests.integration.test_sandbox_commands import DAEMONS
from tests.sandboxing import LIMITS, marker, opened, processes_alive, processes_gone, processes_seen, python_inside

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("each_sandbox")]


async def printed(workspace, name: str, text: str) -> None:  # type: ignore[no-untyped-def]
    """Wait until the command has printed the text."""
    async with asyncio.timeout(30):
        while text not in (await workspace.background_output(name)).text:
            await asyncio.sleep(0.02)


async def test_a_server_in_the_background_answers_the_commands_after_it(tmp_path: Path) -> None:
    async with opened(tmp_path, env={"WORD": "hello"}) as workspace:
        started = await workspace.background_start(
            'echo "$WORD" > index.html; echo ready; exec python3 -m http.server 8123 --bind 127.0.0.1', name="web"
        )
        assert (started.name, started.running, started.exit_code) == ("web", True, None)
        await printed(workspace, "web", "ready")
        fetch = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8123/index.html').read())"
        for _ in range(2):
            result = await workspace.command_run(
                f'until python3 -c "{fetch}" 2>/dev/null; do sleep 0.1; done', timeout=30
            )
            assert (result.exit_code, result.output) == (0, "b'hello\\n'\n")
        await printed(workspace, "web", "GET /index.html")
        stopped = await workspace.background_stop("web")
        assert (stopped.running, stopped.exit_code, stopped.killed) == (False, None, "stopped")
        result = await workspace.command_run(f'python3 -c "{fetch}"', timeout=30)
        assert result.exit_code == 1
        assert (await workspace.background_stop("web")) == stopped


async def test_how_it_ends_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        await workspace.background_start("echo out; echo problem >&2; exit 3", name="one")
        state = await workspace.background_wait("one", seconds=30)
        assert (state.running, state.exit_code, state.killed, state.output_bytes) == (False, 3, "", 12)
        assert (await workspace.background_output("one")).text == "out\nproblem\n"
        await workspace.background_start(["no-such-program"], name="two")
        assert (await workspace.background_wait("two", seconds=30)).exit_code == 127
        assert "no-such-program" in (await workspace.background_output("two")).text
        await workspace.background_start("kill -SEGV $$", name="three")
        assert (await workspace.background_wait("three", seconds=30)).exit_code == 128 + signal.SIGSEGV
        await workspace.background_start("sleep 600", name="four", timeout=0.3)
        assert (await workspace.background_wait("four", seconds=30)).killed == "timeout"
        with pytest.raises(WorkspaceError, match="already"):
            await workspace.background_start("true", name="one")
        with pytest.raises(WorkspaceError, match="no background command five"):
            await workspace.background_output("five")


async def test_what_a_foreground_command_leaves_is_killed_and_the_background_lives(tmp_path: Path) -> None:
    left, kept = marker(), marker()
    async with opened(tmp_path) as workspace:
        # What it orphans belongs to it all the same.
        await workspace.background_start(f"(setsid sleep {kept} &); sleep {kept}", name="kept")
        await processes_seen(kept, 2)
        result = await python_inside(workspace, DAEMONS, left)
        assert (result.exit_code, result.output) == (0, "started\n")
        assert processes_alive(left) == []
        assert len(processes_alive(kept)) == 2
        running = asyncio.create_task(python_inside(workspace, DAEMONS + "time.sleep(3600)", left))
        await processes_seen(left, 3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert processes_alive(left) == []
        assert len(processes_alive(kept)) == 2
        assert (await workspace.background_stop("kept")).killed == "stopped"
        assert processes_alive(kept) == []


async def test_stopping_one_takes_what_it_started_and_nothing_else(tmp_path: Path) -> None:
    one, other, own = marker(), marker(), marker()
    async with opened(tmp_path) as workspace:
        await workspace.background_start(["python3", "-I", "-c", DAEMONS + "time.sleep(3600)", one], name="one")
        await workspace.background_start(f"sleep {other}", name="other")
        await processes_seen(one, 3)
        await processes_seen(other, 1)
        running = asyncio.create_task(workspace.command_run(f"sleep {own} & wait", timeout=60))
        await processes_seen(own, 1)
        await workspace.background_stop("one")
        assert processes_alive(one) == []
        assert processes_alive(other) and processes_alive(own)
        assert await workspace.background_stop_all() == ("other",)
        assert processes_alive(other) == [] and processes_alive(own)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        with pytest.raises(WorkspaceError):
            await workspace.background_output("one")


async def test_who_kills_the_keeper_gains_nothing(tmp_path: Path) -> None:
    mark = marker()
    async with opened(tmp_path) as workspace:
        await workspace.background_start(
            f"trap '' TERM; setsid sleep {mark} & sleep 1; kill -9 $PPID; wait", name="sly"
        )
        await processes_seen(mark, 1)
        state = await workspace.background_wait("sly", seconds=30)
        assert not state.running
        assert await processes_gone(mark)
        assert (await workspace.command_run("echo next", timeout=20)).output == "next\n"


async def test_a_fork_bomb_beside_a_background_command_is_over_with_its_call(tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        await workspace.background_start("sleep 3600", name="kept")
        result = await workspace.command_run("bomb() { bomb | bomb & }; bomb; sleep 1; echo lived", timeout=10)
        assert result.killed in ("", "timeout")
        following = await workspace.command_run("ls /proc | grep -cE '^[0-9]+$'", timeout=20)
        assert int(following.output) < 12
        state = await workspace.background_wait("kept", seconds=0)
        assert state.running or state.killed == "cleanup"


async def test_nothing_moves_while_the_workspace_is_quiet(tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        await workspace.background_start("while true; do echo x >> file; sleep 0.001; done", name="writer")
        path = tmp_path / "worktree/file"
        async with asyncio.timeout(30):
            while not path.exists():
                await asyncio.sleep(0.01)
        async with workspace.quiet():
            size = path.stat().st_size
            waiting = asyncio.create_task(workspace.command_run("echo ran > other", timeout=20))
            await asyncio.sleep(0.3)
            assert path.stat().st_size == size and not (tmp_path / "worktree/other").exists()
        await waiting
        async with asyncio.timeout(30):
            while path.stat().st_size == size:
                await asyncio.sleep(0.01)


async def test_the_number_that_run_is_bounded(tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        for number in range(BACKGROUND_RUNNING):
            await workspace.background_start("sleep 3600", name=f"c{number}")
        with pytest.raises(WorkspaceError, match="stop one"):
            await workspace.background_start("true", name="more")
        await workspace.background_stop("c0")
        await workspace.background_start("true", name="more")


async def test_one_that_takes_too_much_is_stopped_by_name(tmp_path: Path) -> None:
    limits = SandboxLimits(memory_mb=300, disk_mb=256, processes=64)
    async with opened(tmp_path, limits=limits) as workspace:
        await workspace.background_start(
            ["python3", "-c", "blocks = []\nwhile True: blocks.append(bytearray(b'x') * (8 << 20))"], name="hog"
        )
        assert (await workspace.background_wait("hog", seconds=60)).killed == "memory"
        await workspace.background_start("yes", name="loud")
        state = await workspace.background_wait("loud", seconds=60)
        assert state.killed == "output"
        first = await workspace.background_output("loud", limit=10)
        assert (first.text, first.offset, first.next_offset) == ("y\ny\ny\ny\ny\n", 0, 10)
        gap = await workspace.background_output("loud", offset=10_000_000, limit=10)
        assert gap.offset > 10_000_000 and gap.total > 50 << 20
        last = await workspace.background_output("loud", offset=-4, limit=10)
        assert len(last.text) == 4 and last.next_offset == last.total


@pytest.mark.parametrize("limits", [LIMITS])
async def test_closing_and_a_dying_sandbox_end_it(tmp_path: Path, limits: SandboxLimits) -> None:
    mark = marker()
    async with opened(tmp_path, limits=limits) as workspace:
        await workspace.background_start(f"sleep {mark}", name="one")
        await processes_seen(mark, 1)
        parent = processes_alive(mark)[0]
        # Up to process 1 of the sandbox: the last that has the server for its program.
        above: list[int] = []
        while parent > 1:
            parent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
            if b"exec_server.py" in Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")[-3]:
                above.append(parent)
            elif above:
                break
        os.kill(above[-1], signal.SIGKILL)
        assert (await workspace.background_wait("one", seconds=30)).killed == "sandbox"
        assert await processes_gone(mark)
        await workspace.background_start(f"sleep {mark}", name="two")
        await processes_seen(mark, 1)
    assert await processes_gone(mark)

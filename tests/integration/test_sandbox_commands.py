"""Commands in a sandbox, of either kind: what comes back, what is stopped, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from apps.projects.sandbox import Bind, sandbox_run
from apps.projects.workspace import SandboxUnavailable, WorkspaceError
from tests.sandboxing import (
    LIMITS,
    marker,
    names,
    opened,
    processes_alive,
    processes_gone,
    processes_seen,
    python_inside,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("each_sandbox")]

# Forked twice, in sessions of their own, deaf to whatever can be ignored, and holding the output open.
DAEMONS = (
    "import os, signal, sys, time\n"
    "for number in range(3):\n"
    "    if os.fork() == 0:\n"
    "        os.setsid()\n"
    "        if os.fork() == 0:\n"
    "            for name in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):\n"
    "                signal.signal(name, signal.SIG_IGN)\n"
    "            os.execvp('sleep', ['sleep', sys.argv[1]])\n"
    "        os._exit(0)\n"
    "while len([1 for p in os.listdir('/proc') if p.isdigit() and p != '1'\n"
    "           and b'sleep' in open(f'/proc/{p}/cmdline', 'rb').read()[:6]]) < 3:\n"
    "    time.sleep(0.01)\n"
    "print('started', flush=True)\n"
)


async def test_a_command_reports_its_output_and_exit_code(tmp_path: Path) -> None:
    async with opened(tmp_path, env={"GREETING": "hello"}) as workspace:
        result = await workspace.command_run('echo "$GREETING"; echo problem >&2; pwd; exit 3', timeout=20)
        assert (result.exit_code, result.output, result.killed) == (3, "hello\nproblem\n/workspace\n", "")
        result = await workspace.command_run(["printf", "%s|", "a b", "$HOME", "*"], timeout=20)
        assert (result.exit_code, result.output) == (0, "a b|$HOME|*|")
        assert (await workspace.command_run("kill -SEGV $$", timeout=20)).exit_code == 128 + signal.SIGSEGV
        missing = await workspace.command_run(["no-such-program"], timeout=20)
        assert missing.exit_code == 127 and "no-such-program" in missing.output
        with pytest.raises(WorkspaceError):
            await workspace.command_run([], timeout=20)
    with pytest.raises(WorkspaceError, match="closed"):
        await workspace.command_run("true", timeout=20)


async def test_toolchains_and_tools_are_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        result = await workspace.command_run(
            "python3.11 -c 'import ssl, sqlite3, ctypes; print(\"python\")' && rg --version | head -1 && git --version",
            timeout=60,
        )
    assert result.exit_code == 0, result.output
    assert "python\nripgrep" in result.output


async def test_output_is_cut_in_the_middle_and_endless_output_is_stopped(tmp_path: Path) -> None:
    heard: list[str] = []
    async with opened(tmp_path) as workspace:
        result = await workspace.command_run(
            "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last",
            timeout=60,
            max_output=1000,
            on_output=heard.append,
        )
        assert result.exit_code == 0 and result.truncated
        assert result.output.startswith("first\nxxx") and result.output.endswith("xxx\nlast\n")
        assert "bytes left out" in result.output and len(result.output) < 1100
        assert "".join(heard).startswith("first\n") and len("".join(heard)) == 1000
        endless = await workspace.command_run("yes", timeout=60, max_output=1000)
        assert (endless.exit_code, endless.killed, endless.truncated) == (None, "output", True)
        assert (await workspace.command_run("echo still here", timeout=20)).output == "still here\n"


async def test_output_is_heard_while_the_command_runs(tmp_path: Path) -> None:
    heard = asyncio.Event()
    async with opened(tmp_path) as workspace:
        # The command ends only after its first line was heard.
        running = asyncio.create_task(
            workspace.command_run(
                "echo waiting; until test -e go; do sleep 0.02; done", timeout=30, on_output=lambda text: heard.set()
            )
        )
        await heard.wait()
        await workspace.file_write("go", b"")
        assert (await running).exit_code == 0


async def test_what_a_command_leaves_running_is_gone_when_it_returns(tmp_path: Path) -> None:
    mark = marker()
    async with opened(tmp_path) as workspace:
        result = await python_inside(workspace, DAEMONS, mark)
        assert (result.exit_code, result.output) == (0, "started\n")
        assert processes_alive(mark) == []


async def test_a_timeout_kills_all_of_it(tmp_path: Path) -> None:
    mark = marker()
    async with opened(tmp_path) as workspace:
        result = await python_inside_for(workspace, DAEMONS + "time.sleep(3600)", mark, timeout=5)
        assert (result.exit_code, result.killed, result.output) == (None, "timeout", "started\n")
        assert processes_alive(mark) == []
        assert (await workspace.command_run("echo next", timeout=20)).output == "next\n"


async def test_cancelling_kills_all_of_it_first(tmp_path: Path) -> None:
    mark = marker()
    async with opened(tmp_path) as workspace:
        running = asyncio.create_task(python_inside(workspace, DAEMONS + "time.sleep(3600)", mark))
        await processes_seen(mark, 3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert processes_alive(mark) == []
        assert (await workspace.command_run("echo next", timeout=20)).output == "next\n"


async def test_a_failing_listener_ends_the_command(tmp_path: Path) -> None:
    mark = marker()

    def fail(text: str) -> None:
        raise RuntimeError("full")

    async with opened(tmp_path) as workspace:
        with pytest.raises(RuntimeError, match="full"):
            await workspace.command_run(f"echo out; sleep {mark}", timeout=20, on_output=fail)
        assert processes_alive(mark) == []
        assert "next\n" in (await workspace.command_run("echo next", timeout=20)).output


async def test_closing_ends_everything(tmp_path: Path) -> None:
    mark = marker()
    async with opened(tmp_path) as workspace:
        running = asyncio.create_task(python_inside(workspace, DAEMONS + "time.sleep(3600)", mark))
        await processes_seen(mark, 3)
    assert await processes_gone(mark)
    assert (await running).killed == "sandbox"


async def test_commands_of_one_workspace_wait_for_each_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        await asyncio.gather(
            *(
                workspace.command_run(
                    f"test ! -e busy && touch busy && sleep 0.1 && rm busy && echo {number} >> done", timeout=60
                )
                for number in range(5)
            )
        )
        assert sorted((await workspace.file_read("done")).split()) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_sandbox_that_dies_is_followed_by_another(tmp_path: Path) -> None:
    mark = marker()
    async with opened(tmp_path) as workspace:
        running = asyncio.create_task(workspace.command_run(f"echo begun; sleep {mark}", timeout=60))
        await processes_seen(mark, 1)
        parent = processes_alive(mark)[0]
        # Up to the server in the sandbox: the nearest that isn't the command itself.
        while b"exec_server" not in Path(f"/proc/{parent}/cmdline").read_bytes():
            parent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        result = await running
        assert (result.exit_code, result.killed) == (None, "sandbox")
        assert "begun" in result.output and "gets a new one" in result.output
        following = await workspace.command_run("echo next", timeout=20)
        assert following.exit_code == 0 and following.output.endswith("next\n") and "started anew" in following.output


async def test_a_fresh_sandbox_takes_the_exit_code_from_the_kernel(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for code in (0, 1, 7, 255):
        result = await sandbox_run(command=f"exit {code}", workspace=work, limits=LIMITS, timeout=60)
        assert (result.exit_code, result.killed) == (code, "")
    killed = await sandbox_run(command="sleep 3600", workspace=work, limits=LIMITS, timeout=0.5)
    assert (killed.exit_code, killed.killed) == (None, "timeout")


async def test_a_fresh_sandbox_writes_only_what_it_may(tmp_path: Path) -> None:
    work, environment = tmp_path / "work", tmp_path / "environment"
    work.mkdir()
    environment.mkdir()
    (environment / "there").write_text("seen")
    result = await sandbox_run(
        command="cat /env/there; for folder in /env . /usr / /tmp; do touch $folder/new && echo $folder; done",
        workspace=work,
        workspace_writable=False,
        binds=[Bind(environment, "/env")],
        limits=LIMITS,
        timeout=60,
    )
    assert result.output.startswith("seen") and result.output.endswith("/tmp\n")
    assert result.output.count("Read-only file system") == 4
    assert names(environment) == ["there"] and names(work) == []
    result = await sandbox_run(
        command="touch /env/new new",
        workspace=work,
        binds=[Bind(environment, "/env", writable=True)],
        limits=LIMITS,
        timeout=60,
    )
    assert result.exit_code == 0, result.output
    assert names(environment) == ["new", "there"] and names(work) == ["new"]


async def test_the_proxy_is_the_only_way_out(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        asked.append(request.splitlines()[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000005\r\nConnection: close\r\n\r\nhello" + bytes(1_000_000))
        await writer.drain()
        writer.close()

    work = tmp_path / "work"
    work.mkdir()
    path = tmp_path / "proxy.sock"
    fetch = (
        "import urllib.request\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def get(n): return urllib.request.urlopen(f'http://packages.example/{n}', timeout=20).read()\n"
        "bodies = list(ThreadPoolExecutor(5).map(get, range(10)))\n"
        "print({(len(body), body[:5]) for body in bodies})\n"
    )
    async with await asyncio.start_unix_server(proxy, path):
        result = await sandbox_run(
            command=["python3", "-c", fetch], workspace=work, limits=LIMITS, timeout=60, egress_socket=path
        )
        assert result.output == "{(1000005, b'hello')}\n"
        assert sorted(asked) == sorted(f"GET http://packages.example/{n} HTTP/1.1".encode() for n in range(10))
        result = await sandbox_run(command=["python3", "-c", fetch], workspace=work, limits=LIMITS, timeout=60)
        assert result.exit_code == 1 and len(asked) == 10


async def test_a_sandbox_that_cannot_start_says_why(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(SandboxUnavailable, match="missing") as raised:
        await sandbox_run(
            command="true", workspace=work, binds=[Bind(tmp_path / "missing", "/data")], limits=LIMITS, timeout=60
        )
    assert raised.value.next_step


async def python_inside_for(workspace, code: str, *arguments: str, timeout: float):  # type: ignore[no-untyped-def]
    return await workspace.command_run(["python3", "-I", "-c", code, *arguments], timeout=timeout)

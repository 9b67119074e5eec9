"""Commands reach the hosts that the project lists, through the proxy, and nothing else; without a list, nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from apps.core.outbound import host_is_listed
from apps.projects.egress import Egress, egress_open
from apps.projects.sandbox import SandboxWorkspace, workspace_open
from apps.projects.workspace import Worktree
from tests.sandboxing import LIMITS, python_inside

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("each_sandbox")]

#: Prints what a page says, by way of the proxy that the variables name; or how that was refused.
GET = """
import os, sys, urllib.request, urllib.error
# Pages are on this machine here, and its loopback is kept from the proxy.
os.environ["no_proxy"] = ""
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())
except urllib.error.HTTPError as e:
    print("refused", e.code, e.read().decode()[:200])
except OSError as e:
    print("unreachable", e)
"""
#: The same past the variables.
DIRECT = GET.replace("urllib.request.urlopen(", "urllib.request.build_opener(urllib.request.ProxyHandler({})).open(")


@asynccontextmanager
async def site() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A page on this machine's loopback: its port, and who asked for it."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


@asynccontextmanager
async def sandbox(
    folder: Path, *, listed: Sequence[str], private: Sequence[str]
) -> AsyncIterator[tuple[SandboxWorkspace, Egress]]:
    path = folder / "worktree"
    path.mkdir()
    worktree = Worktree(path=path, git_dir=folder / "git", index=folder / "index", branch="b", base_commit="c")

    def allowed(host: str, port: int) -> bool:
        return host_is_listed(host, port, listed=listed)

    async with (
        egress_open(allowed=allowed, private_hosts=private) as egress,
        workspace_open(worktree, limits=LIMITS, egress_socket=egress.socket) as workspace,
    ):
        yield workspace, egress


async def test_a_listed_host_is_reached_by_one_command_after_another(tmp_path: Path) -> None:
    async with site() as (port, asked):
        url = f"http://127.0.0.1:{port}/"
        async with sandbox(tmp_path, listed=["127.0.0.1"], private=["127.0.0.1"]) as (workspace, _):
            for _ in range(2):
                assert (await python_inside(workspace, GET, url)).output == "hello\n"
            # What a command leaves behind is killed, and what forwards for the next one is there again.
            await workspace.command_run("kill -9 -1; sleep 60 & true", timeout=30)
            assert (await python_inside(workspace, GET, url)).output == "hello\n"
            await workspace.background_start(["python3", "-I", "-c", GET, url], name="b")
            assert (await workspace.background_wait("b", seconds=30)).exit_code == 0
            assert (await workspace.background_output("b")).text == "hello\n"
            assert len(asked) == 4
            assert (await python_inside(workspace, DIRECT, url)).output.startswith("unreachable")
        assert len(asked) == 4


@pytest.mark.parametrize(
    "listed,private,address,said",
    [
        (["example.org"], ["127.0.0.1"], "http://127.0.0.1:{port}/", "not on the list"),
        # Listed by the project, and not public: the operator's word is needed as well.
        (["127.0.0.1"], [], "http://127.0.0.1:{port}/", "not public"),
        (["localhost"], [], "http://localhost:{port}/", "not public"),
        (["2130706433"], [], "http://2130706433:{port}/", "not public"),
        (["[::ffff:127.0.0.1]"], [], "http://[::ffff:127.0.0.1]:{port}/", "not public"),
        (["169.254.169.254"], [], "http://169.254.169.254/latest/meta-data/", "not public"),
        (["127.0.0.1:1"], ["127.0.0.1"], "http://127.0.0.1:{port}/", "not on the list"),
    ],
)
async def test_other_hosts_and_private_addresses_are_refused(
    tmp_path: Path, listed: list[str], private: list[str], address: str, said: str
) -> None:
    async with site() as (port, asked):
        async with sandbox(tmp_path, listed=listed, private=private) as (workspace, egress):
            result = await python_inside(workspace, GET, address.format(port=port))
        assert result.output.startswith("refused 403") and said in result.output, result.output
        assert len(egress.refused) == 1
        assert asked == []


async def test_without_a_list_there_is_no_network(tmp_path: Path) -> None:
    path = tmp_path / "worktree"
    path.mkdir()
    worktree = Worktree(path=path, git_dir=tmp_path / "git", index=tmp_path / "index", branch="b", base_commit="c")
    async with site() as (port, asked), workspace_open(worktree, limits=LIMITS) as workspace:
        result = await python_inside(workspace, GET, f"http://127.0.0.1:{port}/")
        variables = await workspace.command_run("env", timeout=30)
        assert result.output.startswith("unreachable") and "proxy" not in variables.output.lower()
        assert asked == []

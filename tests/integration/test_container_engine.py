"""The container adapter and its engine: what is asked for, and everything that an engine can do to a session."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.core.errors import ApplicationError, DiskFull
from apps.projects.sandbox import Bind, container, sandbox_identity, sandbox_run
from apps.projects.sandbox.container_errors import (
    EngineForbidden,
    EngineRefused,
    EngineUnreachable,
    EngineUnsuitable,
    ImageMissing,
    ImageUnsuitable,
    PathUnknown,
    RuntimeUnknown,
)
from apps.projects.workspace import CommandResult, SandboxUnavailable
from tests.certificates import certificates_make
from tests.loopback.engine_server import Engine, EngineServer, Fault, Image
from tests.sandboxing import (
    LIMITS,
    engine_open,
    leftovers_swept,
    marker,
    opened,
    processes_alive,
    processes_gone,
    processes_seen,
)

pytestmark = pytest.mark.asyncio


@pytest.fixture
def server(settings: Settings) -> Iterator[EngineServer]:
    with engine_open(settings) as server:
        yield server


async def run(folder: Path, command: str = "echo hello", **options: object) -> CommandResult:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    given = {"workspace": work, "limits": LIMITS, "timeout": 60.0, **options}
    return await sandbox_run(command=command, **given)  # type: ignore[arg-type]


# --- what is asked for ------------------------------------------------------------------------------------------------
async def test_one_container_a_worktree_and_a_fresh_one_for_each_check(server: EngineServer, tmp_path: Path) -> None:
    (tmp_path / "session").mkdir()
    async with opened(tmp_path / "session") as workspace:
        assert server.engine.bodies == []
        for _ in range(3):
            assert (await workspace.command_run("true", timeout=20)).exit_code == 0
        assert len(server.engine.bodies) == len(server.engine.running()) == 1
        await run(tmp_path)
        await run(tmp_path)
        assert len(server.engine.bodies) == 3 and len(server.engine.running()) == 1
    assert server.engine.containers == {}
    labels = [body["Labels"] for body in server.engine.bodies]
    assert [entry["archon.purpose"] for entry in labels] == ["workspace", "check", "check"]
    assert labels[0]["archon.session"] == "worktree"


async def test_only_the_worktree_is_writable_and_no_secret_is_told(
    server: EngineServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-of-a-key")
    environment = tmp_path / "environment"
    environment.mkdir()
    result = await run(tmp_path, "env", binds=[Bind(environment, "/env")], env={"GIVEN": "yes"})
    [body] = server.engine.bodies
    writable = [mount["Target"] for mount in body["HostConfig"]["Mounts"] if not mount["ReadOnly"]]
    assert writable == ["/workspace"]
    assert "canary" not in str(body) and "canary" not in result.output
    # The image's own variables, where its toolchains are; ours over them.
    assert "FROM_IMAGE=yes" in result.output and "GIVEN=yes" in result.output and "PATH=/env/bin:" in result.output
    assert "HOME=/tmp/home" in result.output


async def test_a_runtime_and_the_limits_reach_the_engine(
    server: EngineServer, settings: Settings, tmp_path: Path
) -> None:
    server.engine.runtimes.add("runsc")
    settings.ARCHON_CONTAINER_RUNTIME = "runsc"
    settings.ARCHON_CONTAINER_CPUS = 1.5
    await run(tmp_path)
    host = server.engine.bodies[0]["HostConfig"]
    assert (host["Runtime"], host["NanoCpus"], host["PidsLimit"]) == ("runsc", 1_500_000_000, LIMITS.processes)
    assert host["Memory"] == host["MemorySwap"] > LIMITS.memory_mb << 20


async def test_containers_are_made_from_the_image_that_was_looked_at(server: EngineServer, tmp_path: Path) -> None:
    server.engine.images["archon-sandbox:latest"] = Image(image_id="sha256:" + "cd" * 32)
    await run(tmp_path)
    assert server.engine.bodies[0]["Image"] == "sha256:" + "cd" * 32
    assert await sandbox_identity() == "cd" * 8


# --- an engine that can't be used -------------------------------------------------------------------------------------
async def test_an_engine_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    settings.ARCHON_SANDBOX = "container"
    settings.ARCHON_CONTAINER_ENGINE = f"unix://{tmp_path}/none.sock"
    await refused(tmp_path, EngineUnreachable, "No container engine answers", "ARCHON_CONTAINER_ENGINE")
    settings.ARCHON_CONTAINER_ENGINE = "tcp://127.0.0.1:1"
    await refused(tmp_path, EngineUnreachable, "No container engine answers", "systemctl")
    for address in ("", "/var/run/docker.sock", "ssh://host", "unix://"):
        settings.ARCHON_CONTAINER_ENGINE = address
        await refused(tmp_path, SandboxUnavailable, "no engine's address", "unix://")
    settings.ARCHON_CONTAINER_ENGINE = "tcp://engine.example:2376"
    await refused(tmp_path, EngineUnsuitable, "without a certificate", "ARCHON_CONTAINER_TLS")


async def test_a_socket_that_may_not_be_used(server: EngineServer, tmp_path: Path) -> None:
    socket = Path(server.address.removeprefix("unix://"))
    os.chmod(socket.parent, 0o711)
    socket.chmod(0o600)
    script = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "import django; django.setup()\n"
        "from apps.projects.sandbox.container import sandbox_identity\n"
        "from apps.projects.sandbox.container_errors import EngineForbidden\n"
        "if os.geteuid() == 0:\n"
        "    os.setresuid(65534, 65534, 65534)\n"
        "try:\n"
        "    asyncio.run(sandbox_identity())\n"
        "except EngineForbidden as error:\n"
        "    print(error.message, error.next_step)\n"
    )
    if os.geteuid() != 0:
        socket.chmod(0)
    environment = {**os.environ, "ARCHON_SANDBOX": "container", "ARCHON_CONTAINER_ENGINE": server.address}
    answer = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert "may not use the container engine's socket" in answer.stdout, answer.stderr
    assert "usermod -aG docker" in answer.stdout
    assert EngineForbidden.code == "sandbox_unavailable"


async def test_an_image_that_is_not_there_is_never_fetched(
    server: EngineServer, settings: Settings, tmp_path: Path
) -> None:
    settings.ARCHON_CONTAINER_IMAGE = "registry.example/tools:1"
    await refused(tmp_path, ImageMissing, "no image registry.example/tools:1", "docker pull registry.example/tools:1")
    settings.ARCHON_CONTAINER_IMAGE = "archon-sandbox:latest"
    server.engine.images.clear()
    await refused(tmp_path, ImageMissing, "no image archon-sandbox", "docker build --target sandbox")
    assert not any("create" in request for request in server.engine.requests)


async def test_an_image_that_is_not_one(server: EngineServer, tmp_path: Path) -> None:
    server.engine.images["archon-sandbox:latest"] = Image(has_python=False)
    await refused(tmp_path, ImageUnsuitable, "executable file not found", "python3")
    server.engine.images["archon-sandbox:latest"] = Image(system="windows")
    await refused(tmp_path, ImageUnsuitable, "windows", "Linux image")


async def test_a_runtime_that_the_engine_does_not_know(
    server: EngineServer, settings: Settings, tmp_path: Path
) -> None:
    settings.ARCHON_CONTAINER_RUNTIME = "runsc"
    await refused(tmp_path, RuntimeUnknown, "no runtime runsc", "ARCHON_CONTAINER_RUNTIME")


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        (Engine(security=["name=seccomp,profile=builtin", "name=rootless"]), "Rootless Docker"),
        (Engine(security=["name=apparmor"]), "doesn't filter system calls"),
    ],
    ids=["rootless", "unfiltered"],
)
async def test_an_engine_under_which_a_promise_would_not_hold(
    settings: Settings, tmp_path: Path, engine: Engine, says: str
) -> None:
    with engine_open(settings, engine):
        await refused(tmp_path, EngineUnsuitable, says, "")
    assert engine.bodies == []


async def test_user_ids_are_the_hosts_whatever_the_engine_maps(settings: Settings, tmp_path: Path) -> None:
    for engine, wanted in (
        (Engine(podman=True, security=["name=seccomp", "name=rootless"]), "keep-id"),
        (Engine(security=["name=seccomp,profile=builtin", "name=userns"]), "host"),
        (Engine(), None),
    ):
        with engine_open(settings, engine):
            await run(tmp_path)
        assert engine.bodies[0]["HostConfig"].get("UsernsMode") == wanted


# --- an engine that fails ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("question", ["GET version", "GET info", "GET image", "POST create", "POST attach"])
async def test_errors_silence_and_cuts_at_each_step(server: EngineServer, tmp_path: Path, question: str) -> None:
    for fault, kind in (
        (Fault(500, "the engine has a bad day"), EngineRefused),
        (Fault(409, "conflict of some kind"), EngineRefused),
        (Fault(cut=True), EngineUnreachable),
    ):
        server.engine.faults = {question: fault}
        error = await refused(tmp_path, kind, "", "")
        assert fault.message in error.message
        server.engine.faults = {}
        # Even what was made and never heard of.
        assert server.engine.containers == {}
    assert (await run(tmp_path)).output == "hello\n"


async def test_a_start_that_fails_leaves_no_container(server: EngineServer, tmp_path: Path) -> None:
    server.engine.faults = {"POST start": Fault(500, "OCI runtime create failed: cgroups are broken")}
    await refused(tmp_path, EngineRefused, "cgroups are broken", "docs/how-to/containers.md")
    assert server.engine.containers == {}


async def test_a_full_disk_of_the_engines(server: EngineServer, tmp_path: Path) -> None:
    server.engine.faults = {"POST create": Fault(500, "mkdir /var/lib/docker/overlay2/x: no space left on device")}
    with pytest.raises(DiskFull, match="no space left"):
        await run(tmp_path)


async def test_something_else_answers(settings: Settings, tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"a": 1}\n')
        await writer.drain()
        writer.close()

    settings.ARCHON_SANDBOX = "container"
    settings.ARCHON_CONTAINER_ENGINE = f"unix://{tmp_path}/other.sock"
    async with await asyncio.start_unix_server(answer, str(tmp_path / "other.sock")):
        await refused(tmp_path, EngineUnreachable, "does not speak", "Docker or Podman")


async def test_a_stream_that_comes_in_drops(server: EngineServer, tmp_path: Path) -> None:
    server.engine.piece = 3
    result = await run(tmp_path, "echo to-stdout; echo to-stderr >&2; head -c 20000 /dev/zero | tr '\\0' x")
    assert result.output == "to-stdout\nto-stderr\n" + "x" * 20_000


@pytest.mark.parametrize("count", [5, 30, 200, 5000])
async def test_a_stream_that_is_cut_is_no_result(server: EngineServer, tmp_path: Path, count: int) -> None:
    server.engine.cut_after = count
    work = tmp_path / "work"
    work.mkdir()
    try:
        result = await run(tmp_path, "head -c 100000 /dev/zero | tr '\\0' x; sleep 0.2; echo whole")
    except SandboxUnavailable:
        assert count < 100, "before the server in it was up"
    else:
        assert (result.exit_code, result.killed) == (None, "sandbox")
    assert server.engine.containers == {}


async def test_a_workspace_goes_on_in_another_container(server: EngineServer, tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        server.engine.cut_after = 3000
        first = await workspace.command_run("head -c 100000 /dev/zero | tr '\\0' x", timeout=60)
        assert first.killed == "sandbox"
        server.engine.cut_after = None
        second = await workspace.command_run("echo next", timeout=60)
        assert "started anew" in second.output and second.output.endswith("next\n")
        assert len(server.engine.containers) == 1


async def test_what_the_kernel_kills_for_memory_has_that_name(server: EngineServer, tmp_path: Path) -> None:
    mark = marker()
    async with opened(tmp_path) as workspace:
        running = asyncio.create_task(workspace.command_run(f"exec sleep {mark}", timeout=60))
        await processes_seen(mark, 1)
        server.engine.running()[0].run_out_of_memory(mark)
        result = await running
        assert (result.exit_code, result.killed) == (None, "memory")


async def test_an_exit_code_is_the_engines_word(server: EngineServer, tmp_path: Path) -> None:
    """Whatever was said inside: a container that ended otherwise has no result."""
    server.engine.reported_exit = 3
    result = await run(tmp_path, "exit 0")
    assert (result.exit_code, result.killed) == (None, "sandbox")


# --- what is left behind ----------------------------------------------------------------------------------------------
async def test_cancelling_ends_the_command_and_a_check_its_container(server: EngineServer, tmp_path: Path) -> None:
    mark = marker()
    running = asyncio.create_task(run(tmp_path, f"trap '' TERM; setsid sleep {mark} & sleep {mark}"))
    await processes_seen(mark, 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert processes_alive(mark) == [] and server.engine.containers == {}


OWNER = """
import asyncio, sys
from pathlib import Path
import django
django.setup()
from apps.projects.workspace import SandboxLimits, Worktree
from apps.projects.sandbox import workspace_open

async def main():
    path = Path(sys.argv[1])
    worktree = Worktree(path=path, git_dir=path, index=path, branch="b", base_commit="c")
    async with workspace_open(worktree, limits=SandboxLimits(memory_mb=512, disk_mb=256, processes=64)) as workspace:
        await workspace.command_run(MARK, timeout=600)

asyncio.run(main())
"""


async def test_containers_of_a_dead_worker_are_removed_by_another(server: EngineServer, tmp_path: Path) -> None:
    mark = marker()
    work = tmp_path / "session"
    work.mkdir()
    environment = {**os.environ, "ARCHON_SANDBOX": "container", "ARCHON_CONTAINER_ENGINE": server.address}
    script = OWNER.replace("MARK", repr(f"sleep {mark}"))
    owner = subprocess.Popen([sys.executable, "-c", script, str(work)], env=environment)
    try:
        await processes_seen(mark, 1)
        # As long as it lives, what is its own is left alone.
        assert await leftovers_swept() == 0
        owner.kill()
        owner.wait()
        assert await processes_gone(mark)
        assert len(server.engine.containers) == 1
        assert await leftovers_swept() == 1
        assert server.engine.containers == {}
    finally:
        owner.kill()


async def test_files_of_workers_that_are_long_gone_are_deleted(server: EngineServer, tmp_path: Path) -> None:
    await run(tmp_path)
    folder = container.state_folder() / "workers"
    for name, age in (("0" * 16, 100_000), ("1" * 16, 10)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    assert await leftovers_swept() == 0
    assert not (folder / ("0" * 16)).exists() and (folder / ("1" * 16)).exists()


async def test_other_installations_containers_are_left_alone(server: EngineServer, tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        await workspace.command_run("true", timeout=20)
        [made] = server.engine.containers.values()
        made.body["Labels"] |= {"archon.installation": "another", "archon.worker": "0" * 16}
        assert await leftovers_swept() == 0
        assert (await workspace.command_run("echo here", timeout=20)).output == "here\n"


# --- an engine that sees another file system --------------------------------------------------------------------------
async def test_paths_are_the_engines_own(settings: Settings, tmp_path: Path) -> None:
    home = Path(settings.ARCHON_HOME)
    engine = Engine(host_folders={"/srv/archon": home, "/srv/work": tmp_path})
    with engine_open(settings, engine):
        settings.ARCHON_CONTAINER_PATHS = {str(home): "/srv/archon", str(tmp_path): "/srv/work"}
        assert (await run(tmp_path, "echo made > file; cat file")).output == "made\n"
        assert (tmp_path / "work/file").read_text() == "made\n"
        sources = {mount["Target"]: mount["Source"] for mount in engine.bodies[0]["HostConfig"]["Mounts"]}
        assert sources["/workspace"] == "/srv/work/work"
        assert all(source.startswith("/srv/") for source in sources.values())
        # A file from anywhere is lent; a folder that the engine can't see is not pretended to be there.
        lent = await run(tmp_path, "cat /lent", binds=[Bind(Path("/etc/debian_version"), "/lent")])
        assert lent.output == Path("/etc/debian_version").read_text()
        error = await refused(tmp_path, PathUnknown, "/etc", "=/its/place", binds=[Bind(Path("/etc/apt"), "/lent")])
        assert "ARCHON_CONTAINER_PATHS" in error.next_step


async def test_a_named_volume_is_shown_in_part(settings: Settings, tmp_path: Path) -> None:
    home = Path(settings.ARCHON_HOME)
    engine = Engine(volumes={"archon_home": home, "work": tmp_path})
    with engine_open(settings, engine):
        settings.ARCHON_CONTAINER_PATHS = {str(home): "volume:archon_home", str(tmp_path): "volume:work"}
        assert (await run(tmp_path, "echo made > file; cat file")).output == "made\n"
        mounts = {mount["Target"]: mount for mount in engine.bodies[0]["HostConfig"]["Mounts"]}
        assert mounts["/workspace"]["VolumeOptions"] == {"NoCopy": True, "Subpath": "work"}
        engine.version = (1, 44)
        await refused(tmp_path, EngineUnsuitable, "part of a named volume", "newer Docker")


async def test_the_proxys_socket_is_brought_to_where_the_engine_sees_it(settings: Settings, tmp_path: Path) -> None:
    home = Path(settings.ARCHON_HOME)
    work = tmp_path / "seen"
    work.mkdir()
    engine = Engine(host_folders={"/srv/archon": home, "/srv/work": work})

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000005\r\nConnection: close\r\n\r\nhello" + bytes(1_000_000))
        await writer.drain()
        writer.close()

    fetch = "import urllib.request as r; print(len(r.urlopen('http://packages.example/x', timeout=20).read()))"
    with engine_open(settings, engine):
        settings.ARCHON_CONTAINER_PATHS = {str(home): "/srv/archon", str(work): "/srv/work"}
        async with await asyncio.start_unix_server(proxy, str(tmp_path / "proxy.sock")):
            result = await run(work, f'python3 -c "{fetch}"', egress_socket=tmp_path / "proxy.sock")
    assert result.output == "1000005\n"


# --- an engine on another machine -------------------------------------------------------------------------------------
async def test_tls_with_certificates_of_both_sides(settings: Settings, tmp_path: Path) -> None:
    certificates_make(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls/server-cert.pem", tmp_path / "tls/server-key.pem")
    context.load_verify_locations(tmp_path / "tls/ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    settings.ARCHON_SANDBOX = "container"
    with EngineServer(tls=context) as server:
        settings.ARCHON_CONTAINER_ENGINE = server.address
        settings.ARCHON_CONTAINER_TLS = str(tmp_path / "tls")
        assert (await run(tmp_path)).output == "hello\n"
        assert server.engine.containers == {}
        certificates_make(tmp_path / "foreign")
        settings.ARCHON_CONTAINER_TLS = str(tmp_path / "foreign")
        await refused(tmp_path, EngineUnreachable, "certificates", "ARCHON_CONTAINER_TLS")
        settings.ARCHON_CONTAINER_TLS = str(tmp_path / "nowhere")
        await refused(tmp_path, EngineUnreachable, "certificates", "ca.pem")


async def test_many_at_a_time(server: EngineServer, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(8)]
    for folder in folders:
        folder.mkdir()
    results = await asyncio.gather(*(run(folder, f"echo {folder.name}") for folder in folders))
    assert [result.output.strip() for result in results] == [folder.name for folder in folders]
    assert server.engine.containers == {}


async def test_what_is_lent_can_be_read_and_not_written(server: EngineServer, tmp_path: Path) -> None:
    await run(tmp_path)
    [mounts] = [body["HostConfig"]["Mounts"] for body in server.engine.bodies]
    lent = [Path(mount["Source"]) for mount in mounts if "/containers/lent/" in mount["Source"]]
    assert {path.name for path in lent} >= {"exec_server.py", "passwd", "group"}
    assert all(stat.S_IMODE(path.stat().st_mode) in (0o644, 0o755) for path in lent)


async def refused(
    folder: Path, kind: type[ApplicationError], says: str, step: str, **options: object
) -> ApplicationError:
    """Nothing runs, and the error tells why and what to do."""
    mark = folder / "work" / "ran"
    with pytest.raises(kind) as raised:
        await run(folder, f"touch {mark.name}", **options)
    assert says in raised.value.message and step in raised.value.next_step
    assert raised.value.next_step and not mark.exists()
    return raised.value

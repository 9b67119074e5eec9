"""Whatever is asked for, the container that is described is hardened, as the tests' engine judges it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.projects.sandbox.container_body import ContainerSpec, container_body
from apps.projects.sandbox.container_errors import PathUnknown
from apps.projects.sandbox.container_paths import EnginePaths, Mount
from apps.projects.sandbox.rootfs import Bind
from apps.projects.workspace import SandboxLimits
from tests.loopback.engine_hardening import hardening_problems

LABELS = {"archon.installation": "i", "archon.worker": "w", "archon.purpose": "check"}


def spec(**changes: object) -> ContainerSpec:
    values: dict[str, object] = {
        "image_id": "sha256:ab",
        "user": "1000:1000",
        "mounts": [Mount("/srv/work", "/workspace", True)],
        "limits": SandboxLimits(memory_mb=512, disk_mb=256, processes=64),
        "labels": LABELS,
        "watched": ["/workspace"],
    }
    return ContainerSpec(**{**values, **changes})  # type: ignore[arg-type]


@given(
    memory=st.integers(64, 1 << 20),
    processes=st.integers(8, 1 << 15),
    once=st.booleans(),
    proxied=st.booleans(),
    runtime=st.sampled_from(["", "runsc"]),
    cpus=st.floats(0.1, 64),
    namespace=st.sampled_from(["", "host", "keep-id"]),
    writable=st.booleans(),
)
def test_every_description_is_hardened(
    memory: int,
    processes: int,
    once: bool,
    proxied: bool,
    runtime: str,
    cpus: float,
    namespace: str,
    writable: bool,
) -> None:
    body = container_body(
        spec(
            limits=SandboxLimits(memory_mb=memory, disk_mb=256, processes=processes),
            once=once,
            proxied=proxied,
            runtime=runtime,
            cpus=cpus,
            user_namespace=namespace,
            mounts=[Mount("/srv/work", "/workspace", writable), Mount("x", "/env", False, volume="v")],
        )
    )
    assert hardening_problems(body) == []
    assert body["HostConfig"]["PidsLimit"] >= processes


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("HostConfig", "ReadonlyRootfs", False),
        ("HostConfig", "Privileged", True),
        ("HostConfig", "CapDrop", []),
        ("HostConfig", "CapAdd", ["SYS_ADMIN"]),
        ("HostConfig", "NetworkMode", "bridge"),
        ("HostConfig", "SecurityOpt", ["seccomp=unconfined"]),
        ("HostConfig", "PidsLimit", 0),
        ("HostConfig", "Memory", -1),
        ("HostConfig", "Tmpfs", {"/tmp": "rw"}),
        ("HostConfig", "PidMode", "host"),
        ("HostConfig", "Binds", ["/:/host"]),
        ("HostConfig", "UsernsMode", "container:other"),
        ("", "User", "0:0"),
        ("", "User", ""),
        ("", "Env", ["OPENAI_API_KEY=x"]),
        ("", "Labels", {}),
    ],
)
def test_the_judge_itself_sees_what_is_loosened(section: str, key: str, value: object) -> None:
    body = container_body(spec())
    (body[section] if section else body)[key] = value
    assert hardening_problems(body) != []


def test_paths_map_by_the_longest_prefix(tmp_path: Path) -> None:
    (tmp_path / "data/inner").mkdir(parents=True)
    (tmp_path / "database").mkdir()
    mapping = {str(tmp_path / "data"): "/srv/data", str(tmp_path / "data/inner"): "volume:inner"}
    paths = EnginePaths(mapping, lending=tmp_path / "data/lent")
    assert paths.mount(Bind(tmp_path / "data", "/x")).source == "/srv/data"
    inner = paths.mount(Bind(tmp_path / "data/inner", "/x"))
    assert (inner.volume, inner.source) == ("inner", "")
    # A name that only begins alike is not below it.
    with pytest.raises(PathUnknown, match="database"):
        paths.mount(Bind(tmp_path / "database", "/x"))
    # Nor does a link lead out of what is mapped.
    (tmp_path / "data/link").symlink_to(tmp_path / "database")
    with pytest.raises(PathUnknown):
        paths.mount(Bind(tmp_path / "data/link", "/x"))


def test_a_file_from_elsewhere_is_lent_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    paths = EnginePaths({str(tmp_path / "data"): "/srv"}, lending=tmp_path / "data/lent")
    (tmp_path / "file").write_text("one")
    first = paths.mount(Bind(tmp_path / "file", "/x"))
    assert first.source.startswith("/srv/lent/") and paths.mount(Bind(tmp_path / "file", "/x")) == first
    (tmp_path / "file").write_text("two")
    assert paths.mount(Bind(tmp_path / "file", "/x")) != first
    with pytest.raises(PathUnknown):
        paths.mount(Bind(tmp_path / "file", "/x", writable=True))


def test_many_threads_lend_the_same_at_once(tmp_path: Path) -> None:
    content = b"x" * 200_000
    for number in range(20):
        paths, meet = EnginePaths({}, lending=tmp_path / str(number)), Barrier(8)

        def lend(paths: EnginePaths = paths, meet: Barrier = meet) -> Path:
            meet.wait()
            return paths.lend(content, name="server.py")

        with ThreadPoolExecutor(8) as threads:
            [path] = {lent.result() for lent in [threads.submit(lend) for _ in range(8)]}
        assert path.read_bytes() == content and [each.name for each in path.parent.iterdir()] == ["server.py"]

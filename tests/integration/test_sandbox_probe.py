"""The probe of either sandbox, and what it says where bubblewrap is kept from working."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.projects.sandbox import Bind, container_needs, sandbox_run
from apps.projects.sandbox.container_needs import Signs, needs_judge
from apps.projects.sandbox.probe import sandbox_probe, sandbox_require
from apps.projects.workspace import SandboxUnavailable
from tests.loopback.engine_server import Engine
from tests.sandboxing import LIMITS, engine_open


@pytest.mark.usefixtures("each_sandbox")
def test_every_promise_is_kept(settings: Settings) -> None:
    report = sandbox_probe(again=True)
    assert report.available and report.adapter == settings.ARCHON_SANDBOX
    assert [check.problem for check in report.checks] == [""] * len(report.checks)


def test_commands_are_refused_where_the_chosen_sandbox_is_not_there(settings: Settings, tmp_path: Path) -> None:
    """Bubblewrap works here, and is not fallen back on."""
    settings.ARCHON_SANDBOX = "container"
    settings.ARCHON_CONTAINER_ENGINE = f"unix://{tmp_path}/none.sock"
    sandbox_probe(again=True)
    with pytest.raises(SandboxUnavailable, match="No container engine answers") as raised:
        sandbox_require()
    assert "ARCHON_CONTAINER_ENGINE" in raised.value.next_step
    settings.ARCHON_SANDBOX = "none"
    sandbox_probe(again=True)
    with pytest.raises(SandboxUnavailable, match="'none', which is no sandbox"):
        sandbox_require()


def test_an_image_that_is_missing_is_named(settings: Settings) -> None:
    with engine_open(settings, Engine(images={})):
        report = sandbox_probe(again=True)
    assert not report.available
    assert "docker build --target sandbox" in report.next_step


@pytest.mark.asyncio
async def test_what_keeps_bubblewrap_from_working_is_found_by_trying(tmp_path: Path) -> None:
    """In a sandbox namespaces and mounts are refused by a filter of system calls, as in a default container."""
    script = (
        "import sys, json; sys.path.insert(0, '/probe'); from container_needs import signs_read\n"
        "print(json.dumps(signs_read().__dict__))"
    )
    result = await sandbox_run(
        command=["python3", "-I", "-c", script],
        workspace=tmp_path,
        binds=[Bind(Path(container_needs.__file__), "/probe/container_needs.py")],
        limits=LIMITS,
        timeout=60,
    )
    signs = Signs(**json.loads(result.output))
    assert signs.user_namespace != 0 and signs.mounting != 0 and signs.proc != 0 and signs.filtered
    problems = {need.name: need for need in needs_judge(signs) if need.problem}
    assert "the seccomp profile refuses them" in problems["user namespaces"].problem
    assert "seccomp=" in problems["user namespaces"].option


@pytest.fixture(autouse=True)
def forget() -> object:
    """The report is kept for the process: other tests ask for theirs."""
    from apps.projects.sandbox import probe

    yield
    probe._reports.clear()

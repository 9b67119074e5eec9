"""A worker dies while it puts files back after a rewind: another one does it, and the session goes on from there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from apps.projects.worktree import tree_delete
from integrations.embedded.reach import runtime_root
from tests.builders import git
from tests.faults.test_worker_faults import stack, workers
from tests.loopback.agents import Agents, finishes, runs, says
from tests.loopback.openai_server import OpenAIServer
from tests.small_repository import CHECK, MEND, repository, server
from tests.stacks import LiveStack

__all__ = ["repository", "server", "stack"]


@pytest.mark.parametrize("later", [0.0, 0.3])
def test_killed_while_it_puts_the_files_back(
    stack: LiveStack, repository: Path, server: OpenAIServer, later: float
) -> None:
    """The checkout is gone, so that the request leaves it to the worker; which dies as soon as it has the session."""
    server.answer = Agents([runs("echo shell > made.txt"), says(MEND), runs("rm made.txt"), finishes()])
    session = stack.session_start(repository, base_url=server.base_url, checks=[CHECK])
    assert stack.session_wait(session.id, "completed").outcome == "verified"
    assert "made.txt" not in stack.api.session_diff(session.id).diff
    edited = next(step.seq for step in stack.api.step_list(session.id) if step.summary.startswith("edit_file"))
    tree_delete(runtime_root(stack.home) / "workspaces" / session.id)
    # What it says next, it says in the conversation as of that step.
    server.answer = Agents([finishes()])
    with workers(stack) as both:
        assert stack.api.session_command(session.id, "rewind", seq=edited).status == "paused"
        seen = stack.events(session.id)[-1].seq
        stack.api.session_command(session.id, "resume")
        started = stack.event_wait(session.id, "SessionStarted", after=seen)
        # Somewhere in what a worker does first.
        time.sleep(later)
        both.kill()
        ended = stack.session_wait(session.id, "completed")
        assert ended.outcome == "verified", stack.story(session.id)
    stack.event_wait(session.id, "SessionStarted", after=started.seq)
    stack.api.bundle_download(session.id, target=repository.parent / "bundle")
    git(repository, "fetch", "-q", str(repository.parent / "bundle"), session.branch)
    assert git(repository, "show", "FETCH_HEAD:made.txt") == "shell"
    assert git(repository, "show", "FETCH_HEAD:answer.txt") == "The answer is 42."
    assert git(repository, "rev-list", "--count", "HEAD..FETCH_HEAD") == "1"

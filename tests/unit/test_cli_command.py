"""What people are told to type does what is meant when they type it."""

from __future__ import annotations

import contextvars
from pathlib import Path

import pytest

from cli.command import CHECKOUT, command_line, server_named


def test_a_command_can_be_pasted_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An empty context, in which no command before this one has named a server.
    def told(*arguments: str) -> str:
        return contextvars.Context().run(command_line, *arguments)

    monkeypatch.chdir(CHECKOUT)
    assert told("run", "mend it", "--repo", "PATH") == "./archon run 'mend it' --repo PATH"
    monkeypatch.chdir(tmp_path)
    assert told("down").split()[-1] == "down"
    assert told("down").startswith(("/", "'/"))


def test_a_server_that_was_named_is_named_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)

    def told() -> list[str]:
        server_named.set("https://archon.example.com")
        return [command_line("fetch", "abc"), command_line("doctor")]

    expected = ["./archon fetch abc --server https://archon.example.com", "./archon doctor"]
    assert contextvars.copy_context().run(told) == expected

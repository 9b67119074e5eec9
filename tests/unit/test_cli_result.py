"""What is said of a session's end at the terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from cli.resources import Check, Diff, Progress, Session
from cli.result import SessionResult, result_print


@pytest.mark.parametrize(
    ("after", "told"),
    [("failed", "ran the checks on the final commit and they fail"), ("passed", "not for the checks")],
)
def test_a_session_fails_by_its_checks_or_by_what_was_not_done(after: str, told: str) -> None:
    session = Session(
        id="s", project="p", goal="g", status="completed", outcome="failing", created_at=datetime.now(UTC)
    ).model_copy(update={"checks": [Check(name="pytest", before="passed", after=after)]})
    stream = io.StringIO()
    result = SessionResult(session, Progress(id="s", status="completed"), Diff())
    result_print(result, console=Console(file=stream, width=100))
    assert f"failing: {'' if after == 'passed' else 'the server '}{told}" in stream.getvalue()

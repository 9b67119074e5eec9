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
    [
        (["passed", "failed"], "the server ran the checks on the final commit and they fail"),
        (["passed"], "not for the checks"),
        ([], "what was asked for is not done"),
    ],
)
def test_a_session_fails_by_its_checks_or_by_what_was_not_done(after: list[str], told: str) -> None:
    checks = [Check(name=f"check {number}", before="passed", after=each) for number, each in enumerate(after)]
    session = Session(
        id="s", project="p", goal="g", status="completed", outcome="failing", created_at=datetime.now(UTC)
    ).model_copy(update={"checks": checks})
    stream = io.StringIO()
    result = SessionResult(session, Progress(id="s", status="completed"), Diff())
    result_print(result, console=Console(file=stream, width=100))
    assert f"failing: {told}" in stream.getvalue()

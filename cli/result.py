"""What came of a session: as one JSON document, or as text for a person."""

from __future__ import annotations

import io
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.syntax import Syntax
from rich.text import Text

from cli.client import Api
from cli.command import command_line, command_print, prose_print
from cli.errors import (
    EXIT_CANCELLED,
    EXIT_FAILED,
    EXIT_UNVERIFIED,
    EXIT_VERIFIED,
    EXIT_WAITING,
    ApiError,
)
from cli.live import StatePanel, checks_table
from cli.resources import Check, Diff, Progress, Reason, Session
from cli.state import CheckState, SessionState
from cli.text import duration_format, money_format, text_clean

DIFF_LINES = 200
#: What tests are told apart by, in ``--json`` and (but for the first two, which the numbers tell) in words.
TEST_KINDS = ("failing_before", "failing_after", "fixed", "newly_failing", "disappeared", "flaky", "flaky_before")
_TESTS_SHOWN = 5


@dataclass(frozen=True)
class SessionResult:
    """A session as the server tells it now, with its diff (empty while there is none)."""

    session: Session
    progress: Progress
    diff: Diff

    @property
    def exit_code(self) -> int:
        session = self.session
        match session.status:
            case "completed":
                return {"verified": EXIT_VERIFIED, "unverified": EXIT_UNVERIFIED}.get(
                    session.outcome or "", EXIT_FAILED
                )
            case "failed":
                return EXIT_FAILED
            case "cancelled":
                return EXIT_CANCELLED
            case "waiting_input" | "waiting_approval" | "paused":
                return EXIT_WAITING
        return EXIT_VERIFIED

    def as_json(self) -> dict[str, Any]:
        """The document of ``--json``."""
        session = self.session
        return {
            "status": session.status,
            "outcome": session.outcome,
            "session_id": session.id,
            "branch": session.branch,
            "checks": [{"name": check.name, "before": check.before, "after": check.after} for check in session.checks],
            "tests": {check.name: {kind: getattr(check, kind) for kind in TEST_KINDS} for check in session.checks},
            "files_changed": [file.path for file in self.diff.files],
            "diff": self.diff.diff,
            "events": self.progress.last_seq,
            "tokens": session.usage.tokens,
            "cost_usd": session.usage.cost_usd,
            "priced": session.usage.priced,
            "models": [line.model_dump() for line in session.usage.by_model],
            "roles": [line.model_dump() for line in session.usage.by_role],
            "seconds": self.progress.elapsed_s,
            "reason": session.reason.model_dump() if session.reason else None,
            "question": session.question.model_dump() if session.question else None,
            "approval": session.approval.model_dump(mode="json") if session.approval else None,
            "plan": session.plan,
            "plan_approval": session.plan_approval.model_dump(mode="json") if session.plan_approval else None,
            "answer": session.answer,
        }


def result_get(api: Api, session_id: str) -> SessionResult:
    session = api.session_get(session_id)
    try:
        diff = api.session_diff(session_id)
    except ApiError as error:
        # A session that failed early, or was discarded, has no branch to compare.
        if error.status not in (404, 409):
            raise
        diff = Diff()
    return SessionResult(session=session, progress=api.session_progress(session_id), diff=diff)


def reason_print(reason: Reason, *, console: Console) -> None:
    """Why the session stands where it stands, and what to do about it."""
    prose_print(console, text_clean(reason.message))
    if reason.next_step:
        prose_print(console, f"Next: {text_clean(reason.next_step)}")


def result_print(result: SessionResult, *, console: Console, repository: Path | None = None) -> None:
    """Report, diff, checks, figures, and what can be done next."""
    session = result.session
    if session.report.strip():
        console.print(Rule("report", style="dim"))
        for line in text_clean(session.report).strip().splitlines():
            console.print(_report_line(line))
    if result.diff.diff:
        console.print(Rule("diff", style="dim"))
        diff_print(result.diff, console=console, limit=DIFF_LINES, session_id=session.id)
    console.print(Rule("result", style="dim"))
    if session.checks:
        console.print(checks_table([_check_state(check) for check in session.checks], plain=console.options.ascii_only))
        _tests_print(session.checks, console=console)
        console.print()
    console.print(_verdict(session))
    if session.reason is not None:
        reason_print(session.reason, console=console)
    about = " (estimated)" if session.usage.estimated else ""
    figures = [
        f"{duration_format(result.progress.elapsed_s)} min",
        f"{session.usage.steps} steps",
        f"{session.usage.tokens:,} tokens{about}",
        f"{money_format(session.usage.cost_usd, priced=session.usage.priced)}{about}",
        f"session {session.id}",
    ]
    prose_print(console, ", ".join(figures), style="dim")
    if result.diff.files:
        _next_print(session, console=console, repository=repository)


def picture_save(result: SessionResult, *, state: SessionState, path: Path) -> None:
    """The last panel and the result as an SVG, for documentation."""
    console = Console(file=io.StringIO(), record=True, width=100, force_terminal=True, color_system="truecolor")
    console.print(StatePanel(state, elapsed_s=result.progress.elapsed_s))
    result_print(result, console=console)
    console.save_svg(str(path), title="archon")


def diff_print(diff: Diff, *, console: Console, limit: int | None, session_id: str) -> None:
    """The diff in colour; at most ``limit`` lines of it, and then how to see the rest."""
    lines = text_clean(diff.diff).splitlines()
    shown = lines if limit is None else lines[:limit]
    if console.is_terminal and not console.no_color:
        # As text, whose long lines are left to the terminal: wrapped by us they couldn't be copied.
        syntax = Syntax("", "diff", theme="ansi_dark", background_color="default")
        console.print(syntax.highlight("\n".join(shown)), soft_wrap=True, end="")
    else:
        for line in shown:
            console.print(Text(line), soft_wrap=True)
    if len(shown) < len(lines):
        left = len(lines) - len(shown)
        command_print(console, f"… {left} more lines: {command_line('diff', session_id)}", style="dim")
    elif diff.truncated:
        prose_print(console, "… cut by the server; fetch the branch to see all of it", style="dim")


def _report_line(line: str) -> Text:
    """A line of the report's Markdown; as much of it as a terminal needs."""
    heading = line.lstrip("#")
    if heading != line:
        return Text(heading.strip(), style="bold")
    return Text(line.replace("**", "").replace("`", ""))


def _tests_print(checks: list[Check], *, console: Console) -> None:
    """Which tests a change mended, broke or lost, and which are flaky."""
    for check in checks:
        for kind in TEST_KINDS[2:]:
            names: list[str] = getattr(check, kind)
            if names:
                more = f" and {len(names) - _TESTS_SHOWN} more" if len(names) > _TESTS_SHOWN else ""
                shown = ", ".join(text_clean(name) for name in names[:_TESTS_SHOWN])
                prose_print(console, f"{kind.replace('_', ' ')}: {shown}{more}")


def _verdict(session: Session) -> Text:
    if session.status != "completed":
        return Text(session.status, style="bold red" if session.status == "failed" else "bold yellow")
    if session.outcome == "verified":
        return Text.assemble(
            ("verified", "bold green"), ": the server ran the checks on the final commit and they passed"
        )
    if session.outcome == "unverified":
        return Text.assemble(("unverified", "bold yellow"), ": no check vouches for the result")
    if not session.checks:
        return Text.assemble(("failing", "bold red"), ": what was asked for is not done")
    if all(check.after == "passed" for check in session.checks):
        # The reason says what it is: a task that was not done, say.
        return Text.assemble(("failing", "bold red"), ": not for the checks, but as it stands it is not what was asked")
    return Text.assemble(("failing", "bold red"), ": the server ran the checks on the final commit and they fail")


def _next_print(session: Session, *, console: Console, repository: Path | None) -> None:
    if repository is not None and not any((folder / ".git").exists() for folder in (repository, *repository.parents)):
        read = ("Read on", command_line("report", session.id))
        rows = [("Take it", command_line("apply", session.id)), read, *_leave_rows(session)]
        _rows_print(rows, console=console)
        prose_print(console, "apply shows which files it would change, and asks first.", style="dim")
        return
    where = f" -C {shlex.quote(str(repository))}" if repository else ""
    rows = [
        ("Take it", command_line("fetch", session.id)),
        ("", f"git{where} merge {shlex.quote(text_clean(session.branch))}"),
        ("Read on", command_line("report", session.id)),
        *_leave_rows(session),
    ]
    _rows_print(rows, console=console)
    text = f"fetch brings the branch {text_clean(session.branch)} into your repository and touches nothing else."
    prose_print(console, text, style="dim")


def _leave_rows(session: Session) -> list[tuple[str, str]]:
    return [("Throw it away", command_line("discard", session.id))]


def _rows_print(rows: list[tuple[str, str]], *, console: Console) -> None:
    console.print()
    for label, command in rows:
        console.print(Text.assemble((f"{label:<14}", "bold"), command), soft_wrap=True)


def _check_state(check: Check) -> CheckState:
    return CheckState(
        name=check.name,
        before=check.before,
        after=check.after,
        tests_before=check.tests_before or None,
        tests_after=check.tests_after or None,
    )

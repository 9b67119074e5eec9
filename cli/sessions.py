"""Commands on sessions that are there already."""

from __future__ import annotations

import shlex
import sys
import tempfile
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cli.approval_call import approval_show
from cli.client import Api
from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import Connection, connection_open
from cli.errors import EXIT_CODES_HELP, CliError, confirmer_require, errors_reported
from cli.follow import manners_of
from cli.plan_approval import plan_approval_show
from cli.registry import ProjectRegistry
from cli.repository import LocalRepository, branch_fetch, repository_open
from cli.resources import Session
from cli.result import diff_print, result_get, result_print
from cli.run import document_print, session_attend
from cli.text import duration_format, money_format, text_clean, text_line

SessionArgument = Annotated[
    str, typer.Argument(metavar="SESSION", help="The session's id, or enough of its beginning.", show_default=False)
]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Don't ask.")]

_PREFIX_LENGTH = 4
_SEARCHED = 100
#: What the columns before the goal take.
_OTHER_COLUMNS = 60


def session_find(api: Api, reference: str) -> Session:
    """The session of this id, or the only one whose id begins so."""
    try:
        return api.session_get(str(uuid.UUID(reference)))
    except ValueError:
        prefix = reference.strip().lower()
    if len(prefix) < _PREFIX_LENGTH:
        raise CliError(
            f"{reference!r} is too short to tell a session",
            next_step=f"give at least {_PREFIX_LENGTH} characters; see {command_line('sessions')}",
            code="not_found",
        )
    found = [session for session in api.session_list(limit=_SEARCHED) if session.id.startswith(prefix)]
    if len(found) != 1:
        problem = "is the beginning of several sessions" if found else "is no session of the last ones"
        raise CliError(f"{reference!r} {problem}", next_step=f"see {command_line('sessions')}", code="not_found")
    return api.session_get(found[0].id)


def sessions(
    limit: Annotated[int, typer.Option("--limit", min=1, max=_SEARCHED)] = 20,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """List the sessions, newest first."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = connection.api.session_list(limit=limit)
        if json_output:
            document_print({"sessions": [session.model_dump(mode="json") for session in found]})
        elif not found:
            command_print(
                console, f"There are no sessions yet. To start one: {command_line('run', 'GOAL', '--repo', 'PATH')}"
            )
        else:
            console.print(_sessions_table(found, width=console.width))


def show(session: SessionArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """Tell how a session stands, with its diff and checks."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            result = result_get(connection.api, found.id)
            repository = _repository_known(connection, found)
        if json_output:
            document_print(result.as_json())
            return
        prose_print(console, text_clean(found.goal), style="bold")
        result_print(result, console=console, repository=repository)
        if found.question is not None:
            prose_print(console, f"It asks: {text_clean(found.question.text)}", style="yellow")
            command_print(console, command_line("answer", found.id, "TEXT"))
        if found.approval is not None:
            approval_show(found.approval, console=console)
            command_print(console, command_line("approve", found.id))
        if found.plan_approval is not None:
            plan_approval_show(found.plan_approval, console=console)
            command_print(console, command_line("approve", found.id))


def watch(
    session: SessionArgument, json_output: JsonOption = False, yes: YesOption = False, server: ServerOption = None
) -> None:
    """Watch a session, from its first event to its end. Ctrl-C leaves it alone."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        manners = manners_of(yes=yes, json_output=json_output, owner=False)
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            repository = _repository_known(connection, found)
            code = session_attend(connection, found, console=console, manners=manners, repository=repository)
        raise typer.Exit(code)


def diff(session: SessionArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """Print what a session changed, up to a megabyte."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            change = connection.api.session_diff(found.id)
        if json_output:
            document_print(change.model_dump(mode="json"))
        elif sys.stdout.isatty():
            diff_print(change, console=console, limit=None, session_id=found.id)
        else:
            # To a file or to `git apply`: as it is, byte for byte.
            sys.stdout.write(change.diff)
            if change.truncated:
                sys.stderr.write(f"cut: the diff is larger than what is shown; see it whole with fetch {found.id}\n")


def fetch(
    session: SessionArgument,
    repo: Annotated[
        Path | None, typer.Option("--repo", help="Default: the one that the session started from.", show_default=False)
    ] = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Bring a session's branch into your repository. Your files and your own branches stay as they are."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with (
            connection_open(server, console=console) as connection,
            tempfile.TemporaryDirectory(prefix="archon-") as folder,
        ):
            found = session_find(connection.api, session)
            repository = _repository_choose(connection, found, repo)
            bundle = Path(folder) / "session.bundle"
            connection.api.bundle_download(found.id, target=bundle)
            commit = branch_fetch(repository, bundle=bundle, branch=found.branch)
        if json_output:
            document_print({"repository": str(repository.path), "branch": found.branch, "commit": commit})
            return
        command_print(console, f"{found.branch} is at {commit[:12]} in {repository.path}")
        merge_command = shlex.join(["git", "-C", str(repository.path), "merge", found.branch])
        command_print(console, f"To merge it: {merge_command}")


def merge(
    session: SessionArgument,
    allow_failing: Annotated[bool, typer.Option("--allow-failing", help="Although the checks fail.")] = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Merge a session's branch on the server. Later sessions start from there; your repository stays as it is."""

    def told(merged: Session) -> str:
        here = f"{command_line('fetch', merged.id)}, then git merge {merged.branch}"
        return (
            f"Merged on the server as {merged.merged_commit[:12]}. Your checkout is as it was; to have it here: {here}"
        )

    arguments = {"allow_failing": True} if allow_failing else {}
    _command(session, "merge", told, json_output=json_output, server=server, arguments=arguments)


def rebase(session: SessionArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """Put a session's branch onto its base branch as that is now, and have it checked there."""
    _command(
        session,
        "rebase",
        lambda found: (
            f"It is put onto {found.base_commit[:12] if found.base_commit else 'the base branch'} and checked there. "
            f"To watch it: {command_line('watch', found.id)}"
            if found.status == "running"
            else f"It is up to date already. To merge it: {command_line('merge', found.id)}"
        ),
        json_output=json_output,
        server=server,
        keep=True,
    )


def discard(
    session: SessionArgument, yes: YesOption = False, json_output: JsonOption = False, server: ServerOption = None
) -> None:
    """Throw a session's branch away."""
    _command(
        session,
        "discard",
        lambda _: "Discarded.",
        json_output=json_output,
        server=server,
        confirm="" if yes else "throw its branch away on the server?",
    )


def pause(session: SessionArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """Stop a session at once, where it is; nothing of it is lost."""
    _command(
        session,
        "pause",
        lambda found: f"Paused. To go on: {command_line('resume', found.id)}",
        json_output=json_output,
        server=server,
    )


def resume(
    session: SessionArgument,
    limit_cost: Annotated[float | None, typer.Option("--limit-cost", metavar="USD", min=0)] = None,
    limit_tokens: Annotated[int | None, typer.Option("--limit-tokens", metavar="N", min=1)] = None,
    limit_steps: Annotated[int | None, typer.Option("--limit-steps", metavar="N", min=1)] = None,
    limit_seconds: Annotated[int | None, typer.Option("--limit-seconds", metavar="S", min=1)] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PROVIDER:MODEL[@URL]", help="Another model from now on.")
    ] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option("--fallback", metavar="PROVIDER:MODEL[@URL]", help="Called when the model doesn't answer."),
    ] = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Have a paused session go on; a limit that it has reached can be raised, a model that fails be changed."""
    limits = {"cost_usd": limit_cost, "tokens": limit_tokens, "steps": limit_steps, "seconds": limit_seconds}
    raised = {name: value for name, value in limits.items() if value is not None}
    _command(
        session,
        "resume",
        lambda found: f"It goes on. To watch it: {command_line('watch', found.id)}",
        json_output=json_output,
        server=server,
        keep=True,
        arguments={
            name: value for name, value in {"limits": raised, "model": model, "fallbacks": fallback}.items() if value
        }
        or None,
    )


def cancel(session: SessionArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """End a session for good. What it has committed stays on its branch."""
    _command(session, "cancel", lambda _: "Cancelled.", json_output=json_output, server=server)


def answer(
    session: SessionArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The answer.", show_default=False)],
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Answer the question that a session waits with."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        if not text.strip():
            raise CliError("the answer is empty", next_step="say something", code="invalid_input")
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            if found.question is None:
                raise CliError(
                    f"the session asks nothing: it is {found.status}",
                    next_step=command_line("show", found.id),
                    code="conflict",
                )
            connection.api.session_answer(found.id, question_id=found.question.id, answer=text)
            connection.keep()
        if json_output:
            document_print({"session_id": found.id, "question": found.question.id})
        else:
            command_print(console, f"Answered. To watch it: {command_line('watch', found.id)}")


def _command(
    reference: str,
    name: str,
    told: Callable[[Session], str],
    *,
    json_output: bool,
    server: str | None,
    confirm: str = "",
    keep: bool = False,
    arguments: dict[str, Any] | None = None,
) -> None:
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        if confirm:
            confirmer_require(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, reference)
            if confirm and not typer.confirm(f"{text_line(found.goal, width=80)}: {confirm}"):
                raise CliError("left as it is", code="confirmation_needed")
            now = connection.api.session_command(found.id, name, **(arguments or {}))
            if keep:
                connection.keep()
        if json_output:
            document_print(now.model_dump(mode="json"))
        else:
            command_print(console, told(now))


def _repository_known(connection: Connection, session: Session) -> Path | None:
    registry = ProjectRegistry(connection.home)
    return registry.repository(server=connection.server, project_id=session.project)


def _repository_choose(connection: Connection, session: Session, named: Path | None) -> LocalRepository:
    known = _repository_known(connection, session)
    if named is None and known is not None and not known.exists():
        raise CliError(
            f"{known}, which the session started from, is gone",
            next_step="name another checkout of it with --repo",
            code="repository_missing",
        )
    try:
        return repository_open(named or known or Path("."))
    except CliError as error:
        if error.code == "repository_none":
            error.next_step = (
                f"to have the changes in a folder without git: {command_line('apply', session.id)}; "
                "to have the branch in a repository: name it with --repo"
            )
        raise


def _sessions_table(found: list[Session], *, width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("session", "status", "outcome", "age", "cost", "goal"):
        table.add_column(column, no_wrap=True)
    now = datetime.now(UTC)
    for session in found:
        table.add_row(
            session.id[:8],
            session.status,
            session.outcome or "",
            duration_format((now - session.created_at).total_seconds()),
            money_format(session.usage.cost_usd, priced=session.usage.priced),
            Text(text_line(session.goal, width=max(width - _OTHER_COLUMNS, 10))),
        )
    return table


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    for command in (sessions, show, diff, fetch, merge, rebase, discard, pause, resume, cancel, answer):
        app.command()(command)
    app.command(epilog=EXIT_CODES_HELP)(watch)

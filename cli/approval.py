"""``archon approve`` and ``archon autonomy``: deciding on a call, and on what needs no decision."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cli.approval_call import Decision, approval_send, approval_show, arguments_read
from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import connection_open
from cli.errors import CliError, errors_reported
from cli.plan_approval import PlanDecision, plan_approval_show, plan_decision_send
from cli.resources import Approval, PlanApproval, Session
from cli.run import document_print
from cli.sessions import JsonOption, ServerOption, SessionArgument, session_find
from cli.text import text_clean


def approve(
    session: SessionArgument,
    digest: Annotated[
        str | None,
        typer.Option(
            "--digest", metavar="DIGEST", help="Of the call that you saw (show --json); enough of its beginning."
        ),
    ] = None,
    edit: Annotated[
        str | None,
        typer.Option("--edit", metavar="JSON|@FILE", help="Make it with these arguments instead, all of them."),
    ] = None,
    reject: Annotated[
        bool,
        typer.Option(
            "--reject",
            help="Don't let it run; the agent goes on without. A plan: have it made otherwise, or end the session.",
        ),
    ] = False,
    message: Annotated[
        str,
        typer.Option(
            "--message",
            metavar="TEXT",
            help="With --reject: what the agent is told; of a plan, what to make otherwise.",
        ),
    ] = "",
    always: Annotated[bool, typer.Option("--always", help="Let the same call run from now on, for a time.")] = False,
    minutes: Annotated[
        int, typer.Option("--minutes", metavar="N", min=1, help="With --always: for so long. Default: 480.")
    ] = 480,
    version: Annotated[
        int | None, typer.Option("--version", metavar="N", min=1, help="Of the plan that you saw (show --json).")
    ] = None,
    level: Annotated[
        str | None,
        typer.Option("--autonomy", metavar="LEVEL", help="Of a plan: what may be done without asking from now on."),
    ] = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Let the call, or the plan, that a session waits with be carried out; change the call; or reject it."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        decision = _decision(edit=edit, reject=reject, message=message, always=always, minutes=minutes)
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            if found.plan_approval is not None:
                _of_a_call_refuse(digest, edit, always)
                of_plan = PlanDecision(approve=not reject, comment=message, autonomy=level or "")
                _plan_seen_require(found, found.plan_approval, version, of_plan, console, json_output=json_output)
                plan_decision_send(connection.api, found.plan_approval, of_plan)
                connection.keep()
                _plan_told(found, found.plan_approval, of_plan, console, json_output=json_output)
                return
            if version is not None or level is not None:
                raise CliError(
                    "no plan waits for approval", next_step="leave --version and --autonomy out", code="conflict"
                )
            approval = _approval_of(found)
            _seen_require(found, approval, digest, decision, console=console, json_output=json_output)
            approval_send(connection.api, found.id, approval, decision)
            connection.keep()
        if json_output:
            document_print({"session_id": found.id, "call": approval.call, "decision": decision.decision})
        else:
            told = decision.told.capitalize()
            command_print(console, f"{told}. To watch it: {command_line('watch', found.id)}")


def autonomy(
    session: SessionArgument,
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="observe, ask, auto-edit or auto.", show_default=False)],
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Let a session's agents do more or less without asking, from their next call on."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            found = session_find(connection.api, session)
            now = connection.api.session_autonomy(found.id, level)
        if json_output:
            document_print(now.model_dump(mode="json"))
        else:
            prose_print(console, f"Its autonomy is {now.autonomy} now; a call that waits still waits.")


def _decision(*, edit: str | None, reject: bool, message: str, always: bool, minutes: int) -> Decision:
    if reject and (edit is not None or always):
        raise CliError("a call is rejected, edited or allowed", next_step="name one of them", code="invalid_input")
    if edit is not None and always:
        raise CliError("an edited call is allowed this once", next_step="leave --always out", code="invalid_input")
    if message and not reject:
        raise CliError("--message belongs to --reject", next_step="leave it out, or reject", code="invalid_input")
    if reject:
        return Decision("reject", message=message)
    if edit is not None:
        return Decision("edit", arguments=arguments_read(edit))
    return Decision("approve", always_minutes=minutes if always else None)


def _approval_of(session: Session) -> Approval:
    if session.approval is None:
        raise CliError(
            f"the session waits for no approval: it is {session.status}",
            next_step=command_line("show", session.id),
            code="conflict",
        )
    return session.approval


def _seen_require(
    session: Session,
    approval: Approval,
    digest: str | None,
    decision: Decision,
    *,
    console: Console,
    json_output: bool,
) -> None:
    """Nobody lets run what they haven't seen: it is shown and asked about, or named by its digest."""
    if digest is not None:
        if len(digest) < 8 or not approval.digest.startswith(digest.lower()):
            raise CliError(
                "the call that waits is another one",
                next_step=f"see what waits now: {command_line('show', session.id)}",
                code="conflict",
            )
        return
    if decision.decision == "reject":
        return
    if json_output or not sys.stdin.isatty():
        raise CliError(
            "nobody is here to look at the call",
            next_step=f"name it by its digest, from {command_line('show', session.id, '--json')}: --digest DIGEST",
            code="confirmation_needed",
        )
    approval_show(approval, console=console)
    if decision.arguments is not None:
        console.print(Text(f"  instead with: {text_clean(json.dumps(decision.arguments, ensure_ascii=False))}"))
    if not typer.confirm("let it run?"):
        raise CliError("left as it is", code="confirmation_needed")


def _of_a_call_refuse(digest: str | None, edit: str | None, always: bool) -> None:
    if digest is not None or edit is not None or always:
        raise CliError(
            "a plan waits for approval, and no call",
            next_step="leave --digest, --edit and --always out; --version names the plan that you saw",
            code="invalid_input",
        )


def _plan_seen_require(
    session: Session,
    approval: PlanApproval,
    version: int | None,
    decision: PlanDecision,
    console: Console,
    *,
    json_output: bool,
) -> None:
    """Nobody has a plan carried out that they haven't seen: it is shown and asked about, or named by its version."""
    if version is not None:
        if version != approval.version:
            raise CliError(
                f"version {approval.version} of the plan waits, not {version}",
                next_step=f"see it: {command_line('show', session.id)}",
                code="conflict",
            )
        return
    if not decision.approve:
        return
    if json_output or not sys.stdin.isatty():
        raise CliError(
            "nobody is here to look at the plan",
            next_step=f"name its version, from {command_line('show', session.id, '--json')}: --version N",
            code="confirmation_needed",
        )
    plan_approval_show(approval, console=console)
    if not typer.confirm("have it carried out?"):
        raise CliError("left as it is", code="confirmation_needed")


def _plan_told(
    session: Session, approval: PlanApproval, decision: PlanDecision, console: Console, *, json_output: bool
) -> None:
    if json_output:
        made = "approve" if decision.approve else "reject"
        document_print({"session_id": session.id, "plan": approval.plan, "version": approval.version, "decision": made})
    else:
        told = decision.told.capitalize()
        command_print(console, f"{told}. To watch it: {command_line('watch', session.id)}")


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    for command in (approve, autonomy):
        app.command()(command)

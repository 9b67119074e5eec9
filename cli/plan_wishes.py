"""``archon plan``: having planners think, and a person's word on what they made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.command import command_line, command_print, console_make
from cli.connection import Connection, connection_open
from cli.errors import (
    EXIT_CODES_HELP,
    EXIT_UNVERIFIED,
    EXIT_VERIFIED,
    CliError,
    confirmer_require,
    errors_reported,
)
from cli.follow import manners_of
from cli.keys import project_find
from cli.plan_api import PlanApi
from cli.plan_common import PlanArgument
from cli.plan_resources import PlanProgress
from cli.plan_shown import plan_print
from cli.registry import ProjectRegistry
from cli.resources import TERMINAL_STATUSES
from cli.run import document_print, session_attend, session_leave
from cli.sessions import JsonOption, ServerOption, YesOption

_NEW_EXIT_CODES_HELP = (
    "Exit codes: 0 a plan was made, or detached; 1 failed; 2 wrong usage, or something is missing; 3 no plan: the goal "
    "was a question, and is answered; 4 paused, or waiting for an answer that nobody here gives; 130 cancelled or "
    "interrupted."
)
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="PROVIDER:MODEL[@URL]", help="Default: the project's.")
]
VersionOption = Annotated[
    int | None,
    typer.Option(
        "--version", metavar="N", min=1, help="The version that you saw; default: it is shown, and asked for."
    ),
]


def new(
    project: Annotated[
        str,
        typer.Argument(
            metavar="PROJECT", help="Its id, its name, or the repository that it was made from.", show_default=False
        ),
    ],
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What should be different.", show_default=False)],
    model: ModelOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start the planner and leave it alone.")] = False,
    yes: YesOption = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Have a planner make a plan for a goal. Nothing of it is carried out."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        manners = manners_of(yes=yes, json_output=json_output, owner=True)
        with connection_open(server, console=console) as connection:
            body: dict[str, Any] = {"project": project_find(connection, project), "goal": goal}
            session = PlanApi(connection.api).generate(body | ({"model": model} if model else {}))
            if detach:
                code = session_leave(connection, session, console=console, json_output=json_output)
            else:
                code = session_attend(connection, session, console=console, manners=manners, repository=None)
                plan_id = PlanApi(connection.api).of_session(session.id)
                if plan_id and code == EXIT_UNVERIFIED:
                    # No check vouches for a plan; it is what was asked for.
                    code = EXIT_VERIFIED
                if plan_id and not json_output:
                    _plan_tell(PlanApi(connection.api).progress(plan_id), console=console)
        raise typer.Exit(code)


def run(
    plan: PlanArgument,
    model: ModelOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start the session and leave it alone.")] = False,
    yes: YesOption = False,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Have a session carry a plan out that no session has, as far as it isn't done; shows it until it ends."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        manners = manners_of(yes=yes, json_output=json_output, owner=True)
        with connection_open(server, console=console) as connection:
            api = PlanApi(connection.api)
            found = api.find(plan)
            options: dict[str, Any] = {"plan": found.id} | ({"model": model} if model else {})
            project_id = api.project_of(found.id)
            session = connection.api.session_run(project_id=project_id, goal="", options=options)
            if detach:
                code = session_leave(connection, session, console=console, json_output=json_output)
            else:
                registry = ProjectRegistry(connection.home)
                repository = registry.repository(server=connection.server, project_id=project_id)
                code = session_attend(connection, session, console=console, manners=manners, repository=repository)
        raise typer.Exit(code)


def revise(
    plan: PlanArgument,
    comment: Annotated[str, typer.Argument(metavar="COMMENT", help="What should be different.", show_default=False)],
    model: ModelOption = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Have a planner make another version of a plan, as you say."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            api = PlanApi(connection.api)
            found = api.find(plan)
            body = {"version": found.version, "comment": comment} | ({"model": model} if model else {})
            _revise(connection, found.id, body, console=console, json_output=json_output)


def _revise(
    connection: Connection, plan_id: str, body: Mapping[str, Any], *, console: Console, json_output: bool
) -> None:
    session = PlanApi(connection.api).revise(plan_id, body)
    connection.keep()
    if json_output:
        document_print({"plan": plan_id, "session_id": session.id})
    else:
        command_print(console, f"A planner is at it. To watch it: {command_line('watch', session.id[:8])}")


def approve(
    plan: PlanArgument,
    version: VersionOption = None,
    autonomy: Annotated[
        str | None,
        typer.Option("--autonomy", metavar="LEVEL", help="What its session may do without asking from now on."),
    ] = None,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Let a plan that waits be carried out, in the version that you saw."""
    _decide(
        plan,
        "approve",
        "Carry it out?",
        version=version,
        more={"autonomy": autonomy} if autonomy else {},
        json_output=json_output,
        server=server,
    )


def reject(
    plan: PlanArgument,
    version: VersionOption = None,
    comment: Annotated[
        str,
        typer.Option("--comment", metavar="TEXT", help="The planner makes another one as it says; without: none is."),
    ] = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Refuse a plan: with a comment the planner makes another version, without one its session is cancelled."""
    question = "Have it made otherwise?" if comment else "Refuse it, and cancel its session?"
    _decide(
        plan, "reject", question, version=version, more={"comment": comment}, json_output=json_output, server=server
    )


def _decide(
    plan: str,
    decision: str,
    question: str,
    *,
    version: int | None,
    more: dict[str, Any],
    json_output: bool,
    server: str | None,
) -> None:
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            api = PlanApi(connection.api)
            found = api.find(plan)
            seen = version or _seen(found, question, console=console, json_output=json_output)
            # One that has ended hears nothing said of its plan.
            live = [session for session in found.sessions if session.status not in TERMINAL_STATUSES]
            if more.get("comment") and not live:
                # No session waits with it: another planner hears the comment.
                body = {"version": seen, "comment": more["comment"]}
                _revise(connection, found.id, body, console=console, json_output=json_output)
                return
            now = api.decide(found.id, decision, {"version": seen, **more})
            connection.keep()
        if json_output:
            document_print({"plan": found.id, "version": seen, "status": now})
            return
        told = "Approved." if decision == "approve" else "Sent back to the planner." if more["comment"] else "Refused."
        watch = f" To watch it: {command_line('watch', live[0].id[:8])}" if live and told != "Refused." else ""
        command_print(console, told + watch)


def _seen(plan: PlanProgress, question: str, *, console: Console, json_output: bool) -> int:
    """The version that the person is shown now and says yes to."""
    confirmer_require(json_output=json_output, next_step=f"name the version that you saw: --version {plan.version}")
    plan_print(plan, console=console)
    if not typer.confirm(f"\n{question}", default=False, err=True):
        raise CliError("left as it is", code="confirmation_needed")
    return plan.version


def _plan_tell(plan: PlanProgress, *, console: Console) -> None:
    """The plan that came of it, and what can be done with it."""
    plan_print(plan, console=console)
    named = plan.id[:8]
    console.print()
    for label, arguments in (
        ("Change it", ("edit", named)),
        ("Have it made otherwise", ("revise", named, "TEXT")),
        ("Approve it", ("approve", named)),
        ("Have it carried out", ("run", named)),
    ):
        command_print(console, f"{label + ':':<24}{command_line('plan', *arguments)}")


def register(group: typer.Typer) -> None:
    """Add these commands to the group."""
    group.command(name="new", epilog=_NEW_EXIT_CODES_HELP)(new)
    group.command(name="run", epilog=EXIT_CODES_HELP)(run)
    for command in (revise, approve, reject):
        group.command(name=command.__name__)(command)

"""``archon run``: a goal, a repository, and a session that works on it."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.approval_call import approval_show
from cli.command import command_line, command_print, console_make, prose_print
from cli.connection import LOCAL_SERVER, Connection, connection_open
from cli.credentials import remote_options
from cli.errors import (
    EXIT_CODES_HELP,
    EXIT_WAITING,
    ApiError,
    CliError,
    errors_reported,
)
from cli.follow import Manners, manners_of, session_follow
from cli.materials import Materials, materials_open, materials_upload
from cli.origins import GitOrigin, Origin, origin_find, project_await
from cli.plan_approval import plan_approval_show
from cli.repository import LocalRepository
from cli.resources import Session
from cli.result import picture_save, reason_print, result_get, result_print
from cli.text import text_clean
from integrations.llm_providers.vendors import VENDORS

#: Why a session can't start yet, where waiting helps.
_FETCHING = ("cloning", "syncing")
#: What tells a server which model to use; it reads them when it starts.
_MODEL_VARIABLES = (
    *dict.fromkeys(vendor.key_setting for vendor in VENDORS if vendor.key_setting),
    "ARCHON_MODEL",
    "ARCHON_MODELS",
    "ARCHON_MODEL_KEYS",
)


@dataclass(frozen=True)
class RunRequest:
    """What a session is to do, and with what. ``options`` are members of the request to ``sessions/run/``."""

    goal: str
    origin: Origin
    options: dict[str, Any]
    #: What the project is called on the server, if it is made now.
    project_name: str
    materials: Materials = field(default_factory=Materials)


def session_start(connection: Connection, request: RunRequest, *, console: Console) -> Session:
    """Bring the repository to the server, as a project that is found again next time, and start the session."""
    project = request.origin.bring(connection, project_name=request.project_name, console=console)
    options = {**request.options, **materials_upload(connection.api, request.materials).members()}
    while True:
        try:
            return connection.api.session_run(project_id=project.id, goal=request.goal, options=options)
        except ApiError as error:
            if error.state in _FETCHING:
                project = project_await(connection, project.id, console=console)
                continue
            if error.code == "model_not_configured" and connection.server == LOCAL_SERVER:
                _restart_suggest(error)
            raise


def session_attend(
    connection: Connection,
    session: Session,
    *,
    console: Console,
    manners: Manners,
    repository: Path | None,
    record_svg: Path | None = None,
    seen: int = 0,
) -> int:
    """Follow the session and say what came of it; the exit code."""
    followed = session_follow(connection.api, session, console=console, manners=manners, seen=seen)
    if followed.ending == "detached":
        return session_leave(connection, session, console=console, json_output=manners.json_output)
    result = result_get(connection.api, session.id)
    if record_svg is not None:
        picture_save(result, state=followed.state, path=record_svg)
    if manners.json_output:
        document_print(result.as_json())
    elif followed.ending == "waiting":
        _waiting_tell(result.session, console=console)
        return EXIT_WAITING
    else:
        result_print(result, console=console, repository=repository)
    return result.exit_code


def session_leave(connection: Connection, session: Session, *, console: Console, json_output: bool) -> int:
    """The session goes on without us; say how to come back."""
    connection.keep()
    if json_output:
        document_print(result_get(connection.api, session.id).as_json())
    else:
        waits = connection.api.session_get(session.id).status.startswith("waiting_")
        text = "The session waits. To go on with it" if waits else "The session goes on by itself. To watch it"
        command_print(console, f"{text}: {command_line('watch', session.id)}")
        if connection.server == LOCAL_SERVER:
            command_print(console, f"So does the server. To stop it: {command_line('down')}")
    return 0


def document_print(document: dict[str, Any]) -> None:
    """The one thing that standard output carries with ``--json``."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _waiting_tell(session: Session, *, console: Console) -> None:
    lines = [
        "It goes on with",
        f"  {command_line('resume', session.id)}",
        f"  {command_line('watch', session.id)}",
    ]
    if session.approval is not None:
        approval_show(session.approval, console=console)
        lines = [
            "It waits for somebody who looks at this call:",
            f"  {command_line('approve', session.id)}",
            f"  {command_line('approve', session.id, '--reject')}",
        ]
    if session.plan_approval is not None:
        plan_approval_show(session.plan_approval, console=console)
        # An agent that may only look could carry nothing out: that is raised with the approval.
        raised = ("--autonomy", "ask") if session.autonomy == "observe" else ()
        version = str(session.plan_approval.version)
        lines = [
            "It waits for somebody who looks at this plan:",
            f"  {command_line('approve', session.id, '--version', version, *raised)}",
            f"  {command_line('approve', session.id, '--reject', '--message', 'WHAT TO CHANGE')}",
        ]
    if session.reason is not None:
        reason_print(session.reason, console=console)
    for line in lines:
        command_print(console, line)


def _restart_suggest(error: ApiError) -> None:
    """A local server that was up already knows nothing of a variable that is set by now."""
    variables = [variable for variable in _MODEL_VARIABLES if os.environ.get(variable)]
    if variables:
        error.next_step = (
            f"{variables[0]} is set here, but the local server runs with the environment that it was started with: "
            f"{command_line('down')}, and again. {error.next_step}"
        )


def run(
    goal: Annotated[
        str, typer.Argument(metavar="GOAL", help="What to do, in plain words; not needed with --issue or --log.")
    ] = "",
    attach: Annotated[
        list[Path] | None, typer.Option("--attach", metavar="FILE", help="Give a file or an image along (repeatable).")
    ] = None,
    issue: Annotated[
        str | None, typer.Option("--issue", metavar="FILE|URL|-", help="Start from an issue; -: standard input.")
    ] = None,
    log: Annotated[
        str | None, typer.Option("--log", metavar="FILE|URL|-", help="Start from the log of a failing CI run.")
    ] = None,
    repo: Annotated[
        str,
        typer.Option(
            "--repo",
            metavar="PATH",
            help="A git repository (what is committed counts), a folder, a tar.gz or zip, or an address to clone.",
        ),
    ] = ".",
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="PROVIDER:MODEL", help="Default: the project's, else the first provider with a key."
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="An endpoint that speaks the provider's protocol.")
    ] = None,
    role_model: Annotated[
        list[str] | None,
        typer.Option(
            "--role-model",
            metavar="ROLE=PROVIDER:MODEL[@URL]",
            help="Another model for the planner, coder, reviewer or researcher (repeatable).",
        ),
    ] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option(
            "--fallback",
            metavar="PROVIDER:MODEL[@URL]",
            help="Called when the model doesn't answer (repeatable, in this order).",
        ),
    ] = None,
    effort: Annotated[
        str | None, typer.Option("--effort", metavar="LEVEL", help="How much it thinks: low, medium or high.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="T", min=0, max=2, help="0 to 2. Default: the model's own.")
    ] = None,
    tool_calls: Annotated[
        str | None,
        typer.Option(
            "--tool-calls", metavar="STYLE", help="native or envelope (JSON). Default: by what is known of the model."
        ),
    ] = None,
    edit_format: Annotated[
        str | None,
        typer.Option(
            "--edit-format",
            metavar="FORMAT",
            help="How it changes files: replace, unified, v4a or whole. Default: by what is known of the model.",
        ),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="CMD", help="How to tell that the code works (repeatable). Default: found."),
    ] = None,
    setup: Annotated[
        str | None, typer.Option("--setup", metavar="CMD", help="Installs the dependencies. Default: found.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="NAME[:PLACE,…]",
            help="Give commands a secret of the project (repeatable); PLACE: commands (default), setup, checks.",
        ),
    ] = None,
    limit_cost: Annotated[
        float | None, typer.Option("--limit-cost", metavar="USD", min=0, help="At most this.")
    ] = None,
    limit_steps: Annotated[
        int | None, typer.Option("--limit-steps", metavar="N", min=1, help="At most so many.")
    ] = None,
    autonomy: Annotated[
        str | None,
        typer.Option(
            "--autonomy",
            metavar="LEVEL",
            help="What it may do without asking: observe, ask, auto-edit or auto. Default: the project's.",
        ),
    ] = None,
    lanes: Annotated[
        int | None,
        typer.Option(
            "--lanes", metavar="N", min=1, max=8, help="Tasks to be worked on side by side. Default: the project's."
        ),
    ] = None,
    review: Annotated[
        str | None,
        typer.Option(
            "--review",
            metavar="WHICH",
            help="Which tasks' changes a reviewer looks at: auto, always or never. Default: the project's.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="For an https address; default: ARCHON_GIT_TOKEN.")
    ] = None,
    deploy_key: Annotated[Path | None, typer.Option("--deploy-key", help="A private key, for an ssh address.")] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Ask nothing; questions are left to the agent's judgement, approvals to others."),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start the session and leave it alone.")] = False,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="Default: ARCHON_SERVER, else this machine's own.")
    ] = None,
    record_svg: Annotated[Path | None, typer.Option("--record-svg", hidden=True)] = None,
) -> None:
    """Have agents reach a goal in a repository. They work on a branch of their own."""
    with errors_reported(json_output=json_output), ExitStack() as given:
        if not goal.strip() and issue is None and log is None:
            raise CliError("the goal is empty", next_step="say what is to be done", code="invalid_input")
        console = console_make(json_output=json_output)
        origin = origin_find(repo, remote_options(url=repo, token_file=token_file, deploy_key=deploy_key))
        if isinstance(origin, GitOrigin) and origin.repository.changed_files:
            _changes_tell(origin.repository, console=console)
        materials = given.enter_context(materials_open(attach=attach, issue=issue, log=log))
        request = RunRequest(
            goal=goal,
            origin=origin,
            options=options_build(
                model=model,
                base_url=base_url,
                role_models=role_model,
                fallbacks=fallback,
                effort=effort,
                temperature=temperature,
                tool_calls=tool_calls,
                edit_format=edit_format,
                checks=check,
                setup=setup,
                secrets=secret,
                limit_cost=limit_cost,
                limit_steps=limit_steps,
                autonomy=autonomy,
                review=review,
                lanes=lanes,
            ),
            project_name=origin.name or "repository",
            materials=materials,
        )
        manners = manners_of(yes=yes, json_output=json_output, owner=True)
        with connection_open(server, console=console) as connection:
            session = session_start(connection, request, console=console)
            if detach:
                code = session_leave(connection, session, console=console, json_output=json_output)
            else:
                code = session_attend(
                    connection,
                    session,
                    console=console,
                    manners=manners,
                    repository=origin.folder,
                    record_svg=record_svg,
                )
        raise typer.Exit(code)


def options_build(
    *,
    model: str | None = None,
    base_url: str | None = None,
    role_models: list[str] | None = None,
    fallbacks: list[str] | None = None,
    effort: str | None = None,
    temperature: float | None = None,
    tool_calls: str | None = None,
    edit_format: str | None = None,
    checks: list[str] | None = None,
    setup: str | None = None,
    secrets: list[str] | None = None,
    limit_cost: float | None = None,
    limit_steps: int | None = None,
    autonomy: str | None = None,
    review: str | None = None,
    lanes: int | None = None,
) -> dict[str, Any]:
    """The members of a request that were asked for; the server knows the defaults of the others."""
    limits = {"cost_usd": limit_cost, "steps": limit_steps}
    options = {
        "model": model,
        "base_url": base_url,
        "models": _role_models(role_models or []) or None,
        "fallbacks": fallbacks or None,
        "effort": effort,
        "temperature": temperature,
        "tool_calls": tool_calls,
        "edit_format": edit_format,
        "checks": checks or None,
        "setup_command": setup,
        "autonomy": autonomy,
        "review": review,
        "lanes": lanes,
        "secrets": secrets or None,
        "limits": {name: value for name, value in limits.items() if value is not None} or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _role_models(entries: list[str]) -> dict[str, dict[str, str]]:
    """``planner=openai:gpt-5`` as the request has it; the server knows roles and models."""
    found: dict[str, dict[str, str]] = {}
    for entry in entries:
        role, separator, model = entry.partition("=")
        if not separator or not role.strip() or not model.strip():
            raise CliError(
                f"--role-model {entry!r} is no ROLE=PROVIDER:MODEL",
                next_step="write it as --role-model planner=anthropic:claude-sonnet-4-5",
                code="invalid_input",
            )
        if role.strip() in found:
            raise CliError(
                f"--role-model names the {role.strip()} twice", next_step="name it once", code="invalid_input"
            )
        found[role.strip()] = {"model": model.strip()}
    return found


def _changes_tell(repository: LocalRepository, *, console: Console) -> None:
    files = "1 file is" if repository.changed_files == 1 else f"{repository.changed_files} files are"
    text = (
        f"Note: {files} changed or new since the last commit. The session works on what is committed "
        f"({repository.branch} at {repository.head_commit[:10]}); your files stay as they are."
    )
    prose_print(console, text_clean(text), style="yellow")


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command(name="run", epilog=EXIT_CODES_HELP)(run)

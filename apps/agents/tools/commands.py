"""Running things: commands in the sandbox, in front or in the background, and the project's checks."""

from __future__ import annotations

import asyncio

from pydantic import Field

from apps.agents.tools.base import Arguments, Observation, Risk, Tool, ToolContext
from apps.agents.tools.kept_outputs import ONE_LIMIT
from apps.projects.workspace import BackgroundState, OutputPage, WorkspaceError

#: Bytes of a page of output, and of what is shown of a command that has just been put into the background.
PAGE_BYTES = 20_000
FIRST_BYTES = 4_000
#: How long it is watched before the agent goes on: what fails at once is told at once.
FIRST_SECONDS = 1.0


class RunCommandArguments(Arguments):
    command: str = Field(min_length=1, description="Command line for bash, run in the repository's root.")
    timeout_s: int = Field(default=0, ge=0, le=3600, description="Seconds until it is killed; 0 for the usual number.")
    background: bool = Field(
        default=False, description="Don't wait for it: it runs on, and command_output and command_stop take its id."
    )


KILLED = {
    "timeout": "it ran longer than allowed and was killed",
    "memory": "it used more memory than allowed and was killed",
    "disk": "it passed the session's limit of disk (ARCHON_SANDBOX_DISK_MB) and was killed; delete what is not needed",
    "output": "it printed more than allowed and was killed",
    "stopped": "it was stopped",
    "sandbox": "the sandbox ended, and it with it",
    "cleanup": "it was killed, since what another command left behind could not be ended without it",
}


async def run_command(context: ToolContext, arguments: RunCommandArguments) -> Observation:
    if arguments.background:
        return await _background_start(context, arguments)
    timeout = min(arguments.timeout_s or context.command_seconds, context.command_seconds)
    result = await context.workspace.command_run(arguments.command, timeout=timeout, max_output=ONE_LIMIT)
    ending = _ending(result.exit_code, result.killed)
    output = result.output.rstrip()
    told = f"{ending}, {result.seconds:.1f} s"
    return Observation(f"{output}\n[{told}]".lstrip(), ok=result.exit_code == 0, summary=told, whole=output)


async def _background_start(context: ToolContext, arguments: RunCommandArguments) -> Observation:
    name = context.command_id
    await context.workspace.background_start(arguments.command, name=name, timeout=arguments.timeout_s or None)
    state = await context.workspace.background_wait(name, seconds=FIRST_SECONDS)
    page = await context.workspace.background_output(name, limit=min(FIRST_BYTES, _page_bytes(context)))
    text = f"[id {name}, {_state(state)}; next offset {page.next_offset}]"
    if page.text.strip():
        text = f"{page.text.rstrip()}\n{text}"
    return Observation(text, ok=state.running or state.exit_code == 0, summary=f"{name}: {_state(state)}")


class CommandOutputArguments(Arguments):
    id: str = Field(min_length=1, description="Of the command, or of the output, as the call's result said it.")
    offset: int = Field(
        default=0, description="Bytes of output to pass over; negative: so many from the end. The result says the next."
    )
    wait_s: int = Field(
        default=0, ge=0, le=60, description="Wait so long for a command that still runs to end before looking."
    )


async def command_output(context: ToolContext, arguments: CommandOutputArguments) -> Observation:
    name, offset = arguments.id.strip(), arguments.offset
    limit = _page_bytes(context)
    kept = await asyncio.to_thread(context.outputs.page, name, offset=offset, limit=limit)
    if kept is not None:
        return _page_observe(name, kept, offset, "ended")
    try:
        state = await context.workspace.background_wait(name, seconds=arguments.wait_s)
        page = await context.workspace.background_output(name, offset=offset, limit=limit)
    except WorkspaceError as error:
        raise _unknown(name) from error
    return _page_observe(name, page, offset, _state(state))


class CommandStopArguments(Arguments):
    id: str = Field(min_length=1, description="Of the command, as run_command said it.")


async def command_stop(context: ToolContext, arguments: CommandStopArguments) -> Observation:
    try:
        state = await context.workspace.background_stop(arguments.id.strip())
    except WorkspaceError as error:
        raise _unknown(arguments.id) from error
    text = _state(state)
    return Observation(f"[id {arguments.id}, {text}]", summary=text)


def _page_observe(name: str, page: OutputPage, asked: int, state: str) -> Observation:
    lines = [page.text.rstrip("\n")] if page.text else []
    if 0 <= asked < page.offset:
        lines.insert(0, f"[bytes {asked} to {page.offset} are not kept any more]")
    rest = "" if page.next_offset >= page.total else f"; go on with offset {page.next_offset}"
    lines.append(f"[id {name}, {state}; bytes {page.offset} to {page.next_offset} of {page.total}{rest}]")
    return Observation("\n".join(lines), summary=f"bytes {page.offset} to {page.next_offset} of {page.total}")


def _page_bytes(context: ToolContext) -> int:
    """As much of an output as one observation may say, with the lines around it."""
    return max(500, min(PAGE_BYTES, context.observation_limit - 300))


def _unknown(name: str) -> WorkspaceError:
    return WorkspaceError(
        f"nothing is known of a command {name[:100]}: it isn't the id of one, nor of an output that was cut, or it is"
        " gone. Commands in the background go when the work on a task ends, when the session is paused, and when the"
        " process that runs the session ends; the oldest of the long outputs go when there are many. Run it again if"
        " you still need it."
    )


def _state(state: BackgroundState) -> str:
    if state.running:
        return f"running for {state.seconds:.1f} s"
    return f"{_ending(state.exit_code, state.killed)}, {state.seconds:.1f} s"


def _ending(exit_code: int | None, killed: str) -> str:
    if exit_code is None:
        return KILLED.get(killed, f"it was killed ({killed})")
    return f"exit code {exit_code}"


class RunChecksArguments(Arguments):
    pass


async def run_checks(context: ToolContext, arguments: RunChecksArguments) -> Observation:
    return await context.checks_run()


RUN_COMMAND = Tool(
    "run_command",
    "Run a command in a sandbox that has this repository, and no network but what you were told of. What it leaves"
    " running is killed. One in the background runs on until it is stopped or the task is done (a server to try out,"
    " say).",
    RunCommandArguments,
    Risk.EXECUTE,
    run_command,
)
COMMAND_OUTPUT = Tool(
    "command_output",
    "Read on in an output: of a command in the background, or of any call whose output was cut, by the id that it"
    " names.",
    CommandOutputArguments,
    Risk.READ,
    command_output,
)
COMMAND_STOP = Tool(
    "command_stop",
    "Stop a command that runs in the background, with all that it started.",
    CommandStopArguments,
    Risk.EXECUTE,
    command_stop,
    # One that is stopped stays stopped, and one that a dead process ran is gone.
    repeatable=True,
)
RUN_CHECKS = Tool(
    "run_checks",
    "Run the project's own checks (its tests) on the repository as it is now, the way the server will judge it.",
    RunChecksArguments,
    Risk.EXECUTE,
    run_checks,
    # They leave nothing behind.
    repeatable=True,
    on_copy=True,
)

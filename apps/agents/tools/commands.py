"""Running things: a shell command in the sandbox, and the project's checks."""

from __future__ import annotations

from pydantic import Field

from apps.agents.tools.base import Arguments, Observation, Risk, Tool, ToolContext, text_cut


class RunCommandArguments(Arguments):
    command: str = Field(min_length=1, description="Command line for bash, run in the repository's root.")
    timeout_s: int = Field(default=0, ge=0, le=3600, description="Seconds until it is killed; 0 for the usual number.")


KILLED = {
    "timeout": "it ran longer than allowed and was killed",
    "memory": "it used more memory than allowed and was killed",
    "disk": "it wrote more to disk than allowed and was killed",
    "output": "it printed more than allowed and was killed",
}


async def run_command(context: ToolContext, arguments: RunCommandArguments) -> Observation:
    timeout = min(arguments.timeout_s or context.command_seconds, context.command_seconds)
    result = await context.workspace.command_run(arguments.command, timeout=timeout)
    if result.exit_code is None:
        ending = KILLED.get(result.killed, f"it was killed ({result.killed})")
    else:
        ending = f"exit code {result.exit_code}"
    text = f"{text_cut(result.output.rstrip())}\n[{ending}, {result.seconds:.1f} s]".lstrip()
    return Observation(text, ok=result.exit_code == 0, summary=f"{ending}, {result.seconds:.1f} s")


class RunChecksArguments(Arguments):
    pass


async def run_checks(context: ToolContext, arguments: RunChecksArguments) -> Observation:
    return await context.checks_run()


RUN_COMMAND = Tool(
    "run_command",
    "Run a command in a sandbox that has this repository and no network. What it leaves running is killed.",
    RunCommandArguments,
    Risk.EXECUTE,
    run_command,
)
RUN_CHECKS = Tool(
    "run_checks",
    "Run the project's own checks (its tests) on the repository as it is now, the way the server will judge it.",
    RunChecksArguments,
    Risk.EXECUTE,
    run_checks,
)

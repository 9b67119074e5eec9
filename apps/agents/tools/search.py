"""Finding text in the worktree, with ripgrep inside the sandbox."""

from __future__ import annotations

from pydantic import Field

from apps.agents.tools.base import Arguments, Observation, Risk, Tool, ToolContext

MATCHES = 200


class SearchArguments(Arguments):
    pattern: str = Field(min_length=1, description="Regular expression (Rust syntax).")
    path: str = Field(default=".", description="File or folder to search.")
    glob: str = Field(default="", description="Only files whose path matches this, as `*.py` or `src/**/*.ts`.")
    ignore_case: bool = Field(default=False)


async def search(context: ToolContext, arguments: SearchArguments) -> Observation:
    command = ["rg", "--line-number", "--no-heading", "--color=never", "--max-columns=400", "--max-columns-preview"]
    command += ["--sort=path", f"--max-count={MATCHES}", "--hidden", "--glob=!.git"]
    if arguments.ignore_case:
        command.append("--ignore-case")
    if arguments.glob:
        command.append(f"--glob={arguments.glob}")
    command += ["--regexp", arguments.pattern, "--", arguments.path]
    result = await context.workspace.command_run(command, timeout=30, max_output=200_000)
    if result.exit_code == 1:
        return Observation("no match", summary="no match")
    if result.exit_code not in (0, None) and not result.output.strip():
        return Observation(f"the search failed with exit code {result.exit_code}", ok=False, summary="failed")
    lines = [line.removeprefix("./") for line in result.output.splitlines()]
    if result.exit_code != 0:
        return Observation("\n".join(lines), ok=False, summary=result.killed or "failed")
    shown = lines[:MATCHES]
    if len(lines) > len(shown) or result.truncated:
        shown.append("[more matches left out: search a narrower path, glob or pattern]")
    return Observation("\n".join(shown), summary=f"{min(len(lines), MATCHES)} lines")


SEARCH = Tool(
    "search",
    "Search the files for a regular expression. Each match is shown as path:line:text; what git ignores is left out.",
    SearchArguments,
    Risk.READ,
    search,
)

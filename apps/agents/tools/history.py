"""Reading the repository's history, in the server's own copy of it."""

from __future__ import annotations

import asyncio

from pydantic import Field

from apps.agents.tools.base import Arguments, Observation, Risk, Tool, ToolContext
from apps.agents.tools.text import lines_number, text_decode, text_display
from apps.projects.git import GitResult

#: Bytes that git may say.
BYTES = 200_000
BLAME_LINES = 400

_REVISION = "Commit id, branch, tag, or as HEAD~3; HEAD is the last commit of your work."
_PATH = "Only what changed this file or folder; empty: everything."


class GitLogArguments(Arguments):
    path: str = Field(default="", description=_PATH)
    revision: str = Field(default="HEAD", description=_REVISION)
    contains: str = Field(default="", description="Only commits that added or removed this exact text.")
    skip: int = Field(default=0, ge=0, le=1_000_000, description="Commits to pass over.")
    limit: int = Field(default=30, ge=1, le=200, description="Commits to show.")


async def git_log(context: ToolContext, arguments: GitLogArguments) -> Observation:
    result = await asyncio.to_thread(
        context.history.log,
        revision=arguments.revision,
        path=arguments.path,
        contains=arguments.contains,
        skip=arguments.skip,
        limit=arguments.limit,
        max_bytes=BYTES,
    )
    count = result.stdout.count(b"\n")
    more = f"\n[{count} shown; go on with skip {arguments.skip + count}]" if count == arguments.limit else ""
    return Observation((_said(result) or "no commit") + more, summary=f"{count} commits")


class GitShowArguments(Arguments):
    revision: str = Field(default="HEAD", description=_REVISION)
    path: str = Field(default="", description=_PATH)
    content: bool = Field(default=False, description="Show the file as it was in that commit, not what was changed.")


async def git_show(context: ToolContext, arguments: GitShowArguments) -> Observation:
    if not arguments.content:
        result = await asyncio.to_thread(
            context.history.show, revision=arguments.revision, path=arguments.path, max_bytes=BYTES
        )
        if not result.stdout:
            return Observation(f"{arguments.revision} changed nothing in {arguments.path}", summary="nothing")
        return Observation(_said(result), summary=arguments.revision)
    result = await asyncio.to_thread(
        context.history.file, revision=arguments.revision, path=arguments.path, max_bytes=BYTES
    )
    lines = text_display(text_decode(result.stdout, arguments.path)).splitlines()
    note = "\n[the file is longer: the rest is left out]" if result.truncated else ""
    return Observation(lines_number(lines, 1) + note, summary=f"{len(lines)} lines")


class GitBlameArguments(Arguments):
    path: str = Field(min_length=1)
    start_line: int = Field(default=1, ge=1, description="First line to show, counted from 1.")
    end_line: int = Field(default=0, ge=0, description=f"Last line; 0 for as many as are shown at most, {BLAME_LINES}.")
    revision: str = Field(default="HEAD", description=_REVISION)


async def git_blame(context: ToolContext, arguments: GitBlameArguments) -> Observation:
    first = arguments.start_line
    last = min(arguments.end_line or first + BLAME_LINES - 1, first + BLAME_LINES - 1)
    result = await asyncio.to_thread(
        context.history.blame,
        revision=arguments.revision,
        path=arguments.path,
        first=first,
        last=max(first, last),
        max_bytes=BYTES,
    )
    return Observation(_said(result), summary=f"lines {first} to {last}")


def _said(result: GitResult) -> str:
    text = text_display(result.text)
    return f"{text}\n[more left out: ask for a path, or for less]" if result.truncated else text


GIT_LOG = Tool("git_log", "List commits, newest first: id, date, author, subject.", GitLogArguments, Risk.READ, git_log)
GIT_SHOW = Tool(
    "git_show",
    "Show a commit: its message and its changes; or a file as it was in it.",
    GitShowArguments,
    Risk.READ,
    git_show,
)
GIT_BLAME = Tool(
    "git_blame",
    "Show which commit each line of a file came with, as of the last commit (not of changes since).",
    GitBlameArguments,
    Risk.READ,
    git_blame,
)

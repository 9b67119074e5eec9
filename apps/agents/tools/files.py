"""Looking at files and changing them."""

from __future__ import annotations

from pydantic import Field

from apps.agents.tools.base import Arguments, Observation, Risk, Tool, ToolContext, text_cut
from apps.agents.tools.text import (
    lines_number,
    syntax_error_find,
    text_decode,
    text_display,
    text_encode,
    text_replace,
)
from apps.projects.workspace import WorkspaceError

READ_LINES = 1000
READ_BYTES = 2_000_000


class ListFilesArguments(Arguments):
    path: str = Field(default=".", description="Folder, relative to the repository's root.")
    depth: int = Field(default=2, ge=1, le=10, description="How many levels of folders to show.")


async def list_files(context: ToolContext, arguments: ListFilesArguments) -> Observation:
    listing = await context.workspace.file_list(arguments.path, depth=arguments.depth, limit=400)
    lines = [
        f"{entry.path}/" if entry.kind == "directory" else f"{entry.path} ({entry.size} bytes)"
        for entry in listing.entries
    ]
    if listing.truncated:
        lines.append("[more entries left out: list a folder below, or with less depth]")
    return Observation(text_cut("\n".join(lines) or "the folder is empty"), summary=f"{len(listing.entries)} entries")


class ReadFileArguments(Arguments):
    path: str = Field(description="File, relative to the repository's root.")
    start_line: int = Field(default=1, ge=1, description="First line to show, counted from 1.")
    end_line: int = Field(default=0, ge=0, description=f"Last line; 0 for as many as are shown at most, {READ_LINES}.")


async def read_file(context: ToolContext, arguments: ReadFileArguments) -> Observation:
    content = await context.workspace.file_read(arguments.path, max_bytes=READ_BYTES)
    lines = text_display(text_decode(content, arguments.path)).splitlines()
    first = arguments.start_line
    last = min(len(lines), arguments.end_line or first + READ_LINES - 1, first + READ_LINES - 1)
    if not lines:
        return Observation(f"{arguments.path} is empty", summary="empty")
    if first > len(lines):
        raise WorkspaceError(f"{arguments.path} has {len(lines)} lines; line {first} is past its end")
    if last < first:
        raise WorkspaceError(f"end_line {last} is before start_line {first}")
    shown = lines_number(lines[first - 1 : last], first)
    note = f"\n[lines {first} to {last} of {len(lines)}]" if (first, last) != (1, len(lines)) else ""
    return Observation(text_cut(shown) + note, summary=f"lines {first} to {last} of {len(lines)}")


class EditFileArguments(Arguments):
    path: str = Field(description="File, relative to the repository's root.")
    old_text: str = Field(description="The exact text to replace, without line numbers; it has to be there once.")
    new_text: str = Field(description="The text to put in its place.")


async def edit_file(context: ToolContext, arguments: EditFileArguments) -> Observation:
    before = text_decode(await context.workspace.file_read(arguments.path, max_bytes=READ_BYTES), arguments.path)
    after = text_replace(before, old=arguments.old_text, new=arguments.new_text, path=arguments.path)
    return await _write(context, arguments.path, text_encode(after), "changed")


class WriteFileArguments(Arguments):
    path: str = Field(description="File, relative to the repository's root; made, or replaced as a whole.")
    content: str = Field(description="The whole content.")


async def write_file(context: ToolContext, arguments: WriteFileArguments) -> Observation:
    return await _write(context, arguments.path, text_encode(arguments.content), "written")


async def _write(context: ToolContext, path: str, content: bytes, verb: str) -> Observation:
    await context.workspace.file_write(path, content)
    summary = f"{verb}, {len(content)} bytes"
    problem = syntax_error_find(path, content)
    if problem:
        text = f"{path} {verb}, but it doesn't parse now: {problem}. Mend it before you go on."
        return Observation(text, ok=False, summary=f"{summary}; doesn't parse: {problem}")
    return Observation(f"{path} {verb}", summary=summary)


LIST_FILES = Tool("list_files", "List the files of a folder.", ListFilesArguments, Risk.READ, list_files)
READ_FILE = Tool(
    "read_file",
    "Read a text file, or a range of its lines. Each line is shown as its number, a tab, and the text.",
    ReadFileArguments,
    Risk.READ,
    read_file,
)
EDIT_FILE = Tool(
    "edit_file",
    "Replace one exact piece of text in a file. It fails when the text isn't there, or is there more than once.",
    EditFileArguments,
    Risk.WRITE,
    edit_file,
)
WRITE_FILE = Tool(
    "write_file", "Write a new file, or replace a file as a whole.", WriteFileArguments, Risk.WRITE, write_file
)

"""Looking at files: folders, text, notebooks, images."""

from __future__ import annotations

import asyncio

from pydantic import Field

from apps.agents.tools.base import Arguments, Observation, Risk, Tool, ToolContext
from apps.agents.tools.notebooks import notebook_text
from apps.agents.tools.pictures import is_image_name, picture_observe
from apps.agents.tools.text import lines_number, text_decode, text_display
from apps.projects.workspace import FileEntry, FileListing, WorkspaceError

READ_LINES = 1000
READ_BYTES = 2_000_000
#: Notebooks carry their images.
NOTEBOOK_BYTES = 20_000_000
IMAGE_BYTES = 20_000_000
FOUND_FILES = 200


class ListFilesArguments(Arguments):
    path: str = Field(default=".", description="Folder.")
    depth: int = Field(default=2, ge=1, le=10, description="How many levels of folders to show.")


async def list_files(context: ToolContext, arguments: ListFilesArguments) -> Observation:
    listing = await context.workspace.file_list(arguments.path, depth=arguments.depth, limit=400)
    return _listed(listing, "the folder is empty", "list a folder below, or with less depth")


class GlobArguments(Arguments):
    pattern: str = Field(
        min_length=1, description="As `*.py` (in any folder), `src/**/*.{ts,tsx}` or `docs/`; * stays within a name."
    )
    path: str = Field(default=".", description="Folder to look in.")
    newest_first: bool = Field(default=False, description="By time of the last change instead of by path.")


async def glob(context: ToolContext, arguments: GlobArguments) -> Observation:
    listing = await context.workspace.file_find(
        arguments.pattern, path=arguments.path, newest_first=arguments.newest_first, limit=FOUND_FILES
    )
    return _listed(listing, "no file matches", "use a narrower pattern or path")


def _listed(listing: FileListing, empty: str, advice: str) -> Observation:
    lines = [_line(entry) for entry in listing.entries]
    if listing.truncated:
        lines.append(f"[more left out: {advice}]")
    return Observation("\n".join(lines) or empty, summary=f"{len(listing.entries)} entries")


def _line(entry: FileEntry) -> str:
    return f"{entry.path}/" if entry.kind == "directory" else f"{entry.path} ({entry.size} bytes)"


class ReadFileArguments(Arguments):
    path: str
    start_line: int = Field(default=1, ge=1, description="First line to show, counted from 1.")
    end_line: int = Field(default=0, ge=0, description=f"Last line; 0 for as many as are shown at most, {READ_LINES}.")


async def read_file(context: ToolContext, arguments: ReadFileArguments) -> Observation:
    path = arguments.path
    if is_image_name(path):
        return await _image(context, path)
    if path.endswith(".ipynb"):
        content = await context.workspace.file_read(path, max_bytes=NOTEBOOK_BYTES)
        # Tens of megabytes of JSON take a while.
        lines = (await asyncio.to_thread(notebook_text, content, path)).splitlines()
    else:
        content = await context.workspace.file_read(path, max_bytes=READ_BYTES)
        lines = text_display(text_decode(content, path)).splitlines()
    return _lines_shown(lines, arguments)


def _lines_shown(lines: list[str], arguments: ReadFileArguments) -> Observation:
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
    return Observation(shown + note, summary=f"lines {first} to {last} of {len(lines)}")


class ReadImageArguments(Arguments):
    path: str = Field(description="Image file (PNG, JPEG, GIF, WebP, BMP).")


async def read_image(context: ToolContext, arguments: ReadImageArguments) -> Observation:
    return await _image(context, arguments.path)


async def _image(context: ToolContext, path: str) -> Observation:
    content = await context.workspace.file_read(path, max_bytes=IMAGE_BYTES)
    # Unpacking and shrinking it is CPU work.
    return await asyncio.to_thread(picture_observe, content, path=path, vision=context.vision)


LIST_FILES = Tool("list_files", "List the files of a folder.", ListFilesArguments, Risk.READ, list_files)
GLOB = Tool(
    "glob",
    "Find files by a pattern of their path. What git ignores is left out.",
    GlobArguments,
    Risk.READ,
    glob,
)
READ_FILE = Tool(
    "read_file",
    "Read a text file, or a range of its lines. Each line is shown as its number, a tab, and the text. A notebook is"
    " shown as its cells.",
    ReadFileArguments,
    Risk.READ,
    read_file,
)
READ_IMAGE = Tool(
    "read_image",
    "Look at an image file.",
    ReadImageArguments,
    Risk.READ,
    read_image,
)

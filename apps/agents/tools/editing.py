"""Changing files: exact replacement, patches, whole files."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from apps.agents.tools.base import Arguments, Observation, Risk, Tool, ToolContext
from apps.agents.tools.files import READ_BYTES
from apps.agents.tools.patch import FileChange, PatchError, hunks_apply, patch_parse
from apps.agents.tools.text import EditError, syntax_error_find, text_decode, text_encode, text_replace
from apps.projects.workspace import Workspace, WorkspaceError

EDITS = 50
PATCH_FILES = 100


class EditFileArguments(Arguments):
    path: str
    old_text: str = Field(description="The exact text to replace, without line numbers; it has to be there once.")
    new_text: str = Field(description="The text to put in its place.")


async def edit_file(context: ToolContext, arguments: EditFileArguments) -> Observation:
    before = await _text_read(context.workspace, arguments.path)
    after = text_replace(before, old=arguments.old_text, new=arguments.new_text, path=arguments.path)
    return await _write(context, arguments.path, text_encode(after), "changed")


class Replacement(Arguments):
    old_text: str
    new_text: str


class MultiEditArguments(Arguments):
    path: str
    edits: tuple[Replacement, ...] = Field(
        min_length=1, max_length=EDITS, description="As of edit_file, each on what the one before left."
    )


async def multi_edit(context: ToolContext, arguments: MultiEditArguments) -> Observation:
    text = await _text_read(context.workspace, arguments.path)
    for number, edit in enumerate(arguments.edits, 1):
        try:
            text = text_replace(text, old=edit.old_text, new=edit.new_text, path=arguments.path)
        except EditError as error:
            raise EditError(f"edit {number} of {len(arguments.edits)}: {error}\nNone of the edits was made.") from error
    return await _write(context, arguments.path, text_encode(text), f"changed in {len(arguments.edits)} places")


class WriteFileArguments(Arguments):
    path: str = Field(description="File; made, or replaced as a whole.")
    content: str = Field(description="The whole content.")


async def write_file(context: ToolContext, arguments: WriteFileArguments) -> Observation:
    return await _write(context, arguments.path, text_encode(arguments.content), "written")


class ApplyPatchArguments(Arguments):
    patch: str = Field(min_length=1, description="The whole patch.")


@dataclass(frozen=True)
class _Step:
    """What one file is to become; ``content`` None: it goes. ``before`` None: it isn't there."""

    path: str
    before: bytes | None
    content: bytes | None
    #: It keeps its permissions by moving there first.
    move_from: str = ""


async def apply_patch(context: ToolContext, arguments: ApplyPatchArguments) -> Observation:
    changes = patch_parse(arguments.patch)
    if len(changes) > PATCH_FILES:
        raise PatchError(f"the patch changes {len(changes)} files, more than {PATCH_FILES} at a time")
    steps: list[_Step] = []
    problems: list[str] = []
    for change in changes:
        try:
            steps.append(await _step(context.workspace, change))
        except WorkspaceError as error:
            problems.append(str(error))
    if problems:
        raise PatchError("\n".join([*problems, "Nothing of the patch was applied."]))
    # What deletes comes last: it alone loses something (permissions) when it has to be taken back.
    await _carry_out(context.workspace, sorted(steps, key=lambda step: step.content is None))
    return _patch_observe(steps)


async def _step(workspace: Workspace, change: FileChange) -> _Step:
    if change.kind == "add":
        if await _exists(workspace, change.path):
            raise PatchError(f"{change.path} is there already: change it with an update, or delete it first")
        content = text_encode(hunks_apply("", change.hunks, path=change.path, says_ends=True))
        return _Step(change.path, None, content)
    before = await workspace.file_read(change.path, max_bytes=READ_BYTES)
    if change.kind == "delete":
        if change.hunks:
            # A diff shows what it takes away: something else would be lost.
            _hunks_apply(before, change)
        return _Step(change.path, before, None)
    after = _hunks_apply(before, change) if change.hunks else before
    if change.move_to:
        if await _exists(workspace, change.move_to):
            raise PatchError(f"{change.path} can't be moved to {change.move_to}: that is there already")
        return _Step(change.move_to, before, after, move_from=change.path)
    if after == before:
        raise PatchError(f"the patch leaves {change.path} as it is")
    return _Step(change.path, before, after)


def _hunks_apply(before: bytes, change: FileChange) -> bytes:
    text = text_decode(before, change.path)
    return text_encode(hunks_apply(text, change.hunks, path=change.path, says_ends=change.says_ends))


async def _carry_out(workspace: Workspace, steps: Sequence[_Step]) -> None:
    """All of them, or none: what was done before one that fails is taken back."""
    done: list[_Step] = []
    try:
        for step in steps:
            done.append(step)
            if step.move_from:
                await workspace.file_move(step.move_from, step.path)
            if step.content is None:
                await workspace.file_delete(step.path)
            elif not (step.move_from and step.content == step.before):
                await workspace.file_write(step.path, step.content)
    except BaseException as error:
        for step in reversed(done):
            # The one that failed may be half done or not at all.
            with contextlib.suppress(WorkspaceError):
                await _take_back(workspace, step)
        if isinstance(error, WorkspaceError):
            raise PatchError(f"{error}\nNothing of the patch was applied.") from error
        raise


async def _take_back(workspace: Workspace, step: _Step) -> None:
    if step.before is None:
        await workspace.file_delete(step.path)
        return
    if step.move_from:
        if not await _exists(workspace, step.path):
            return
        await workspace.file_move(step.path, step.move_from)
    await workspace.file_write(step.move_from or step.path, step.before)


def _patch_observe(steps: Sequence[_Step]) -> Observation:
    lines: list[str] = []
    broken: list[str] = []
    for step in steps:
        if step.content is None:
            lines.append(f"{step.path} deleted")
            continue
        verb = f"moved from {step.move_from}" if step.move_from else "added" if step.before is None else "changed"
        lines.append(f"{step.path} {verb}")
        problem = syntax_error_find(step.path, step.content)
        if problem:
            broken.append(f"{step.path} doesn't parse now: {problem}. Mend it before you go on.")
    summary = lines[0] if len(lines) == 1 else f"{len(lines)} files"
    return Observation("\n".join([*lines, *broken]), ok=not broken, summary=summary, edited=True)


async def _text_read(workspace: Workspace, path: str) -> str:
    return text_decode(await workspace.file_read(path, max_bytes=READ_BYTES), path)


async def _exists(workspace: Workspace, path: str) -> bool:
    try:
        await workspace.file_entry(path)
    except WorkspaceError:
        return False
    return True


async def _write(context: ToolContext, path: str, content: bytes, verb: str) -> Observation:
    await context.workspace.file_write(path, content)
    summary = f"{verb}, {len(content)} bytes"
    problem = syntax_error_find(path, content)
    if problem:
        text = f"{path} {verb}, but it doesn't parse now: {problem}. Mend it before you go on."
        return Observation(text, ok=False, summary=f"{summary}; doesn't parse: {problem}", edited=True)
    return Observation(f"{path} {verb}", summary=summary, edited=True)


EDIT_FILE = Tool(
    "edit_file",
    "Replace one exact piece of text in a file. It fails when the text isn't there, or is there more than once.",
    EditFileArguments,
    Risk.WRITE,
    edit_file,
)
MULTI_EDIT = Tool(
    "multi_edit",
    "Replace several exact pieces of text in one file: all of them, or none when one doesn't fit.",
    MultiEditArguments,
    Risk.WRITE,
    multi_edit,
)
WRITE_FILE = Tool(
    "write_file", "Write a new file, or replace a file as a whole.", WriteFileArguments, Risk.WRITE, write_file
)
APPLY_PATCH_V4A = Tool(
    "apply_patch",
    """Change files with a patch, all of it or nothing. Its form:
*** Begin Patch
*** Update File: path/to/file.py
*** Move to: path/to/new_name.py   (only to move it)
@@ class Name                      (a line above, where the lines below are there more than once)
 a line that stays (three of them around each change)
-a line that goes
+a line that comes
*** Add File: path/to/new.py
+every line of it
*** Delete File: path/to/old.py
*** End Patch""",
    ApplyPatchArguments,
    Risk.WRITE,
    apply_patch,
)
APPLY_PATCH_UNIFIED = Tool(
    "apply_patch",
    "Change files with a unified diff, all of it or nothing: `--- a/PATH`, `+++ b/PATH` (/dev/null for a new or deleted"
    " file), then hunks `@@ -LINE,COUNT +LINE,COUNT @@` with three lines that stay around each change.",
    ApplyPatchArguments,
    Risk.WRITE,
    apply_patch,
)

"""Moving and deleting files."""

from __future__ import annotations

from pydantic import Field

from apps.agents.tools.base import Arguments, Observation, Risk, Tool, ToolContext


class MoveFileArguments(Arguments):
    source: str = Field(description="File or folder.")
    target: str = Field(description="Where it goes; nothing may be there yet. Folders are made as needed.")


async def move_file(context: ToolContext, arguments: MoveFileArguments) -> Observation:
    await context.workspace.file_move(arguments.source, arguments.target)
    return Observation(f"{arguments.source} moved to {arguments.target}", summary=f"moved to {arguments.target}")


class DeleteFileArguments(Arguments):
    path: str
    folder: bool = Field(default=False, description="Delete a folder, with all that is in it.")


async def delete_file(context: ToolContext, arguments: DeleteFileArguments) -> Observation:
    await context.workspace.file_delete(arguments.path, folder=arguments.folder)
    return Observation(f"{arguments.path} deleted", summary="deleted")


MOVE_FILE = Tool("move_file", "Move or rename a file or a folder.", MoveFileArguments, Risk.WRITE, move_file)
DELETE_FILE = Tool("delete_file", "Delete a file, or a folder.", DeleteFileArguments, Risk.WRITE, delete_file)

"""What the index knows of a session's code, for its tools: one coarse call in a thread each."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from apps.context.maps import FoundReference, MapResult, references_find, repository_map_make
from apps.context.overlays import overlay_follow
from apps.context.places import LocateResult, files_locate
from apps.context.searching.search import code_search, index_state, index_view
from apps.context.types import IndexState, SearchRequest, SearchResult, WorkFiles
from apps.core.database import AsyncDatabase
from apps.projects.models import Project
from apps.vector_store.types import Payer

Found = TypeVar("Found")


@dataclass(frozen=True)
class CodeKnowledge:
    """What is known of the files of one of a session's worktrees: the index follows them before it is asked.

    Raises IndexMissing where nothing was indexed yet, InvalidInput for what can't be looked for.
    """

    database: AsyncDatabase
    project_id: uuid.UUID
    session_id: uuid.UUID
    #: Which of the session's worktrees it is; empty: its own.
    lane: str = ""
    #: Says which tree of the repository its files are; empty: nobody knows.
    tree: Callable[[], Awaitable[str]] | None = None

    async def state(self) -> IndexState:
        """How the project's index stands."""
        return await self.database.run_in_slow_thread(lambda: index_state(project=self._project()))

    async def locate(self, *, text: str, limit: int) -> LocateResult:
        return await self._run(
            lambda project, files: files_locate(project=project, text=text, files=files, limit=limit)
        )

    async def search(self, request: SearchRequest) -> SearchResult:
        # A provider's embedder is paid from the session's budget.
        payer = Payer(project_id=self.project_id, scope_id=self.session_id)
        return await self._run(
            lambda project, files: code_search(project=project, request=request, files=files, payer=payer)
        )

    async def repository_map(self, *, text: str, budget: int) -> MapResult:
        return await self._run(
            lambda project, files: repository_map_make(project=project, budget=budget, text=text, files=files)
        )

    async def references(self, *, name: str, limit: int) -> tuple[list[FoundReference], IndexState]:
        """Where a name is used, and how the index stands."""

        def find(project: Project, files: WorkFiles) -> tuple[list[FoundReference], IndexState]:
            view, state = index_view(project=project, files=files)
            return references_find(view=view, names=[name], limit=limit), state

        return await self._run(find)

    async def _run(self, read: Callable[[Project, WorkFiles], Found]) -> Found:
        files = WorkFiles(self.session_id, self.lane, await self.tree() if self.tree is not None else "")

        def look() -> Found:
            project = self._project()
            if files.tree:
                overlay_follow(project=project, files=files)
            return read(project, files)

        return await self.database.run_in_slow_thread(look)

    def _project(self) -> Project:
        return Project.objects.get(id=self.project_id)

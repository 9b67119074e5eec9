"""What the index knows of a session's code, for its tools: one coarse call in a thread each."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from apps.context.maps import FoundReference, MapResult, references_find, repository_map_make
from apps.context.places import LocateResult, files_locate
from apps.context.searching.search import code_search, index_state, index_view
from apps.context.types import IndexState, SearchRequest, SearchResult
from apps.core.database import AsyncDatabase
from apps.projects.models import Project
from apps.vector_store.types import Payer

Found = TypeVar("Found")


@dataclass(frozen=True)
class CodeKnowledge:
    """Raises IndexMissing where nothing was indexed yet, InvalidInput for what can't be looked for."""

    database: AsyncDatabase
    project_id: uuid.UUID
    session_id: uuid.UUID

    async def state(self) -> IndexState:
        """How the project's index stands."""
        return await self._run(lambda project: index_state(project=project))

    async def locate(self, *, text: str, limit: int) -> LocateResult:
        return await self._run(
            lambda project: files_locate(project=project, text=text, session_id=self.session_id, limit=limit)
        )

    async def search(self, request: SearchRequest) -> SearchResult:
        # A provider's embedder is paid from the session's budget.
        payer = Payer(project_id=self.project_id, scope_id=self.session_id)
        return await self._run(
            lambda project: code_search(project=project, request=request, session_id=self.session_id, payer=payer)
        )

    async def repository_map(self, *, text: str, budget: int) -> MapResult:
        return await self._run(
            lambda project: repository_map_make(project=project, budget=budget, text=text, session_id=self.session_id)
        )

    async def references(self, *, name: str, limit: int) -> tuple[list[FoundReference], IndexState]:
        """Where a name is used, and how the index stands."""

        def find(project: Project) -> tuple[list[FoundReference], IndexState]:
            view, state = index_view(project=project, session_id=self.session_id)
            return references_find(view=view, names=[name], limit=limit), state

        return await self._run(find)

    async def _run(self, read: Callable[[Project], Found]) -> Found:
        def look() -> Found:
            return read(Project.objects.get(id=self.project_id))

        return await self.database.run_in_slow_thread(look)

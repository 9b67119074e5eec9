"""What the tests of spending share: a budget, a gateway, and a model that asks for a tool."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from apps.core.database import AsyncDatabase
from apps.projects.models import Project
from apps.usage.gateway import ModelGateway, RetryPolicy
from apps.usage.models import ModelCall
from apps.usage.selectors import budget_get
from apps.usage.services import budget_create
from apps.usage.types import BudgetState, Limits, ModelReply
from integrations.llm_providers.types import ModelSpec, Secret
from tests.loopback.openai_server import OpenAIServer

READ_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Read a file.",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    },
}
MESSAGES: list[BaseMessage] = [SystemMessage("You are Archon's coder."), HumanMessage("Task: fix the sum")]


@dataclass
class Scene:
    """A budget and the way to spend it."""

    scope_id: uuid.UUID
    database: AsyncDatabase
    gateway: ModelGateway

    async def call(self, spec: ModelSpec, *, key: str | None = None, **more: Any) -> ModelReply:
        arguments = {"messages": MESSAGES, "tools": [READ_TOOL], **more}
        return await self.gateway.call(
            scope_id=self.scope_id, key=key or uuid.uuid4().hex, role="coder", spec=spec, **arguments
        )

    async def budget(self) -> BudgetState:
        return await self.database.run_in_thread(budget_get, self.scope_id)

    async def calls(self) -> list[ModelCall]:
        return await self.database.run_in_thread(lambda: list(ModelCall.objects.order_by("id")))


@asynccontextmanager
async def scene(
    *, cost_usd: Decimal | str | None = None, tokens: int | None = None, steps: int | None = None, attempts: int = 3
) -> AsyncIterator[Scene]:
    """A fresh budget with these limits; retries don't wait."""
    database = AsyncDatabase(max_connections=8)
    await database.open()
    gateway = ModelGateway(database=database, retry=RetryPolicy(attempts=attempts, base_s=0.0))
    limits = Limits(cost_usd=None if cost_usd is None else Decimal(cost_usd), tokens=tokens, steps=steps)
    scope_id = uuid.uuid4()

    def create() -> None:
        budget_create(scope_id=scope_id, project=Project.objects.create(name="sums"), user=None, limits=limits)

    try:
        await database.run_in_thread(create)
        yield Scene(scope_id=scope_id, database=database, gateway=gateway)
    finally:
        await gateway.close()
        await database.close()


def loopback_spec(server: OpenAIServer, model: str = "gpt-4o-mini", **changes: Any) -> ModelSpec:
    """A model of the loopback server."""
    spec = ModelSpec(
        provider="openai", model=model, base_url=server.base_url, api_key=Secret("none"), max_output_tokens=1000
    )
    return replace(spec, **changes)

"""One call of a model outside of any session, for a task that waits for its reply.

It is held, made, settled and limited as a session's calls are, in the standing budget of its user in its project. What
it needs is opened for it and closed behind it, which is nothing beside the time that a model takes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

from langchain_core.messages import BaseMessage

from apps.core.database import AsyncDatabase
from integrations.llm_providers.types import CallFailure, ModelSpec

from .errors import ModelCallFailed
from .gateway import ModelGateway, OnSettle, RetryPolicy
from .types import ModelReply


def model_call(
    *,
    scope_id: uuid.UUID,
    key: str,
    role: str,
    spec: ModelSpec,
    messages: Sequence[BaseMessage],
    deadline_s: float,
    on_settle: OnSettle | None = None,
    retry: RetryPolicy | None = None,
) -> ModelReply:
    """The reply; ``key`` and ``on_settle`` are those of :class:`ModelGateway`.

    Raises :class:`BudgetExceeded` before anything is sent, and :class:`ModelCallFailed`, also where no reply came in
    time. Not from within an event loop.
    """
    return asyncio.run(_call(scope_id, key, role, spec, messages, deadline_s, on_settle, retry))


async def _call(
    scope_id: uuid.UUID,
    key: str,
    role: str,
    spec: ModelSpec,
    messages: Sequence[BaseMessage],
    deadline_s: float,
    on_settle: OnSettle | None,
    retry: RetryPolicy | None,
) -> ModelReply:
    database = AsyncDatabase(max_connections=2, max_threads=1)
    try:
        await database.open()
        gateway = ModelGateway(database=database, retry=retry)
        try:
            # Loading a vendor's library takes seconds, which are not the model's.
            await gateway.models_load([spec])
            async with asyncio.timeout(deadline_s):
                return await gateway.call(
                    scope_id=scope_id,
                    key=key,
                    role=role,
                    spec=spec,
                    messages=messages,
                    on_settle=on_settle,
                )
        except TimeoutError as error:
            raise ModelCallFailed(_late(spec, deadline_s)) from error
        finally:
            await gateway.close()
    finally:
        await database.close()


def _late(spec: ModelSpec, deadline_s: float) -> CallFailure:
    return CallFailure(
        kind="timeout",
        message=f"{spec.name} did not answer within {deadline_s:.0f} s",
        next_step="Try again, or choose a faster model.",
        retryable=True,
        charged=True,
    )

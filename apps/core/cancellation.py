"""Work that a cancelled task may not leave half done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def uninterrupted(work: Awaitable[T]) -> T:
    """Finish the work even if the caller is cancelled meanwhile; the cancellation goes on afterwards."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        if not task.cancelled() and task.exception() is not None:
            logger.error("work that was finished in spite of a cancellation failed", exc_info=task.exception())
        raise

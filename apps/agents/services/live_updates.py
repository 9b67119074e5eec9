"""What watchers of a running session are told at once: that there are new rows, and what a model is saying.

Hints alone: nothing depends on one, and who misses it finds the rows.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from apps.core.realtime import Hub
from apps.core.storable import text_storable

#: How long a bell waits for others that ring right after it.
BELL_SECONDS = 0.02
#: How long token deltas are gathered before they are sent.
DELTA_SECONDS = 0.05
#: The most of them that one message carries.
DELTA_CHARACTERS = 20_000


class LiveUpdates:
    """The bell and the token deltas of one session; belongs to one event loop."""

    def __init__(self, *, hub: Hub, topic: str, redacted: Callable[[str], str]) -> None:
        self._hub = hub
        self._topic = topic
        self._redacted = redacted
        self._bell: asyncio.Task[None] | None = None
        self._seq = 0
        self._deltas: dict[tuple[str, str, int], str] = {}
        self._delta_sender: asyncio.Task[None] | None = None

    def ring(self, seq: int) -> None:
        """Tell readers that there are rows up to ``seq``; calls that come close together become one message."""
        self._seq = max(seq, self._seq)
        if self._bell is None or self._bell.done():
            self._bell = asyncio.get_running_loop().create_task(self._ring(), name="bell")

    async def _ring(self) -> None:
        told = 0
        while told < self._seq:
            await asyncio.sleep(BELL_SECONDS)
            told = self._seq
            await self._hub.publish(self._topic, {"seq": told})

    def delta_send(self, *, execution_id: uuid.UUID, role: str, text: str, step: int = 0) -> None:
        """Token deltas are live only: they are not stored, and who misses them sees the finished message.

        Deltas of one step that come close together leave as one message.
        """
        speaker = (str(execution_id), role, step)
        # What a Redis that hangs keeps from being sent must not pile up.
        self._deltas[speaker] = (self._deltas.get(speaker, "") + text)[-DELTA_CHARACTERS:]
        if self._delta_sender is None or self._delta_sender.done():
            self._delta_sender = asyncio.get_running_loop().create_task(self._delta_flush(), name="deltas")

    async def _delta_flush(self) -> None:
        while self._deltas:
            await asyncio.sleep(DELTA_SECONDS)
            deltas, self._deltas = self._deltas, {}
            for (execution, role, step), text in deltas.items():
                delta = {
                    "execution": execution,
                    "role": role,
                    "step": step,
                    "text": text_storable(self._redacted(text)),
                }
                await self._hub.publish(self._topic, {"delta": delta})

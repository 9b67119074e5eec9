"""Telling other processes that something happened.

A message is a hint, not the truth: a subscriber of a session's topic reads the rows after the sequence number it has
seen. So a message that is lost (Redis was away, the process died between commit and publish) delays a reader until its
next look, a second later, and loses nothing. Token deltas are the one thing that exists here alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from threading import BoundedSemaphore
from typing import Any

import redis
import redis.asyncio
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)

Message = dict[str, Any]
_PREFIX = "archon:live:"
#: A subscriber that falls this far behind loses messages; it finds the rows at its next look.
QUEUE_SIZE = 1000

#: Hints that may wait for a Redis that is away; more are dropped.
WAITING_HINTS = 1000

_publisher: redis.Redis | None = None
# One thread of its own: a Redis that hangs holds up no request, such as the one that pauses a session.
_sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hints")
_waiting = BoundedSemaphore(WAITING_HINTS)


def _publish(topic: str, message: Message) -> None:
    """Send now; a Redis that is away is logged, for nothing depends on the message."""
    global _publisher
    if _publisher is None:
        _publisher = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
    try:
        _publisher.publish(_PREFIX + topic, json.dumps(message))
    except redis.RedisError as error:
        logger.warning("live update of %s not sent: %s", topic, error)


def publish_on_commit(topic: str, message: Message) -> None:
    """Send once the current Django transaction has committed, and let nobody wait for it."""

    def send() -> None:
        try:
            _publish(topic, message)
        finally:
            _waiting.release()

    def hand_over() -> None:
        if _waiting.acquire(blocking=False):
            _sender.submit(send)

    transaction.on_commit(hand_over)


class Hub:
    """One Redis subscription for the whole process (of one event loop), fanned out to queues in memory."""

    def __init__(self) -> None:
        self._queues: dict[str, set[asyncio.Queue[Message]]] = {}
        # Two clients: a subscription waits for as long as nothing happens, a message that can't be sent is dropped.
        self._listener = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2, socket_timeout=None)
        self._redis = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2, socket_timeout=2)
        self._subscription = self._listener.pubsub(ignore_subscribe_messages=True)
        self._reader: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[asyncio.Queue[Message]]:
        """A queue that gets every message of the topic from now on."""
        queue: asyncio.Queue[Message] = asyncio.Queue(maxsize=QUEUE_SIZE)
        queues = self._queues.setdefault(topic, set())
        queues.add(queue)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read(), name="live-updates")
        else:
            await self._change(self._subscription.subscribe, topic)
        try:
            yield queue
        finally:
            queues.discard(queue)
            if not queues:
                self._queues.pop(topic, None)
                await self._change(self._subscription.unsubscribe, topic)

    async def publish(self, topic: str, message: Message) -> None:
        """Send from the event loop; a Redis that is away is logged."""
        try:
            await self._redis.publish(_PREFIX + topic, json.dumps(message))
        except (redis.RedisError, OSError) as error:
            logger.warning("live update of %s not sent: %s", topic, error)

    def deliver(self, topic: str, message: Message) -> bool:
        """Hand a message to this process's subscribers alone; false when one of them was too far behind for it."""
        everyone = True
        for queue in self._queues.get(topic, ()):
            if queue.full():
                everyone = False
            else:
                queue.put_nowait(message)
        return everyone

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._subscription.aclose()  # type: ignore[no-untyped-call]
        await self._listener.aclose()
        await self._redis.aclose()

    async def _change(self, change: Any, topic: str) -> None:
        try:
            await change(_PREFIX + topic)
        except (redis.RedisError, OSError) as error:
            logger.warning("live subscription of %s not changed: %s", topic, error)

    async def _read(self) -> None:
        """Read for as long as somebody listens; after a fault, subscribe to everything again."""
        while self._queues:
            try:
                await self._subscription.subscribe(*(_PREFIX + topic for topic in self._queues))
                while self._queues:
                    message = await self._subscription.get_message(timeout=5)
                    if message is not None and message["type"] == "message":
                        self.deliver(message["channel"].decode().removeprefix(_PREFIX), json.loads(message["data"]))
            except (redis.RedisError, OSError, RuntimeError) as error:
                logger.warning("live updates interrupted: %s", error)
                await asyncio.sleep(1)

"""The one way to call a model: reserve the worst case, call, settle.

A call costs one statement before and one after it; the second runs in the caller's transaction, together with the rows
that keep the reply. What a process that died had reserved counts as spent, since the vendor may have charged for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from apps.core.cancellation import uninterrupted
from apps.core.database import AsyncDatabase, Connection
from apps.core.errors import Unavailable
from integrations.llm_providers import call_failure, close_chat_model, get_chat_model, output_limit_arguments
from integrations.llm_providers.errors import ProviderError
from integrations.llm_providers.prices import price_actual, price_ceiling
from integrations.llm_providers.tokens import (
    reply_tokens,
    reply_tokens_rough,
    tokens_ceiling,
    tokens_close,
    tokens_rough,
)
from integrations.llm_providers.types import CallFailure, ModelSpec, Quirk

from . import ledger
from .errors import ModelCallFailed
from .reply import as_chunk, message_of
from .types import ModelReply, Usage

logger = logging.getLogger(__name__)

T = TypeVar("T")
Tools = Sequence[dict[str, Any] | BaseTool]
OnDelta = Callable[[str], None]
OnSettle = Callable[[Connection, ModelReply], Awaitable[None]]

#: Sets of tools, and models, that one gateway remembers.
_CACHE_SIZE = 64
#: An endpoint that sends more than this in one reply is cut off.
MAX_REPLY_CHARACTERS = 8_000_000


@dataclass(frozen=True)
class RetryPolicy:
    """How often one call is tried, and how long to wait between two tries (doubling, with jitter)."""

    attempts: int = 4
    base_s: float = 0.5
    max_s: float = 20.0
    #: An endpoint that asks for a longer wait than this gets none: the caller hears of it.
    max_retry_after_s: float = 60.0

    def wait(self, failure: CallFailure, tries: int) -> float | None:
        """Seconds until the next try; None: no more."""
        asked = failure.retry_after or 0.0
        if not failure.retryable or tries >= self.attempts or asked > self.max_retry_after_s:
            return None
        pause = min(self.max_s, self.base_s * 2.0 ** (tries - 1))
        return max(asked, pause * random.uniform(0.5, 1.0))


@dataclass
class _Call:
    """One call on its way through the gateway."""

    spec: ModelSpec
    messages: Sequence[BaseMessage]
    tools: tuple[dict[str, Any], ...]
    tools_json: str
    bound: Callable[[ModelSpec], Runnable[Any, Any]]
    on_delta: OnDelta | None
    tries: int = 0
    #: What has arrived of the present try.
    chunks: list[AIMessageChunk] = field(default_factory=list)
    #: The vendor has the request and may charge for it, even if nothing has arrived.
    charged: bool = False


class ModelGateway:
    """Calls models within budgets. Belongs to one event loop, as its database does; close it with it."""

    def __init__(self, *, database: AsyncDatabase, retry: RetryPolicy | None = None) -> None:
        self._database = database
        self._retry = retry or RetryPolicy()
        self._models: dict[ModelSpec, BaseChatModel] = {}
        self._bound: dict[tuple[ModelSpec, tuple[int, ...]], tuple[Tools, Runnable[Any, Any]]] = {}
        self._tools: dict[tuple[int, ...], tuple[Tools, tuple[dict[str, Any], ...], str]] = {}
        # What endpoints turned out not to understand, where leaving it out has helped.
        self._quirks: dict[ModelSpec, frozenset[Quirk]] = {}

    async def close(self) -> None:
        """Close the connections to the vendors."""
        models, self._models = list(self._models.values()), {}
        self._bound.clear()
        for model in models:
            await close_chat_model(model)

    async def call(
        self,
        *,
        scope_id: uuid.UUID,
        key: str,
        role: str,
        spec: ModelSpec,
        messages: Sequence[BaseMessage],
        tools: Tools = (),
        on_delta: OnDelta | None = None,
        on_settle: OnSettle | None = None,
    ) -> ModelReply:
        """The model's reply, paid for from the scope's budget.

        ``key`` names the call within the scope: a second call of the same key means that the first one's process is
        gone, and what that had reserved is counted as spent. ``on_delta`` gets text as it arrives (a try that breaks
        off starts again from the beginning). ``on_settle`` runs in the transaction that settles; if it raises, the
        spending is kept all the same, and its error goes on.

        Raises :class:`BudgetExceeded` before anything is sent; :class:`ModelCallFailed` after the tries that make
        sense. A call that is cancelled settles first. What fails before a token has come costs nothing, unless the
        endpoint took the request and then fell silent.
        """
        call = _Call(
            spec=replace(spec, quirks=spec.quirks | self._quirks.get(spec, frozenset())),
            messages=messages,
            tools=(),
            tools_json="",
            bound=lambda present: self._model(present, tools),
            on_delta=on_delta,
        )
        call.tools, call.tools_json = self._tools_of(tools)
        demand = self._demand(call, scope_id=scope_id, key=key, role=role)
        while True:
            reservation = await self._reserve(demand)
            try:
                reply, cost = await self._answer(call, spec, reservation)
            except BaseException as error:
                await self._settle_failed(call, reservation, error)
                wait = self._wait_again(call, error)
                if wait is None:
                    raise
                # The broken try is paid for by now; the next one needs a reservation of its own.
                await asyncio.sleep(wait)
                continue
            await self._settle(reservation, reply, cost, on_settle)
            return reply

    async def _reserve(self, demand: ledger.Demand) -> ledger.Reservation:
        held: list[ledger.Reservation] = []

        async def hold() -> None:
            held.append(await ledger.reserve(self._database, demand))

        try:
            await uninterrupted(hold())
        except asyncio.CancelledError:
            for reservation in held:
                await uninterrupted(self._settle_alone(reservation, Usage(), Decimal(0), "failed", "cancelled"))
            raise
        return held[0]

    async def _answer(
        self, call: _Call, asked: ModelSpec, reservation: ledger.Reservation
    ) -> tuple[ModelReply, Decimal]:
        """The reply and its price, tried again as long as a failure costs nothing."""
        while True:
            call.chunks, call.charged = [], True
            call.tries += 1
            try:
                await self._stream(call, reservation)
            except (_VendorError, ModelCallFailed) as error:
                cause = error.cause if isinstance(error, _VendorError) else error
                failure = cause.failure if isinstance(cause, ModelCallFailed) else call_failure(call.spec, cause)
                call.charged = bool(call.chunks)
                if failure is None:
                    raise cause from None
                if failure.quirk is not None and not call.chunks:
                    # Each of them can come up once only.
                    call.spec = replace(call.spec, quirks=call.spec.quirks | {failure.quirk})
                    call.tries -= 1
                    continue
                call.charged = call.charged or failure.charged
                wait = None if call.charged else self._retry.wait(failure, call.tries)
                if wait is None:
                    raise ModelCallFailed(failure) from cause
                logger.info("model %s: %s; again in %.1f s", call.spec.name, failure.message, wait)
                await asyncio.sleep(wait)
                continue
            if call.spec.quirks != asked.quirks:
                self._quirks[asked] = call.spec.quirks
            usage, cost = self._usage(call, complete=True)
            message = message_of(call.chunks, seen=call.messages)
            message.usage_metadata = UsageMetadata(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                total_tokens=usage.input_tokens + usage.output_tokens,
            )
            return ModelReply(message=message, usage=usage), cost

    async def _stream(self, call: _Call, reservation: ledger.Reservation) -> None:
        """One try: fills ``call.chunks``. Raises :class:`_VendorError`, or ModelCallFailed for an incomplete reply."""
        spec = call.spec
        arguments: dict[str, Any] = {}
        if reservation.output_tokens < spec.max_output_tokens:
            arguments = output_limit_arguments(spec, reservation.output_tokens)
        try:
            model = call.bound(spec)
        except ProviderError as error:
            call.charged = False
            raise Unavailable(error.message, next_step=error.next_step) from error
        now = asyncio.get_running_loop().time
        deadline = now() + spec.timeout_s
        size = 0
        limit = asyncio.timeout_at(min(deadline, now() + spec.connect_timeout_s + spec.idle_timeout_s))
        try:
            async with limit:
                async with aclosing(_replies(model, call.messages, arguments)) as parts:
                    async for chunk in parts:
                        limit.reschedule(min(deadline, now() + spec.idle_timeout_s))
                        call.chunks.append(chunk)
                        text = str(chunk.text)
                        size += len(text) + sum(len(part["args"] or "") for part in chunk.tool_call_chunks)
                        if size > MAX_REPLY_CHARACTERS:
                            raise ModelCallFailed(_too_long(spec))
                        if text and call.on_delta is not None:
                            call.on_delta(text)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise _VendorError(error) from error
        if not _is_complete(call.chunks):
            raise ModelCallFailed(_broken_off(spec))

    def _wait_again(self, call: _Call, error: BaseException) -> float | None:
        """Seconds until a call that was charged for is tried with a new reservation; None: it has failed."""
        if not isinstance(error, ModelCallFailed) or not call.charged:
            return None
        return self._retry.wait(error.failure, call.tries)

    async def _settle(
        self, reservation: ledger.Reservation, reply: ModelReply, cost: Decimal, on_settle: OnSettle | None
    ) -> None:
        async def together() -> None:
            async with self._database.transaction() as connection:
                await ledger.settle(connection, reservation, reply.usage, cost, state="settled")
                if on_settle is not None:
                    await on_settle(connection, reply)

        if on_settle is None:
            await uninterrupted(self._settle_alone(reservation, reply.usage, cost, "settled", ""))
            return
        try:
            await uninterrupted(together())
        except BaseException:
            # The caller's rows are refused (another worker has the session); the money is spent nevertheless. Does
            # nothing where the transaction was committed and only the waiting was cancelled.
            await uninterrupted(self._settle_alone(reservation, reply.usage, cost, "settled", ""))
            raise

    async def _settle_failed(self, call: _Call, reservation: ledger.Reservation, error: BaseException) -> None:
        # Cancelled before a token came, it counts as well: the endpoint is at work, and charges for what it has read.
        usage, cost = self._usage(call, complete=False) if call.charged else (Usage(), Decimal(0))
        text = f"{type(error).__name__}: {error}"
        await uninterrupted(self._settle_alone(reservation, usage, cost, "failed", text))

    async def _settle_alone(
        self, reservation: ledger.Reservation, usage: Usage, cost: Decimal, state: str, error: str
    ) -> None:
        async with self._database.pool.connection() as connection:
            await ledger.settle(connection, reservation, usage, cost, state=state, error=error)

    def _usage(self, call: _Call, *, complete: bool) -> tuple[Usage, Decimal]:
        """What the call took so far: as the vendor says, or else as we count (closely, if it is complete)."""
        spec = call.spec
        reported = [chunk.usage_metadata for chunk in call.chunks if chunk.usage_metadata is not None]
        read = max((max(0, usage["input_tokens"]) for usage in reported), default=0)
        written = max((max(0, usage["output_tokens"]) for usage in reported), default=0)
        details = [usage.get("input_token_details") or {} for usage in reported]
        cached = min(read, max((max(0, detail.get("cache_read") or 0) for detail in details), default=0))
        estimated = read + written == 0
        if estimated:
            text = "".join(chunk.text for chunk in call.chunks)
            parts = [dict(part) for chunk in call.chunks for part in chunk.tool_call_chunks]
            if complete:
                read = tokens_close(call.messages, call.tools_json, model=spec.model)
                written = reply_tokens(text, parts, model=spec.model)
            else:
                read = tokens_rough(call.messages, call.tools_json)
                written = reply_tokens_rough(text, parts) if call.chunks else 0
        cost = price_actual(
            provider=spec.provider,
            model=spec.model,
            base_url=spec.base_url,
            input_tokens=read,
            output_tokens=written,
            cached_tokens=cached,
        )
        usage = Usage(
            input_tokens=read,
            output_tokens=written,
            cached_tokens=cached,
            cost_usd=float(cost or 0),
            estimated=estimated,
            priced=cost is not None,
        )
        return usage, cost or Decimal(0)

    def _demand(self, call: _Call, *, scope_id: uuid.UUID, key: str, role: str) -> ledger.Demand:
        spec = call.spec

        def price(read: int, written: int) -> Decimal | None:
            return price_ceiling(
                provider=spec.provider,
                model=spec.model,
                base_url=spec.base_url,
                input_tokens=read,
                output_tokens=written,
            )

        return ledger.Demand(
            scope_id=scope_id,
            key=key,
            role=role,
            provider=spec.provider,
            model=spec.model,
            output_tokens=spec.max_output_tokens,
            input_ceiling=lambda: tokens_ceiling(call.messages, call.tools_json),
            input_close=lambda: tokens_close(call.messages, call.tools_json, model=spec.model),
            price=price,
        )

    def _tools_of(self, tools: Tools) -> tuple[tuple[dict[str, Any], ...], str]:
        """The tools as the model reads them; converting them costs milliseconds, so sets are remembered."""
        key = tuple(map(id, tools))
        known = self._tools.get(key)
        if known is None:
            converted = tuple(convert_to_openai_tool(tool) for tool in tools)
            # The tools are kept with the result, so that no other object can get their ids.
            known = (tuple(tools), converted, json.dumps(converted) if converted else "")
            _remember(self._tools, key, known)
        return known[1], known[2]

    def _model(self, spec: ModelSpec, tools: Tools) -> Runnable[Any, Any]:
        key = (spec, tuple(map(id, tools)))
        known = self._bound.get(key)
        if known is None:
            model = self._models.get(spec)
            if model is None:
                model = self._models[spec] = get_chat_model(spec)
            bound = model.bind_tools(list(self._tools_of(tools)[0])) if tools else model
            known = (tuple(tools), bound)
            _remember(self._bound, key, known)
        return known[1]


class _VendorError(Exception):
    """An exception that came out of a vendor's library, and not out of code of ours."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def _replies(
    model: Runnable[Any, Any], messages: Sequence[BaseMessage], arguments: dict[str, Any]
) -> AsyncGenerator[AIMessageChunk, None]:
    """The parts of a reply as the vendor's library yields them; a whole message is one part."""
    stream = aiter(model.astream(list(messages), **arguments))
    try:
        while True:
            try:
                message = await anext(stream)
            except StopAsyncIteration:
                return
            except Exception as error:
                raise _VendorError(error) from error
            yield message if isinstance(message, AIMessageChunk) else as_chunk(message)
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= _CACHE_SIZE:
        del cache[next(iter(cache))]
    cache[key] = value


def _is_complete(chunks: Sequence[AIMessageChunk]) -> bool:
    """Whether the reply came to its end. Every vendor says why it stopped, or at least what it took."""
    return any(chunk.response_metadata.get("finish_reason") or chunk.usage_metadata for chunk in chunks)


def _broken_off(spec: ModelSpec) -> CallFailure:
    return CallFailure(
        kind="bad_response",
        message=f"the reply of {spec.name}{_at(spec)} broke off before its end",
        next_step="Try again; if it stays so, look into the logs of the endpoint.",
        retryable=True,
        charged=True,
    )


def _too_long(spec: ModelSpec) -> CallFailure:
    return CallFailure(
        kind="bad_response",
        message=f"{spec.name}{_at(spec)} sends a reply without end; it was cut off after "
        f"{MAX_REPLY_CHARACTERS} characters",
        next_step="Choose another model.",
        charged=True,
    )


def _at(spec: ModelSpec) -> str:
    return f" at {spec.base_url}" if spec.base_url else ""

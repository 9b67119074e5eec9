"""Embedding by providers, paid for as calls of models are: reserve the worst case, call, settle.

Whoever embeds is not in an event loop (a request, a job), so this one has a loop and a thread of its own, with the
ledger, the rates and the connections of all who embed in this process.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from apps.core.database import AsyncDatabase
from integrations.embedders.errors import EmbedError
from integrations.llm_providers.prices import price_actual
from integrations.llm_providers.types import CallFailure, ModelSpec

from . import ledger
from .provider_rates import ProviderRates
from .retry import RetryPolicy
from .rooms import price_of
from .services import lost_calls_expire
from .types import Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from integrations.embedders.endpoint import EmbedEndpoint

T = TypeVar("T")

#: What calls of embedders are to the ledger.
ROLE = "embedder"
#: A call that nobody has settled by then is of a process that died.
LOST_AFTER = timedelta(minutes=15)
#: A text that is too long for a model is cut in half until it fits, but not to less than this.
SHORTEST_CUT = 400
_PER_TEXT = 8
#: Models that read less than this, in characters, are not found out.
_LEAST_LONG = 1_500
_CLOSE_SECONDS = 10.0


@dataclass(frozen=True)
class EmbedCall:
    """What one endpoint is asked for, and who pays."""

    scope_id: uuid.UUID
    spec: ModelSpec
    kind: Literal["document", "query"]
    #: The length that vectors have to have; None: whatever the model makes.
    dimension: int | None
    #: The model is asked for that length.
    asked: bool = False
    #: Seconds for one try, and for all of them with the waits between.
    timeout_s: float = 60.0
    deadline_s: float = 900.0


def embedding_calls_expire() -> int:
    """Count as spent what is held for calls of embedders whose process died, and say how many those were."""
    return lost_calls_expire(role=ROLE, after=LOST_AFTER)


class EmbeddingGateway:
    """Calls embedders within budgets, from any thread. Close it with the process."""

    def __init__(self, *, retry: RetryPolicy | None = None) -> None:
        self._retry = retry or RetryPolicy()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedding", daemon=True)
        self._thread.start()
        self._rates: ProviderRates | None = None
        self._database: AsyncDatabase | None = None
        self._endpoints: dict[tuple[ModelSpec, float], EmbedEndpoint] = {}
        #: What was taken of a text that was refused whole, in characters.
        self._longest: dict[ModelSpec, int] = {}
        self._opening = asyncio.Lock()

    def embed(self, call: EmbedCall, texts: Sequence[str], *, retry: RetryPolicy | None = None) -> NDArray[np.float32]:
        """One row a text. What is too long is cut.

        Raises :class:`EmbedError`, :class:`BudgetExceeded` before anything is sent, and ModelCallFailed where the
        operator's own rate has no turn for it.
        """
        return self._run(self._embed_in_time(call, list(texts), retry or self._retry))

    def close(self) -> None:
        atexit.unregister(self.close)
        if self._loop.is_running():
            try:
                self._run(self._close(), timeout=_CLOSE_SECONDS)
            except TimeoutError:
                pass
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_SECONDS)

    def _run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    async def _close(self) -> None:
        for endpoint in self._endpoints.values():
            await endpoint.close()
        if self._rates is not None:
            await self._rates.close()
        if self._database is not None:
            await self._database.close()

    async def _opened(self) -> tuple[AsyncDatabase, ProviderRates]:
        async with self._opening:
            if self._database is None or self._rates is None:
                database = AsyncDatabase(max_connections=4, max_threads=1)
                await database.open()
                self._rates = ProviderRates(max_cooldown_s=self._retry.max_retry_after_s)
                self._database = database
        return self._database, self._rates

    async def _embed_in_time(self, call: EmbedCall, texts: list[str], retry: RetryPolicy) -> NDArray[np.float32]:
        try:
            async with asyncio.timeout(call.deadline_s):
                return await self._embed(call, texts, retry)
        except TimeoutError as error:
            raise EmbedError(
                f"{call.spec.name} at {call.spec.base_url} made no vectors within {call.deadline_s:.0f} s",
                kind="down",
                next_step="Try again later.",
                retryable=True,
            ) from error

    async def _embed(self, call: EmbedCall, texts: list[str], retry: RetryPolicy) -> NDArray[np.float32]:
        import numpy as np

        longest = self._longest.get(call.spec)
        if longest is not None:
            texts = [text[:longest] for text in texts]
        try:
            return await self._call(call, texts, retry)
        except EmbedError as error:
            if error.kind != "too_long":
                raise
            if len(texts) > 1:
                middle = len(texts) // 2
                halves = [await self._embed(call, part, retry) for part in (texts[:middle], texts[middle:])]
                return np.concatenate(halves)
            shorter = len(texts[0]) // 2
            if shorter < SHORTEST_CUT:
                raise
            vectors = await self._embed(call, [texts[0][:shorter]], retry)
            # So that the next ones aren't refused as well; a text that is denser than others is no measure for them.
            self._longest[call.spec] = max(self._longest.get(call.spec, _LEAST_LONG), shorter)
            return vectors

    async def _call(self, call: EmbedCall, texts: Sequence[str], retry: RetryPolicy) -> NDArray[np.float32]:
        database, rates = await self._opened()
        endpoint = self._endpoint(call)
        rough = _tokens_ceiling(texts) // 3
        tries = 0
        while True:
            # Before anything is held: waiting for one's turn must not keep others from spending.
            admission = await rates.admit(call.spec, tokens=lambda: rough)
            reservation = await _reserve(database, _demand(call, texts))
            tries += 1
            try:
                answer = await endpoint.embed(texts, kind=call.kind, dimension=call.dimension, asked=call.asked)
            except BaseException as error:
                # Cancelled (its time was up), it counts as well: the endpoint is at work, and charges for that.
                charged = error.charged if isinstance(error, EmbedError) else isinstance(error, asyncio.CancelledError)
                usage, cost = _usage(call.spec, rough if charged else 0, estimated=charged)
                await _settle(database, reservation, usage, cost, "failed", str(error))
                if not isinstance(error, EmbedError):
                    raise
                failure = _failure(error)
                # Tried again as long as a failure costs nothing.
                wait = None if charged else retry.wait(failure, tries)
                await rates.cool(call.spec, failure, wait)
                if wait is None:
                    raise
                await asyncio.sleep(wait)
                continue
            usage, cost = _usage(call.spec, answer.tokens or rough, estimated=answer.tokens is None)
            await _settle(database, reservation, usage, cost, "settled", "")
            await rates.settle(call.spec, admission, usage)
            return answer.vectors

    def _endpoint(self, call: EmbedCall) -> EmbedEndpoint:
        # The HTTP library takes a while to load, and most processes call no provider's embedder.
        from integrations.embedders.endpoint import EmbedEndpoint

        key = (call.spec, call.timeout_s)
        if key not in self._endpoints:
            self._endpoints[key] = EmbedEndpoint(call.spec, timeout_s=call.timeout_s)
        return self._endpoints[key]


_gateways: dict[int, EmbeddingGateway] = {}
_gateways_lock = threading.Lock()


def embedding_gateway() -> EmbeddingGateway:
    """The process's own."""
    with _gateways_lock:
        gateway = _gateways.get(os.getpid())
        if gateway is None:
            gateway = _gateways[os.getpid()] = EmbeddingGateway()
            atexit.register(gateway.close)
        return gateway


def embedding_gateway_close() -> None:
    """Close it, if there is one; the next call makes another."""
    with _gateways_lock:
        gateway = _gateways.pop(os.getpid(), None)
    if gateway is not None:
        gateway.close()


async def _reserve(database: AsyncDatabase, demand: ledger.Demand) -> ledger.Reservation:
    async def give_back(reservation: ledger.Reservation) -> None:
        await _settle(database, reservation, Usage(), Decimal(0), "failed", "cancelled")

    return await ledger.reserve_or_return(database, demand, give_back)


async def _settle(
    database: AsyncDatabase, reservation: ledger.Reservation, usage: Usage, cost: Decimal, state: str, error: str
) -> None:
    async def write(again: bool) -> None:
        # A call that is settled already stays as it is, so that it doesn't matter whether the commit came through.
        async with database.transaction() as connection:
            await ledger.settle(connection, reservation, usage, cost, state=state, error=error)

    await database.keep(write)


def _demand(call: EmbedCall, texts: Sequence[str]) -> ledger.Demand:
    spec = call.spec
    return ledger.Demand(
        scope_id=call.scope_id,
        key=f"{ROLE}:{uuid.uuid4()}",
        role=ROLE,
        provider=spec.provider,
        model=spec.model,
        output_tokens=0,
        input_ceiling=lambda: _tokens_ceiling(texts),
        # No vocabulary makes more of text or code than one token of two bytes, over a whole batch.
        input_close=lambda: _tokens_ceiling(texts) // 2,
        price=price_of(spec),
    )


def _tokens_ceiling(texts: Sequence[str]) -> int:
    return sum(len(text.encode(errors="replace")) + _PER_TEXT for text in texts)


def _usage(spec: ModelSpec, tokens: int, *, estimated: bool) -> tuple[Usage, Decimal]:
    cost = price_actual(
        provider=spec.provider, model=spec.model, base_url=spec.base_url, input_tokens=tokens, output_tokens=0
    )
    usage = Usage(input_tokens=tokens, cost_usd=float(cost or 0), estimated=estimated, priced=cost is not None)
    return usage, cost or Decimal(0)


def _failure(error: EmbedError) -> CallFailure:
    """The same as the ledger's neighbours (rates, retries) know it."""
    return CallFailure(
        kind="rate_limited" if error.kind == "rate_limited" else "overloaded",
        message=error.message,
        next_step=error.next_step,
        retryable=error.retryable,
        retry_after=error.retry_after,
    )

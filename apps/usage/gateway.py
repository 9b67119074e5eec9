"""The one way to call a model: reserve the worst case, call, settle.

A call costs one statement before and one after it; the second runs in the caller's transaction, together with the rows
that keep the reply. What a process that died had reserved counts as spent, since the vendor may have charged for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from apps.core.cancellation import uninterrupted
from apps.core.database import AsyncDatabase, Connection
from apps.core.kill_points import kill_point
from integrations.llm_providers import adapter_of, get_chat_model
from integrations.llm_providers.blocks import origin_of
from integrations.llm_providers.errors import ProviderError
from integrations.llm_providers.refusals import refusal_reason, refused_failure
from integrations.llm_providers.types import CallFailure, ModelSpec, Quirk

from . import ledger
from .errors import ModelCallFailed, provider_error_translate
from .metering import demand_of, usage_metadata_of, usage_of
from .provider_rates import Admission, ProviderRates
from .reply import as_chunk, is_empty, message_of, message_out_of_envelope
from .request import ModelRequest, quirk_tell, request_for
from .retry import RetryPolicy, failure_of_all, next_model
from .types import ModelReply, Usage

__all__ = ["ModelGateway", "RetryPolicy"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Tools = Sequence[dict[str, Any] | BaseTool]
OnDelta = Callable[[str], None]
OnSettle = Callable[[Connection, ModelReply], Awaitable[None]]

#: Sets of tools, and models, that one gateway remembers.
_CACHE_SIZE = 64
#: An endpoint that sends more than this in one reply is cut off.
MAX_REPLY_CHARACTERS = 8_000_000
#: What a call may take is held for so long between two tries: longer, it would keep others from spending.
HELD_SECONDS = 1.0
#: Said to a model that has answered with nothing; kept nowhere.
NUDGE = "Your answer was empty. Go on: call a tool, or say what you have to say."


@dataclass
class _Call:
    """One call on its way through the gateway, to one model."""

    messages: Sequence[BaseMessage]
    tools: Tools
    on_delta: OnDelta | None
    #: Names the session to vendors that keep what they have read.
    session: str
    request: ModelRequest
    tries: int = 0
    #: The provider may be asked for the next try.
    admission: Admission | None = None
    #: What has arrived of the present try.
    chunks: list[AIMessageChunk] = field(default_factory=list)
    #: The vendor has the request and may charge for it, even if nothing has arrived.
    charged: bool = False
    #: It was told that it has answered nothing.
    is_nudged: bool = False

    @property
    def spec(self) -> ModelSpec:
        return self.request.spec


class ModelGateway:
    """Calls models within budgets. Belongs to one event loop, as its database does; close it with it."""

    def __init__(self, *, database: AsyncDatabase, retry: RetryPolicy | None = None) -> None:
        self._database = database
        self._retry = retry or RetryPolicy()
        self._rates = ProviderRates(max_cooldown_s=self._retry.max_retry_after_s)
        self._models: dict[ModelSpec, BaseChatModel] = {}
        self._loaded: set[str] = set()
        self._bound: dict[tuple[ModelSpec, tuple[int, ...]], tuple[Tools, Runnable[Any, Any]]] = {}
        self._tools: dict[tuple[int, ...], tuple[Tools, tuple[dict[str, Any], ...], str]] = {}
        # What endpoints turned out not to understand, where leaving it out has helped.
        self._quirks: dict[ModelSpec, frozenset[Quirk]] = {}

    async def close(self) -> None:
        """Close the connections to the vendors."""
        models, self._models = self._models, {}
        self._bound.clear()
        for spec, model in models.items():
            await adapter_of(spec).close(model)
        await self._rates.close()

    async def models_load(self, specs: Sequence[ModelSpec]) -> None:
        """Load the vendors' libraries in a thread: the first call would hold up all others for seconds."""
        new = tuple(spec for spec in specs if spec.protocol not in self._loaded)
        if new:
            await self._database.run_in_thread(_adapters_load, new)
            self._loaded.update(spec.protocol for spec in new)

    async def call(
        self,
        *,
        scope_id: uuid.UUID,
        key: str,
        role: str,
        spec: ModelSpec,
        fallbacks: Sequence[ModelSpec] = (),
        messages: Sequence[BaseMessage],
        tools: Tools = (),
        on_delta: OnDelta | None = None,
        on_settle: OnSettle | None = None,
    ) -> ModelReply:
        """The model's reply, paid for from the scope's budget.

        ``key`` names the call within the scope: a second call of the same key means that the first one's process is
        gone, and what that had reserved is counted as spent. ``on_delta`` gets text as it arrives (a try that breaks
        off starts again from the beginning). ``on_settle`` runs in the transaction that settles; if it raises, the
        spending is kept all the same, and its error goes on. It runs again where the database was away meanwhile, so it
        changes nothing but rows.

        ``fallbacks`` are asked one after the other where the model does not answer and another can help; each has a
        reservation and a row of its own, and the reply says which one it is from.

        Raises :class:`BudgetExceeded` before anything is sent; :class:`ModelCallFailed` after the tries that make
        sense. A call that is cancelled settles first. What fails before a token has come costs nothing, unless the
        endpoint took the request and then fell silent.
        """
        failures: list[tuple[ModelSpec, ModelCallFailed]] = []
        others = list(fallbacks)
        while True:
            call = self._call_of(spec, messages, tools, on_delta, session=str(scope_id))
            try:
                return await self._call(call, spec, on_settle, scope_id=scope_id, key=key, role=role)
            except ModelCallFailed as error:
                failures.append((spec, error))
                place = next_model(error.failure, spec, others)
                if place is None:
                    raise failure_of_all(failures) from error
                logger.warning("model %s: %s; asking %s", spec.name, error.message, others[place].name)
                spec, others = others[place], others[place + 1 :]

    def _call_of(
        self,
        spec: ModelSpec,
        messages: Sequence[BaseMessage],
        tools: Tools,
        on_delta: OnDelta | None,
        *,
        session: str,
    ) -> _Call:
        known = replace(spec, quirks=spec.quirks | self._quirks.get(spec, frozenset()))
        request = request_for(known, messages, *self._tools_of(tools))
        return _Call(messages=messages, tools=tools, on_delta=on_delta, session=session, request=request)

    async def _call(
        self,
        call: _Call,
        asked: ModelSpec,
        on_settle: OnSettle | None,
        *,
        scope_id: uuid.UUID,
        key: str,
        role: str,
    ) -> ModelReply:
        """The reply of one model, tried as often as makes sense."""
        while True:
            # Before anything is held: waiting for one's turn must not keep others from spending.
            call.admission = await self._admit(call)
            reservation = await self._reserve(demand_of(call.request, scope_id=scope_id, key=key, role=role))
            kill_point("model.reserved")
            try:
                reply, cost = await self._answer(call, asked, reservation)
            except BaseException as error:
                await self._settle_failed(call, reservation, error)
                wait = self._wait_again(call, error)
                if wait is None:
                    raise
                # Nothing is held meanwhile, and what the broken try took is counted.
                await asyncio.sleep(wait)
                continue
            kill_point("model.replied")
            await self._settle(reservation, reply, cost, on_settle)
            kill_point("model.settled")
            return reply

    async def _reserve(self, demand: ledger.Demand) -> ledger.Reservation:
        async def give_back(reservation: ledger.Reservation) -> None:
            await uninterrupted(self._settle_alone(reservation, Usage(), Decimal(0), "failed", "cancelled"))

        return await ledger.reserve_or_return(self._database, demand, give_back)

    async def _answer(
        self, call: _Call, asked: ModelSpec, reservation: ledger.Reservation
    ) -> tuple[ModelReply, Decimal]:
        """The reply and its price, tried again as long as a failure costs nothing."""
        while True:
            call.chunks, call.charged = [], False
            admission = call.admission or await self._admit(call)
            call.admission, call.charged = None, True
            call.tries += 1
            try:
                await self._stream(call, reservation)
            except (_VendorError, ModelCallFailed) as error:
                cause = error.cause if isinstance(error, _VendorError) else error
                failure = (
                    cause.failure
                    if isinstance(cause, ModelCallFailed)
                    else adapter_of(call.spec).failure(call.spec, cause)
                )
                call.charged = bool(call.chunks)
                if failure is None:
                    raise cause from None
                if failure.quirk is not None and not call.chunks:
                    # Each of them can come up once only.
                    self._ask_otherwise(call, failure.quirk, failure.message)
                    call.tries -= 1
                    if call.request.ceiling() > reservation.input_tokens:
                        # What is asked now is more than what was reserved.
                        raise _AskedOtherwise from cause
                    continue
                call.charged = call.charged or failure.charged
                wait = self._retry.wait(failure, call.tries)
                await self._rates.cool(call.spec, failure, wait)
                if wait is None or call.charged:
                    raise ModelCallFailed(failure) from cause
                if wait > HELD_SECONDS:
                    raise _AskedLater(failure.message, wait) from cause
                logger.info("model %s: %s; again in %.1f s", call.spec.name, failure.message, wait)
                await asyncio.sleep(wait)
                continue
            if call.spec.quirks != asked.quirks:
                self._quirks[asked] = call.spec.quirks
            usage, cost = usage_of(call.request, call.chunks, complete=True)
            await self._rates.settle(call.spec, admission, usage)
            message = message_of(call.chunks, seen=call.messages, origin=origin_of(asked))
            if call.request.is_enveloped:
                message = message_out_of_envelope(message)
                if call.on_delta is not None and message.text:
                    call.on_delta(str(message.text))
            if is_empty(message):
                self._nudge(call)
                raise ModelCallFailed(_empty(call.spec))
            message.usage_metadata = usage_metadata_of(usage)
            return ModelReply(message=message, usage=usage, spec=call.spec), cost

    async def _admit(self, call: _Call) -> Admission:
        return await self._rates.admit(call.spec, tokens=call.request.rough)

    def _ask_otherwise(self, call: _Call, quirk: Quirk, said: str) -> None:
        quirk_tell(call.spec, quirk, said)
        spec = replace(call.spec, quirks=call.spec.quirks | {quirk})
        call.request = request_for(spec, call.messages, *self._tools_of(call.tools))

    def _nudge(self, call: _Call) -> None:
        """Models that answered nothing to a conversation often do so again, unless there is something to answer."""
        if not call.is_nudged:
            call.is_nudged = True
            call.messages = [*call.messages, HumanMessage(NUDGE)]
            call.request = request_for(call.spec, call.messages, *self._tools_of(call.tools))

    async def _stream(self, call: _Call, reservation: ledger.Reservation) -> None:
        """One try: fills ``call.chunks``. Raises :class:`_VendorError`, or ModelCallFailed for an incomplete reply."""
        spec, request = call.spec, call.request
        on_delta = None if request.is_enveloped else call.on_delta
        arguments = adapter_of(spec).call_arguments(
            spec,
            output_tokens=min(reservation.output_tokens, spec.max_output_tokens),
            session=call.session,
            reply_schema=request.reply_schema,
        )
        try:
            model = self._model(spec, () if request.is_enveloped else call.tools)
        except ProviderError as error:
            call.charged = False
            raise provider_error_translate(error) from error
        now = asyncio.get_running_loop().time
        deadline = now() + spec.timeout_s
        size = 0
        limit = asyncio.timeout_at(min(deadline, now() + spec.connect_timeout_s + spec.idle_timeout_s))
        try:
            async with limit:
                async with aclosing(_replies(model, request.messages, arguments)) as parts:
                    async for chunk in parts:
                        limit.reschedule(min(deadline, now() + spec.idle_timeout_s))
                        call.chunks.append(chunk)
                        text = str(chunk.text)
                        size += len(text) + sum(1 + len(part["args"] or "") for part in chunk.tool_call_chunks)
                        if size > MAX_REPLY_CHARACTERS:
                            raise ModelCallFailed(_too_long(spec))
                        if text and on_delta is not None:
                            on_delta(text)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise _VendorError(error) from error
        if size == 0 and (reason := refusal_reason(chunk.response_metadata for chunk in call.chunks)):
            raise ModelCallFailed(refused_failure(spec, reason))
        if not adapter_of(spec).is_complete(call.chunks):
            raise ModelCallFailed(_broken_off(spec))

    def _wait_again(self, call: _Call, error: BaseException) -> float | None:
        """Seconds until the call is tried with a new reservation; None: it has failed."""
        if isinstance(error, _AskedOtherwise):
            return 0.0
        if isinstance(error, _AskedLater):
            return error.wait
        if not isinstance(error, ModelCallFailed) or not call.charged:
            return None
        return self._retry.wait(error.failure, call.tries)

    async def _settle(
        self, reservation: ledger.Reservation, reply: ModelReply, cost: Decimal, on_settle: OnSettle | None
    ) -> None:
        async def together(again: bool) -> None:
            async with self._database.transaction() as connection:
                # The connection may have broken after the commit. Nobody else settles a call with its reply.
                if again and await ledger.is_settled(connection, reservation):
                    return

                async def store() -> None:
                    assert on_settle is not None
                    await on_settle(connection, reply)

                await ledger.settle(connection, reservation, reply.usage, cost, state="settled", meanwhile=store)

        if on_settle is None:
            await uninterrupted(self._settle_alone(reservation, reply.usage, cost, "settled", ""))
            return
        try:
            # What the model was paid for is not asked for again because the database was away for a moment.
            await self._database.keep(together)
        except BaseException:
            # The caller's rows are refused (another worker has the session); the money is spent nevertheless. Does
            # nothing where the transaction was committed and only the waiting was cancelled.
            await uninterrupted(self._settle_alone(reservation, reply.usage, cost, "settled", ""))
            raise

    async def _settle_failed(self, call: _Call, reservation: ledger.Reservation, error: BaseException) -> None:
        # Cancelled before a token came, it counts as well: the endpoint is at work, and charges for what it has read.
        charged = call.charged and not isinstance(error, _AskedOtherwise)
        usage, cost = usage_of(call.request, call.chunks, complete=False) if charged else (Usage(), Decimal(0))
        text = f"{type(error).__name__}: {error}"
        await uninterrupted(self._settle_alone(reservation, usage, cost, "failed", text))

    async def _settle_alone(
        self, reservation: ledger.Reservation, usage: Usage, cost: Decimal, state: str, error: str
    ) -> None:
        async with self._database.transaction() as connection:
            await ledger.settle(connection, reservation, usage, cost, state=state, error=error)

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
            bound = adapter_of(spec).bind(model, spec, self._tools_of(tools)[0])
            known = (tuple(tools), bound)
            _remember(self._bound, key, known)
        return known[1]


class _AskedOtherwise(Exception):
    """The call is made in another form, which needs a larger reservation."""


class _AskedLater(Exception):
    """The endpoint is asked again after so many seconds, for which nothing is held."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


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


def _adapters_load(specs: Sequence[ModelSpec]) -> None:
    for spec in specs:
        # What cannot be called is told when it is called.
        with suppress(ProviderError):
            adapter_of(spec)


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= _CACHE_SIZE:
        del cache[next(iter(cache))]
    cache[key] = value


def _broken_off(spec: ModelSpec) -> CallFailure:
    return CallFailure(
        kind="bad_response",
        message=f"the reply of {spec.name}{_at(spec)} broke off before its end",
        next_step="Try again; if it stays so, look into the logs of the endpoint.",
        retryable=True,
        charged=True,
    )


def _empty(spec: ModelSpec) -> CallFailure:
    return CallFailure(
        kind="empty_answer",
        message=f"{spec.name}{_at(spec)} answers with nothing: no words, and no call of a tool",
        next_step="Try again; if it stays so, choose another model.",
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

"""What a call took, as the vendor says or as we count, and the most that one can take."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from decimal import Decimal

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata

from integrations.llm_providers.prices import price_actual
from integrations.llm_providers.tokens import reply_tokens, reply_tokens_rough

from . import ledger
from .request import ModelRequest
from .rooms import price_of
from .types import Usage

#: Where the details of a vendor's usage name what was written to its cache.
_WRITTEN = ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")


def usage_of(request: ModelRequest, chunks: Sequence[AIMessageChunk], *, complete: bool) -> tuple[Usage, Decimal]:
    """What the call took so far: as the vendor says, or else as we count (closely, if it is complete)."""
    spec = request.spec
    reported = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata is not None]
    # Google's parts say what each has added (so LangChain makes of them); of others, the last and largest is the whole.
    total = sum if spec.protocol == "gemini" else _largest
    read = max(0, total([usage["input_tokens"] for usage in reported]))
    written = max(0, total([usage["output_tokens"] for usage in reported]))
    details = [dict(usage.get("input_token_details") or {}) for usage in reported]
    cached = min(read, max(0, total([_count(detail, "cache_read") for detail in details])))
    kept = min(read - cached, max(0, total([_count(detail, *_WRITTEN) for detail in details])))
    estimated = read + written == 0
    text = _written(chunks)
    if estimated:
        if complete:
            read = request.close()
            calls = sum(bool(part["name"]) for chunk in chunks for part in chunk.tool_call_chunks)
            written = reply_tokens(text, calls=calls, model=spec.model)
        else:
            read = request.rough()
            written = reply_tokens_rough(text) if chunks else 0
    elif read == 0:
        # Some servers count only what they write.
        read, estimated = request.close(), True
    elif not complete and text:
        # What was written by then is not counted yet, where a stream begins with what was read.
        rough = reply_tokens_rough(text)
        written, estimated = max(written, rough), estimated or rough > written
    cost = price_actual(
        provider=spec.provider,
        model=spec.model,
        base_url=spec.base_url,
        input_tokens=read,
        output_tokens=written,
        cached_tokens=cached,
        cache_write_tokens=kept,
    )
    usage = Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=cached,
        cache_write_tokens=kept,
        cost_usd=float(cost or 0),
        estimated=estimated,
        priced=cost is not None,
    )
    return usage, cost or Decimal(0)


def usage_metadata_of(usage: Usage) -> UsageMetadata:
    """The same in LangChain's form."""
    return UsageMetadata(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
    )


def demand_of(request: ModelRequest, *, scope_id: uuid.UUID, key: str, role: str) -> ledger.Demand:
    """The most that the call may take."""
    spec = request.spec
    return ledger.Demand(
        scope_id=scope_id,
        key=key,
        role=role,
        provider=spec.provider,
        model=spec.model,
        output_tokens=spec.max_output_tokens,
        input_ceiling=request.ceiling,
        input_close=request.close,
        price=price_of(spec),
    )


def _written(chunks: Sequence[AIMessageChunk]) -> str:
    """What was written, names and arguments of calls included; however finely it came."""
    written: list[str] = []
    for chunk in chunks:
        written.append(str(chunk.text))
        for part in chunk.tool_call_chunks:
            written += [part["name"] or "", part["args"] or ""]
    return "".join(written)


def _largest(values: Sequence[int]) -> int:
    return max(values, default=0)


def _count(detail: dict[str, object], *names: str) -> int:
    found = [detail.get(name) for name in names]
    return sum(value for value in found if isinstance(value, int))

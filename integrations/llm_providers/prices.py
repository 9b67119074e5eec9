"""What a call costs, by the price list that comes with ``genai-prices``; nothing is fetched."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

#: Where a provider's name here differs from the price list's.
_LIST_NAMES = {"gemini": "google", "openai-responses": "openai"}
FREE = Decimal(0)


def price_actual(
    *,
    provider: str,
    model: str,
    base_url: str = "",
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int = 0,
    cache_write_tokens: int = 0,
) -> Decimal | None:
    """US dollars for these tokens, or None where no price is known.

    ``input_tokens`` include those that were read from the vendor's cache and those that were written to it.

    A price is looked up by the endpoint's address first and by the provider's name then: a model of a known name behind
    an unknown address counts as the known one, since counting too much keeps a budget and counting nothing doesn't.
    """
    if provider == "scripted":
        return FREE
    cached = min(cached_tokens, input_tokens)
    written = min(cache_write_tokens, input_tokens - cached)
    return _price(
        provider, model, base_url, input_tokens, output_tokens, cache_read_tokens=cached, cache_write_tokens=written
    )


def price_ceiling(
    *, provider: str, model: str, base_url: str = "", input_tokens: int, output_tokens: int
) -> Decimal | None:
    """The most that such a call can cost: writing into the vendor's cache may cost more than plain input."""
    if provider == "scripted":
        return FREE
    plain = _price(provider, model, base_url, input_tokens, output_tokens)
    if plain is None:
        return None
    written = _price(provider, model, base_url, input_tokens, output_tokens, cache_write_tokens=input_tokens)
    return max(plain, written or FREE)


def model_known(provider: str, model: str, base_url: str = "") -> ModelInfo | None:
    """The price list's record of a model, or None."""
    found = _find(provider, model, base_url)
    return found[1] if found is not None else None


def _price(
    provider: str, model: str, base_url: str, input_tokens: int, output_tokens: int, **cache: int
) -> Decimal | None:
    found = _find(provider, model, base_url)
    if found is None:
        return None
    from genai_prices import Usage

    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, **{k: v for k, v in cache.items() if v})
    return found[1].calc_price(usage, found[0]).total_price


@lru_cache(maxsize=256)
def _find(provider: str, model: str, base_url: str) -> tuple[Provider, ModelInfo] | None:
    # 0.2 s of import: not before a price is needed.
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    attempts: list[tuple[str | None, str | None]] = [(_LIST_NAMES.get(provider, provider), None)]
    if base_url:
        attempts.insert(0, (None, base_url))
    for provider_id, url in attempts:
        try:
            return snapshot.find_provider_model(model, None, provider_id, url)
        except LookupError:
            continue
    return None

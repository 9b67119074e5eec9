"""Money and limits come from the price list that is installed; nothing is guessed and nothing is fetched."""

from __future__ import annotations

from decimal import Decimal

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.llm_providers.limits import DEFAULT_CONTEXT_TOKENS, context_limit, output_limit
from integrations.llm_providers.prices import price_actual, price_ceiling


def test_cached_tokens_are_part_of_the_input_and_cheaper() -> None:
    # gpt-4o: 2.50 a million in, 1.25 from the cache, 10 out.
    price = price_actual(provider="openai", model="gpt-4o", input_tokens=1000, output_tokens=100, cached_tokens=400)
    assert price == (600 * Decimal("2.5") + 400 * Decimal("1.25") + 100 * Decimal(10)) / 1_000_000


def test_more_cached_tokens_than_input_is_taken_as_all_of_it() -> None:
    price = price_actual(provider="openai", model="gpt-4o", input_tokens=10, output_tokens=0, cached_tokens=99)
    assert price == 10 * Decimal("1.25") / 1_000_000


def test_a_model_that_the_list_does_not_know_has_no_price() -> None:
    assert price_actual(provider="openai", model="no-such-model", input_tokens=1, output_tokens=1) is None
    assert price_ceiling(provider="openai", model="no-such-model", input_tokens=1, output_tokens=1) is None
    assert price_ceiling(provider="nobody", model="gpt-4o", input_tokens=1, output_tokens=1) is None


def test_a_known_name_behind_an_unknown_address_counts_as_the_known_model() -> None:
    asked = {"provider": "openai", "model": "gpt-4o", "input_tokens": 1000, "output_tokens": 1}
    assert price_actual(**asked, base_url="http://127.0.0.1:9/v1") == price_actual(**asked)  # type: ignore[arg-type]


def test_a_recording_costs_nothing() -> None:
    assert price_actual(provider="scripted", model="x", input_tokens=10**9, output_tokens=10**9) == 0


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "gpt-5-mini"), ("openai", "gpt-5.6-sol"), ("anthropic", "claude-sonnet-4-5")]
)
@hypothesis.settings(deadline=None)
@given(read=st.integers(0, 900_000), written=st.integers(0, 60_000), share=st.floats(0, 1))
def test_no_call_costs_more_than_its_ceiling(provider: str, model: str, read: int, written: int, share: float) -> None:
    ceiling = price_ceiling(provider=provider, model=model, input_tokens=read, output_tokens=written)
    actual = price_actual(
        provider=provider,
        model=model,
        input_tokens=read,
        output_tokens=int(written * share),
        cached_tokens=int(read * share),
    )
    assert ceiling is not None
    assert actual is not None
    assert actual <= ceiling


def test_limits_of_known_and_unknown_models() -> None:
    assert context_limit("openai", "gpt-5-mini") == 400_000
    assert context_limit("openai", "no-such-model") == DEFAULT_CONTEXT_TOKENS
    assert output_limit("gpt-4-turbo") == 4_096
    assert output_limit("gpt-4o-2024-05-13") == 4_096
    assert output_limit("gpt-4.1-mini") == output_limit("gpt-5") == 16_384

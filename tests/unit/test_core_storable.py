"""Whatever a model or a program says can be stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apps.core.storable import json_dump, json_storable, text_storable


@pytest.mark.parametrize("value", ["plain", {"a": [1, 2.5, None, True]}, ["smile \U0001f600", "\\u0000 in letters"]])
def test_what_is_fine_stays_as_it_is(value: Any) -> None:
    assert json_storable(value) == value
    assert json.loads(json_dump(value)) == value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"a\x00": "b\x00"}, {"a\ufffd": "b\ufffd"}),
        (["half \ud83d"], ["half ?"]),
        ([float("nan"), float("inf")], ["nan", "inf"]),
        (({"deep": ("x\x00",)},), [{"deep": ["x\ufffd"]}]),
    ],
)
def test_what_postgres_refuses_is_replaced(value: Any, stored: Any) -> None:
    assert json_storable(value) == stored
    assert json.loads(json_dump(value)) == stored


def test_text_loses_nul_and_half_characters_alone() -> None:
    assert text_storable("a\x00b\ud83dc\n\U0001f600") == "a\ufffdb?c\n\U0001f600"

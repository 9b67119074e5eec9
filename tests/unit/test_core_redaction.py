"""Secrets are found however programs commonly write them, and whatever pieces they come in."""

from __future__ import annotations

import base64
import itertools
import json
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.core.redaction import NOTHING_SECRET, Redactor

CANARY = 'canary/7+"quoted" & ümlaut?='
SECRETS = {
    "TOKEN": CANARY,
    "KEY": "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nZmlyc3Qgc2Vjb25kIHRoaXJk\n-----END KEY-----",
}
REDACTOR = Redactor(SECRETS)

FORMS = {
    "raw": CANARY,
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "base64 within": base64.b64encode(f"x{CANARY}yz".encode()).decode(),
    "base64 at an offset": base64.b64encode(f"ab{CANARY}".encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(CANARY.encode()).decode(),
    "base64 in lines": base64.encodebytes((CANARY * 4).encode()).decode(),
    "in an address": urllib.parse.quote(CANARY, safe=""),
    "in a path": urllib.parse.quote(CANARY),
    "in a form": urllib.parse.quote_plus(CANARY),
    "in small letters": urllib.parse.quote(CANARY, safe="").lower().replace("canary", "canary"),
    "JSON": json.dumps(CANARY),
    "JSON with letters": json.dumps(CANARY, ensure_ascii=False),
    "hexadecimal": CANARY.encode().hex(),
}


def _pieces_of(form: str) -> list[str]:
    """What must not be left: the middle of it, without what the surroundings of Base64 decide."""
    return [form[6:-6]]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_found(form: str) -> None:
    written = FORMS[form]
    redacted = REDACTOR.text(f"before {written} after")
    assert redacted.startswith("before ") and redacted.endswith(" after")
    assert "[secret TOKEN]" in redacted
    assert all(piece not in redacted for piece in _pieces_of(written)), redacted


def test_lines_of_a_key_are_found_by_themselves() -> None:
    line = SECRETS["KEY"].splitlines()[1]
    assert REDACTOR.text(f"1: {line}\n") == "1: [secret KEY]\n"


def test_texts_within_values_are_found() -> None:
    value = {"a": [f"x{CANARY}", 1, None], CANARY: {"b": (CANARY,)}}
    assert REDACTOR.value(value) == {"a": ["x[secret TOKEN]", 1, None], "[secret TOKEN]": {"b": ["[secret TOKEN]"]}}


def test_without_secrets_nothing_is_touched() -> None:
    assert not NOTHING_SECRET and NOTHING_SECRET.text(CANARY) == CANARY
    stream = NOTHING_SECRET.stream()
    assert stream.feed(b"abc") + stream.flush() == b"abc"


def test_a_short_value_is_refused() -> None:
    with pytest.raises(ValueError, match="PIN"):
        Redactor({"PIN": "1234"})


@settings(deadline=None)
@given(
    form=st.sampled_from(sorted(FORMS)),
    before=st.text(alphabet="canry/b64% \n\\", max_size=30),
    after=st.text(alphabet="canry/b64% \n\\", max_size=30),
    cuts=st.lists(st.integers(0, 300), max_size=12),
)
def test_a_stream_in_pieces_is_redacted_as_a_whole_is(form: str, before: str, after: str, cuts: list[int]) -> None:
    data = f"{before}{FORMS[form]}{after}".encode()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    stream = REDACTOR.stream()
    passed = b"".join(stream.feed(data[first:last]) for first, last in itertools.pairwise(places))
    passed += stream.flush()
    assert passed == REDACTOR.data(data)
    assert all(piece.encode() not in passed for piece in _pieces_of(FORMS[form]))


@settings(deadline=None)
@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_a_stream_loses_nothing(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    stream = REDACTOR.stream()
    passed = [stream.feed(data[first:last]) for first, last in itertools.pairwise(places)]
    assert b"".join([*passed, stream.flush()]) == REDACTOR.data(data)


def test_what_is_no_beginning_is_passed_on_at_once() -> None:
    stream = REDACTOR.stream()
    assert stream.feed(b"Listening on it!") == b"Listening on it!"
    assert stream.feed(CANARY.encode()[:10]) == b""
    assert stream.feed(CANARY.encode()[10:]) == b"[secret TOKEN]"


@pytest.mark.timeout(30)
def test_a_value_that_can_be_read_in_many_ways_comes_to_an_end() -> None:
    """To go through all of them would take longer than the universe is old."""
    redactor = Redactor({"ODD": "\\" * 40 + "x"})
    assert redactor.text("\\" * 90 + "y") == "\\" * 90 + "y"
    redactor.split(b"\\" * 60)
    assert redactor.text("\\" * 40 + "x") == redactor.text("\\" * 80 + "x") == "[secret ODD]"


@pytest.mark.timeout(30)
def test_a_key_of_many_lines_is_looked_for_in_a_long_log() -> None:
    redactor = Redactor({"KEY": "\n".join(f"{number:02}{'abcdefgh' * 7}" for number in range(50))})
    log = b"a line of a log, and another one\n" * 20_000
    assert redactor.split(log) == (log, b"")

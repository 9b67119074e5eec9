"""What a question asks for, a class or a function; and what that makes of their scores."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.context.searching.asked import FILE, FORMAT, NEUTRAL, READ, asked_read, asks_for_class, words_placed
from apps.context.searching.fusion import CLASS_ASKED, CLASS_WEIGHT, MODULE_WEIGHT, kind_weights
from training.kinds import KindsRecipe
from training.manifest import LIST, packages_read

pytestmark = pytest.mark.unit

KNOWN = sorted({word for words in asked_read().words.values() for word in words})
QUESTIONS = st.one_of(st.text(max_size=400), st.lists(st.sampled_from(KNOWN), max_size=60).map(" ".join))


@given(QUESTIONS)
def test_it_is_between_none_and_all_and_always_the_same(query: str) -> None:
    told = asks_for_class(query)
    assert 0 <= told <= 1
    assert asks_for_class(query) == told
    # A question from the end of a long text on makes no difference.
    assert asks_for_class(query.ljust(READ) + " base class for") == told


@given(st.lists(st.sampled_from(KNOWN), max_size=20), st.data())
def test_case_makes_no_difference(words: list[str], data: st.DataObject) -> None:
    turned = [data.draw(st.sampled_from([word, word.upper(), word.title()])) for word in words]
    assert asks_for_class(" ".join(turned)) == asks_for_class(" ".join(words))


@pytest.mark.parametrize(
    "query",
    [
        "",
        "  \n",
        "SessionStore",
        "class",
        "Return",
        "base, ",
        "qzx_wvk zzqqx",
        "где хранится сессия",
        "セッション",
        "404",
        "++ -- ::",
        "😀",
    ],
)
def test_one_word_and_words_that_are_not_known_are_neutral(query: str) -> None:
    assert asks_for_class(query) == NEUTRAL


@pytest.mark.parametrize(
    ("of_class", "of_function"),
    [
        ("Base class for fields", "Return the fields of a model"),
        ("A form that validates a password", "Validate the password of a form"),
        ("Represents a connection to the server", "Connect to the server"),
        ("Exception raised when a lookup fails", "Raise an exception when a lookup fails"),
        ("Mixin for views with a list of objects", "Get the list of objects for this view"),
        ("Middleware that compresses responses", "Compress the response"),
    ],
)
def test_what_describes_a_class_is_told_from_what_describes_a_function(of_class: str, of_function: str) -> None:
    assert asks_for_class(of_class) > 0.8 and asks_for_class(of_function) < 0.5


def test_words_have_places() -> None:
    assert list(words_placed("The Base of the parseX")) == [
        ("first", "the"),
        ("second", "base"),
        ("anywhere", "the"),
        ("anywhere", "base"),
        ("anywhere", "of"),
        ("anywhere", "parsex"),
    ]
    assert list(words_placed("one")) == [("first", "one"), ("anywhere", "one")]


@given(QUESTIONS)
def test_classes_count_by_what_is_asked(query: str) -> None:
    kinds = kind_weights(query)
    assert kinds.keys() == {"module", "class"}
    assert kinds["module"] == MODULE_WEIGHT < 1
    assert kinds["class"] == pytest.approx(CLASS_WEIGHT + CLASS_ASKED * asks_for_class(query), abs=1e-3)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "asked.json"
    other.write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(ValueError, match="format"):
        asked_read(other)


def test_the_shipped_file_is_small_and_of_the_list() -> None:
    told = json.loads(FILE.read_text("utf-8"))
    packages = packages_read()
    assert told["made_of"]["list_sha256"] == hashlib.sha256(LIST.read_bytes()).hexdigest()
    assert told["made_of"]["packages"] == sum(each.use == "train" for each in packages)
    assert 0 < sum(map(len, told["words"].values())) <= KindsRecipe.words
    assert FILE.stat().st_size < 40_000
    card = (LIST.parent.parent / "docs" / "reference" / "archon-static.md").read_text()
    assert f"{told['made_of']['questions']:,} questions" in card

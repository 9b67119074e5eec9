"""Reading what a model answers when it is asked for a plan: arguments of ``submit_plan``, or text that holds them.

Some models put their JSON into a fence, or say something around it. That is taken away without asking them again, as
long as it is clear which JSON is meant; what is in it is never mended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.planning.problems import Problem

#: Longer texts aren't read.
TEXT_LENGTH = 4_000_000
#: What can be taken away from around the JSON.
FENCES, PROSE = "fences", "prose"
_FENCE = re.compile(r"^[ \t]*(?:```+|~~~+)[ \t]*[\w+.-]*[ \t]*\r?$", re.MULTILINE)
#: How an object begins, whatever else braces stand for in prose.
_OBJECT = re.compile(r'\{\s*(?:["}]|\Z)')
#: What counts when it is looked where something ends: strings are passed over whole.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|[{}\[\]]', re.DOTALL)
_SCHEMA_HINT = "answer with one JSON object, the arguments of submit_plan, and nothing else"


@dataclass(frozen=True)
class Answer:
    """What was answered: the arguments, or why there are none; ``mended`` names what was taken away around them."""

    arguments: Mapping[str, Any] | None
    mended: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Twice(ValueError):
    """An object has the same member twice."""


def answer_open(answer: object) -> Answer:
    """The arguments that an answer holds. Never raises."""
    if isinstance(answer, str):
        return _text_open(answer)
    if isinstance(answer, Mapping):
        return Answer(answer)
    return _refused("wrong_type", f"the answer is {_kind(answer)}, not an object", _SCHEMA_HINT)


def _text_open(text: str) -> Answer:
    if len(text) > TEXT_LENGTH:
        return _refused("too_large", f"the answer is longer than {TEXT_LENGTH} characters", "plan less at a time")
    try:
        try:
            value = _decode(text.strip().removeprefix("\ufeff"))
        except json.JSONDecodeError as error:
            return _found_open(text, error)
    except _Twice as error:
        return _refused("duplicate_member", str(error), "name each member once")
    except (RecursionError, ValueError) as error:
        # Nested without end, or a number of more digits than are read.
        return _refused("not_json", f"the answer can't be read: {error}"[:300], _SCHEMA_HINT)
    if not isinstance(value, dict):
        return _refused("wrong_type", f"the answer is {_kind(value)}, not an object", _SCHEMA_HINT)
    return Answer(value)


def _found_open(text: str, error: json.JSONDecodeError) -> Answer:
    """The one object that stands in the text, in a fence or within prose."""
    found = list(_objects(text))
    objects = [each for each in found if each.value]
    plans = [each for each in objects if "features" in each.value] or objects
    if len(plans) > 1:
        message = f"the answer has {len(plans)} JSON objects, and one is wanted"
        return _refused("several_plans", message, _SCHEMA_HINT)
    if plans:
        outside = f"{text[: plans[0].start]}\n{text[plans[0].end :]}"
        words = _FENCE.sub("", outside)
        mended = ((FENCES,) if words != outside else ()) + ((PROSE,) if words.strip() else ())
        return Answer(plans[0].value, mended)
    if any(each.is_cut for each in found):
        message = "the answer ends before its JSON does"
        return _refused("truncated_json", message, "plan fewer tasks, or say less in each, so that it fits")
    where = f"line {error.lineno}, column {error.colno}"
    message = f"the answer is no JSON: {error.msg} ({where})" if found else "the answer has no JSON in it"
    return _refused("not_json", message, _SCHEMA_HINT)


@dataclass(frozen=True)
class _Found:
    """What begins as an object does: one (``value``), or none that can be read."""

    start: int
    end: int
    value: dict[str, Any]
    #: The text ends in it.
    is_cut: bool = False


def _objects(text: str) -> Iterator[_Found]:
    """The outermost objects of a text, and what should be some; nothing is looked for within these."""
    position = 0
    while begin := _OBJECT.search(text, position):
        try:
            value, position = _DECODER.raw_decode(text, begin.start())
            yield _Found(begin.start(), position, value)
        except json.JSONDecodeError:
            position, still_open = _depths(text, begin.start())
            yield _Found(begin.start(), position, {}, is_cut=still_open > 0)


def _depths(text: str, start: int) -> tuple[int, int]:
    """Where what begins at ``start`` ends, and how much is still open there."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] in "{[":
            depth += 1
        elif token[0] in "}]":
            depth -= 1
            if depth == 0:
                return token.end(), 0
    return len(text), depth


def _pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Twice(f"an object has the member {twice[:100]!r} twice")
    return made


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def _decode(text: str) -> Any:
    return _DECODER.decode(text)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", tuple: "a list"}
    return kinds.get(type(value), "something else")


def _refused(code: str, message: str, hint: str) -> Answer:
    return Answer(None, problems=(Problem("answer", code, message, hint),))

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
_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[^\n`]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
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
    blocks = list(_FENCE.finditer(text))
    fenced = [(block, value) for block in blocks for value in _whole(block[2])]
    if len(fenced) == 1:
        outside = text[: fenced[0][0].start()] + text[fenced[0][0].end() :]
        # Whatever else is in the text that could be meant makes it unclear.
        if not any(_objects(outside)):
            return Answer(fenced[0][1], (FENCES, PROSE) if outside.strip() else (FENCES,))
    found = [value for _, value in fenced] or list(_objects(text))
    plans = [value for value in found if "features" in value] or found
    if len(plans) > 1:
        message = f"the answer has {len(plans)} JSON objects, and one is wanted"
        return _refused("several_plans", message, _SCHEMA_HINT)
    if len(found) == 1:
        return Answer(found[0], (PROSE,))
    if "{" in text and _is_cut(text[text.index("{") :]):
        message = "the answer ends before its JSON does"
        return _refused("truncated_json", message, "plan fewer tasks, or say less in each, so that it fits")
    where = f"line {error.lineno}, column {error.colno}"
    message = f"the answer is no JSON: {error.msg} ({where})" if "{" in text else "the answer has no JSON in it"
    return _refused("not_json", message, _SCHEMA_HINT)


def _whole(text: str) -> Iterator[dict[str, Any]]:
    try:
        value = _decode(text.strip())
    except json.JSONDecodeError:
        return
    if isinstance(value, dict):
        yield value


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects of a text, but for those without members."""
    position = text.find("{")
    tries = 0
    # What looks like the beginning of one and isn't costs as much as is read of it.
    while position >= 0 and tries < 200:
        tries += 1
        try:
            value, end = _DECODER.raw_decode(text, position)
        except json.JSONDecodeError:
            end = position + 1
        else:
            if isinstance(value, dict) and value:
                yield value
        position = text.find("{", end)


def _is_cut(text: str) -> bool:
    """Whether the text ends within what it has begun: a string, a list or an object."""
    depth, in_string, position = 0, False, 0
    while position < len(text):
        character = text[position]
        if in_string:
            if character == "\\":
                position += 1
            in_string = character != '"'
        elif character == '"':
            in_string = True
        elif character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
            if depth == 0:
                return False
        position += 1
    return True


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

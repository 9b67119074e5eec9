"""Whether an agent goes round in circles, by the messages of its conversation alone.

Counted from the rows, so that a worker's death changes nothing. What begins the count anew: a word of a person, and the
pause that a loop led to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from apps.agents.services.server_words import server_word

#: Steps of one round: the same again and again, two by turns, and a little more.
ROUNDS = (1, 2, 3, 4)
#: A warning comes so many repetitions before the pause.
WARN_BEFORE = 2
#: The same error whatever is tried, and errors of any kind in a row, may go on for so many times the limit.
SAME_ERROR, ANY_ERROR = 2, 4
#: What differs from time to time without meaning anything: seconds, and the ids of commands.
_SECONDS = re.compile(r"\b\d+(?:\.\d+)?\s?s(?:ec(?:onds?)?)?\b")
_COMMAND_ID = re.compile(r"\bc\d+(?:-\d+)?\b")
_keys: dict[tuple[int, int], int] = {}
_MOST_KEYS = 20_000


@dataclass(frozen=True)
class Loop:
    """What the agent does again and again, in words, and how often it has."""

    kind: str
    what: str
    repeats: int
    #: Repetitions at which it is paused.
    limit: int
    #: Where the first of them begins, in the conversation.
    position: int

    @property
    def is_over(self) -> bool:
        return self.repeats >= self.limit


@dataclass(frozen=True)
class _Step:
    position: int
    message: AIMessage
    #: What came of its calls, as a number.
    results: int
    #: The tools, where every call failed.
    failed: str

    def is_like(self, other: _Step) -> bool:
        """The same calls with the same results."""
        return self.results == other.results and (
            _calls(self.message) == _calls(other.message) or _calls_key(self.message) == _calls_key(other.message)
        )


def loop_find(transcript: Sequence[BaseMessage], *, limit: int) -> Loop | None:
    """The worst loop that the last steps are in, from the point on at which it deserves a warning."""
    backwards = _steps_backwards(transcript)
    recent = list(islice(backwards, ROUNDS[-1] + 1))
    if not recent or not (recent[0].failed or any(step.results == recent[0].results for step in recent[1:])):
        return None
    most = max(ROUNDS[-1], ANY_ERROR) * limit
    steps = [*recent, *islice(backwards, most - len(recent))][::-1]
    found = [*(_round(steps, length, limit) for length in ROUNDS), _same_error(steps, limit), _any_error(steps, limit)]
    loops = [loop for loop in found if loop is not None and loop.repeats >= loop.limit - WARN_BEFORE]
    return max(loops, key=lambda loop: loop.repeats / loop.limit, default=None)


def warned_since(transcript: Sequence[BaseMessage], loop: Loop) -> bool:
    """Whether the agent was told of it already."""
    return any(server_word(message) == "loop_warning" for message in transcript[loop.position :])


def _steps_backwards(transcript: Sequence[BaseMessage]) -> Iterator[_Step]:
    """What was called and what came of it, the last first, since the count began; what tells nothing is left out."""
    results: list[ToolMessage] = []
    for index in range(len(transcript) - 1, -1, -1):
        message = transcript[index]
        if isinstance(message, ToolMessage):
            results.insert(0, message)
            continue
        if isinstance(message, HumanMessage) and server_word(message) in (None, "loop_pause", "limit_pause"):
            return
        if isinstance(message, AIMessage) and _calls(message) and not _waits(message, results):
            names = ", ".join(dict.fromkeys(result.name or "" for result in results))
            failed = bool(results) and all(result.status == "error" for result in results)
            key = hash(tuple(_result_key(_text(result)) for result in results))
            yield _Step(index, message, key, names if failed else "")
        results = []


def _text(result: ToolMessage) -> str:
    return result.content if isinstance(result.content, str) else str(result.text)


def _waits(message: AIMessage, results: Sequence[ToolMessage]) -> bool:
    """A step that waits for a command that still runs is no step."""
    return (
        bool(message.tool_calls)
        and all(call["name"] == "command_output" and call["args"].get("wait_s") for call in message.tool_calls)
        and all(", running for " in str(result.text) for result in results)
    )


def _calls(message: AIMessage) -> list[tuple[Any, Any]]:
    calls: list[tuple[Any, Any]] = [(call["name"], call["args"]) for call in message.tool_calls]
    return calls + [(call.get("name"), call.get("args")) for call in message.invalid_tool_calls]


def _calls_key(message: AIMessage) -> str:
    """The calls, whatever commands are named in them."""
    return _COMMAND_ID.sub("c#", json.dumps(_calls(message), sort_keys=True, default=str))


def _result_key(text: str) -> int:
    """The result without what means nothing, as a number; remembered, since it is asked for at each step."""
    key = (len(text), hash(text))
    known = _keys.get(key)
    if known is None:
        if len(_keys) >= _MOST_KEYS:
            _keys.clear()
        known = _keys[key] = hash(_COMMAND_ID.sub("c#", _SECONDS.sub("# s", text)))
    return known


def _round(steps: Sequence[_Step], length: int, limit: int) -> Loop | None:
    """The last ``length`` steps, and how often the same came before them without a break."""
    if len(steps) < 2 * length:
        return None
    last = steps[-length:]
    if length > 1 and all(step.is_like(last[0]) for step in last):
        return None
    repeats = 1
    while (end := len(steps) - repeats * length) >= length:
        if not all(step.is_like(other) for step, other in zip(steps[end - length : end], last, strict=True)):
            break
        repeats += 1
    names = " and ".join(dict.fromkeys(_named(step) for step in steps[-length:]))
    what = f"{names} with the same result" if length == 1 else f"{names} by turns, with the same results"
    first = steps[len(steps) - repeats * length].position
    return Loop("same_call" if length == 1 else "ping_pong", what, repeats, limit, first)


def _same_error(steps: Sequence[_Step], limit: int) -> Loop | None:
    if not steps or not steps[-1].failed:
        return None
    last = steps[-1]
    repeats = 0
    for step in reversed(steps):
        if (step.failed, step.results) != (last.failed, last.results):
            break
        repeats += 1
    what = f"{last.failed} with the same error, whatever the arguments"
    return Loop("same_error", what, repeats, SAME_ERROR * limit, steps[-repeats].position)


def _any_error(steps: Sequence[_Step], limit: int) -> Loop | None:
    repeats = 0
    for step in reversed(steps):
        if not step.failed:
            break
        repeats += 1
    if not repeats:
        return None
    return Loop("errors", "calls that fail, one after the other", repeats, ANY_ERROR * limit, steps[-repeats].position)


def _named(step: _Step) -> str:
    """The step's calls in a line for people."""
    calls = _calls(step.message)
    return ", ".join(f"{name} {json.dumps(given, ensure_ascii=False)[:120]}" for name, given in calls)[:300]

"""Looking up what was said in the agent's own conversation, also what is left out of it by now."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import regex  # type: ignore[import-untyped]
from pydantic import Field

from apps.agents.services.conversation_text import content_text, speaker
from apps.agents.tools.base import Arguments, Observation, Risk, Tool, ToolContext
from apps.projects.workspace import WorkspaceError

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

NAME = "search_conversation"
#: Matches that are shown, and characters of the lines of each.
MATCHES, LINE = 40, 300
#: Seconds that one search may take: a pattern can be made to try for hours.
SECONDS = 2.0
#: What has to be there several times is written out when the pattern is compiled, each within each.
MOST_REPEATED = 20_000
_REPEATED = re.compile(r"\{\s*([0-9]{1,18})")


class SearchConversationArguments(Arguments):
    pattern: str = Field(default="", max_length=1000, description="Regular expression; the newest matches come first.")
    message: int = Field(default=-1, ge=-1, description="Read the message of this number instead of searching.")
    offset: int = Field(default=0, ge=0, description="Characters of that message, or matches, to pass over.")


async def search_conversation(context: ToolContext, arguments: SearchConversationArguments) -> Observation:
    if arguments.message >= 0:
        return _read(context, arguments.message, arguments.offset)
    if not arguments.pattern:
        raise WorkspaceError("give a pattern to search for, or the number of a message to read")
    if math.prod(max(1, int(count)) for count in _REPEATED.findall(arguments.pattern)) > MOST_REPEATED:
        raise WorkspaceError("the pattern repeats its parts too often: use smaller numbers in {}")
    try:
        pattern = await asyncio.to_thread(regex.compile, arguments.pattern, regex.IGNORECASE)
    except (regex.error, RecursionError, OverflowError) as error:
        raise WorkspaceError(f"the pattern is no regular expression: {error}") from error
    try:
        found = await asyncio.to_thread(_search, list(context.conversation), pattern, arguments.offset)
    except TimeoutError:
        raise WorkspaceError(f"the search took longer than {SECONDS:.0f} s: use a simpler pattern") from None
    if not found:
        return Observation("no match", summary="no match")
    more = (
        f"\n[more matches may follow: go on with offset {arguments.offset + MATCHES}]" if len(found) > MATCHES else ""
    )
    shown = found[:MATCHES]
    return Observation("\n".join(shown) + more, summary=f"{len(shown)} matches")


def _read(context: ToolContext, number: int, offset: int) -> Observation:
    messages = context.conversation
    if number >= len(messages) or messages[number].type == "system":
        raise WorkspaceError(f"there is no message {number}: they go from 1 to {len(messages) - 1}")
    text = content_text(messages[number])
    if offset and offset >= len(text):
        raise WorkspaceError(f"message {number} has {len(text)} characters; offset {offset} is past its end")
    end = min(len(text), offset + max(500, context.observation_limit - 500))
    rest = f"; go on with offset {end}" if end < len(text) else ""
    head = f"[message {number}, {speaker(messages[number])}; characters {offset} to {end} of {len(text)}{rest}]"
    return Observation(f"{head}\n{text[offset:end]}", summary=f"message {number}")


def _search(messages: Sequence[BaseMessage], pattern: regex.Pattern[str], skip: int) -> list[str]:
    """Lines that match, newest message first; one more than are shown, if there are more."""
    found = []
    deadline = time.monotonic() + SECONDS
    for count, line in enumerate(_matches(messages, pattern, deadline)):
        if count >= skip:
            found.append(line)
        if len(found) > MATCHES:
            break
    return found


def _matches(messages: Sequence[BaseMessage], pattern: regex.Pattern[str], deadline: float) -> Iterator[str]:
    for number in range(len(messages) - 1, 0, -1):
        message = messages[number]
        if message.type == "tool" and message.name == NAME:
            continue  # what was found before would be found again each time
        for line in content_text(message).splitlines():
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            match = pattern.search(line, timeout=left)
            if match is not None and not (message.type == "ai" and line.startswith(f"{NAME} ")):
                start = max(0, match.start() - LINE // 3)
                cut = line[start : start + LINE]
                yield f"{number} ({speaker(message)}): {'...' if start else ''}{cut}"


SEARCH_CONVERSATION = Tool(
    NAME,
    "Search this conversation, also what was left out of it to save room, for a regular expression; or read a message"
    " of it by its number.",
    SearchConversationArguments,
    Risk.READ,
    search_conversation,
)

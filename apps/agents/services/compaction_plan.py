"""When a conversation has to be made shorter, and where to cut it.

First the outputs of old calls go, which costs nothing; where that gives too little, everything but the last steps is
left out and summarised. A cut leaves room for a while, so that vendors' caches of what they have read serve again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from langchain_core.messages import AIMessage, BaseMessage

from apps.agents.services.conversation_view import (
    SHORT_OUTPUT,
    Cut,
    boundaries,
    content_length,
    is_output,
    opening_length,
)
from apps.agents.services.images import REFERENCE
from apps.agents.services.server_words import is_persons, standing_digest
from integrations.llm_providers.tokens import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, message_texts

#: Bytes that a token has where nothing better is known, and the most and the least that is believed of an endpoint.
BYTES_PER_TOKEN, MOST_BYTES, LEAST_BYTES = 3.0, 4.5, 1.5
#: What a token of tools, prompts and code has with most vocabularies: what is over by the number above, which is meant
#: to be on the safe side, and not by this one takes some of the room for the reply at worst.
LIKELY_BYTES = 3.6
#: Of the room that is not taken for good: what may be in use after outputs were cleared, and after a summary.
CLEARED_SHARE, SUMMARISED_SHARE = 0.6, 0.5
#: Of the same: the most that the summary takes, and older words of people.
SUMMARY_SHARE, WORDS_SHARE = 0.2, 0.15
#: Steps that keep their outputs when others are cleared, and that stay beside a summary where there is room.
WHOLE_STEPS, LAST_STEPS = 3, 3
#: What outputs of the last steps are shortened to, one after the other, where they don't fit; in characters.
OUTPUT_LIMITS = (0, 8_000, 4_000, 2_000, 1_000, 400)
#: What a line that stands for an output takes at most, in bytes.
_NOTE = 150
#: Characters of a summary.
SUMMARY_MOST, SUMMARY_LEAST = 8_000, 600


@dataclass(frozen=True)
class Size:
    """What of a message counts: bytes of text, and images."""

    text: int
    images: int


@dataclass(frozen=True)
class Meter:
    """Counts tokens by bytes, as the endpoint turned out to count them."""

    #: Bytes of the tools that go with each request.
    tools_bytes: int = 0
    bytes_per_token: float = BYTES_PER_TOKEN
    image_tokens: int = 64

    def tokens(self, sizes: Iterable[Size]) -> int:
        text, images, count = self.tools_bytes, 0, 0
        for size in sizes:
            text += size.text
            images += size.images
            count += 1
        return math.ceil(text / self.bytes_per_token) + self._around(images, count)

    @property
    def is_guess(self) -> bool:
        """Nothing was counted yet."""
        return self.bytes_per_token == BYTES_PER_TOKEN

    def likely(self) -> Meter:
        """The same without being on the safe side."""
        return replace(self, bytes_per_token=LIKELY_BYTES)

    def characters(self, tokens: int) -> int:
        return int(tokens * self.bytes_per_token)

    def calibrated(self, sizes: Sequence[Size], counted: int) -> Meter:
        """The same, by what the endpoint counted for a request of these messages."""
        text = self.tools_bytes + sum(size.text for size in sizes)
        around = self._around(sum(size.images for size in sizes), len(sizes))
        found = text / max(1, counted - around)
        return replace(self, bytes_per_token=min(MOST_BYTES, max(LEAST_BYTES, found)))

    def _around(self, images: int, count: int) -> int:
        return images * self.image_tokens + TOKENS_PER_MESSAGE * count + TOKENS_PER_REQUEST


class Measured:
    """A conversation whose messages are measured once; grows with it."""

    def __init__(self, transcript: Sequence[BaseMessage]) -> None:
        self.transcript = transcript
        self._sizes: list[Size] = []

    @property
    def sizes(self) -> list[Size]:
        for message in self.transcript[len(self._sizes) :]:
            self._sizes.append(size_of(message))
        return self._sizes

    def viewed(self, cut: Cut | None, until: int | None = None) -> list[Size]:
        """The sizes of what is sent, or rather more, without building it; ``until``: of what was sent at that point."""
        sizes = self.sizes if until is None else self.sizes[:until]
        if cut is None:
            return sizes
        opening = min(opening_length(self.transcript), cut.dropped_to)
        found = sizes[:opening]
        if cut.dropped_to > opening:
            found = [*found, _text_size(cut.summary), *(sizes[index] for index in cut.kept)]
        found += [
            self._cut_size(index, cut) if index < cut.position else sizes[index]
            for index in range(cut.dropped_to, len(sizes))
        ]
        return found

    def _cut_size(self, index: int, cut: Cut) -> Size:
        message, size = self.transcript[index], self.sizes[index]
        if not is_output(message) or content_length(message) <= SHORT_OUTPUT:
            return size
        if index < cut.cleared_to:
            return Size(min(size.text, _NOTE) if not size.images else _NOTE, 0)
        if cut.output_limit and content_length(message) > cut.output_limit:
            most = cut.output_limit + _NOTE
            return Size(most if str(message.text).isascii() else 4 * most, 0)
        return size


@dataclass(frozen=True)
class Room:
    """Of a model: the most tokens that a request may have, and how many it has when it is time to cut."""

    most: int
    trigger: int


@dataclass(frozen=True)
class NoRoom:
    """Not even what has to stay fits."""

    needed: int


@dataclass(frozen=True)
class Planned:
    """A cut to be made; what ``summarised`` names is left out anew, and the summary may have so many characters."""

    cut: Cut
    summarised: range
    summary_characters: int

    @property
    def needs_summary(self) -> bool:
        return self.summary_characters > 0


def size_of(message: BaseMessage) -> Size:
    images = 0
    if not isinstance(message.content, str):
        images = sum(
            isinstance(block, dict) and block.get("type") in (REFERENCE, "image", "image_url", "input_image")
            for block in message.content
        )
    return Size(sum(len(text.encode(errors="replace")) for text in message_texts([message])), images)


def _text_size(text: str) -> Size:
    return Size(len(text) if text.isascii() else len(text.encode(errors="replace")), 0)


def cut_plan(measured: Measured, former: Cut | None, *, meter: Meter, room: Room) -> Planned | NoRoom | None:
    """How to cut the conversation so that it fits and has room to grow; None: it needs no cut (or none would help)."""
    used = meter.tokens(measured.viewed(former))
    if used <= room.trigger:
        return None
    former = former or Cut()
    fixed = meter.tokens(measured.sizes[: opening_length(measured.transcript)])
    # What is there in any case may take most of a small window: then all of it has to be used.
    ceiling = room.trigger if room.trigger - fixed >= (room.most - fixed) // 2 else room.most
    if used <= ceiling:
        return None
    planner = _Planner(measured, former, meter=meter, fixed=fixed, free=ceiling - fixed)
    cleared = planner.cleared()
    if cleared is not None:
        return Planned(cleared, range(0), 0)
    planned = planner.summarised(room.most)
    if used > room.most:
        return planned
    if isinstance(planned, NoRoom):
        return None
    # Where what stays takes nearly all, a cut at each step would gain nothing and cost a summary each time.
    longest = replace(planned.cut, summary="x" * planned.summary_characters)
    return planned if meter.tokens(measured.viewed(longest)) < used - planner.free // 10 else None


class _Planner:
    """One conversation, while its cut is looked for."""

    def __init__(self, measured: Measured, former: Cut, *, meter: Meter, fixed: int, free: int) -> None:
        self.measured, self.former, self.meter, self.fixed, self.free = measured, former, meter, fixed, free
        self.transcript = measured.transcript
        self.opening = opening_length(self.transcript)
        self.start = max(self.opening, former.dropped_to)
        self.steps = [
            index for index in range(self.start, len(self.transcript)) if isinstance(self.transcript[index], AIMessage)
        ]

    def cleared(self) -> Cut | None:
        """The fewest outputs cleared with which it fits; None: it doesn't, or the last steps would lose theirs."""
        last = self.steps[-WHOLE_STEPS] if len(self.steps) >= WHOLE_STEPS else self.start
        most = self.fixed + int(self.free * CLEARED_SHARE)
        for place in boundaries(self.transcript, max(self.start, self.former.cleared_to)):
            if place > last:
                break
            cut = replace(self.former, cleared_to=place, position=len(self.transcript))
            if place > self.former.cleared_to and self._used(cut) <= most:
                return cut
        return None

    def summarised(self, most: int) -> Planned | NoRoom:
        """The last steps kept, as many as have room, and everything before them left out for a summary."""
        length = max(SUMMARY_LEAST, min(SUMMARY_MOST, self.meter.characters(int(self.free * SUMMARY_SHARE))))
        wanted = min(LAST_STEPS, max(1, len(self.steps) - 1))
        best: Cut | None = None
        for limit in OUTPUT_LIMITS:
            best = self._tail(limit, length) or best
            if best is not None and self._steps_after(best.dropped_to) >= wanted:
                break
        if best is None or self._steps_after(best.dropped_to) == 0:
            best = self._last_resort(length, self.fixed + self.free) or self._last_resort(length, most) or best
        if best is None:
            return NoRoom(self._used(self._smallest(len(self.transcript))))
        return Planned(replace(best, summary=""), range(self.start, best.dropped_to), len(best.summary))

    def _tail(self, limit: int, length: int) -> Cut | None:
        """As much of the end as fits, with outputs of so many characters."""
        most = self.fixed + int(self.free * SUMMARISED_SHARE)
        for place in boundaries(self.transcript, self.start + 1):
            kept = self._words_kept(place, int(self.free * WORDS_SHARE))
            cut = Cut(place, kept, place, limit, "x" * length, len(self.transcript))
            if self._used(cut) <= most:
                return cut
        return None

    def _last_resort(self, length: int, most: int) -> Cut | None:
        """Whatever can be sent at all: the last step as short as can be, or no step, with a short summary."""
        for place in [*(self.steps[-1:]), len(self.transcript)]:
            if place <= self.start and place < len(self.transcript):
                continue
            for characters in dict.fromkeys((length, SUMMARY_LEAST)):
                cut = replace(self._smallest(place), summary="x" * characters)
                if self._used(cut) <= most:
                    return cut
        return None

    def _smallest(self, place: int) -> Cut:
        kept = self._words_kept(place, 0)
        return Cut(place, kept, place, OUTPUT_LIMITS[-1], "x" * SUMMARY_LEAST, len(self.transcript))

    def _words_kept(self, place: int, most: int) -> tuple[int, ...]:
        """What people said in what is left out: the last word in any case, older ones as long as there is room.

        So are instructions that hold for every agent, where they came after the opening.
        """
        words = [index for index in range(self.opening, place) if is_persons(self.transcript[index])]
        standing = [index for index in words if standing_digest(self.transcript[index]) is not None]
        kept, taken = {*words[-1:], *standing[-1:]}, 0.0
        for index in reversed(words):
            if index in kept:
                continue
            taken += self.measured.sizes[index].text / self.meter.bytes_per_token
            if taken > most:
                break
            kept.add(index)
        return tuple(sorted(kept))

    def _steps_after(self, place: int) -> int:
        return sum(index >= place for index in self.steps)

    def _used(self, cut: Cut) -> int:
        return self.meter.tokens(self.measured.viewed(cut))

"""An execution's conversation while it is worked on: its messages, what of them is sent, and how long that is."""

from __future__ import annotations

import uuid

from langchain_core.messages import AIMessage, BaseMessage

from apps.agents.services.compaction_plan import BYTES_PER_TOKEN, Measured, Meter
from apps.agents.services.conversation_view import Compaction, Cut, opening_length, view_of


class Conversation:
    """The rows of one execution, read once and added to as they are written."""

    def __init__(self, execution_id: uuid.UUID, transcript: list[BaseMessage], compaction: Compaction | None) -> None:
        self.execution_id = execution_id
        self.transcript = transcript
        self.measured = Measured(transcript)
        self._compaction = compaction
        # What the cut concerns of the view, which is the same until the next cut.
        self._settled: list[BaseMessage] | None = None

    @property
    def cut(self) -> Cut | None:
        return self._compaction.cut if self._compaction else None

    @property
    def cut_summary(self) -> str:
        return self._compaction.cut.summary if self._compaction else ""

    @property
    def sequence(self) -> int:
        """The number of the next compaction."""
        return self._compaction.sequence + 1 if self._compaction else 0

    @property
    def opening(self) -> int:
        return opening_length(self.transcript)

    def compacted(self, compaction: Compaction) -> None:
        self._compaction = compaction
        self._settled = None

    def view(self) -> list[BaseMessage]:
        """What is sent."""
        cut = self.cut
        if cut is None or cut.dropped_to >= cut.position:
            return view_of(self.transcript, cut)
        if self._settled is None:
            self._settled = view_of(self.transcript[: cut.position], cut)
        return [*self._settled, *self.transcript[cut.position :]]

    def meter(self, *, tools_bytes: int, image_tokens: int) -> Meter:
        """How tokens are counted: as the provider counted them in the last reply, where one says."""
        known = self._compaction.bytes_per_token if self._compaction else BYTES_PER_TOKEN
        meter = Meter(tools_bytes, known or BYTES_PER_TOKEN, image_tokens)
        since = self.cut.position if self.cut else 0
        for index in range(len(self.transcript) - 1, since - 1, -1):
            said = self.transcript[index]
            if isinstance(said, AIMessage) and said.usage_metadata and said.usage_metadata["input_tokens"]:
                return meter.calibrated(self.measured.viewed(self.cut, index), said.usage_metadata["input_tokens"])
        return meter

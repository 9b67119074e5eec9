"""What a session's ledger takes and gives back, and the keys under which what is done once is found again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.agents.types import ToolCallStatus


@dataclass(frozen=True)
class ToolCallRecord:
    """A tool call as it stands in its row."""

    id: uuid.UUID
    status: ToolCallStatus
    ok: bool | None
    observation: str
    #: This call of :meth:`Ledger.tool_call_open` wrote it; otherwise it was there before.
    is_new: bool
    #: Of one that a person had to approve: as it was approved, and what they said.
    arguments: Mapping[str, Any] = field(default_factory=dict)
    approval: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ToolCallIntent:
    """A tool call before it runs: the ``ordinal``-th call of the message at ``position``."""

    execution_id: uuid.UUID
    position: int
    ordinal: int
    provider_call_id: str
    name: str
    arguments: Mapping[str, Any]
    #: How often the session had been taken back: what is said anew then is no call of before.
    rewinds: int = 0

    @property
    def id(self) -> uuid.UUID:
        """Ours, not the provider's: some number their calls anew in each answer."""
        return uuid.uuid5(self.execution_id, rewound_key(f"{self.position}:{self.ordinal}", self.rewinds))

    @property
    def model_key(self) -> str:
        """The key of the model's call that proposed it, unless that was made before the last rewind."""
        return model_call_key(self.execution_id, self.position, self.rewinds)


def rewound_key(key: str, rewinds: int) -> str:
    """A key of something that may come up anew after a rewind: as it is until there was one."""
    return f"{key}@{rewinds}" if rewinds else key


def model_call_key(execution_id: uuid.UUID, position: int, rewinds: int) -> str:
    """What the call for the message at this position is named in the books."""
    return rewound_key(f"{execution_id}:{position}", rewinds)


@dataclass(frozen=True)
class SteeringWaiting:
    """What a person said and the agent has yet to hear."""

    id: uuid.UUID
    text: str


@dataclass(frozen=True)
class Snapshot:
    """A worktree as git holds it, and where its branch was; without a tree, why it could not be held."""

    tree: str
    head: str
    problem: str = ""
    #: Which of the session's worktrees it is; empty: its own.
    lane: str = ""

"""What the nodes of a running session share: facts, the ledger, the model, the place of work."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass, field
from typing import TypedDict

from django.utils import timezone
from langchain_core.messages import BaseMessage

from apps.agents.nodes.worksite import WorkSite
from apps.agents.services.ledger import Ledger
from apps.agents.types import AgentType
from apps.core.errors import LimitReached
from apps.usage.choices import RoleModel, SessionModels
from apps.usage.gateway import ModelGateway


class SessionState(TypedDict, total=False):
    """The graph's state: a cursor into the rows, nothing that they don't hold.

    Messages, plans and results are rows, so a checkpoint stays small however long the session gets.
    """

    #: The execution whose agent loop runs, and its role.
    execution_id: str
    role: str
    #: Messages in the execution's conversation when the last node ended.
    turn: int
    #: The agent loop is over.
    ended: bool
    task_id: str
    attempt: int
    #: What the last verification came to: `passed`, `retry`, `failed`.
    verdict: str


class SessionSuspended(Exception):
    """The session waits for a person; its rows say for what. Ends the run without being a fault."""


class TimeLimitReached(LimitReached):
    """The session has run for as long as it may."""

    code = "time_limit_reached"


@dataclass(frozen=True)
class SessionFacts:
    """What is fixed about a session for as long as one worker runs it."""

    session_id: uuid.UUID
    project_id: uuid.UUID
    goal: str
    agent_type: AgentType
    branch: str
    base_branch: str
    base_commit: str
    started_at: datetime.datetime
    limit_seconds: int
    command_seconds: int
    #: The wiring under which it was begun.
    graph_version: int

    @property
    def seconds_left(self) -> float:
        """What is left of the session's time; below zero when it is over."""
        return self.limit_seconds - (timezone.now() - self.started_at).total_seconds()

    def time_limit_reached(self) -> TimeLimitReached:
        return TimeLimitReached(
            f"the session has run for {self.limit_seconds - self.seconds_left:.0f} s of the {self.limit_seconds} s"
            " that it may",
            next_step="raise its time limit and resume it",
        )


@dataclass
class RunContext:
    """Handed to every node by the executor."""

    facts: SessionFacts
    ledger: Ledger
    gateway: ModelGateway
    models: SessionModels
    site: WorkSite
    _transcripts: dict[uuid.UUID, list[BaseMessage]] = field(default_factory=dict)

    def model_for(self, role: str) -> RoleModel:
        """What the role calls, with the keys as they were when the session was taken up.

        Raises ModelNotAvailable or ModelRefused when it can no longer be called.
        """
        return self.models.for_role(role)

    async def transcript(self, execution_id: uuid.UUID) -> list[BaseMessage]:
        """The execution's conversation, read from its rows once and appended to as they are."""
        if execution_id not in self._transcripts:
            self._transcripts[execution_id] = await self.ledger.messages_load(execution_id)
        return self._transcripts[execution_id]

    def transcript_forget(self, execution_id: uuid.UUID) -> None:
        """Read the conversation again next time: somebody else wrote to it."""
        self._transcripts.pop(execution_id, None)

"""What the nodes of a running session share: facts, the ledger, the model, the place of work."""

from __future__ import annotations

import datetime
import time
import uuid
from dataclasses import dataclass, field
from typing import TypedDict

from django.conf import settings
from django.utils import timezone
from langchain_core.messages import BaseMessage

from apps.agents.nodes.worksite import WorkSite
from apps.agents.services.ledger import Ledger
from apps.agents.services.policy_rules import policy_load
from apps.agents.services.rules import RepositoryRules
from apps.agents.tools.catalogue import Offer
from apps.agents.tools.edit_formats import edit_format_for
from apps.agents.tools.policy import Policy
from apps.agents.tools.web import PAGE_BYTES
from apps.agents.types import READING_TYPES, AgentType
from apps.core.errors import LimitReached
from apps.core.outbound import Fetched, host_is_listed, outbound_fetch
from apps.projects.autonomy import Autonomy
from apps.projects.repository_history import RepositoryHistory
from apps.usage.choices import RoleModel, SessionModels
from apps.usage.gateway import ModelGateway
from integrations.llm_providers.capabilities import sees_images


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
    #: The session goes on with a follow-up.
    follow_up: bool


#: For how long calls that only look go by the same rules.
POLICY_SECONDS = 30.0


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
    #: When this worker took the session up, and how long it had run before.
    running_since: datetime.datetime
    used_seconds: float
    limit_seconds: int
    command_seconds: int
    #: Hosts that agents may read web pages from.
    network_hosts: tuple[str, ...]
    #: The wiring under which it was begun.
    graph_version: int
    #: Which follow-up it works on; 0: the goal itself.
    turn: int = 0
    #: There are linked issues or logs that weren't read yet.
    sources_waiting: bool = False
    #: What its agents may do without asking, as of when it was taken up.
    autonomy: Autonomy = Autonomy.AUTO

    @property
    def plan_id(self) -> uuid.UUID:
        """The session's plan. A planner makes one for each follow-up; whoever carries one out goes on with the same."""
        anew = self.turn and self.agent_type is AgentType.PLANNER
        return uuid.uuid5(self.session_id, f"plan:{self.turn}" if anew else "plan")

    def turn_key(self, key: str) -> str:
        """The key of an effect that happens once for the goal, and once for each follow-up."""
        return f"{key}#{self.turn}" if self.turn else key

    @property
    def seconds_left(self) -> float:
        """What is left of the session's time; below zero when it is over."""
        return self.limit_seconds - self.used_seconds - (timezone.now() - self.running_since).total_seconds()

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
    _rules: RepositoryRules | None = None
    _policy: Policy | None = None
    _policy_read: float = 0.0

    async def rules(self) -> RepositoryRules:
        """What the project says to agents, as of the commit that the session started from."""
        if self._rules is None:
            self._rules = await self.ledger.database.run_in_thread(
                RepositoryRules, project_id=self.facts.project_id, commit=self.facts.base_commit
            )
        return self._rules

    def offer(self, role: str) -> Offer:
        """What decides over the tools that the role's model gets, beside the role."""
        model = self.model_for(role)
        chosen = edit_format_for(
            model.spec.name, asked=model.edit_format or "", configured=settings.ARCHON_EDIT_FORMATS
        )
        read_only = self.facts.autonomy is Autonomy.OBSERVE or self.facts.agent_type in READING_TYPES
        return Offer(edit_format=chosen, web=bool(self.facts.network_hosts), read_only=read_only)

    async def policy(self, *, looks_only: bool) -> Policy:
        """What holds now; a call that only looks may go by what held a moment ago."""
        now = time.monotonic()
        if self._policy is None or not looks_only or now - self._policy_read > POLICY_SECONDS:
            self._policy = await self.ledger.database.run_in_thread(policy_load, session_id=self.facts.session_id)
            self._policy_read = now
        return self._policy

    def vision(self, role: str) -> bool:
        """Whether the role's model can be shown images."""
        return sees_images(self.model_for(role).spec)

    @property
    def history(self) -> RepositoryHistory:
        facts = self.facts
        return RepositoryHistory(project_id=facts.project_id, branch=facts.branch, base_commit=facts.base_commit)

    async def page_fetch(self, url: str) -> Fetched:
        """A web page from one of the hosts that the project allows."""
        listed = self.facts.network_hosts

        def allowed(host: str, port: int) -> bool:
            return host_is_listed(host, port, listed=listed)

        return await outbound_fetch(
            url,
            allowed=allowed,
            private_hosts=settings.ARCHON_PRIVATE_HOSTS,
            max_bytes=PAGE_BYTES,
            accept="text/html, text/*;q=0.9, application/json;q=0.9, */*;q=0.1",
        )

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

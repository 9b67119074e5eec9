"""What the nodes of a running session share: facts, the ledger, the model, the place of work."""

from __future__ import annotations

import asyncio
import datetime
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypedDict

from django.conf import settings
from django.utils import timezone
from langchain_core.messages import BaseMessage

from apps.agents.nodes.conversation import Conversation
from apps.agents.nodes.lane_crew import Lane
from apps.agents.nodes.worksite import WorkSite
from apps.agents.services.agent_profiles import AgentProfile, profile_of
from apps.agents.services.code_knowledge import CodeKnowledge
from apps.agents.services.instructions import Instructions, instructions_load
from apps.agents.services.ledger import Ledger
from apps.agents.services.ledger_records import rewound_key
from apps.agents.services.plan_work import PlanWork
from apps.agents.services.policy_rules import policy_load
from apps.agents.services.rules import RepositoryRules
from apps.agents.tools.base import observation_limit
from apps.agents.tools.catalogue import Offer
from apps.agents.tools.edit_formats import edit_format_for
from apps.agents.tools.grounding import RepositoryGrounding, programs_look_up, programs_named
from apps.agents.tools.kept_outputs import KeptOutputs
from apps.agents.tools.policy import Policy
from apps.agents.tools.web import PAGE_BYTES
from apps.agents.types import READING_TYPES, AgentType, HandOver, Review
from apps.core.errors import LimitReached
from apps.core.outbound import Fetched, host_is_listed, outbound_fetch
from apps.planning.document import PlanDoc, follow_up_key
from apps.planning.problems import Grounding
from apps.projects.autonomy import Autonomy
from apps.projects.repository_history import RepositoryHistory
from apps.projects.worktree import session_server_path
from apps.usage.choices import RoleModel, SessionModels
from apps.usage.gateway import ModelGateway
from integrations.llm_providers.capabilities import context_tokens, sees_images
from integrations.llm_providers.types import ModelSpec


@dataclass
class Meter:
    """What an execution has taken since it began, or since a person had it go on."""

    #: Messages before this one don't count.
    start: int
    seconds: float


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
    #: The execution that carries the task out, also while its reviewer is at work.
    work_id: str
    #: Which review of the task's commits is under way; 0: none.
    round: int
    #: What the last verification or review came to: `passed`, `retry`, `failed`; of a review, `review` and `ask` too;
    #: `blocked`: there was none. Of a merge: `merged`, `again`, `failed`.
    verdict: str
    #: What the session was woken for: `goal`, `plan` (one that is there), `follow_up` or `rebase`; then how it goes on.
    way: str
    #: Which look at the plan it is at.
    look: int


#: Roles that have no model of their own: it is that of another one.
_MODEL_ROLES = {"replanner": "planner"}
#: For how long calls that only look go by the same rules.
POLICY_SECONDS = 30.0


def window_name(spec: ModelSpec) -> str:
    """By what a window that was learned is found again: one model may be served by several endpoints."""
    return f"{spec.name}@{spec.base_url}" if spec.base_url else spec.name


class SessionSuspended(Exception):
    """The session waits for a person; its rows say for what. Ends the run without being a fault."""


class TimeLimitReached(LimitReached):
    """The session has run for as long as it may."""

    code = "time_limit_reached"


@dataclass(frozen=True)
class Rebase:
    """The session's branch is put onto another commit."""

    onto: str
    #: Where the branch is then.
    head: str
    former_base: str
    former_head: str
    commits: int


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
    #: The plan that was made already, if it was.
    made_plan_id: uuid.UUID | None = None
    #: What it does with a plan, or a feature, that was there before it.
    plan_work: PlanWork | None = None
    #: How often it was taken back to an earlier step, and the last time that this took the making of a plan back.
    rewinds: int = 0
    plan_rewind: int = 0
    #: How often it was put onto another commit, and whether that is what it is woken for.
    rebases: int = 0
    rebase: Rebase | None = None
    #: Which changes are reviewed, and what the project said of its agents, as of the session's start.
    review: Review = Review.NEVER
    agents: Mapping[str, Any] = field(default_factory=dict)
    #: How many tasks may be worked on side by side.
    lanes: int = 1

    @property
    def plan_id(self) -> uuid.UUID:
        """The session's plan. A planner makes one for each follow-up; whoever carries one out goes on with the same."""
        if self.made_plan_id is not None:
            return self.made_plan_id
        anew = self.turn and self.agent_type is AgentType.PLANNER
        name = f"plan:{self.turn}" if anew else "plan"
        return uuid.uuid5(self.session_id, rewound_key(name, self.plan_rewind))

    @property
    def plan_given(self) -> bool:
        """The plan was there before the session, which carries it out or revises it."""
        return self.plan_work is not None and self.plan_work.plan_id is not None

    @property
    def follow_up_key(self) -> str:
        """The key of the follow-up's feature: that of a plan which other sessions have had names the session too."""
        key = follow_up_key(self.turn)
        return f"{key}-{str(self.session_id)[:8]}" if self.plan_given else key

    def turn_key(self, key: str) -> str:
        """The key of an effect that happens once for the goal, and once for each follow-up."""
        return f"{key}#{self.turn}" if self.turn else key

    def base_key(self, key: str) -> str:
        """The key of an effect that happens once for each commit that the session is based on."""
        return f"{key}@{self.rebases}" if self.rebases else key

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
    #: Whether the worker is stopping.
    leaving: Callable[[], bool] = lambda: False
    #: What each execution has taken so far, by ``nodes.execution_limits``.
    meters: dict[uuid.UUID, Meter] = field(default_factory=dict)
    #: The graph that carries out one task beside others; nodes don't know it.
    lane_graph: Any = None
    #: Of whoever works beside others: which lane it is. Its ``site`` is the lane's then.
    lane: Lane | None = None
    _conversations: dict[uuid.UUID, Conversation] = field(default_factory=dict)
    _windows: dict[str, int] | None = None
    _rules: RepositoryRules | None = None
    _instructions: Instructions | None = None
    _policy: Policy | None = None
    _policy_read: float = 0.0
    #: By the commit that it is of; and which programs the sandbox has, as far as somebody asked.
    _grounding: tuple[str, RepositoryGrounding] | None = None
    _programs: dict[str, bool] = field(default_factory=dict)

    def hand_over_if_asked(self) -> None:
        """For places between two effects: raises HandOver when another worker is to go on from the rows."""
        if self.leaving():
            raise HandOver("the worker stops; the session goes on from its rows")

    async def rules(self) -> RepositoryRules:
        """What the project says to agents, as of the commit that the session started from."""
        if self._rules is None:
            self._rules = await self.ledger.database.run_in_thread(
                RepositoryRules, project_id=self.facts.project_id, commit=self.facts.base_commit
            )
        return self._rules

    async def grounding(self, plan: PlanDoc, *, commit: str = "") -> Grounding:
        """What a plan is held against: a commit (else the branch's last one), and the programs of the sandbox."""
        commit = commit or await self.site.branch_tip()
        named = programs_named(plan) - self._programs.keys()
        if named:
            self._programs |= await programs_look_up(await self.site.workspace(), named)
        if self._grounding is None or self._grounding[0] != commit:
            ground = partial(
                RepositoryGrounding,
                project_id=self.facts.project_id,
                commit=commit,
                subfolder=self.site.subfolder,
                program_exists=lambda name: self._programs.get(name, True),
            )
            self._grounding = (commit, await asyncio.to_thread(ground))
        return self._grounding[1]

    async def instructions(self) -> Instructions:
        """What people say to every agent, as of when the session was first taken up, or for its follow-up."""
        if self._instructions is None:
            key = self.facts.turn_key("instructions")
            known = await self.ledger.effect_find(key)
            if known is None:
                found = await self.ledger.database.run_in_thread(instructions_load, self.facts.session_id)
                known = dict(await self.ledger.effect_record(key, result=found.as_dict()))
            self._instructions = Instructions.from_dict(known)
        return self._instructions

    def offer(self, role: str) -> Offer:
        """What decides over the tools that the role's model gets, beside the role."""
        model = self.model_for(role)
        chosen = edit_format_for(
            model.spec.name, asked=model.edit_format or "", configured=settings.ARCHON_EDIT_FORMATS
        )
        read_only = self.facts.autonomy is Autonomy.OBSERVE or self.facts.agent_type in READING_TYPES
        off = self.profile(role).tools_off
        return Offer(edit_format=chosen, web=bool(self.facts.network_hosts), read_only=read_only, off=off)

    def profile(self, role: str) -> AgentProfile:
        """What an agent of the role is in this session."""
        return profile_of(role, self.facts.agents)

    async def policy(self, *, looks_only: bool) -> Policy:
        """What holds now; a call that only looks may go by what held a moment ago."""
        now = time.monotonic()
        if self._policy is None or not looks_only or now - self._policy_read > POLICY_SECONDS:
            self._policy = await self.ledger.database.run_in_thread(policy_load, session_id=self.facts.session_id)
            self._policy_read = now
        return self._policy

    def outputs(self, execution_id: uuid.UUID) -> KeptOutputs:
        """What was too long to be shown to the execution's agent."""
        folder = session_server_path(session_id=self.facts.session_id) / "outputs"
        return KeptOutputs(folder=folder, execution=str(execution_id), limit=settings.ARCHON_OUTPUTS_MB << 20)

    async def observation_limit(self, role: str) -> int:
        """What one observation may say to the role's model, in characters."""
        spec = self.model_for(role).spec
        windows = await self.windows()
        return observation_limit(min(context_tokens(spec), windows.get(window_name(spec), context_tokens(spec))))

    def vision(self, role: str) -> bool:
        """Whether the role's model can be shown images."""
        return sees_images(self.model_for(role).spec)

    @property
    def history(self) -> RepositoryHistory:
        facts = self.facts
        return RepositoryHistory(project_id=facts.project_id, branch=self.site.branch, base_commit=facts.base_commit)

    @property
    def code(self) -> CodeKnowledge:
        """What the index knows of the worktree that this is about: the session's own, or a lane's."""
        facts, site = self.facts, self.site
        return CodeKnowledge(
            self.ledger.database,
            project_id=facts.project_id,
            session_id=facts.session_id,
            lane=site.lane,
            tree=site.files_tree,
        )

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
        return self.models.for_role(_MODEL_ROLES.get(role, role))

    async def conversation(self, execution_id: uuid.UUID) -> Conversation:
        """The execution's conversation, read from its rows once and added to as they are."""
        if execution_id not in self._conversations:
            transcript = await self.ledger.messages_load(execution_id)
            compaction = await self.ledger.compaction_load(execution_id)
            self._conversations[execution_id] = Conversation(execution_id, transcript, compaction)
        return self._conversations[execution_id]

    async def transcript(self, execution_id: uuid.UUID) -> list[BaseMessage]:
        """All that was said in the execution, whatever of it is sent."""
        return (await self.conversation(execution_id)).transcript

    def conversation_forget(self, execution_id: uuid.UUID) -> None:
        """Read the conversation again next time: somebody else wrote to it."""
        self._conversations.pop(execution_id, None)

    async def windows(self) -> dict[str, int]:
        """Context windows of models that turned out smaller than they were known for, by the models' names."""
        if self._windows is None:
            self._windows = await self.ledger.windows_load()
        return self._windows

"""What the API answers, as far as the command line reads it; members it doesn't know are left alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

TERMINAL_STATUSES = frozenset({"completed", "failed", "cancelled"})


class Resource(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Reason(Resource):
    code: str = ""
    message: str = ""
    next_step: str = ""
    details: dict[str, Any] = {}


class UsageShare(Resource):
    calls: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cached_share: float = 0.0
    cost_usd: float = 0.0
    priced: bool = True
    estimated: bool = False

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class ModelUsage(UsageShare):
    """What one model took."""

    model: str


class RoleUsage(UsageShare):
    """What one role took."""

    role: str


class Usage(Resource):
    """Tokens, dollars and steps that a session has used. Not ``priced``: some prices are not known."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cached_share: float = 0.0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0
    steps: int = 0
    estimated: bool = False
    priced: bool = True
    by_model: list[ModelUsage] = []
    by_role: list[RoleUsage] = []

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Limits(Resource):
    cost_usd: float | None = None
    tokens: int | None = None
    steps: int | None = None
    seconds: int | None = None


class Check(Resource):
    """One check: `passed`, `failed` or `flaky` (None: not run) before and after the work, and what its tests did."""

    name: str
    command: str = ""
    before: str | None = None
    after: str | None = None
    tests_before: int | None = None
    tests_after: int | None = None
    exit_code: int | None = None
    output: str = ""
    failing_before: list[str] = []
    failing_after: list[str] = []
    fixed: list[str] = []
    newly_failing: list[str] = []
    disappeared: list[str] = []
    flaky: list[str] = []
    flaky_before: list[str] = []


class Question(Resource):
    id: str
    text: str
    choices: list[str] | None = None


class Approval(Resource):
    """A call that waits for a person's leave."""

    call: str
    name: str
    arguments: dict[str, Any] = {}
    risk: str = ""
    reasons: list[str] = []
    digest: str
    expires_at: datetime | None = None


class Span(Resource):
    low: float = 0.0
    high: float = 0.0


class Estimate(Resource):
    """What is left of a plan is likely to take; without a cost where a price is not known."""

    tasks: int = 0
    steps: Span = Span()
    tokens: Span = Span()
    cost_usd: Span | None = None
    basis: str = ""


class PlanApprovalTask(Resource):
    key: str
    title: str
    feature: str = ""
    needs: list[str] = []
    files: list[str] = []
    checks: list[str] = []
    status: str = "pending"


class PlanApproval(Resource):
    """A plan that waits for a person's leave to be carried out."""

    plan: str
    version: int
    intent: str = ""
    summary: str = ""
    tasks: list[PlanApprovalTask] = []
    estimate: Estimate | None = None


class Session(Resource):
    id: str
    project: str
    goal: str
    agent_type: str = ""
    status: str
    outcome: str | None = None
    reason: Reason | None = None
    branch: str = ""
    base_commit: str | None = None
    head_commit: str | None = None
    model: str = ""
    base_url: str | None = None
    limits: Limits = Limits()
    usage: Usage = Usage()
    checks: list[Check] = []
    question: Question | None = None
    approval: Approval | None = None
    plan: str | None = None
    plan_approval: PlanApproval | None = None
    #: Where the goal was a question: ``{text, citations, uncited_reason, note}``.
    answer: dict[str, Any] | None = None
    autonomy: str = ""
    lanes: int = 1
    #: What was done, as Markdown; empty until the end.
    report: str = ""
    merged_commit: str = ""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class PlanNamed(Resource):
    id: str


class Progress(Resource):
    """Where a session is; the plan and the tool at hand are told by events, which the live view reads."""

    id: str
    status: str
    outcome: str | None = None
    plan: PlanNamed | None = None
    usage: Usage = Usage()
    limits: Limits = Limits()
    elapsed_s: float = 0.0
    last_seq: int = 0
    checks: list[Check] = []
    question: Question | None = None
    approval: Approval | None = None


class Publication(Resource):
    """A session's branch on its origin, and its pull request: how that stands."""

    session: str
    state: str
    branch: str
    target: str = ""
    commit: str = ""
    pull_request: bool = False
    pushed_branch: str = ""
    pushed_commit: str = ""
    forge: str = ""
    number: int | None = None
    url: str = ""
    is_draft: bool = False
    notice: str = ""
    reason: Reason | None = None
    retry_at: datetime | None = None


class Forge(Resource):
    """Where a project's pull requests are opened; ``problem`` says why they can't be."""

    kind: str = ""
    api_url: str = ""
    has_token: bool = False
    effective_kind: str = ""
    effective_api_url: str = ""
    repository: str = ""
    token_from: str = ""
    problem: str = ""
    next_step: str = ""


class Rule(Resource):
    """What was said beforehand of calls of a kind."""

    id: str
    project: str | None = None
    effect: str
    tool: str = ""
    path: str = ""
    command: str = ""
    risk: str = ""
    expires_at: datetime | None = None
    note: str = ""
    source: str = ""
    created_by: str = ""


class Step(Resource):
    """Where a session can be taken back to."""

    seq: int
    type: str
    summary: str = ""
    turn: int = 0
    #: Why it can't be, all the same: its files could not be kept.
    problem: str = ""
    created_at: datetime


class StepPage(Resource):
    steps: list[Step]


class Event(Resource):
    """Something that happened in a session; ``seq`` counts from 1 without a gap."""

    seq: int
    type: str
    payload: dict[str, Any] = {}
    created_at: datetime


class EventPage(Resource):
    events: list[Event]
    next_after: int
    last_seq: int
    session_status: str


class Secret(Resource):
    """A project's secret by name; its value is never shown."""

    name: str
    created_at: datetime
    updated_at: datetime


class ProviderKey(Resource):
    """A key of a provider, without its secret."""

    id: str
    scope: str
    project: str | None = None
    vendor: str
    base_url: str = ""
    address: str = ""
    hint: str = ""
    created_by: str = ""
    test_state: str = "untested"
    test_message: str = ""
    test_next_step: str = ""
    tested_at: datetime | None = None
    created_at: datetime | None = None


class KnownModel(Resource):
    """A model of a provider; dollars are for a million tokens."""

    name: str
    title: str = ""
    context_tokens: int = 0
    output_tokens: int = 0
    input_usd: float | None = None
    output_usd: float | None = None
    cached_input_usd: float | None = None
    vision: bool = False
    tool_calls: str = ""
    effort: bool = False


class VendorState(Resource):
    name: str
    title: str = ""
    local: bool = False
    base_url: str = ""
    configured: bool = False
    key: str = ""
    default_model: str = ""
    next_step: str = ""
    models: list[KnownModel] = []


class RoleDefault(Resource):
    """What a role calls unless a session says otherwise."""

    model: str = ""
    base_url: str = ""
    effort: str | None = None
    temperature: float | None = None
    tool_calls: str | None = None
    edit_format: str | None = None
    fallbacks: list[str] | None = None
    configured: bool = False
    problem: str = ""
    next_step: str = ""


class Catalogue(Resource):
    """What there is to choose from."""

    configured: bool
    next_step: str = ""
    defaults: dict[str, RoleDefault] = {}
    vendors: list[VendorState] = []
    addresses: list[str] = []


class UsageRow(Resource):
    """What a session, project, user, day or model took."""

    key: str
    name: str = ""
    calls: int = 0
    failed: int = 0
    lost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0
    reserved_cost_usd: float = 0.0
    priced: bool = True
    estimated: bool = False


class SpendingLimits(Resource):
    """None: no limit."""

    cost_usd: float | None = None
    tokens: int | None = None
    steps: int | None = None


class Spent(Resource):
    cost_usd: float = 0.0
    tokens: int = 0
    steps: int = 0
    reserved_cost_usd: float = 0.0
    reserved_tokens: int = 0
    reserved_steps: int = 0


class Period(Resource):
    limits: SpendingLimits = SpendingLimits()
    spent: Spent = Spent()


class Allowance(Resource):
    """What the sessions of a project or a user may spend together, and have spent."""

    scope: str
    id: str
    sessions: int | None = None
    total: Period = Period()
    day: Period = Period()


class Person(Resource):
    id: str
    email: str = ""
    #: What they say to every agent of their sessions.
    preferences: str = ""


class DiffFile(Resource):
    path: str
    status: str = ""
    #: None for binary files.
    additions: int | None = None
    deletions: int | None = None


class Diff(Resource):
    base: str | None = None
    head: str | None = None
    diff: str = ""
    files: list[DiffFile] = []
    truncated: bool = False


class FetchProgress(Resource):
    phase: str = ""
    percent: int | None = None
    received: str = ""

    @property
    def told(self) -> str:
        """In a few words."""
        parts = [self.phase.lower(), f"{self.percent} %" if self.percent is not None else "", self.received]
        return " ".join(part for part in parts if part)


class Source(Resource):
    """Where a project's repository is fetched from, and how that stands: `idle`, `waiting`, `running`, `failed`."""

    url: str
    branch: str = ""
    state: str = ""
    progress: FetchProgress | None = None
    reason: Reason | None = None


class Notice(Resource):
    kind: str = ""
    path: str = ""
    message: str = ""


class Project(Resource):
    id: str
    name: str
    description: str = ""
    repository_state: str = ""
    repository_notices: list[Notice] = []
    source: Source | None = None
    default_branch: str = ""
    head_commit: str | None = None
    #: What it says to every agent.
    instructions: str = ""
    #: What is different about its agents, by role.
    agents: dict[str, dict[str, Any]] = {}


class AgentProfile(Resource):
    """What agents of a role are."""

    role: str
    prompt: str
    instructions: str = ""
    tools: list[str] = []
    tools_off: list[str] = []
    steps: int = 0
    tokens: int = 0
    seconds: int = 0
    #: Of the reviewer.
    threshold: str | None = None
    rounds: int | None = None


class IndexJob(Resource):
    """A job of indexing."""

    id: str
    project: str
    state: str
    commit: str = ""
    progress: dict[str, Any] = {}
    reason: Reason | None = None
    notes: list[dict[str, Any]] = []

    def told(self) -> str:
        """How it stands, in words."""
        done, total = self.progress.get("files_done", 0), self.progress.get("files_total", 0)
        if self.state == "completed":
            if not total:
                return f"Indexed: nothing has changed at {self.commit[:12]}"
            found = f"{self.progress.get('chunks', 0)} chunks, {self.progress.get('symbols', 0)} symbols"
            return f"Indexed: {done} files read ({found}) at {self.commit[:12]}"
        if self.state == "failed" and self.reason is not None:
            return f"Not indexed: {self.reason.message}. {self.reason.next_step}".strip()
        if self.state == "running":
            return f"Indexing: {self.progress.get('phase', 'starting')}, {done} of {total} files"
        return {"waiting": "Waiting for a worker", "cancelled": "Cancelled"}.get(self.state, self.state)


class CodeSnippet(Resource):
    start_line: int
    text: str = ""


class CodeHit(Resource):
    """Code that was found."""

    path: str
    start_line: int
    end_line: int
    line: int = 0
    symbol: str = ""
    kind: str = ""
    score: float = 0.0
    commit: str = ""
    snippet: CodeSnippet
    scores: dict[str, Any] = {}

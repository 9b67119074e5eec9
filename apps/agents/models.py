"""Sessions of agents, and everything that happened in them.

Four histories, each with one use: the session's row is *now*; its events are *what happened*; the LangGraph checkpoint
is an opaque cursor; executions, messages and tool calls are what the agents said and did, from which a conversation is
rebuilt.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from apps.agents.types import (
    TERMINAL_STATUSES,
    AgentType,
    AttachmentKind,
    PolicyEffect,
    PublicationState,
    Review,
    Risk,
    SessionOutcome,
    SessionStatus,
    SourceKind,
    ToolCallStatus,
)
from apps.core.models import BaseModel
from apps.planning.models import Plan, Task
from apps.projects.autonomy import Autonomy
from apps.projects.models import Project


def cascade_unless_active(collector: Any, field: Any, sessions: models.QuerySet[AgentSession], using: str) -> None:
    """On deleting a project: its sessions go with it, unless one has not ended, which protects all."""
    active = sessions.exclude(status__in=TERMINAL_STATUSES)
    if active.exists():
        raise models.ProtectedError("the project has sessions that have not ended", set(active))
    models.CASCADE(collector, field, sessions, using)


class AgentSession(BaseModel):
    """One goal, worked on in one branch. Written by ``services.sessions`` alone."""

    project = models.ForeignKey(Project, on_delete=cascade_unless_active, related_name="sessions")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="sessions")
    goal = models.TextField()
    agent_type = models.CharField(max_length=20, choices=AgentType.choices, default=AgentType.EXECUTOR)
    status = models.CharField(max_length=20, choices=SessionStatus.choices, default=SessionStatus.PENDING)
    outcome = models.CharField(max_length=20, choices=SessionOutcome.choices, null=True, blank=True)
    #: Why it is paused, failed or unverified: ``{code, message, next_step}``.
    reason = models.JSONField(null=True, blank=True)
    plan = models.ForeignKey(Plan, on_delete=models.SET_NULL, null=True, blank=True, related_name="sessions")
    #: ``provider:model`` and the endpoint, empty for the provider's own.
    model = models.CharField(max_length=300)
    base_url = models.CharField(max_length=500, blank=True)
    #: What each role calls, as it was chosen at the start: ``usage.choices.ModelOptions`` by role. Empty: ``model``.
    role_models = models.JSONField(default=dict, blank=True)
    #: Shell commands; empty: found from the repository.
    check_commands = models.JSONField(default=list, blank=True)
    setup_command = models.TextField(blank=True)
    #: The project's secrets that it gets: ``{name, places}`` each.
    secrets = models.JSONField(default=list, blank=True)
    #: The project's folder that it is about, when it was begun; empty: all of the repository.
    subfolder = models.CharField(max_length=1000, blank=True)
    #: What its agents may do without asking.
    autonomy = models.CharField(
        max_length=10, choices=Autonomy.choices, default=Autonomy.AUTO, db_default=Autonomy.AUTO.value
    )
    #: How long it may run; pauses, and waits for a person or a worker, don't count.
    #: How many tasks may be worked on side by side.
    lanes = models.PositiveSmallIntegerField(default=1, db_default=1)
    #: Which tasks' changes the reviewer looks at.
    review = models.CharField(
        max_length=10, choices=Review.choices, default=Review.NEVER, db_default=Review.NEVER.value
    )
    #: What the project says of its agents, by role, as of the start: ``services.agent_profiles``.
    agents = models.JSONField(default=dict, blank=True)
    limit_seconds = models.PositiveIntegerField()
    #: How long it has run, up to ``running_since``: when a worker took it up, while one has it.
    used_seconds = models.FloatField(default=0)
    running_since = models.DateTimeField(null=True, blank=True)
    branch = models.CharField(max_length=255)
    base_branch = models.CharField(max_length=255)
    base_commit = models.CharField(max_length=64)
    head_commit = models.CharField(max_length=64, blank=True)
    merged_commit = models.CharField(max_length=64, blank=True)
    #: Where the base branch has to be for a merge, when not at ``base_commit``: an earlier merge left it there.
    merge_onto = models.CharField(max_length=64, blank=True, default="")
    #: Which follow-up it works on; 0: the goal itself.
    turn = models.PositiveIntegerField(default=0)
    #: How often it was put onto another commit; ``base_commit`` is the last of those.
    rebases = models.PositiveIntegerField(default=0)
    #: While that is under way: ``{onto, head, former_base, former_head, commits}``.
    rebase = models.JSONField(null=True, blank=True)
    discarded_at = models.DateTimeField(null=True, blank=True)
    #: How often it was taken back to an earlier step, and which of these times took the making of a plan back.
    rewinds = models.PositiveIntegerField(default=0, db_default=0)
    plan_rewind = models.PositiveIntegerField(default=0, db_default=0)
    #: Files and branch that a rewind has yet to put back: ``services.restoring.Restore``.
    restore = models.JSONField(null=True, blank=True)
    #: What the server's checks said before and after, a list of comparisons.
    checks = models.JSONField(default=list, blank=True)
    report = models.TextField(blank=True)
    #: The wiring of the graph that runs it, so that a newer one knows whom it meets.
    graph_version = models.PositiveIntegerField(default=1)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["project", "-created_at"]), models.Index(fields=["status"])]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=SessionStatus.values), name="session_status_known"),
            models.CheckConstraint(
                condition=Q(outcome__isnull=True) | Q(outcome__in=SessionOutcome.values), name="session_outcome_known"
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=False, status__in=sorted(TERMINAL_STATUSES))
                | (Q(finished_at__isnull=True) & ~Q(status__in=sorted(TERMINAL_STATUSES))),
                name="session_finished_when_terminal",
            ),
            models.CheckConstraint(
                condition=~Q(status="completed") | Q(outcome__isnull=False), name="session_completed_has_outcome"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} ({self.status})"


class SessionHead(models.Model):
    """The narrow row that every write of a session passes through: its counter of events and its lease.

    Whoever changes a session locks this row first, so that events, transitions and claims have one order.
    """

    session = models.OneToOneField(AgentSession, on_delete=models.CASCADE, primary_key=True, related_name="head")
    seq = models.BigIntegerField(default=0)
    #: What a row that is written now bears as its ``seq``: the last event of its transaction, or the next one to come
    #: where its transaction has none, so that going back to an event leaves exactly what there was right after it.
    written = models.BigIntegerField(default=0, db_default=0)
    #: Grows with every claim and every revocation; a write that carries an older one is refused.
    fence = models.BigIntegerField(default=0)
    owner = models.CharField(max_length=100, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    #: Somebody wants the session to run; the sweeper wakes it while nobody holds the lease.
    wanted = models.BooleanField(default=False)
    #: When the sweeper last told the workers of it; nothing since a worker had it.
    woken_at = models.DateTimeField(null=True, blank=True)
    #: How many words of people the agent has yet to hear: told to the worker with each of its writes.
    steering = models.PositiveIntegerField(default=0, db_default=0)
    claims = models.PositiveIntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["lease_expires_at"], condition=Q(wanted=True), name="sessionhead_wanted")]


class SessionEvent(models.Model):
    """Something that happened, numbered without gaps; never changed, never removed before its session is."""

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="events")
    seq = models.BigIntegerField()
    type = models.CharField(max_length=40)
    payload = models.JSONField(default=dict)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["session", "seq"]
        constraints = [models.UniqueConstraint(fields=["session", "seq"], name="sessionevent_seq_unique")]


class SessionEffect(models.Model):
    """An effect that must happen once: a replayed node finds here what it did before."""

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="effects")
    key = models.CharField(max_length=200)
    result = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    #: The session's last event when it was written (with those of its own transaction); None: before this was kept.
    seq = models.BigIntegerField(null=True, blank=True)
    #: The rewind that took it back. Its key has the number as well, so that it is out of the way.
    retired = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["session", "key"], name="sessioneffect_key_unique")]


class AgentExecution(BaseModel):
    """One agent at work: a role, on one attempt at one task (or on the session as a whole)."""

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="executions")
    task = models.ForeignKey(Task, on_delete=models.SET_NULL, null=True, blank=True, related_name="executions")
    role = models.CharField(max_length=20)
    attempt = models.PositiveIntegerField(default=1)
    result = models.JSONField(null=True, blank=True)
    #: Every result that was set or taken away, in order: ``{seq, result}``.
    results = models.JSONField(null=True, blank=True)
    seq = models.BigIntegerField(null=True, blank=True)
    #: The rewind that took it back, and whose later part it is: what was said after that point, out of the way.
    retired = models.PositiveIntegerField(null=True, blank=True)
    origin = models.UUIDField(null=True, blank=True)

    class Meta:
        ordering = ["created_at"]


class ExecutionMessage(models.Model):
    """A message of an execution's conversation, in order; LangChain's own serial form."""

    execution = models.ForeignKey(AgentExecution, on_delete=models.CASCADE, related_name="messages")
    position = models.PositiveIntegerField()
    message = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)
    seq = models.BigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["execution", "position"]
        constraints = [models.UniqueConstraint(fields=["execution", "position"], name="executionmessage_once")]


class Compaction(models.Model):
    """What was left out of an execution's conversation from one step on, and what stands for it; the rows stay whole.

    The last one says all: what is sent to a model follows from it and the messages (``services.conversation_view``).
    """

    execution = models.ForeignKey(AgentExecution, on_delete=models.CASCADE, related_name="compactions")
    sequence = models.PositiveIntegerField()
    #: How many messages there were when it was made.
    position = models.PositiveIntegerField()
    #: Messages before this one are left out, but for the opening and those in ``kept``; ``summary`` stands for them.
    dropped_to = models.PositiveIntegerField()
    kept = models.JSONField(default=list)
    summary = models.TextField(blank=True)
    #: Of messages before this one the outputs of tools are cleared.
    cleared_to = models.PositiveIntegerField()
    #: Characters that are left of each output of those after it, up to ``position``; 0: all.
    output_limit = models.PositiveIntegerField(default=0)
    #: Who wrote the summary: a model's name, or ``digest`` for the server itself; empty: there is none.
    summary_by = models.CharField(max_length=300, blank=True)
    reason = models.CharField(max_length=20)
    #: A model's context window as it turned out, where that was the reason.
    model = models.CharField(max_length=1000, blank=True)
    window = models.PositiveIntegerField(null=True, blank=True)
    bytes_per_token = models.FloatField(default=0)
    tokens_before = models.PositiveIntegerField()
    tokens_after = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["execution", "sequence"]
        constraints = [models.UniqueConstraint(fields=["execution", "sequence"], name="compaction_once")]


class ToolCall(BaseModel):
    """One call of a tool: written before it runs, completed after. Its id is derived from where it stands."""

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="tool_calls")
    execution = models.ForeignKey(AgentExecution, on_delete=models.CASCADE, related_name="tool_calls")
    #: The position of the message that proposed it, and its place among that message's calls.
    position = models.PositiveIntegerField()
    ordinal = models.PositiveIntegerField()
    provider_call_id = models.CharField(max_length=200)
    name = models.CharField(max_length=100)
    arguments = models.JSONField(default=dict)
    status = models.CharField(max_length=10, choices=ToolCallStatus.choices, default=ToolCallStatus.OPEN)
    ok = models.BooleanField(null=True)
    #: What the model is told.
    observation = models.TextField(blank=True)
    #: Of an edit: the format that it is written in, and whether it could be carried out as it was written.
    edit_format = models.CharField(max_length=20, blank=True, default="", db_default="")
    well_formed = models.BooleanField(null=True)
    #: The call of the model that proposed it; empty: named by execution and position.
    model_key = models.CharField(max_length=120, blank=True, default="", db_default="")
    finished_at = models.DateTimeField(null=True, blank=True)
    #: Of a call that a person has to approve: what they are asked, and what they said (``services.approvals``).
    approval = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(fields=["execution", "position", "ordinal"], name="toolcall_once"),
            models.CheckConstraint(condition=Q(status__in=ToolCallStatus.values), name="toolcall_status_known"),
        ]


class PolicyRule(BaseModel):
    """What people say beforehand of calls of a kind. All conditions that it has must hold."""

    #: None: for every project on the server.
    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, blank=True, related_name="policy_rules")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="policy_rules")
    effect = models.CharField(max_length=10, choices=PolicyEffect.choices)
    #: Patterns; empty: any.
    tool = models.CharField(max_length=100, blank=True, default="")
    path = models.CharField(max_length=1000, blank=True, default="")
    command = models.CharField(max_length=2000, blank=True, default="")
    risk = models.CharField(max_length=20, choices=Risk.choices, blank=True, default="")
    #: It holds until then; None: until it is deleted.
    expires_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=500, blank=True, default="")
    #: The call whose approval it comes from, if it does.
    source = models.CharField(max_length=100, blank=True, default="")

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(effect__in=PolicyEffect.values), name="policyrule_effect_known"),
            models.CheckConstraint(condition=Q(risk="") | Q(risk__in=Risk.values), name="policyrule_risk_known"),
        ]


class Attachment(BaseModel):
    """A file that a person gave to a session, or that one fetched. Its bytes are in a file named by its id."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="attachments")
    #: None until a session (or a message to one) names it; it expires then.
    session = models.ForeignKey(
        AgentSession, on_delete=models.CASCADE, null=True, blank=True, related_name="attachments"
    )
    #: The follow-up that it came with; 0: the goal.
    turn = models.PositiveIntegerField(default=0)
    #: Unique within the session: what it is called in the sandbox.
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=10, choices=AttachmentKind.choices)
    media_type = models.CharField(max_length=100)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(fields=["session", "name"], name="attachment_name_unique"),
            models.CheckConstraint(condition=Q(kind__in=AttachmentKind.values), name="attachment_kind_known"),
        ]


class SessionSource(models.Model):
    """An issue or a failing log that a session starts from."""

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="sources")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=SourceKind.choices)
    #: Where a worker fetches it from; empty for one that was handed over.
    url = models.CharField(max_length=2000, blank=True)
    title = models.CharField(max_length=300, blank=True)
    #: Its text; None until it was fetched.
    attachment = models.OneToOneField(
        Attachment, on_delete=models.CASCADE, null=True, blank=True, related_name="source"
    )

    class Meta:
        ordering = ["session", "position"]
        constraints = [
            models.UniqueConstraint(fields=["session", "position"], name="sessionsource_once"),
            models.CheckConstraint(condition=Q(kind__in=SourceKind.values), name="sessionsource_kind_known"),
        ]


class SessionMessage(BaseModel):
    """What a person said to a session that had ended, which made it go on."""

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="messages")
    sent_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="session_messages")
    #: Counts from 1; the session's ``turn`` while it is worked on.
    turn = models.PositiveIntegerField()
    text = models.TextField()
    #: The client's own name for it: the same one again is the same message.
    key = models.CharField(max_length=200, blank=True)
    #: How the session stood: status, outcome, reason, report, head and merged commit.
    former = models.JSONField(default=dict)
    #: The rewind that took it back.
    retired = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["session", "turn"]
        constraints = [
            models.UniqueConstraint(fields=["session", "turn"], name="sessionmessage_turn_unique"),
            models.UniqueConstraint(fields=["session", "key"], condition=~Q(key=""), name="sessionmessage_key_unique"),
        ]


class Steering(BaseModel):
    """What a person said to a session that had not ended; its agent hears it before its next call of the model."""

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="steerings")
    sent_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="steerings")
    text = models.TextField()
    #: The task that it is about: only whoever works on that hears it. None: whoever is at work.
    task_id = models.UUIDField(null=True, blank=True)
    #: The client's own name for it: the same one again is the same message.
    key = models.CharField(max_length=200, blank=True)
    #: The events that told of its coming and of its being heard.
    seq = models.BigIntegerField()
    delivered_seq = models.BigIntegerField(null=True, blank=True)
    #: The rewind that took it back.
    retired = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["session", "seq"]
        constraints = [
            models.UniqueConstraint(fields=["session", "key"], condition=~Q(key=""), name="steering_key_unique")
        ]
        indexes = [
            models.Index(
                fields=["session"], condition=Q(delivered_seq__isnull=True, retired__isnull=True), name="steering_waits"
            )
        ]


class FileSnapshot(models.Model):
    """The session's files, and where its branch was, right after a step that changed either."""

    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="snapshots")
    #: The worktree that they are in, by its name; empty: the session's own.
    lane = models.CharField(max_length=100, blank=True, default="", db_default="")
    #: The step: the session's last event in the transaction that wrote this.
    seq = models.BigIntegerField()
    #: A tree or commit in the server's repository; empty: the files could not be kept, ``problem`` says why.
    tree = models.CharField(max_length=64, blank=True)
    #: The commit that the branch was at.
    head = models.CharField(max_length=64)
    problem = models.TextField(blank=True, default="")
    retired = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["session", "seq", "id"]
        indexes = [models.Index(fields=["session", "seq"])]


class Publication(BaseModel):
    """A session's branch on the project's origin, with its pull request: what is wanted, and what is there."""

    session = models.OneToOneField(AgentSession, on_delete=models.CASCADE, related_name="publication")
    #: Who asked for it last.
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    state = models.CharField(max_length=10, choices=PublicationState.choices, default=PublicationState.WANTED)
    #: What is to be there: this commit on this branch, and a pull request into ``target``.
    commit = models.CharField(max_length=64)
    branch = models.CharField(max_length=255)
    target = models.CharField(max_length=255)
    pull_request = models.BooleanField(default=False)
    #: Empty: from the goal, and one that is there keeps its own.
    title = models.CharField(max_length=300, blank=True)
    #: None: a draft unless the outcome is verified, and one that is there stays what it is.
    draft = models.BooleanField(null=True, blank=True)

    #: What this session has put there: only where nobody has moved it since is it moved with force.
    pushed_url = models.CharField(max_length=2000, blank=True)
    pushed_branch = models.CharField(max_length=255, blank=True)
    pushed_commit = models.CharField(max_length=64, blank=True)
    #: What may be there instead: written down before it is pushed, since a worker may die right after.
    pushing_commit = models.CharField(max_length=64, blank=True)
    forge = models.CharField(max_length=10, blank=True)
    number = models.PositiveBigIntegerField(null=True, blank=True)
    #: Of the pull request.
    url = models.CharField(max_length=2000, blank=True)
    is_draft = models.BooleanField(default=False)
    #: What came out otherwise than it was asked for.
    notice = models.TextField(blank=True)

    #: ``{code, message, next_step}`` of one that failed, or that is tried again at ``retry_at``.
    reason = models.JSONField(null=True, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True)
    #: How often it was taken up since it was asked for.
    attempts = models.PositiveIntegerField(default=0)
    #: Counts those who took it up: only the last one's word counts.
    fence = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=PublicationState.values), name="publication_state_known"),
            models.CheckConstraint(
                condition=~Q(state=PublicationState.RUNNING) | Q(lease_until__isnull=False),
                name="publication_running_has_lease",
            ),
        ]
        indexes = [models.Index(fields=["state"], name="publication_state")]

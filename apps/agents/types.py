"""The words of a session: its states, its events, and what callers hear about it."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import models

from apps.projects.agent_settings import Review as Review
from apps.projects.agent_settings import Severity as Severity
from apps.usage.choices import Role


class SessionStatus(models.TextChoices):
    """Where a session is."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    WAITING_INPUT = "waiting_input"
    WAITING_APPROVAL = "waiting_approval"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL_STATUSES = frozenset({SessionStatus.COMPLETED, SessionStatus.FAILED, SessionStatus.CANCELLED})


class SessionOutcome(models.TextChoices):
    """What a session's result is worth."""

    #: The server ran the checks on the final commit and they passed.
    VERIFIED = "verified"
    #: There were no checks to run, or what they say cannot be trusted; the report tells which.
    UNVERIFIED = "unverified"
    #: The server ran the checks on the final commit and they did not pass.
    FAILING = "failing"


class AgentType(models.TextChoices):
    CODER = "coder"
    PLANNER = "planner"
    REVIEWER = "reviewer"
    RESEARCHER = "researcher"
    EXECUTOR = "executor"


#: The roles that a session of each type works in; the last is the one that a model is named for first of all.
ROLES_OF: dict[AgentType, tuple[Role, ...]] = {
    AgentType.CODER: ("coder",),
    AgentType.PLANNER: ("planner",),
    AgentType.REVIEWER: ("reviewer",),
    AgentType.RESEARCHER: ("researcher",),
    AgentType.EXECUTOR: ("planner", "researcher", "reviewer", "coder"),
}


class ToolCallStatus(models.TextChoices):
    """How far a tool call got; an open one whose process died has an unknown outcome."""

    OPEN = "open"
    #: For a person: for an answer, or for leave to be carried out.
    WAITING = "waiting"
    #: A person gave leave; nobody has begun it.
    APPROVED = "approved"
    #: Cut off by a pause or a cancel: nobody knows how far it came.
    STOPPED = "stopped"
    FINISHED = "finished"


class Risk(models.TextChoices):
    """What a tool can do, for the policy to judge; of a call of it, the policy may know better."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    #: Reads what is elsewhere: what it asks for is seen there.
    NETWORK = "network"
    INSTALL = "install"
    #: Changes commits, branches or what git is set to.
    GIT_HISTORY = "git_history"
    #: Runs code: what that does can't be told by looking at the call.
    EXECUTE = "execute"
    #: The call can't be read.
    UNKNOWN = "unknown"
    #: Speaks to a person, or ends the work.
    TALK = "talk"


class PolicyEffect(models.TextChoices):
    """What a rule says of the calls that it fits; of several rules the last of these that is said holds."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class ApprovalDecision(models.TextChoices):
    """What a person says to a call that waits for them."""

    APPROVE = "approve"
    EDIT = "edit"
    REJECT = "reject"


#: Sessions that only read: none of their agents, nor those that these would start, gets a tool that changes anything.
READING_TYPES = frozenset({AgentType.PLANNER, AgentType.RESEARCHER, AgentType.REVIEWER})


class AttachmentKind(models.TextChoices):
    """What a file turned out to be, by its bytes."""

    TEXT = "text"
    IMAGE = "image"
    BINARY = "binary"


class SourceKind(models.TextChoices):
    """What a session can start from besides a goal in words."""

    ISSUE = "issue"
    CI_LOG = "ci_log"


class PublicationState(models.TextChoices):
    """How far the handing over of a session's branch is."""

    WANTED = "wanted"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Citation:
    """Lines of a file, from which something is known."""

    path: str
    start_line: int
    end_line: int

    def __str__(self) -> str:
        lines = f"{self.start_line}-{self.end_line}" if self.end_line > self.start_line else f"{self.start_line}"
        return f"{self.path}:{lines}"

    def as_dict(self) -> dict[str, str | int]:
        return {"path": self.path, "start_line": self.start_line, "end_line": self.end_line}


@dataclass(frozen=True)
class Event:
    """Something that happened in a session, before it has a number; the types are in docs/reference/events.md."""

    type: str
    payload: dict[str, Any] = field(default_factory=dict)


class HandOver(Exception):
    """This worker is stopping: the session, which stands between two steps, goes on elsewhere."""


@dataclass(frozen=True)
class SessionEventData:
    """A stored event. ``seq`` counts from 1 without a gap within its session."""

    seq: int
    type: str
    payload: dict[str, Any]
    created_at: datetime.datetime


@dataclass(frozen=True)
class PolicyRuleData:
    """A rule as the gate reads it: a condition that is empty holds for every call."""

    id: str
    effect: PolicyEffect
    tool: str = ""
    path: str = ""
    command: str = ""
    risk: str = ""
    expires_at: datetime.datetime | None = None
    note: str = ""


@dataclass(frozen=True)
class Reason:
    """Why a session is where it is, for a person: what happened and what to do."""

    code: str
    message: str
    next_step: str = ""
    #: The same for programs: the limit and what is spent of it, the kind of failure.
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        said: dict[str, Any] = {"code": self.code, "message": self.message, "next_step": self.next_step}
        return {**said, "details": dict(self.details)} if self.details else said


@dataclass(frozen=True)
class EditShare:
    """How many edits a model proposed in one form, and how many of them could be carried out as they were written."""

    model: str
    format: str
    calls: int
    well_formed: int


@dataclass(frozen=True)
class Lease:
    """The right to run a session until somebody else takes or revokes it; every write carries the fence."""

    session_id: uuid.UUID
    fence: int
    #: How many times the session has been taken up, this time included.
    attempt: int

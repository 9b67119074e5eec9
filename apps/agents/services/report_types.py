"""What a report says, as facts: read off the rows by ``report_facts``, put into words by ``report_text``."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, TypeVar

from apps.core.redaction import Redactor

T = TypeVar("T")

#: A task in one of these was not done, and will not be by itself.
NOT_DONE = ("failed", "blocked", "skipped")


@dataclass(frozen=True)
class CheckFact:
    """What a task's own check said on its last commit."""

    name: str
    command: str
    passed: bool
    exit_code: int | None
    output: str


@dataclass(frozen=True)
class FindingFact:
    """What the reviewer found."""

    path: str
    line: int | None
    severity: str
    comment: str
    resolved: bool


@dataclass(frozen=True)
class TaskFact:
    key: str
    title: str
    type: str
    status: str
    attempts: int
    commit: str
    #: What its agent says that it did.
    result: str
    files: tuple[str, ...]
    checks: tuple[CheckFact, ...]
    findings: tuple[FindingFact, ...]
    #: Why it is not done.
    reason: str


@dataclass(frozen=True)
class FeatureFact:
    """A feature with its own tasks; those within it follow, one level deeper."""

    key: str
    title: str
    depth: int
    status: str
    tasks: tuple[TaskFact, ...]


@dataclass(frozen=True)
class DroppedFact:
    """A task that an earlier version of the plan had."""

    key: str
    title: str
    version: int
    reason: str


@dataclass(frozen=True)
class VersionFact:
    """A version of the plan: who made it and why, and how much of it is new."""

    number: int
    source: str
    reason: str
    added: int
    removed: int
    changed: int


@dataclass(frozen=True)
class ProjectCheckFact:
    """One of the project's checks before and after the work."""

    name: str
    command: str
    before: str | None
    after: str | None
    tests_before: int
    tests_after: int
    exit_code: int | None
    output: str
    fixed: tuple[str, ...]
    newly_failing: tuple[str, ...]
    still_failing: tuple[str, ...]
    disappeared: tuple[str, ...]
    flaky: tuple[str, ...]


@dataclass(frozen=True)
class ModelFact:
    name: str
    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cached_share: float
    cost_usd: float
    priced: bool
    estimated: bool


@dataclass(frozen=True)
class SpendingFact:
    """What the session took; ``seconds`` is None while that is not settled."""

    models: tuple[ModelFact, ...]
    steps: int
    input_tokens: int
    output_tokens: int
    cached_share: float
    cost_usd: float
    priced: bool
    seconds: int | None


@dataclass(frozen=True)
class ReportFacts:
    session_id: str
    goal: str
    agent_type: str
    status: str
    #: The session has ended: nothing is added by itself.
    final: bool
    outcome: str | None
    #: What speaks against the result; of a session that did not complete, why.
    reasons: tuple[str, ...]
    #: What the plan says of itself; empty: there is none.
    summary: str
    #: What an agent that only read has answered.
    answer: str
    plan_version: int | None
    approved_version: int | None
    versions: tuple[VersionFact, ...]
    features: tuple[FeatureFact, ...]
    dropped: tuple[DroppedFact, ...]
    checks: tuple[ProjectCheckFact, ...]
    changed_tests: tuple[str, ...]
    changed_check_config: tuple[str, ...]
    files: tuple[str, ...]
    base_branch: str
    base_commit: str
    branch: str
    head_commit: str
    merged_commit: str
    #: The branch on the project's origin; empty: it was not pushed.
    published_branch: str
    spending: SpendingFact

    @cached_property
    def tasks(self) -> tuple[TaskFact, ...]:
        return tuple(task for feature in self.features for task in feature.tasks)


def without_secrets(facts: T, redactor: Redactor) -> T:
    """The same facts with the names of secrets for their values.

    Before they are put into words: what Markdown escapes of a value is found no more.
    """
    redacted: T = _redacted(facts, redactor) if redactor else facts
    return redacted


def _redacted(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, tuple):
        return tuple(_redacted(item, redactor) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{each.name: _redacted(getattr(value, each.name), redactor) for each in fields(value)})
    return value

"""What a review is about and what it comes to: findings on the lines that a commit changed. Plain functions."""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from apps.agents.types import Severity
from apps.projects.diff_lines import ChangedFile

#: Findings that one review may have, and how long one may be.
MAX_FINDINGS, COMMENT_LENGTH = 50, 4_000
#: How often a review that points beside the change is handed back before what does so is left out.
HANDED_BACK = 2
_RANGES_SHOWN = 40


@dataclass(frozen=True)
class Finding:
    """Something that the reviewer found at a line of a changed file; line 0: the file as a whole."""

    #: ``ROUND.NUMBER``, once in a task.
    id: str
    path: str
    line: int
    severity: Severity
    comment: str
    resolved: bool = False

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Finding:
        return cls(**{**row, "severity": Severity(row["severity"])})

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "severity": self.severity.value}

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"[{self.id}] {place} ({self.severity.value}): {self.comment}"


@dataclass(frozen=True)
class ReviewScope:
    """What a reviewer was given: the change, and what is still open of what was found in it before."""

    task: uuid.UUID
    round: int
    attempt: int
    commit: str
    files: tuple[ChangedFile, ...]
    former: tuple[Finding, ...] = ()

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> ReviewScope:
        return cls(
            task=uuid.UUID(row["task"]),
            round=row["round"],
            attempt=row["attempt"],
            commit=row["commit"],
            files=tuple(ChangedFile.read(each) for each in row["files"]),
            former=tuple(Finding.read(each) for each in row["former"]),
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "task": str(self.task),
            "round": self.round,
            "attempt": self.attempt,
            "commit": self.commit,
            "files": [asdict(each) for each in self.files],
            "former": [each.as_dict() for each in self.former],
        }


@dataclass(frozen=True)
class Found:
    """What a reviewer handed over, set against the change."""

    findings: tuple[Finding, ...]
    #: What of it can't stand, in words for the reviewer.
    problems: tuple[str, ...] = ()
    #: Findings that are beside the change.
    beside: int = 0
    #: Former findings that are resolved, by the reviewer's word.
    resolved: tuple[str, ...] = field(default=())


def reviewing_key(execution_id: uuid.UUID) -> str:
    """The effect that says what an execution reviews; none: it reviews nothing of this session's."""
    return f"reviewing:{execution_id}"


def review_key(task_id: uuid.UUID, round_number: int) -> str:
    """The effect that says what a review came to: ``{verdict, attempt, commit, summary, findings, …}``."""
    return f"review:{task_id}:{round_number}"


def decision_key(task_id: uuid.UUID, round_number: int) -> str:
    """The effect that says what a person decided after the reviewer and the coder came to no end."""
    return f"review-decision:{task_id}:{round_number}"


def findings_place(
    scope: ReviewScope,
    given: Sequence[tuple[str, int, Severity, str]],
    *,
    resolved: Iterable[str],
    unresolved: Iterable[str],
) -> Found:
    """Findings (path, line, severity, comment) as they stand on the change, and what is to be handed back of them."""
    files = {each.path: each for each in scope.files}
    findings: list[Finding] = []
    problems: list[str] = []
    beside = 0
    for path, line, severity, comment in given:
        path = posixpath.normpath(path.strip()).lstrip("/")
        file = files.get(path)
        if file is None:
            beside += 1
            changed = ", ".join(list(files)[:_RANGES_SHOWN])
            problems.append(f"{path} is not a file of the change; changed are {changed}")
        elif not file.has(line):
            beside += 1
            problems.append(f"line {line} of {path} is not changed; changed lines are {_ranges(file)}")
        else:
            number = f"{scope.round}.{len(findings) + 1}"
            findings.append(Finding(number, path, 0 if file.whole else line, severity, comment))
    known = [each.id for each in scope.former]
    said = {*resolved, *unresolved}
    strange = sorted(said - set(known))
    if strange:
        problems.append(f"there is no earlier finding {', '.join(strange)}; open are {', '.join(known) or 'none'}")
    missing = [each for each in known if each not in said]
    if missing:
        problems.append(
            f"say of each earlier finding whether it is resolved: {', '.join(missing)} in `resolved` or `unresolved`"
        )
    both = sorted(set(resolved) & set(unresolved))
    if both:
        problems.append(f"{', '.join(both)} can't be both resolved and unresolved")
    done = tuple(each for each in known if each in set(resolved) - set(unresolved))
    return Found(tuple(findings), tuple(problems), beside, done)


def findings_merge(all_so_far: Sequence[Finding], new: Sequence[Finding], resolved: Iterable[str]) -> list[Finding]:
    """Every finding of a task after another review of it."""
    settled = set(resolved)
    return [*(replace(each, resolved=each.resolved or each.id in settled) for each in all_so_far), *new]


def findings_open(findings: Iterable[Finding], threshold: Severity = Severity.INFO) -> list[Finding]:
    """Those that are not resolved and weigh as much as this, or more; the heaviest first."""
    order = list(Severity)
    left = [each for each in findings if not each.resolved and each.severity.reaches(threshold)]
    return sorted(left, key=lambda each: -order.index(each.severity))


def findings_told(findings: Iterable[Finding]) -> str:
    return "\n".join(f"- {each}" for each in findings)


def _ranges(file: ChangedFile) -> str:
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in file.ranges[:_RANGES_SHOWN]]
    return ", ".join(shown) + (", …" if len(file.ranges) > _RANGES_SHOWN else "")

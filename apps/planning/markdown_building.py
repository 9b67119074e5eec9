"""Making a plan's document of what was read of its Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from apps.core.errors import InvalidInput
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc

_Doc = TypeVar("_Doc", PlanDoc, FeatureDoc, TaskDoc)


@dataclass
class Draft:
    """A feature, a task or the plan itself as far as it was read."""

    line: int
    title: str
    key: str = ""
    level: int = 0
    members: dict[str, Any] = field(default_factory=dict)
    #: Pieces of its text: runs of lines.
    text: list[list[str]] = field(default_factory=list)
    #: What it says in quotes, in place of that.
    quoted: str | None = None
    tasks: list[Draft] = field(default_factory=list)
    features: list[Draft] = field(default_factory=list)

    def text_of(self) -> str:
        if self.quoted is not None:
            return self.quoted
        return "\n\n".join("\n".join(piece) for piece in self.text)


def line_error(line: int, what: str) -> InvalidInput:
    return InvalidInput(f"line {line}: {what}", next_step="see the Markdown of plans in docs/reference/plans.md")


class Builder:
    """Makes a document of drafts: keys for those that have none, and the task before as what such a one needs."""

    def __init__(self, plan: Draft) -> None:
        self._plan = plan
        self._used = {draft.key for draft in drafts_of(plan) if draft.key}
        self._numbers = {"F": 0, "T": 0}
        self._previous = ""

    def build(self) -> PlanDoc:
        text, title = self._plan.text_of(), self._plan.title
        if title.lower() == "plan" and text:
            title = ""
        features = tuple(self._feature(draft) for draft in self._plan.features)
        summary = "\n\n".join(part for part in (title, text) if part)
        if not summary:
            summary = "; ".join(feature.title for feature in features) or "Plan"
        return self._made(PlanDoc, self._plan, summary=summary, features=features, **self._plan.members)

    def _feature(self, draft: Draft) -> FeatureDoc:
        key = draft.key or self._key("F")
        tasks = tuple(self._task(task) for task in draft.tasks)
        inner = tuple(self._feature(each) for each in draft.features)
        text = draft.text_of()
        return self._made(
            FeatureDoc,
            draft,
            key=key,
            title=draft.title,
            description=text,
            tasks=tasks,
            features=inner,
            **draft.members,
        )

    def _task(self, draft: Draft) -> TaskDoc:
        members = dict(draft.members)
        if not draft.key and "depends_on" not in members:
            members["depends_on"] = [self._previous] if self._previous else []
        key = self._previous = draft.key or self._key("T")
        return self._made(TaskDoc, draft, key=key, title=draft.title, instructions=draft.text_of(), **members)

    def _key(self, prefix: str) -> str:
        self._numbers[prefix] += 1
        while f"{prefix}{self._numbers[prefix]}" in self._used:
            self._numbers[prefix] += 1
        return f"{prefix}{self._numbers[prefix]}"

    def _made(self, kind: type[_Doc], draft: Draft, **members: Any) -> _Doc:
        try:
            return kind(**members)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise line_error(draft.line, f"{where}: {first['msg']}") from None


def drafts_of(draft: Draft) -> list[Draft]:
    found = list(draft.tasks)
    for feature in draft.features:
        found += [feature, *drafts_of(feature)]
    return found

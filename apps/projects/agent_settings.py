"""What a project says of its agents, by role: words of its own, tools taken away, limits, and which work is reviewed.

Roles and their tools belong to the app above; it tells this one their names (``agent_tools_known``), so that a tool
that there isn't is refused when the project is written rather than passed over when a session runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from django.db import models
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from apps.core.errors import InvalidInput
from apps.core.storable import json_storable

INSTRUCTIONS_LENGTH = 20_000
#: What one execution may be allowed at most.
MAX_STEPS, MAX_TOKENS, MAX_SECONDS, MAX_ROUNDS = 10_000, 10**10, 10**6, 10


class Review(models.TextChoices):
    """Which tasks' changes the reviewer looks at, once their checks have passed."""

    #: All but those of a small edit and of follow-ups.
    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Severity(models.TextChoices):
    """How much a finding of a review weighs, from the least to the most."""

    INFO = "info"
    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"

    def reaches(self, threshold: Severity) -> bool:
        """Whether it weighs as much as ``threshold``, or more."""
        order = list(Severity)
        return order.index(self) >= order.index(threshold)


class AgentOverrides(BaseModel):
    """What is different about one role's agents; None: as by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Said to it besides what the project says to every agent.
    instructions: str = Field(default="", max_length=INSTRUCTIONS_LENGTH)
    #: Tools of the role that it doesn't get.
    tools_off: tuple[str, ...] = Field(default=(), max_length=100)
    #: What one execution may take: replies of its model, tokens in and out, seconds of work.
    steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    seconds: int | None = Field(default=None, ge=1, le=MAX_SECONDS)


class ReviewerOverrides(AgentOverrides):
    """The same of the reviewer, and what becomes of its findings."""

    #: Findings that weigh as much go back to the coder.
    threshold: Severity | None = None
    #: How often they do before a person is asked.
    rounds: int | None = Field(default=None, ge=0, le=MAX_ROUNDS)


class ProjectAgents(BaseModel):
    """What a project says of its agents, by role."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    planner: AgentOverrides = AgentOverrides()
    coder: AgentOverrides = AgentOverrides()
    reviewer: ReviewerOverrides = ReviewerOverrides()
    researcher: AgentOverrides = AgentOverrides()

    @model_validator(mode="after")
    def _tools_are_known(self) -> Self:
        by_role = _tools_by_role()
        for role in type(self).model_fields:
            said: AgentOverrides = getattr(self, role)
            tools = by_role.get(role, said.tools_off)
            unknown = [name for name in said.tools_off if name not in tools]
            if unknown:
                can = ", ".join(tools)
                raise ValueError(f"{role}: {', '.join(unknown)} can't be taken away; what can is {can}")
        return self

    def as_dict(self) -> dict[str, Any]:
        """What is said, and nothing else."""
        plain: dict[str, dict[str, Any]] = self.model_dump(mode="json")
        by_role = {
            role: {name: value for name, value in said.items() if value not in (None, "", [])}
            for role, said in plain.items()
        }
        return {role: said for role, said in by_role.items() if said}


def agents_read(data: Mapping[str, Any]) -> ProjectAgents:
    """As it was stored or sent. Raises InvalidInput, which names the member."""
    try:
        return ProjectAgents.model_validate(json_storable(dict(data)))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise InvalidInput(
            f"agents.{where}: {told}" if where else f"agents: {told}", next_step="see docs/how-to/review.md"
        ) from None


#: By role, the tools that can be taken away.
_tools_by_role: Callable[[], Mapping[str, tuple[str, ...]]] = dict


def agent_tools_known(by_role: Callable[[], Mapping[str, tuple[str, ...]]]) -> None:
    """Have ``by_role`` say which tools can be taken away from which role; asked when a project is written."""
    global _tools_by_role
    _tools_by_role = by_role

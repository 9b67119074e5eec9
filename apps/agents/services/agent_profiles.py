"""Agents by role: which prompt, tools and limits each has by itself, and what a project says otherwise.

Which model a role calls is chosen elsewhere (``apps.usage.choices``). What a project says is kept with the session when
it starts, so that a change of it meets no session half-way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from apps.agents.types import Severity
from apps.projects.agent_settings import AgentOverrides, ReviewerOverrides, agents_read
from apps.usage.choices import ROLES, Role


@dataclass(frozen=True)
class AgentProfile:
    """What an agent of a role is. Its tools are the role's (``tools.catalogue``), but for those taken away."""

    role: str
    #: The file in ``apps/agents/prompts``.
    prompt: str
    #: What one execution may take before it is ended: replies of its model, tokens in and out, seconds of work.
    steps: int
    tokens: int
    seconds: int
    #: Said to it after the prompt and what is said to all agents, so that what comes first stays the same.
    instructions: str = ""
    tools_off: frozenset[str] = frozenset()
    #: Of the reviewer: findings that weigh as much go back to the coder, so many times before a person is asked.
    threshold: Severity = Severity.MAJOR
    rounds: int = 2


#: The session's own limits usually come first; these end an agent that has lost its way, and leave the others theirs.
DEFAULTS: dict[str, AgentProfile] = {
    "planner": AgentProfile("planner", "planner", steps=150, tokens=2_000_000, seconds=3600),
    # The planner, while its plan is carried out: what is said of that one holds for it.
    "replanner": AgentProfile("replanner", "replanner", steps=150, tokens=2_000_000, seconds=3600),
    "coder": AgentProfile("coder", "coder", steps=400, tokens=10_000_000, seconds=4 * 3600),
    "reviewer": AgentProfile("reviewer", "reviewer", steps=60, tokens=1_000_000, seconds=1800),
    "researcher": AgentProfile("researcher", "researcher", steps=150, tokens=2_000_000, seconds=3600),
}


def profile_of(role: str, agents: Mapping[str, Any]) -> AgentProfile:
    """The role's agent with what the project said of it (``AgentSession.agents``)."""
    usual = DEFAULTS[role]
    named = "planner" if role == "replanner" else role
    if named not in agents:
        return usual
    said = (ReviewerOverrides if role == "reviewer" else AgentOverrides).model_validate(agents[named])
    changed: dict[str, Any] = {
        name: value for name in ("steps", "tokens", "seconds") if (value := getattr(said, name)) is not None
    }
    if isinstance(said, ReviewerOverrides):
        changed |= {"threshold": said.threshold or usual.threshold}
        changed |= {"rounds": usual.rounds if said.rounds is None else said.rounds}
    return replace(usual, instructions=said.instructions, tools_off=frozenset(said.tools_off), **changed)


def agents_frozen(agents: Mapping[str, Any]) -> dict[str, Any]:
    """What a project says of its agents, as a session keeps it. Raises InvalidInput for what no longer holds."""
    return agents_read(agents).as_dict()


def profiles_of(agents: Mapping[str, Any]) -> dict[Role, AgentProfile]:
    """Every role's agent."""
    return {role: profile_of(role, agents) for role in ROLES}

"""Sessions that plan, in this process: planners that are recorded, people who decide."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from apps.agents.models import AgentSession
from apps.agents.services.master_orchestrator import SessionRequest, session_start
from apps.agents.services.plan_work import PlanWork
from apps.agents.types import AgentType, Review
from apps.authentication.models import User
from apps.planning.models import Plan, PlanVersion
from apps.planning.selectors import plan_document
from apps.projects.autonomy import Autonomy
from apps.projects.models import Project
from apps.usage.choices import ModelConfiguration
from tests.integration.session_scene import LIMITS, entry, messages_of, recording_write

FILES = {"a.txt": "one\ntwo\nthree\n", "src/b.txt": "four\n", "test.sh": "true\n"}
SENT_BACK = "does not want it so"


def begin(
    user: User,
    project: Project,
    entries: Sequence[Mapping[str, Any]],
    *,
    goal: str = "make it work",
    autonomy: Autonomy = Autonomy.AUTO,
    agent_type: AgentType = AgentType.EXECUTOR,
    plan_work: PlanWork | None = None,
) -> AgentSession:
    """A session that waits for a worker, its models playing these entries."""
    return session_start(
        user=user,
        request=request_make(
            project, entries, goal=goal, autonomy=autonomy, agent_type=agent_type, plan_work=plan_work
        ),
        execute=True,
    )


def request_make(
    project: Project,
    entries: Sequence[Mapping[str, Any]],
    *,
    goal: str = "make it work",
    autonomy: Autonomy = Autonomy.AUTO,
    agent_type: AgentType = AgentType.EXECUTOR,
    plan_work: PlanWork | None = None,
) -> SessionRequest:
    return SessionRequest(
        project_id=project.id,
        goal=goal,
        limits=LIMITS,
        limit_seconds=600,
        agent_type=agent_type,
        models=ModelConfiguration(model=recording_write(entries)),
        checks=("true",),
        autonomy=autonomy,
        plan_work=plan_work,
        review=Review.NEVER,
    )


def coded() -> list[dict[str, Any]]:
    """A coder that writes a file named by its task, and ends."""
    named = {"task": r"^Task: (?P<name>\w+)"}
    return [
        entry("coder", ("finish", {"summary": "wrote {{name}}"}), **named, last_tool="write_file"),
        entry("coder", ("write_file", {"path": "{{name}}.txt", "content": "{{name}}\n"}), **named),
    ]


def plan(*tasks: str | Mapping[str, Any], summary: str = "the plan", **more: Any) -> tuple[str, dict[str, Any]]:
    """The call by which a planner hands over one feature of these tasks."""
    made = [{"title": task} if isinstance(task, str) else dict(task) for task in tasks]
    return "submit_plan", {"summary": summary, "features": [{"title": "all", "tasks": made}], **more}


def results_of(session: AgentSession) -> list[str]:
    """What the tools said, in order."""
    return [str(message["data"]["content"]) for _, message in messages_of(session.id) if message["type"] == "tool"]


def plan_of(session: AgentSession) -> Plan:
    assert session.plan_id is not None, (session.status, session.reason)
    return Plan.objects.get(id=session.plan_id)


def titles_of(plan_id: uuid.UUID) -> list[str]:
    return [task.title for task in plan_document(Plan.objects.get(id=plan_id)).tasks.values()]


def versions_of(plan_id: uuid.UUID) -> list[tuple[int, str, str]]:
    return list(PlanVersion.objects.filter(plan=plan_id).order_by("number").values_list("number", "source", "reason"))

"""Plans as texts: Markdown that people read, edit and send back, and the source of a diagram."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from apps.agents.services.plan_edits import grounded_refuse, plan_change
from apps.agents.services.plan_estimates import coder_of_project, estimate_make
from apps.core.errors import InvalidInput
from apps.core.storable import text_storable
from apps.planning.checking import plan_problems, problems_refuse
from apps.planning.document import PlanDoc
from apps.planning.markdown import MarkdownPlan, plan_from_markdown, plan_to_markdown
from apps.planning.mermaid import plan_to_mermaid
from apps.planning.models import Plan
from apps.planning.selectors import plan_document, plan_get_for_user, task_statuses
from apps.planning.services import plan_create
from apps.planning.types import PlanStatus, VersionSource
from apps.projects.selectors import project_get_for_user

if TYPE_CHECKING:
    from apps.authentication.models import User


def plan_markdown(*, user: User, plan_id: uuid.UUID) -> str:
    """The plan as Markdown, with how far its tasks are. Raises NotFound."""
    plan = plan_get_for_user(user=user, plan_id=plan_id)
    return plan_to_markdown(plan_document(plan), statuses=task_statuses(plan), plan_id=plan.id, version=plan.version)


def plan_diagram(*, user: User, plan_id: uuid.UUID) -> str:
    """The plan in Mermaid's language. Raises NotFound."""
    plan = plan_get_for_user(user=user, plan_id=plan_id)
    return plan_to_mermaid(plan_document(plan), statuses=task_statuses(plan))


def plan_markdown_put(
    *, user: User, plan_id: uuid.UUID, markdown: str, expected: int | None = None, reason: str = ""
) -> Plan:
    """The plan as a text has it, as its next version.

    ``expected`` is by default the version that the text says it was made from. Raises as ``plan_change``, InvalidInput
    for what can't be read (it names the line), and for the text of another plan.
    """
    read = plan_from_markdown(text_storable(markdown))
    if read.plan_id is not None and read.plan_id != plan_id:
        raise InvalidInput(
            f"this is the text of plan {read.plan_id}",
            next_step="send it there; or take out the line that says so, to have it replace this plan",
        )
    seen = read.version if expected is None else expected

    def make(plan: Plan, now: PlanDoc) -> PlanDoc:
        return read.document

    return plan_change(user=user, plan_id=plan_id, make=make, expected=seen, reason=reason, source=VersionSource.IMPORT)


def plan_import(*, user: User, project_id: uuid.UUID, goal: str, markdown: str) -> Plan:
    """A new plan, which waits to be approved. Raises NotFound, PermissionDenied, InvalidInput and PlanRefused."""
    project = project_get_for_user(user=user, project_id=project_id, write=True)
    read: MarkdownPlan = plan_from_markdown(text_storable(markdown))
    problems_refuse(plan_problems(read.document, None))
    grounded_refuse(project, read.document)
    return plan_create(
        plan_id=uuid.uuid4(),
        project=project,
        goal=goal.strip() or read.document.summary,
        document=read.document,
        source=VersionSource.IMPORT,
        reason="imported",
        status=PlanStatus.WAITING,
        author=user,
        estimate=estimate_make(
            project_id=project.id, document=read.document, states={}, coder=coder_of_project(project)
        ),
    )

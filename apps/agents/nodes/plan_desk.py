"""What a planner hands over, held against the repository and against the plan that is there already."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apps.agents.nodes.context import RunContext
from apps.agents.services.plan_work import PlanWorkMode
from apps.agents.tools.base import FittedPlan
from apps.agents.tools.plan_judging import plan_judge, unchanged_problems
from apps.agents.types import Citation
from apps.planning.document import FeatureDoc, PlanDoc
from apps.planning.models import Feature, Plan
from apps.planning.problems import Problem
from apps.planning.revising import feature_fill, feature_hold, started_keep, started_keys
from apps.planning.selectors import plan_document, task_states
from apps.planning.types import Effort, Priority, TaskState
from apps.projects.repository import commit_files

#: A cited file is read whole to count its lines, up to so many bytes.
_CITED_BYTES = 50_000_000
_PLAN_WANTED = "Not taken: a plan is asked for here. Hand it over with submit_plan."


@dataclass(frozen=True)
class StandingPlan:
    """The plan that there is, and how far it is."""

    document: PlanDoc
    states: Mapping[str, TaskState]
    version: int


class SessionPlanDesk:
    """The desk of one session, for the planner's tools."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    @property
    def _breaks_down(self) -> bool:
        work = self._context.facts.plan_work
        return work is not None and work.mode == PlanWorkMode.BREAK_DOWN

    async def keys_taken(self) -> frozenset[str]:
        standing = await standing_load(self._context)
        if standing is None:
            return frozenset()
        if self._breaks_down:
            # What comes into a plan that stays has keys of its own.
            return frozenset({*standing.document.tasks, *standing.document.features_by_key})
        return started_keys(standing.states)

    async def plan_fit(self, submitted: PlanDoc) -> FittedPlan:
        standing = await standing_load(self._context)
        whole = await self._whole(submitted, standing)
        problems = await plan_problems_find(self._context, whole, standing)
        if standing is None:
            return FittedPlan(whole, tuple(problems))
        problems += unchanged_problems(whole, standing.document)
        return FittedPlan(whole, tuple(problems), standing.version)

    async def answer_problem(self) -> str:
        facts = self._context.facts
        return _PLAN_WANTED if facts.plan_work is not None or await standing_load(self._context) else ""

    async def citation_problems(self, citations: Sequence[Citation]) -> list[str]:
        facts = self._context.facts
        paths = list(dict.fromkeys(each.path for each in citations))
        contents = await self._context.ledger.database.run_in_thread(
            commit_files,
            project_id=facts.project_id,
            commit=facts.base_commit,
            paths=paths,
            max_bytes=_CITED_BYTES,
        )
        lines = {path: content.count(b"\n") + (not content.endswith(b"\n")) for path, content in contents.items()}
        return [_citation_problem(each, lines.get(each.path)) for each in citations]

    async def _whole(self, submitted: PlanDoc, standing: StandingPlan | None) -> PlanDoc:
        work = self._context.facts.plan_work
        if standing is not None:
            if work is not None and self._breaks_down and work.feature_key in standing.document.features_by_key:
                return feature_fill(standing.document, work.feature_key, submitted)
            return started_keep(standing.document, submitted, standing.states)
        if work is None or work.feature_id is None:
            return submitted
        feature = await self._context.ledger.database.run_in_thread(_feature_load, work.feature_id)
        if feature is None:
            return submitted
        root = feature_hold(feature.model_copy(update={"key": feature_root_key(submitted)}), submitted)
        return submitted.model_copy(update={"features": (root,)})


async def plan_problems_find(context: RunContext, plan: PlanDoc, standing: StandingPlan | None) -> list[Problem]:
    """All that doesn't hold in a plan: by itself, in this repository, and after the one that it follows."""
    before, states = (standing.document, standing.states) if standing else (None, {})
    return await asyncio.to_thread(plan_judge, plan, await context.grounding(plan), before=before, states=states)


async def standing_load(context: RunContext) -> StandingPlan | None:
    """The session's plan as it is now; None: it makes the first one."""
    return await context.ledger.database.run_in_thread(_standing, context.facts.plan_id)


def feature_root_key(submitted: PlanDoc) -> str:
    """The key of a person's feature in the plan that is made for it: one that what was handed over doesn't use."""
    used = {*submitted.tasks, *submitted.features_by_key}
    number = 0
    while f"F{number}" in used:
        number += 1
    return f"F{number}"


def _standing(plan_id: uuid.UUID) -> StandingPlan | None:
    plan = Plan.objects.filter(id=plan_id).first()
    return StandingPlan(plan_document(plan), task_states(plan), plan.version) if plan else None


def _feature_load(feature_id: uuid.UUID) -> FeatureDoc | None:
    row = Feature.objects.filter(id=feature_id).first()
    if row is None:
        return None
    priority, effort = Priority(row.priority), Effort(row.effort)
    return FeatureDoc(key="F0", title=row.title, description=row.description, priority=priority, effort=effort)


def _citation_problem(citation: Citation, lines: int | None) -> str:
    if lines is None:
        return "there is no such file"
    if citation.end_line > lines:
        return f"the file has {lines} line{'' if lines == 1 else 's'}"
    return ""

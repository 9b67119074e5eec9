"""Whether a revision of the plan holds, said to the planner that hands it over.

What doesn't hold is fed back so often; then the plan is kept as it is. A revision that leads back to where the plan was
is refused once, and pauses the session when it is handed over all the same.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import ToolMessage
from pydantic import ValidationError

from apps.agents.nodes.context import RunContext
from apps.agents.nodes.replan_choice import Cause, look_begin_key, look_number, steering_heard
from apps.agents.nodes.task_rows import head_commit
from apps.agents.tools.base import Arguments, Finish, Observation
from apps.agents.tools.plan_judging import TOLD, plan_judge
from apps.agents.tools.plan_revising import Revision, revision_of
from apps.agents.tools.replanning import REVISE_PLAN, RevisePlanArguments
from apps.planning.document import PlanDoc
from apps.planning.models import Plan, PlanVersion
from apps.planning.oscillation import Version, left_key, version_like, versions_standing
from apps.planning.problems import Grounding, Problem
from apps.planning.selectors import plan_document, task_states
from apps.planning.types import TaskState, VersionSource

#: How often a revision is handed over in one look at the plan before that is left as it is.
HANDED_OVER = 4
LIKE = (
    "This is what version {version} of the plan had left to do, and it did not lead to the end: the plan would go round"
    " in circles. Plan it otherwise, or keep the plan as it is. Handing the same over again pauses the session,"
    " and a person decides."
)


@dataclass(frozen=True)
class Standing:
    """A plan as it is: what it says, how far its tasks are, and the versions that led there."""

    document: PlanDoc
    states: dict[str, TaskState]
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class RevisionJudge:
    """Looks at a revision for one call of the tool (:class:`apps.agents.tools.base.PlanRevision`)."""

    context: RunContext
    execution_id: uuid.UUID
    #: The call, once in the execution.
    call_id: str
    transcript: Sequence[Any]

    async def __call__(self, arguments: Arguments) -> Observation | Finish | None:
        assert isinstance(arguments, RevisePlanArguments)
        facts = self.context.facts
        standing = await self.context.ledger.database.run_in_thread(_standing_load, facts.plan_id)
        within = facts.follow_up_key if facts.turn else None
        try:
            revision = revision_of(arguments, standing.document, standing.states, within=within)
        except ValidationError as error:
            return self._refused([Problem("features", "invalid", *_first(error))])
        # As the tasks that are done have left it: what one that failed did is not what others build on.
        grounding = await self.context.grounding(revision.document, commit=await head_commit(self.context))
        problems = await asyncio.to_thread(revision_check, revision, standing.document, standing.states, grounding)
        if problems:
            return self._refused(problems)
        return await self._round_and_round(revision, standing, arguments.reason)

    def _refused(self, problems: Sequence[Problem]) -> Observation | Finish:
        before = sum(
            isinstance(said, ToolMessage) and said.name == REVISE_PLAN.name and said.status == "error"
            for said in self.transcript
        )
        told = "\n".join(f"- {problem.where}: {problem}" for problem in problems[:TOLD])
        if before + 1 >= HANDED_OVER:
            kept = f"no revision that holds came of {HANDED_OVER} tries; of the last one: {problems[0]}"
            return Finish(f"The plan stays as it is, since this doesn't hold either:\n{told}", {"keep": kept})
        return Observation(f"The revision doesn't hold:\n{told}", ok=False, summary=str(problems[0]))

    async def _round_and_round(
        self, revision: Revision, standing: Standing, reason: str
    ) -> Observation | Finish | None:
        version = version_like(revision.document, standing.states, standing.versions)
        if version is None or await self._is_asked_for():
            return None
        ledger = self.context.ledger
        begun = {key for key, state in standing.states.items() if state.started}
        # Of the session, not of this look: it was said once.
        key = f"oscillates:{left_key(revision.document, begun)}"
        call = f"{self.execution_id}:{self.call_id}"
        told = await ledger.effect_record(key, result={"call": call, "version": version})
        if told["call"] == call:
            return Observation(LIKE.format(version=version), ok=False, summary=f"as version {version} of the plan")
        return Finish("The session is paused for a person to decide.", {"oscillates": version, "reason": reason})

    async def _is_asked_for(self) -> bool:
        """Whether a person has said something that the revision may follow: they may have it lead back."""
        begun = await self.context.ledger.effect_find(look_begin_key(self.context, await look_number(self.context)))
        if any(Cause.read(key).kind == "steering" for key in (begun or {}).get("causes", ())):
            return True
        return bool(await steering_heard(self.context, {self.execution_id}))


def revision_judge(
    context: RunContext, role: str, execution_id: uuid.UUID, call_id: str, transcript: Sequence[Any]
) -> RevisionJudge | None:
    """What looks at revisions that this role hands over; None: it hands over none."""
    return RevisionJudge(context, execution_id, call_id, transcript) if role == "replanner" else None


def revision_check(
    revision: Revision, before: PlanDoc, states: Mapping[str, TaskState], grounding: Grounding | None
) -> list[Problem]:
    """All that doesn't hold: in the revision itself, in the plan that it makes, and in what that takes back.

    What didn't hold before is no reason to keep a plan from being changed.
    """
    judged = plan_judge(revision.document, grounding, before=before, states=states)
    known = plan_judge(before, grounding) if judged else []
    problems = [*revision.problems, *(problem for problem in judged if problem not in known)]
    if not problems and revision.document == before:
        problems.append(Problem("features", "unchanged", "this is the plan as it is", "call keep_plan to keep it"))
    return problems


def _standing_load(plan_id: uuid.UUID) -> Standing:
    plan = Plan.objects.get(id=plan_id)
    rows = PlanVersion.objects.filter(plan=plan).order_by("number").values_list("number", "source", "document")
    versions = [Version(number, VersionSource(source), PlanDoc.read(document)) for number, source, document in rows]
    return Standing(plan_document(plan), task_states(plan), tuple(versions_standing(versions)))


def _first(error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}", ""

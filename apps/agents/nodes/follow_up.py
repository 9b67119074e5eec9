"""Going on after the end: what a person said to a session that had ended, as a task or a question of its own.

Each follow-up has a number, the session's ``turn``. Its effects carry that number in their keys, or the id of its task,
so that they meet none of the goal's or of another follow-up's.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.runtime import Runtime

from apps.agents.models import AgentExecution, SessionMessage
from apps.agents.nodes.baseline import baseline_open, checks_brief, checks_observe
from apps.agents.nodes.brief import goal_brief, task_brief
from apps.agents.nodes.context import RunContext, SessionFacts, SessionState
from apps.agents.nodes.lane_ground import branch_return
from apps.agents.nodes.materials import brief_message, materials_read
from apps.agents.nodes.opening import conversation_opening, instructions_renew
from apps.agents.services.ledger_records import Snapshot
from apps.agents.services.plan_estimates import coder_of, estimate_make
from apps.agents.services.sessions import made_in, session_plan_set
from apps.agents.tools.base import text_cut
from apps.agents.types import Event
from apps.core.database import Connection
from apps.core.storable import json_storable
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.models import TaskStatus
from apps.planning.selectors import plan_progress
from apps.planning.services import plan_extend
from apps.planning.types import TaskState
from apps.projects.checks import CheckReport, Verification, outcome_judge
from apps.projects.models import Project
from apps.usage.choices import ModelOptions

#: A conversation that is longer than this is not continued: its successor is told what came of it.
CONTINUED_MESSAGES, CONTINUED_CHARACTERS = 300, 250_000
REPORT_LENGTH = 8_000
FILES_LISTED = 100
INTERRUPTED = (
    "not carried out to its end: the session ended before. Look at the files, then decide whether to do it again."
)


@dataclass(frozen=True)
class FollowUp:
    """What the person said, and how the session had ended."""

    text: str
    former: Mapping[str, Any]


async def follow_up_begin(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """See where the branch is and what the checks say there, and add the follow-up to the plan."""
    context = runtime.context
    facts = context.facts
    follow_up = await _follow_up(context)
    await _head_baseline(context)
    title = f"Follow-up: {_title(follow_up.text)}"
    added = Event("PlanExtended", {"plan": str(facts.plan_id), "feature": title, "tasks": [title]})
    key = facts.follow_up_key
    task = TaskDoc(key=f"{key}.1", title=title, instructions=follow_up.text)
    feature = FeatureDoc(key=key, title=title, tasks=(task,))
    extend = partial(_plan_extend, facts=facts, feature=feature, coder=coder_of(context.models))
    await context.ledger.effect_apply(facts.turn_key("plan"), extend, added)
    return {"ended": False}


async def follow_up_head(context: RunContext) -> str:
    """The commit that the branch was at when the follow-up was taken up."""
    key = context.facts.turn_key("head")
    known = await context.ledger.effect_find(key)
    if known is None:
        former = (await _follow_up(context)).former
        await branch_return(context, str(former.get("head_commit") or context.facts.base_commit))
        head = await context.site.branch_tip()
        fresh = await context.site.worktree_is_fresh()
        # A checkout that was made anew holds the branch's last commit, and nothing that was not committed.
        # Another one is as it was left; but a rebase may have moved it and the branch since it was kept last.
        snapshot = Snapshot(head, head) if fresh else await context.site.files_keep()
        known = dict(await context.ledger.effect_record(key, result={"head": head, "fresh": fresh}, snapshot=snapshot))
    return str(known["head"])


async def work_continue(context: RunContext, *, task_id: uuid.UUID) -> uuid.UUID:
    """The coder's conversation, with the person's message as its next: the former one, or a new one on its results."""
    follow_up = await _follow_up(context)
    further = await _work_told(context, follow_up)
    materials = await materials_read(context, turn=context.facts.turn)

    async def opening() -> HumanMessage:
        brief = await task_brief(
            context,
            key=str(task_id),
            title=_title(follow_up.text),
            instructions=follow_up.text,
            further=[*further, *materials.parts],
        )
        return _with_images(brief, materials.images)

    message = brief_message(
        [_said(follow_up), *further, "Go on by calling tools; call finish when it is done."], materials
    )
    return await _conversation_continue(context, role="coder", message=message, opening=opening, task_id=task_id)


async def question_continue(context: RunContext, *, role: str) -> uuid.UUID:
    """The conversation of an agent that plans or reads, with the person's message as its next."""
    follow_up = await _follow_up(context)
    materials = await materials_read(context, turn=context.facts.turn)
    how = (
        "Hand over the whole plan anew with submit_plan."
        if role == "planner"
        else "Call finish with the answer to this."
    )
    parts = [_said(follow_up), how]

    async def opening() -> HumanMessage:
        brief = await goal_brief(context)
        report = _report_told(follow_up)
        further = brief_message([*parts[:1], report, how], materials)
        blocks = [*_blocks(brief), *_blocks(further)]
        return HumanMessage(blocks)  # type: ignore[arg-type]

    return await _conversation_continue(
        context, role=role, message=brief_message(parts, materials), opening=opening, task_id=None
    )


async def follow_up_judge(context: RunContext, judged: Verification, *, commit: str) -> Verification:
    """The verdict on a follow-up's commit: the worse of what it is against the session's start, and against its head.

    Against the start, so that nothing which an earlier turn did to the tests is forgotten; against the head, so that
    what that turn achieved isn't lost. What is shown is the latter.
    """
    if not judged.reports:
        return judged
    head, before = await _head_baseline(context)
    compared = await context.site.compare(base=head, commit=commit, before=before, after=judged.reports)
    outcome, reasons = outcome_judge(compared)
    order = ("failing", "unverified", "verified")
    worst = min((judged.outcome, outcome), key=order.index)
    # Two comparisons of a check that fails would say the same in two ways.
    told = judged.reasons if judged.outcome == "failing" else tuple(dict.fromkeys((*judged.reasons, *reasons)))
    return dataclasses.replace(judged, outcome=worst, reasons=told, comparisons=compared)


async def _head_baseline(context: RunContext) -> tuple[str, tuple[CheckReport, ...]]:
    """The checks on the commit that the follow-up starts from: from their row, or run now."""
    head = await follow_up_head(context)
    key = context.facts.turn_key("baseline")
    known = await context.ledger.effect_find(key)
    if known is not None:
        return head, tuple(CheckReport(**report) for report in known["before"])
    baseline = await baseline_open(context)
    reports = await context.site.checks_run(head, baseline.specs)
    await context.ledger.effect_record(
        key,
        Event("ChecksFinished", {"stage": "before", "commit": head, "checks": checks_brief(reports)}),
        result={"before": json_storable([dataclasses.asdict(report) for report in reports])},
    )
    return head, reports


async def _follow_up(context: RunContext) -> FollowUp:
    return await context.ledger.database.run_in_thread(_follow_up_load, context.facts.session_id, context.facts.turn)


def _follow_up_load(session_id: uuid.UUID, turn: int) -> FollowUp:
    row = SessionMessage.objects.get(session_id=session_id, turn=turn)
    return FollowUp(row.text, row.former)


def _plan_extend(*, facts: SessionFacts, feature: FeatureDoc, coder: ModelOptions) -> None:
    def estimate(document: PlanDoc, states: Mapping[str, TaskState]) -> dict[str, Any]:
        return estimate_make(project_id=facts.project_id, document=document, states=states, coder=coder)

    plan = plan_extend(
        plan_id=facts.plan_id,
        project=Project.objects.get(id=facts.project_id),
        goal=facts.goal,
        turn=facts.turn,
        feature=feature,
        made_in=made_in(facts.session_id),
        estimate=estimate,
    )
    session_plan_set(session_id=facts.session_id, plan=plan)


# --- What is said -----------------------------------------------------------------------------------------------------
def _title(text: str) -> str:
    first = next((line.strip() for line in text.splitlines() if line.strip()), text)
    return first[:200]


def _said(follow_up: FollowUp) -> str:
    outcome = f", {follow_up.former['outcome']}" if follow_up.former.get("outcome") else ""
    return (
        f"The session had ended ({follow_up.former.get('status', '')}{outcome}). The person asks further:\n\n"
        f"{follow_up.text}"
    )


def _report_told(follow_up: FollowUp) -> str:
    report = str(follow_up.former.get("report") or "")
    reason = follow_up.former.get("reason") or {}
    told = f"What was reported at its end:\n{text_cut(report, REPORT_LENGTH)}" if report else ""
    if not report and reason:
        told = f"It ended because: {reason.get('message', '')}"
    return told


async def _work_told(context: RunContext, follow_up: FollowUp) -> list[str]:
    """Where the work stands: report, branch, files, tasks that were left, checks."""
    head, reports = await _head_baseline(context)
    known = await context.ledger.effect_find(context.facts.turn_key("head")) or {}
    parts = [_report_told(follow_up)]
    changes = await context.site.changes(head) if head != context.facts.base_commit else ()
    if changes:
        lines = [
            f"{change.status} {change.path}"
            + (f" (+{change.additions} -{change.deletions})" if change.additions is not None else "")
            for change in changes[:FILES_LISTED]
        ]
        more = [f"and {len(changes) - FILES_LISTED} more"] if len(changes) > FILES_LISTED else []
        parts.append("The branch so far changes:\n" + "\n".join([*lines, *more]))
    if follow_up.former.get("merged_commit"):
        parts.append("The branch was merged meanwhile; what you do now comes on top of it.")
    parts.append(
        f"The files are those of the last commit, {head[:12]}; what was not committed is gone."
        if known.get("fresh")
        else f"The files are as they were left; the last commit is {head[:12]}."
    )
    left = await _tasks_left(context)
    if left:
        parts.append("Of the plan these tasks were not done:\n" + "\n".join(f"- {title}" for title in left))
    parts.append(f"Checks on the last commit:\n{checks_observe(reports).text}")
    return [part for part in parts if part]


async def _tasks_left(context: RunContext) -> list[str]:
    progress = await context.ledger.database.run_in_thread(plan_progress, context.facts.plan_id)
    own = context.facts.follow_up_key
    return [
        task.title
        for feature in progress.features
        if feature.key != own
        for task in feature.tasks
        if task.status not in (TaskStatus.DONE, TaskStatus.SKIPPED)
    ]


def _blocks(message: HumanMessage) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        return [{"type": "text", "text": message.content}]
    return [block for block in message.content if isinstance(block, dict)]


def _with_images(message: HumanMessage, images: tuple[dict[str, Any], ...]) -> HumanMessage:
    if not images:
        return message
    return HumanMessage([*_blocks(message), *images])


# --- The conversation -------------------------------------------------------------------------------------------------
async def _conversation_continue(
    context: RunContext, *, role: str, message: HumanMessage, opening: Any, task_id: uuid.UUID | None
) -> uuid.UUID:
    """The execution that goes on: the role's last one with the message after it, or a new one if that is too long."""
    key = context.facts.turn_key("conversation")
    known = await context.ledger.effect_find(key)
    if known is not None:
        return uuid.UUID(known["execution"])
    database = context.ledger.database
    name = f"follow-up:{context.facts.turn}"
    own_id = context.ledger.execution_id(role=role, task_id=task_id, name=name)
    former_id = await database.run_in_thread(_execution_last, context.facts.session_id, role, own_id)
    transcript = await context.ledger.messages_load(former_id) if former_id else []
    length = sum(len(str(said.content)) for said in transcript)
    if former_id is None or len(transcript) > CONTINUED_MESSAGES or length > CONTINUED_CHARACTERS:
        execution_id = await context.ledger.execution_open(
            role=role,
            task_id=task_id,
            messages=await conversation_opening(context, role=role, brief=await opening()),
            name=name,
        )
        async with context.ledger.transaction() as connection:
            await _calls_close(context, connection)
            await context.ledger.effect_insert(connection, key, {"execution": str(execution_id), "from": 0})
        return execution_id
    added: list[BaseMessage] = [
        *_unanswered(transcript),
        await instructions_renew(context, transcript, message, role=role),
    ]
    async with context.ledger.transaction() as connection:
        await _calls_close(context, connection)
        for position, said in enumerate(added, len(transcript)):
            await context.ledger.message_insert(connection, former_id, position, said)
        await context.ledger.result_set(connection, former_id, None)
        continued = {"execution": str(former_id), "from": len(transcript)}
        await context.ledger.effect_insert(connection, key, continued)
    context.conversation_forget(former_id)
    return former_id


def _execution_last(session_id: uuid.UUID, role: str, own_id: uuid.UUID) -> uuid.UUID | None:
    """The role's last conversation, but for the one that this follow-up may have opened before a crash."""
    others = AgentExecution.objects.filter(session_id=session_id, role=role, retired=None).exclude(id=own_id)
    found = others.order_by("created_at").last()
    return found.id if found else None


def _unanswered(transcript: list[BaseMessage]) -> list[ToolMessage]:
    """Results for the calls of the last reply that never got any: every protocol asks for one each."""
    for answered, said in enumerate(reversed(transcript)):
        if isinstance(said, AIMessage):
            calls = [*said.tool_calls, *said.invalid_tool_calls]
            return [
                ToolMessage(INTERRUPTED, tool_call_id=str(call["id"]), name=call["name"] or "", status="error")
                for call in calls[answered:]
            ]
    return []


async def _calls_close(context: RunContext, connection: Connection) -> None:
    """Calls that were under way when the session ended are over; a question of theirs is nobody's any more."""
    cursor = await connection.execute(
        "UPDATE agents_toolcall SET status = 'finished', ok = false, observation = %s, finished_at = now(),"
        " updated_at = now() WHERE session_id = %s AND status <> 'finished' RETURNING id, name",
        (INTERRUPTED, context.facts.session_id),
    )
    rows = await cursor.fetchall()
    events = [
        Event(
            "ToolFinished",
            {
                "call": str(row["id"]),
                "name": row["name"],
                "ok": False,
                "summary": "interrupted",
                "seconds": 0.0,
                "interrupted": True,
            },
        )
        for row in rows
    ]
    if events:
        await context.ledger.append(connection, *events)

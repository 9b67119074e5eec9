"""Carrying out one call of a reply: the gate, the intent, the effect, the record."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage, ToolMessage

from apps.agents.nodes.baseline import baseline_open, checks_observe
from apps.agents.nodes.call_gate import call_gate
from apps.agents.nodes.context import RunContext, SessionSuspended
from apps.agents.nodes.conventions import folder_rules
from apps.agents.nodes.index_telling import index_tell
from apps.agents.nodes.plan_desk import SessionPlanDesk
from apps.agents.nodes.replan_judging import revision_judge
from apps.agents.nodes.replies import ProposedCall
from apps.agents.services.images import session_image_put
from apps.agents.services.ledger_records import Snapshot, ToolCallIntent, ToolCallRecord
from apps.agents.services.reviews import ReviewScope, reviewing_key
from apps.agents.tools.base import (
    Finish,
    Observation,
    Question,
    Risk,
    Tool,
    ToolContext,
    text_cut,
)
from apps.agents.tools.edit_formats import edit_format_used
from apps.agents.tools.handing_over import SUBMIT_PLAN_NAME, plan_refuse
from apps.agents.tools.plan_judging import plan_read
from apps.agents.tools.policy import Allowed, Refused, call_judge
from apps.agents.types import Event, SessionStatus, ToolCallStatus
from apps.core.kill_points import kill_point
from apps.core.storable import json_storable, text_storable
from apps.planning.problems import Problem
from apps.projects.workspace import WorkspaceError

logger = logging.getLogger(__name__)

UNKNOWN_OUTCOME = (
    "This call was interrupted (the session was paused, or the process that ran it died) before its result could be"
    " written down: the outcome is unknown. The call was not repeated. Look at the files first, then decide whether it"
    " has to be made again."
)
#: In place of the answer to a call that would have ended the agent's work.
NOT_ENDED = "Your work has not ended with this: somebody has written to you meanwhile. Read on, and call it again then."


def proposal_judge(tools: Mapping[str, Tool[Any]], call: ProposedCall) -> Allowed | Refused:
    """Whether the call may be made: what cannot be read, and what its tools don't allow, is refused."""
    if call.problem:
        return Refused(call.problem)
    return call_judge(tools=tools, name=call.name, arguments=call.arguments)


async def call_carry_out(
    context: RunContext,
    role: str,
    execution_id: uuid.UUID,
    transcript: list[BaseMessage],
    position: int,
    ordinal: int,
    call: ProposedCall,
    judged: Allowed | Refused,
    *,
    task_id: uuid.UUID | None = None,
) -> bool:
    """Run one call and write its result; whether the agent is done with it."""
    intent = ToolCallIntent(
        execution_id, position, ordinal, call.provider_call_id, call.name, call.arguments, context.facts.rewinds
    )
    gate = await call_gate(context, intent, judged)
    kill_point("tool.intended")
    began = time.monotonic()
    # Plain, short, and once in an execution: a model has to write it down again.
    command_id = f"c{position}-{ordinal}" if ordinal else f"c{position}"
    result = await _result_of(context, role, execution_id, intent, gate.record, gate.judged, command_id)
    kill_point("tool.effected")
    if isinstance(result, Question):
        asked = Event(
            "QuestionAsked", {"question": str(intent.id), "text": result.text, "choices": list(result.choices)}
        )
        await context.ledger.tool_call_wait(intent.id, asked, status=SessionStatus.WAITING_INPUT)
        raise SessionSuspended("the agent asked a question")
    seconds = round(time.monotonic() - began, 3)
    snapshot = await _files_keep(context, gate.judged)
    ok = result.ok if isinstance(result, Observation) else True
    summary = result.summary if isinstance(result, Observation) else ""
    # Secrets go before the cut, which could leave half of one, and before anything is kept.
    redact = context.ledger.redactor.text
    whole = result.whole if isinstance(result, Observation) else None
    whole = None if whole is None else redact(whole)
    text = gate.note + await _text_shown(context, role, execution_id, command_id, redact(result.text), whole)
    # Rules that came with what is left out by now count as not shown.
    view = (await context.conversation(execution_id)).view()
    rules, folders = await folder_rules(context, view, intent.arguments)
    if rules:
        text = f"{text}\n\n{text_storable(rules)}"
    content = await _content(context, text, result)
    finished = Event(
        "ToolFinished",
        {
            "call": str(intent.id),
            "name": intent.name,
            "ok": ok,
            "summary": (summary or text.strip().partition("\n")[0])[:300],
            "seconds": seconds,
            "interrupted": False,
        },
    )

    async def record(again: bool) -> BaseMessage:
        """The message that is written; one that an earlier try has written, though its connection broke, stands."""
        async with context.ledger.transaction(*(() if again else (finished,))) as connection:
            if again:
                known = await context.ledger.message_find(connection, execution_id, position + 1 + ordinal)
                if known is not None:
                    return known
                await context.ledger.append(connection, finished)
            # The head row is locked: whatever a person says after this is for what comes next.
            ends = isinstance(result, Finish) and result.listens
            unheard = ends and bool(await context.ledger.steering_load(connection, task_id=task_id))
            message = ToolMessage(
                NOT_ENDED if unheard else content,
                tool_call_id=call.provider_call_id,
                name=intent.name,
                status="success" if ok else "error",
                artifact={"rules": folders} if folders else None,
            )
            if snapshot is not None:
                await context.ledger.snapshot_insert(connection, snapshot)
            await context.ledger.tool_call_finish(
                connection,
                intent.id,
                ok=ok,
                observation=NOT_ENDED if unheard else text,
                edit_format=edit_format_used(call.name, call.arguments),
                well_formed=isinstance(result, Observation) and result.edited,
            )
            await context.ledger.message_insert(connection, execution_id, position + 1 + ordinal, message)
            if isinstance(result, Finish) and not unheard:
                await context.ledger.result_set(connection, execution_id, json_storable(result.result))
        return message

    # A database that is away for a moment makes no outcome unknown that is known here.
    message = await context.ledger.database.keep(record)
    kill_point("tool.recorded")
    if snapshot is not None and snapshot.tree:
        await index_tell(context, snapshot.tree)
    transcript.append(message)
    return isinstance(result, Finish) and message.content != NOT_ENDED


async def _files_keep(context: RunContext, judged: Allowed | Refused) -> Snapshot | None:
    """Keep the files, for a rewind to this step, after what may have changed them."""
    if isinstance(judged, Refused):
        return None
    changes = judged.tool.risk in (Risk.WRITE, Risk.EXECUTE) and not judged.tool.repeatable
    if changes and getattr(judged.arguments, "background", False):
        context.site.restless = True
    return await context.site.files_keep() if changes or context.site.restless else None


async def _text_shown(
    context: RunContext, role: str, execution_id: uuid.UUID, output_id: str, text: str, whole: str | None
) -> str:
    """What the model is told of an output: all of it, or its beginning and its end when the rest is kept in a file."""
    limit = await context.observation_limit(role)
    text = text_storable(text)
    if len(text) <= limit:
        return text
    kept = await asyncio.to_thread(context.outputs(execution_id).keep, output_id, text if whole is None else whole)
    note = (
        f"cut here: command_output shows all of it by the id {output_id}" if kept else "cut here; the rest is not kept"
    )
    return f"{text_cut(text, limit - 200)}\n[{note}]"


async def _content(context: RunContext, text: str, result: Observation | Finish) -> str | list[str | dict[Any, Any]]:
    """What the message says: the text, and references to the images that were seen."""
    images = result.images if isinstance(result, Observation) else ()
    if not images:
        return text
    put = [
        await context.ledger.database.run_in_thread(
            session_image_put, session_id=context.facts.session_id, image=shown.image, name=shown.name
        )
        for shown in images
    ]
    return [{"type": "text", "text": text}, *put]


async def _result_of(
    context: RunContext,
    role: str,
    execution_id: uuid.UUID,
    intent: ToolCallIntent,
    record: ToolCallRecord,
    judged: Allowed | Refused,
    command_id: str,
) -> Observation | Finish | Question:
    """What came of the call: from its row where that knows, otherwise by running it."""
    if record.status == ToolCallStatus.FINISHED:
        return Observation(record.observation, ok=bool(record.ok))
    if isinstance(judged, Refused):
        if intent.name == SUBMIT_PLAN_NAME and judged.malformed:
            # A plan that can't even be read is refused as one that doesn't hold.
            read = plan_read(intent.arguments)
            problems = read if isinstance(read, list) else [Problem("answer", "wrong_type", judged.reason)]
            return plan_refuse(await context.transcript(execution_id), problems)
        return Observation(judged.reason, ok=False, summary=judged.reason)
    if record.status == ToolCallStatus.WAITING:
        raise SessionSuspended("the question has no answer yet")
    if not record.is_new and not judged.tool.may_repeat:
        return Observation(UNKNOWN_OUTCOME, ok=False, summary="interrupted, outcome unknown")

    async def checks_run() -> Observation:
        baseline = await baseline_open(context)
        return checks_observe(await context.site.checks_run(await context.site.snapshot(), baseline.specs))

    reviewing = await context.ledger.effect_find(reviewing_key(execution_id)) if role == "reviewer" else None
    tools = ToolContext(
        workspace=await context.site.workspace(),
        checks_run=checks_run,
        command_seconds=context.facts.command_seconds,
        command_id=command_id,
        outputs=context.outputs(execution_id),
        conversation=await context.transcript(execution_id),
        observation_limit=await context.observation_limit(role),
        history=context.history,
        page_fetch=context.page_fetch,
        code=context.code,
        vision=context.vision(role),
        planning=SessionPlanDesk(context),
        review=ReviewScope.read(reviewing) if reviewing else None,
        plan_revision=revision_judge(context, role, execution_id, command_id, await context.transcript(execution_id)),
    )
    try:
        result: Observation | Finish | Question = await judged.tool.run(tools, judged.arguments)
    except WorkspaceError as error:
        return Observation(str(error), ok=False, summary=str(error).partition("\n")[0])
    return result

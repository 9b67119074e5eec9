"""What people say to a session while it is at work: heard before the model is asked the next time."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from langchain_core.messages import BaseMessage, HumanMessage

from apps.agents.nodes.context import RunContext
from apps.agents.services.ledger_records import SteeringWaiting
from apps.agents.services.steering import steering_text
from apps.agents.types import Event

#: Where a message says which of people's words are in it.
_HEARD = "archon_steering"


async def steering_hear(
    context: RunContext, execution_id: uuid.UUID, transcript: list[BaseMessage], *, task_id: uuid.UUID | None
) -> None:
    """Put what was said since the last call of the model into the conversation, as its next message.

    What was said of a task is heard by the agent that works on it (``task_id``), and by no other. Where tasks are
    worked on side by side, each of their agents hears the rest: the first one has it delivered.
    """
    if context.lane is not None:
        await _others_heard(context, execution_id, transcript)
    if context.ledger.steering_waits is False:
        return
    message, seq = None, 0
    async with context.ledger.transaction() as connection:
        waiting = await context.ledger.steering_load(connection, task_id=task_id)
        if waiting:
            message = _message(waiting)
            seq = await context.ledger.append(connection, *_delivered(context, execution_id, waiting))
            await context.ledger.steering_delivered(connection, [said.id for said in waiting])
            await context.ledger.message_insert(connection, execution_id, len(transcript), message)
    if message is not None:
        context.ledger.live.ring(seq)
        transcript.append(message)
        if context.lane is not None:
            context.lane.crew.word_heard(execution_id)


async def _others_heard(context: RunContext, execution_id: uuid.UUID, transcript: list[BaseMessage]) -> None:
    """What the agent of another lane was the first to hear, since this one's work began."""
    assert context.lane is not None
    crew = context.lane.crew
    known = crew.words_heard
    if crew.has_heard(execution_id, known):
        return
    heard = {said for message in transcript for said in message.additional_kwargs.get(_HEARD, ())}
    said_since = await context.ledger.steering_since(execution_id)
    missed = [said for said in said_since if str(said.id) not in heard]
    if missed:
        message = _message(missed)
        async with context.ledger.transaction(*_delivered(context, execution_id, missed)) as connection:
            await context.ledger.message_insert(connection, execution_id, len(transcript), message)
        transcript.append(message)
    crew.heard(execution_id, known)


def _message(words: Sequence[SteeringWaiting]) -> HumanMessage:
    text = steering_text([said.text for said in words])
    return HumanMessage(text, additional_kwargs={_HEARD: [str(said.id) for said in words]})


def _delivered(context: RunContext, execution_id: uuid.UUID, words: Sequence[SteeringWaiting]) -> list[Event]:
    return [
        Event(
            "SteeringDelivered",
            {"steering": str(said.id), "execution": str(execution_id), "turn": context.facts.turn},
        )
        for said in words
    ]

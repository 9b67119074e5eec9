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
    crew = context.lane.crew if context.lane is not None else None
    if context.ledger.steering_waits is False and (crew is None or crew.has_heard(execution_id)):
        return
    message, seq, heard = None, 0, 0
    async with context.ledger.transaction() as connection:
        said: list[SteeringWaiting] = []
        if crew is not None and not crew.has_heard(execution_id):
            # Behind the head's lock: whoever was told of them a moment ago has committed it.
            told = {word for message in transcript for word in message.additional_kwargs.get(_HEARD, ())}
            since = await context.ledger.steering_since(connection, execution_id)
            said += [each for each in since if str(each.id) not in told]
        waiting = await context.ledger.steering_load(connection, task_id=task_id)
        said += waiting
        if crew is not None:
            # Before the ledger says that nothing waits any more: who looks at both in between misses nothing.
            heard = crew.word_heard() if waiting else crew.words_heard
        if said:
            message = _message(said)
            seq = await context.ledger.append(connection, *_delivered(context, execution_id, said))
            if waiting:
                await context.ledger.steering_delivered(connection, [each.id for each in waiting])
            await context.ledger.message_insert(connection, execution_id, len(transcript), message)
    if message is not None:
        context.ledger.live.ring(seq)
        transcript.append(message)
    if crew is not None:
        crew.heard(execution_id, heard)


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

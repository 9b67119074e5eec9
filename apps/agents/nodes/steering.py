"""What people say to a session while it is at work: heard before the model is asked the next time."""

from __future__ import annotations

import uuid

from langchain_core.messages import BaseMessage, HumanMessage

from apps.agents.nodes.context import RunContext
from apps.agents.services.steering import steering_text
from apps.agents.types import Event


async def steering_hear(
    context: RunContext, execution_id: uuid.UUID, transcript: list[BaseMessage], *, task_id: uuid.UUID | None
) -> None:
    """Put what was said since the last call of the model into the conversation, as its next message.

    What was said of a task is heard by the agent that works on it (``task_id``), and by no other.
    """
    if context.ledger.steering_waits is False:
        return
    message, seq = None, 0
    async with context.ledger.transaction() as connection:
        waiting = await context.ledger.steering_load(connection, task_id=task_id)
        if waiting:
            message = HumanMessage(steering_text([said.text for said in waiting]))
            delivered = [
                Event(
                    "SteeringDelivered",
                    {"steering": str(said.id), "execution": str(execution_id), "turn": context.facts.turn},
                )
                for said in waiting
            ]
            seq = await context.ledger.append(connection, *delivered)
            await context.ledger.steering_delivered(connection, [said.id for said in waiting])
            await context.ledger.message_insert(connection, execution_id, len(transcript), message)
    if message is not None:
        context.ledger.live.ring(seq)
        transcript.append(message)

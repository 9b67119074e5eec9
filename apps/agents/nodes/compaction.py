"""A conversation that gets too long for its model: cut between two steps, summarised, and written down.

What is sent follows from rows: a worker that dies anywhere in here leaves a conversation that the next one cuts in the
same place, and a cut that stands is not made again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from django.conf import settings
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from apps.agents.nodes.context import RunContext, window_name
from apps.agents.nodes.conversation import Conversation
from apps.agents.nodes.replies import shown, usage_shown
from apps.agents.prompts import prompt_read
from apps.agents.services.compaction_plan import Meter, NoRoom, Planned, Room, cut_plan
from apps.agents.services.conversation_digest import digest, excerpt, notice
from apps.agents.services.conversation_text import content_text
from apps.agents.services.conversation_view import Compaction
from apps.agents.services.ledger_records import rewound_key
from apps.agents.services.server_words import standing_left_out
from apps.agents.types import Event
from apps.core.database import Connection
from apps.core.errors import LimitReached, NotFound
from apps.core.storable import text_storable
from apps.planning.models import TaskStatus
from apps.planning.selectors import plan_progress
from apps.planning.types import PlanProgress
from apps.usage.errors import BudgetExceeded, ModelCallFailed
from apps.usage.types import ModelReply
from integrations.llm_providers.capabilities import context_tokens
from integrations.llm_providers.types import ModelSpec

logger = logging.getLogger(__name__)

Cause = Literal["share", "context_too_long", "smaller_model"]
#: The share of a window that a reply may have, and the tokens that any reply gets.
REPLY_SHARE, REPLY_LEAST = 4, 512
#: The part of the rest that is used, since tokens are estimated.
CERTAIN = 0.95
#: Tokens of a summary's reply; some models think first.
SUMMARY_TOKENS = 4_096
#: Of a request that was too long, when the endpoint doesn't say how long it may be: how much of it is tried next.
TRIED_NEXT = 0.75
PLAN_CHARACTERS = 3_000
DIGEST = "digest"


class ContextTooSmall(LimitReached):
    """What an agent needs at least doesn't fit into its model's context window."""

    code = "context_too_small"


@dataclass(frozen=True)
class Learned:
    """A context window as it turned out."""

    model: str
    window: int


def spec_within(spec: ModelSpec, windows: dict[str, int]) -> ModelSpec:
    """The model with its window as it turned out, and replies that leave room for what it reads."""
    known = context_tokens(spec)
    window = min(known, windows.get(window_name(spec), known))
    reply = min(spec.max_output_tokens, max(REPLY_LEAST, window // REPLY_SHARE))
    if reply == spec.max_output_tokens and window == known:
        return spec
    return replace(spec, max_output_tokens=reply, context_tokens=window)


def room_of(spec: ModelSpec) -> Room:
    """How much a request to the model may have, and when a conversation with it is cut."""
    window = context_tokens(spec)
    most = int((window - spec.max_output_tokens) * CERTAIN)
    return Room(most=most, trigger=min(most, int(window * settings.ARCHON_CONTEXT_SHARE)))


def window_learn(failed: ModelSpec, said: int | None, sent: int) -> int:
    """What to take the window for after a request of about ``sent`` tokens was too long for it."""
    guessed = int(sent * TRIED_NEXT) + failed.max_output_tokens
    known = context_tokens(failed)
    # An endpoint that names the window that we thought it had counts other tokens than we do.
    return said if said is not None and said < known else min(guessed, int(known * TRIED_NEXT))


async def conversation_fit(
    context: RunContext,
    conversation: Conversation,
    *,
    role: str,
    chain: Sequence[ModelSpec],
    meter: Meter,
    cause: Cause = "share",
    learned: Learned | None = None,
) -> None:
    """Make the conversation short enough for the first model of the chain, if it isn't. Raises ContextTooSmall."""
    spec = chain[0]
    planned = cut_plan(conversation.measured, conversation.cut, meter=meter, room=room_of(spec))
    if isinstance(planned, NoRoom) and meter.is_guess:
        # Before it is refused for a guess it is tried: the endpoint counts, and says so where it is too long.
        meter = meter.likely()
        planned = cut_plan(conversation.measured, conversation.cut, meter=meter, room=room_of(spec))
    if planned is None:
        return
    if isinstance(planned, NoRoom):
        raise ContextTooSmall(
            f"the context window of {spec.name} is too small: it has {context_tokens(spec)} tokens, of which"
            f" {room_of(spec).most} are left for what it reads, and what it has to read takes about {planned.needed}",
            next_step="choose a model with a larger context window; if this one has a larger one, the operator says so"
            " in ARCHON_MODEL_CONTEXTS",
        )
    maker = _Maker(context, conversation, role=role, meter=meter, cause=cause, learned=learned)
    if planned.needs_summary:
        await maker.summarised(planned, chain)
    else:
        await maker.record(planned, conversation.cut_summary, "")


@dataclass
class _Maker:
    """Carries out one planned cut."""

    context: RunContext
    conversation: Conversation
    role: str
    meter: Meter
    cause: Cause
    learned: Learned | None
    seq: int = 0
    #: What was written; it holds once that is committed.
    made: Compaction | None = None

    async def summarised(self, planned: Planned, chain: Sequence[ModelSpec]) -> None:
        """With a summary of the model's own, paid for like any call; without a usable one, with what can be said."""
        context, conversation = self.context, self.conversation
        plan = await _plan_told(context, self.role)

        async def settle(connection: Connection, reply: ModelReply) -> None:
            text = text_storable(str(reply.message.text)).strip()
            usable = bool(text) and not reply.message.tool_calls
            by = reply.model if usable else DIGEST
            told = self._told(planned, plan, text if usable else "")
            await self._insert(connection, planned, told, by, reply)

        try:
            await context.gateway.call(
                scope_id=context.facts.session_id,
                key=rewound_key(
                    f"{conversation.execution_id}:{len(conversation.transcript)}:summary:{conversation.sequence}",
                    context.facts.rewinds,
                ),
                role=self.role,
                spec=_summary_spec(chain[0]),
                fallbacks=[_summary_spec(spec) for spec in chain[1:]],
                messages=self._request(planned, chain[0]),
                on_settle=settle,
            )
        except (ModelCallFailed, BudgetExceeded) as error:
            logger.info("session %s: no summary (%s); a digest is made", context.facts.session_id, error.message)
            await self.record(planned, self._told(planned, plan, ""), DIGEST)
        except BaseException:
            # The rows decide what is left out.
            context.conversation_forget(conversation.execution_id)
            raise
        else:
            self._committed()

    async def record(self, planned: Planned, summary: str, by: str) -> None:
        """Write the cut down, without a model."""
        async with self.context.ledger.transaction() as connection:
            await self._insert(connection, planned, summary, by, None)
        self._committed()

    def _committed(self) -> None:
        assert self.made is not None
        self.conversation.compacted(self.made)
        self.context.ledger.live.ring(self.seq)

    async def _insert(
        self, connection: Connection, planned: Planned, summary: str, by: str, reply: ModelReply | None
    ) -> None:
        context, conversation = self.context, self.conversation
        cut = replace(planned.cut, summary=summary)
        before = self.meter.tokens(conversation.measured.viewed(conversation.cut))
        after = self.meter.tokens(conversation.measured.viewed(cut))
        compaction = Compaction(conversation.sequence, cut, self.meter.bytes_per_token)
        opening = conversation.opening
        event = Event(
            "ConversationCompacted",
            {
                "execution": str(conversation.execution_id),
                "role": self.role,
                "step": cut.position,
                "cause": self.cause,
                "dropped": max(0, cut.dropped_to - opening - len(cut.kept)),
                "cleared_to": cut.cleared_to,
                "tokens_before": before,
                "tokens_after": after,
                "summary": shown(summary) if planned.needs_summary else "",
                "summary_by": by,
                "usage": usage_shown(reply.usage) if reply is not None else None,
            },
        )
        self.seq = await context.ledger.append(connection, event)
        await context.ledger.compaction_insert(
            connection,
            conversation.execution_id,
            compaction,
            summary_by=by,
            reason=self.cause,
            model=self.learned.model if self.learned else "",
            window=self.learned.window if self.learned else None,
            tokens_before=before,
            tokens_after=after,
        )
        self.made = compaction

    def _told(self, planned: Planned, plan: str, text: str) -> str:
        """What stands for the messages that are left out."""
        first, last = self.conversation.opening, planned.cut.dropped_to - 1
        head = notice(first, last, by_model=bool(text))
        room = max(0, planned.summary_characters - len(head) - 2)
        if plan and len(plan) <= room // 3:
            head, room = f"{head}\n\n{plan}", room - len(plan) - 2
        if not text:
            text = digest(self._dropped(planned), former=self.conversation.cut_summary, limit=room)
        return text_storable(f"{head}\n\n{text[:room]}")

    def _request(self, planned: Planned, spec: ModelSpec) -> list[BaseMessage]:
        words = max(80, planned.summary_characters // 8)
        prompt = prompt_read("summary").format(words=words)
        window = context_tokens(spec) - _summary_spec(spec).max_output_tokens
        room = self.meter.characters(int(window * CERTAIN) - 200) - len(prompt) - 1_000
        opening = self.conversation.transcript[1 : self.conversation.opening]
        task = "\n".join(content_text(standing_left_out(message)) for message in opening)[: max(500, room // 4)]
        dropped = excerpt(
            self._dropped(planned),
            planned.summarised.start,
            former=self.conversation.cut_summary,
            limit=max(1_000, room - len(task)),
        )
        said = (
            f"The task, which the agent is shown anyway:\n{task}\n\nWhat is to be summarised:\n{dropped}\n\n"
            f"Write the summary now, in at most {words} words."
        )
        return [SystemMessage(prompt), HumanMessage(said)]

    def _dropped(self, planned: Planned) -> Sequence[BaseMessage]:
        return self.conversation.transcript[planned.summarised.start : planned.summarised.stop]


def _summary_spec(spec: ModelSpec) -> ModelSpec:
    return replace(spec, max_output_tokens=min(spec.max_output_tokens, SUMMARY_TOKENS))


async def _plan_told(context: RunContext, role: str) -> str:
    """The plan as it stands, for an agent that carries out a task of it."""
    if role != "coder":
        return ""
    try:
        progress = await context.ledger.database.run_in_thread(plan_progress, context.facts.plan_id)
    except NotFound:
        return ""
    return plan_text(progress)[:PLAN_CHARACTERS]


def plan_text(progress: PlanProgress) -> str:
    """The plan with what is done of it."""
    lines = [f"The plan: {progress.summary}"]
    for feature in progress.features:
        for task in feature.tasks:
            lines.append(f"- [{'x' if task.status == TaskStatus.DONE else ' '}] {task.title}")
    return "\n".join(lines)

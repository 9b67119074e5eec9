"""The plan's rows as of an earlier step, worked out from the effects that still stand."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apps.agents.models import AgentSession, SessionEffect
from apps.agents.services.plan_work import plan_status_standing
from apps.agents.services.sessions import made_in
from apps.agents.types import AgentType
from apps.planning.models import TaskStatus
from apps.planning.selectors import version_at
from apps.planning.services import plan_rewind, plan_update_status, plan_withdraw
from apps.planning.types import TaskState

_PLAN_KEY = re.compile(r"plan(?:#(?P<turn>\d+))?")
_TAKEN_BACK = re.compile(r"(?P<key>.*)~(?P<rewind>\d+)")


def plan_take_back(session: AgentSession, *, rewind: int, seq: int) -> None:
    """Have the session's plan as its standing effects tell; the caller saves the session.

    After the effects of this rewind were retired, and inside its transaction.
    """
    standing = dict(
        SessionEffect.objects.filter(session=session, retired=None).order_by("seq", "id").values_list("key", "result")
    )
    taken_back = dict(SessionEffect.objects.filter(session=session, retired=rewind).values_list("key", "result"))
    made = [result for key, result in standing.items() if _PLAN_KEY.fullmatch(key)]
    unmade: dict[int, Mapping[str, Any]] = {}
    for key, result in taken_back.items():
        former = _TAKEN_BACK.fullmatch(key)
        plan = _PLAN_KEY.fullmatch(former["key"]) if former else None
        if plan is not None:
            unmade[int(plan["turn"] or 0)] = result
    if unmade:
        session.plan_rewind = rewind
    given = bool(standing.get("plan", {}).get("given"))
    if session.agent_type == AgentType.PLANNER and not given:
        for result in unmade.values():
            if result.get("plan"):
                plan_withdraw(plan_id=uuid.UUID(result["plan"]))
        kept = made[-1].get("plan") if made else None
        session.plan_id = uuid.UUID(kept) if kept else None
        return
    if session.plan_id is None:
        return
    if not made:
        plan_withdraw(plan_id=session.plan_id)
        session.plan_id = None
        return
    plan_rewind(
        plan_id=session.plan_id,
        session_id=session.id,
        version=version_at(session.plan_id, session_id=session.id, seq=seq, before=session.created_at),
        tasks=_task_states(standing),
        made_in=made_in(session.id),
        reason=f"the session was taken back to step {seq}",
    )
    plan_update_status(plan_id=session.plan_id, status=plan_status_standing(standing))


def _task_states(effects: Mapping[str, Any]) -> dict[uuid.UUID, TaskState]:
    """How far each task is that was begun, by the keys of ``nodes.tasks`` and ``nodes.task_verdict``."""
    states: dict[uuid.UUID, TaskState] = {}
    for key in effects:
        kind, _, rest = key.partition(":")
        if kind == "begin":
            begun = TaskState(status=TaskStatus.RUNNING, attempts=1, check_results=(), findings=())
            states.setdefault(uuid.UUID(rest), begun)
    for key in effects:
        kind, _, rest = key.partition(":")
        if kind == "retry":
            task, _, attempt = rest.partition(":")
            state = states[uuid.UUID(task)]
            states[uuid.UUID(task)] = replace(state, attempts=max(state.attempts, int(attempt) + 1))
    for key, result in effects.items():
        kind, _, rest = key.partition(":")
        if kind == "review":
            # In the order in which they were made: what the last one that stands has found.
            task_id = uuid.UUID(rest.partition(":")[0])
            states[task_id] = replace(states[task_id], findings=tuple(result["findings"]))
    for key in effects:
        kind, _, rest = key.partition(":")
        if kind in ("accept", "give-up"):
            state = states[uuid.UUID(rest)]
            # Of one that was worked on beside others, what was found of the commit that was merged.
            verified = effects.get(f"merged:{rest}") or effects[f"verify:{rest}:{state.attempts}"]
            status = TaskStatus.DONE if kind == "accept" else TaskStatus.FAILED
            states[uuid.UUID(rest)] = replace(
                state,
                status=status,
                result=verified["summary"],
                commit=verified["commit"],
                check_results=tuple(verified.get("acceptance", ())),
            )
        elif kind == "block":
            blocked = effects[key]["result"]
            states[uuid.UUID(rest)] = replace(states[uuid.UUID(rest)], status=TaskStatus.FAILED, result=blocked)
    return states

"""Reviewing a task's commit once the server's checks have passed: findings, back to the coder, and at last a person.

The reviewer only reads. What it hands over are findings on the lines that the commit changed; whether the commit passed
is the server's word and stays that. Findings that weigh enough go back to the coder, who goes on in its own
conversation; the new commit is verified and reviewed again, with what was found before. After so many rounds a person
is asked. A review that was never handed over holds nothing up, and is never called one.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from langgraph.runtime import Runtime

from apps.agents.nodes.context import RunContext, SessionState, SessionSuspended
from apps.agents.nodes.lane_ground import ground_of
from apps.agents.nodes.replan_choice import VETO
from apps.agents.nodes.review_brief import review_before, review_open
from apps.agents.nodes.task_rows import SENT_BACK, is_reading, task_load
from apps.agents.nodes.tasks import work_again, work_give_up
from apps.agents.services.ledger_records import ToolCallIntent
from apps.agents.services.reviews import (
    Finding,
    ReviewScope,
    decision_key,
    findings_merge,
    findings_open,
    findings_told,
    review_key,
    reviewing_key,
)
from apps.agents.types import Event, Review, Severity, ToolCallStatus
from apps.planning.selectors import plan_progress
from apps.planning.services import task_update_status
from apps.planning.types import Intent, TaskProgress, TaskStatus

#: Goals whose changes `auto` leaves unreviewed.
_PLAIN_INTENTS = frozenset({Intent.SMALL_EDIT, Intent.QUESTION})
_ROUNDS_LISTED = 20
ACCEPT, AGAIN, GIVE_UP = "accept it", "another round", "give the task up"
#: What the command line answers where nobody is there (``--yes``): what the checks say is what is left.
_NOBODY = "use your judgement"
NOT_REVIEWED = "the reviewer ended without handing a review over"


@dataclass(frozen=True)
class ReviewStanding:
    """How a task stands with its reviewer."""

    #: The last review of it; 0: there was none.
    round: int = 0
    #: What that came to: ``passed``, ``findings``, ``unresolved`` or ``unreviewed``.
    verdict: str = ""
    #: What is not resolved, the heaviest first.
    open: tuple[Finding, ...] = ()
    #: What a person decided after the rounds: ``accept``, ``again`` or ``give_up``; empty: nobody was asked.
    decision: str = ""
    note: str = ""

    @property
    def vetoed(self) -> bool:
        """It does not stand as it is: a person gave it up, or something critical is left and nobody has accepted it."""
        if self.decision:
            return self.decision == "give_up"
        return self.verdict == "unresolved" and any(each.severity is Severity.CRITICAL for each in self.open)


async def review_standing(context: RunContext, task_id: uuid.UUID) -> ReviewStanding:
    """How the task stands with its reviewer, by what still holds of its reviews."""
    standing = ReviewStanding()
    number = 1
    while (known := await context.ledger.effect_find(review_key(task_id, number))) is not None:
        decided = await context.ledger.effect_find(decision_key(task_id, number)) or {}
        standing = ReviewStanding(
            round=number,
            verdict=known["verdict"],
            open=tuple(findings_open(map(Finding.read, known["findings"]))),
            decision=decided.get("decision", ""),
            note=known["note"],
        )
        number += 1
    return standing


async def review_begin(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Give the commit to the reviewer, where it is to be reviewed and wasn't yet."""
    context = runtime.context
    task = await task_load(context, uuid.UUID(state["task_id"]))
    attempt = state["attempt"]
    verified = await context.ledger.effect_find(f"verify:{task.id}:{attempt}")
    assert verified is not None
    parent = (await ground_of(context, task.id, attempt)).parent
    changed = verified["commit"] != parent and bool(verified["files"])
    if not changed or not await review_wanted(context, task):
        return {"verdict": "passed"}
    number = await _round_of(context, task.id, attempt)
    name = f"review:{number}"
    execution_id = context.ledger.execution_id(role="reviewer", task_id=task.id, name=name)
    if await context.ledger.effect_find(reviewing_key(execution_id)) is None:
        await review_open(context, task, verified, parent, attempt=attempt, number=number, name=name)
    ended = await context.ledger.result_load(execution_id) is not None
    return {
        "execution_id": str(execution_id), "role": "reviewer", "ended": ended, "round": number, "verdict": "review"
    }  # fmt: skip


def route_after_review(state: SessionState) -> str:
    return state["verdict"]


async def review_wanted(context: RunContext, task: TaskProgress) -> bool:
    """Whether the task's change is to be reviewed.

    By itself (``auto``) all that is not plainly small: no small edit, and no follow-up, which a person has just asked
    for and looks at next.
    """
    if is_reading(task) or context.facts.review is Review.NEVER:
        return False
    if context.facts.review is Review.ALWAYS:
        return True
    if context.facts.turn:
        return False
    progress = await context.ledger.database.run_in_thread(plan_progress, context.facts.plan_id)
    return progress.intent not in _PLAIN_INTENTS


async def review_record(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Keep what the reviewer found, and say what becomes of the commit: it stands, goes back, or a person decides."""
    context = runtime.context
    task_id, number = uuid.UUID(state["task_id"]), state["round"]
    key = review_key(task_id, number)
    known: Mapping[str, Any] | None = await context.ledger.effect_find(key)
    if known is None:
        known = await _record(context, task_id, number, uuid.UUID(state["execution_id"]))
    return {"verdict": {"findings": "retry", "unresolved": "ask"}.get(known["verdict"], "passed")}


async def review_ask(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Have a person decide between the reviewer and the coder; the session waits for that."""
    context = runtime.context
    task_id, number = uuid.UUID(state["task_id"]), state["round"]
    key = decision_key(task_id, number)
    decided: Mapping[str, Any] | None = await context.ledger.effect_find(key)
    if decided is None:
        answer = await _answer_await(context, task_id, number, uuid.UUID(state["execution_id"]))
        decision, words = decision_read(answer)
        event = Event("ReviewDecided", {"task": str(task_id), "round": number, "decision": decision, "words": words})
        decided = await context.ledger.effect_record(key, event, result={"decision": decision, "words": words})
    return {"verdict": {"accept": "passed", "again": "retry"}.get(decided["decision"], "failed")}


async def review_retry(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """Send the findings back to the coder, in its own conversation."""
    context = runtime.context
    task_id, number = uuid.UUID(state["task_id"]), state["round"]
    known = await context.ledger.effect_find(review_key(task_id, number))
    decided = await context.ledger.effect_find(decision_key(task_id, number)) or {}
    assert known is not None
    left = findings_open(map(Finding.read, known["findings"]))
    how = (
        "Mend what is right in them, the heaviest first; the files are as you left them. Where a finding is wrong,"
        " leave the code as it is and say why when you finish: the reviewer reads that."
    )
    parts = [
        "The checks pass on your commit, and a reviewer has read it. These findings are open:",
        findings_told(left),
        f"The reviewer says: {known['summary']}" if known["summary"] else "",
        f"The person you work for says to it: {decided['words']}" if decided.get("words") else "",
        how,
    ]
    result = {"why": SENT_BACK, "round": number}
    return await work_again(context, state, "\n\n".join(part for part in parts if part), result=result)


async def review_give_up(state: SessionState, runtime: Runtime[RunContext]) -> SessionState:
    """A person gave the task up over what the reviewer found; whoever looks at the plan again is told so."""
    context, task_id = runtime.context, uuid.UUID(state["task_id"])
    known = await context.ledger.effect_find(review_key(task_id, state["round"]))
    assert known is not None
    left = findings_open(map(Finding.read, known["findings"]), Severity(known["threshold"]))
    listed = "; ".join(str(each) for each in left[:5])
    reason = f"a person gave it up over the review: {listed}"
    await context.ledger.effect_record(f"{VETO}{task_id}", result={"reason": reason})
    return await work_give_up(context, state, reason=reason)


def decision_read(answer: str) -> tuple[str, str]:
    """What a person's answer means, and what of it the coder is to hear."""
    said = answer.strip().lower().rstrip(".!")
    if said in (ACCEPT, "accept", "yes") or said.startswith(_NOBODY):
        return "accept", ""
    if said in (GIVE_UP, "give up", "give it up"):
        return "give_up", ""
    # In words of their own they say what is to be done.
    return "again", "" if said in (AGAIN, "again") else answer.strip()


async def _round_of(context: RunContext, task_id: uuid.UUID, attempt: int) -> int:
    """The review of this attempt's commit: the first that there is none of yet, or the one that there is."""
    number = 1
    while (known := await context.ledger.effect_find(review_key(task_id, number))) is not None:
        if known["attempt"] == attempt:
            break
        number += 1
    return number


# --- What came of it --------------------------------------------------------------------------------------------------
async def _record(context: RunContext, task_id: uuid.UUID, number: int, execution_id: uuid.UUID) -> Mapping[str, Any]:
    scope_row = await context.ledger.effect_find(reviewing_key(execution_id))
    assert scope_row is not None
    scope = ReviewScope.read(scope_row)
    result = await context.ledger.result_load(execution_id) or {}
    former = await review_before(context, task_id, number)
    so_far = [Finding.read(each) for each in former["findings"]] if former else []
    profile = context.profile("reviewer")
    findings, summary, note = so_far, "", ""
    if result.get("reviewed"):
        new = [Finding.read(each) for each in result["findings"]]
        findings, summary = findings_merge(so_far, new, result["resolved"]), str(result["summary"])
        serious = findings_open(findings, profile.threshold)
        verdict = "passed"
        if serious:
            verdict = "findings" if await _sent_back(context, task_id) < profile.rounds else "unresolved"
        if result.get("beside"):
            note = f"{result['beside']} findings were left out: they were on no line that the change touched"
    else:
        verdict = "unreviewed"
        note = f"not reviewed: {result.get('reason') or NOT_REVIEWED}"
    told = [each.as_dict() for each in findings]
    finished = Event(
        "ReviewFinished",
        {
            "task": str(task_id),
            "round": number,
            "verdict": verdict,
            "summary": summary,
            "findings": told,
            "note": note,
        },
    )
    kept = {
        "verdict": verdict,
        "attempt": scope.attempt,
        "commit": scope.commit,
        "execution": str(execution_id),
        "threshold": profile.threshold.value,
        "summary": summary,
        "findings": told,
        "note": note,
    }
    change = partial(task_update_status, task_id=task_id, status=TaskStatus.RUNNING, findings=told)
    key = review_key(task_id, number)
    await context.ledger.effect_apply(key, change, finished, result=kept)
    stands = await context.ledger.effect_find(key)
    assert stands is not None
    return stands


async def _sent_back(context: RunContext, task_id: uuid.UUID) -> int:
    """How often findings went back to the coder."""
    sent, attempt = 0, 1
    while (known := await context.ledger.effect_find(f"retry:{task_id}:{attempt}")) is not None:
        sent += known.get("why") == SENT_BACK
        attempt += 1
    return sent


# --- Asking a person --------------------------------------------------------------------------------------------------
async def _answer_await(context: RunContext, task_id: uuid.UUID, number: int, execution_id: uuid.UUID) -> str:
    """The person's answer; raises SessionSuspended until there is one."""
    known = await context.ledger.effect_find(review_key(task_id, number))
    assert known is not None
    task = await task_load(context, task_id)
    text = _question(task, known)
    # A call that no model made, where the reviewer's conversation has come to its end.
    position = len(await context.transcript(execution_id))
    arguments = {"question": text, "choices": [ACCEPT, AGAIN, GIVE_UP]}
    intent = ToolCallIntent(execution_id, position, 0, f"review_{number}", "ask_user", arguments, context.facts.rewinds)
    call = await context.ledger.tool_call_load(intent.id)
    if call is None:
        asked = Event("QuestionAsked", {"question": str(intent.id), "text": text, "choices": arguments["choices"]})
        await context.ledger.question_ask(intent, asked)
        raise SessionSuspended("a person decides on a review")
    if call.status is not ToolCallStatus.FINISHED:
        raise SessionSuspended("the question has no answer yet")
    return call.observation


def _question(task: TaskProgress, known: Mapping[str, Any]) -> str:
    left = findings_open(map(Finding.read, known["findings"]), Severity(known["threshold"]))
    more = f"\nand {len(left) - _ROUNDS_LISTED} more" if len(left) > _ROUNDS_LISTED else ""
    return (
        f"The checks pass on the work on “{task.title}”, but the reviewer still finds fault with it:\n"
        f"{findings_told(left[:_ROUNDS_LISTED])}{more}\n"
        "Accept it as it is, have the coder try once more (in your own words, if you like), or give the task up?"
    )

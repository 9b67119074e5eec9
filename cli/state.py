"""What is known of a session from its events, for whatever shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from cli.resources import Approval, Event, Question, Session
from cli.state_plan import PlanState, TaskState
from cli.text import text_clean, text_line

#: How much of what a model is writing is kept.
_TEXT_KEPT = 4000
#: Which argument of a tool tells the most.
_TELLING = ("command", "pattern", "path", "question", "summary")

PHASES = {
    "preparing": "preparing the environment, running the checks",
    "verifying": "the server runs the checks on the commit",
    "reviewing": "a reviewer reads the commit",
}


@dataclass
class ToolState:
    name: str
    #: The telling argument, on one line.
    argument: str
    started_at: datetime
    #: The id of the task that it runs for, where others are worked on beside it.
    task: str = ""


@dataclass
class CheckState:
    name: str
    before: str | None = None
    after: str | None = None
    tests_before: int | None = None
    tests_after: int | None = None


@dataclass
class SessionState:
    """Grows by :meth:`event_apply`; any run of events from the first on gives a state that can be shown."""

    session_id: str
    goal: str
    model: str = ""
    status: str = "pending"
    outcome: str = ""
    phase: str = ""
    #: Where the goal, or the task at hand, likely leads: ``path:lines``.
    located: list[str] = field(default_factory=list)
    plan: PlanState = field(default_factory=PlanState)
    #: What runs now, by call: several tasks may be worked on side by side.
    tools: dict[str, ToolState] = field(default_factory=dict)
    #: What a model is writing now, or wrote last.
    text: str = ""
    #: By execution, the step that is being written, with what there is of it; and that of the last whole reply.
    writing: dict[str, tuple[int, str]] = field(default_factory=dict)
    replied: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    #: Whether the price of every reply is known.
    priced: bool = True
    limit_cost_usd: float | None = None
    limit_steps: int | None = None
    checks: dict[str, CheckState] = field(default_factory=dict)
    question: Question | None = None
    #: The call that waits for leave, as an event told it: long arguments are cut there.
    approval: Approval | None = None
    #: The version of the plan that waits for leave; 0: none does.
    plan_waits: int = 0
    message: str = ""
    events: int = 0

    @classmethod
    def from_session(cls, session: Session) -> SessionState:
        return cls(
            session_id=session.id,
            goal=session.goal,
            model=session.model,
            limit_cost_usd=session.limits.cost_usd,
            limit_steps=session.limits.steps,
        )

    def delta_apply(self, text: str, *, speaker: tuple[str, int]) -> None:
        """A piece of what a model is writing: of one step alone, each in its turn."""
        execution, step = speaker
        # Pieces are gathered on their way, so the last one may come after the whole reply.
        if self.replied.get(execution) == step:
            return
        at, written = self.writing.get(execution, (step, ""))
        self.text = ((written if at == step else "") + text_clean(text))[-_TEXT_KEPT:]
        self.writing[execution] = (step, self.text)

    def event_apply(self, event: Event) -> None:
        """One event more; an unknown type changes nothing but the count."""
        self.events = event.seq
        payload = event.payload
        match event.type:
            case "SessionQueued" | "SessionCreated":
                self.status = "pending"
            case "SessionReopened":
                self.status, self.outcome, self.message, self.phase = "running", "", "", ""
            case "PlanExtended":
                self.plan.extended(payload)
            case "PlanRevised":
                self.plan.revised(payload)
            case "SessionStarted" | "SessionResumed":
                self.status, self.message = "running", ""
                self.tools.clear()
            case "PhaseChanged":
                self.phase = str(payload.get("phase", ""))
            case "ChecksFinished":
                self._checks_finished(payload)
            case "CodeLocated":
                self.located = places_short(payload.get("hits"))
            case "PlanCreated":
                self.plan.created(payload)
            case "TaskStarted":
                self.plan.started(payload)
            case "TaskCommitted":
                self.plan.ended(payload, "done")
            case "TaskBlocked":
                self.plan.ended(payload, "blocked")
            case "TaskFailed":
                self.plan.ended(payload, "failed")
            case "ModelReplied":
                self._model_replied(payload)
            case "ToolStarted":
                self.tools[str(payload.get("call", ""))] = ToolState(
                    str(payload.get("name", "")),
                    argument_short(payload.get("arguments")),
                    event.created_at,
                    str(payload.get("task") or ""),
                )
            case "ToolFinished" | "ToolStopped":
                self.tools.pop(str(payload.get("call", "")), None)
            case "QuestionAsked":
                choices = payload.get("choices")
                self.question = Question(
                    id=str(payload.get("question", "")),
                    text=str(payload.get("text", "")),
                    choices=[str(choice) for choice in choices] if isinstance(choices, list) else None,
                )
                self.status = "waiting_input"
            case "QuestionAnswered":
                self.question, self.status = None, "running"
            case "ApprovalRequested":
                self.approval, self.status = _approval(payload), "waiting_approval"
            case "ApprovalDecided":
                self.approval, self.status = None, "running"
            case "PlanApprovalRequested":
                self.plan_waits, self.status = int(payload.get("version") or 1), "waiting_approval"
            case "PlanApproved" | "PlanRejected":
                # One that is paused, or at work on another version, stays so.
                if self.plan_waits:
                    self.plan_waits, self.status = 0, "running"
            case "SessionPaused":
                self.status = "paused"
                self.tools.clear()
                self.message = str((payload.get("reason") or {}).get("message", "")) if payload else ""
            case "SessionRewound":
                self.status, self.question, self.outcome = "paused", None, ""
                self.tools.clear()
                self.plan_waits = 0
                self.message = f"taken back to step {payload.get('to_seq')}"
            case "SessionCancelled":
                self.status, self.question, self.approval = "cancelled", None, None
                self.tools.clear()
                self.plan_waits = 0
            case "SessionReported":
                self.message = str(payload.get("summary") or "")
            case "SessionCompleted":
                self.status, self.question = "completed", None
                self.tools.clear()
                self.outcome = str(payload.get("outcome", ""))
            case "SessionFailed":
                self.status, self.question = "failed", None
                self.tools.clear()
                self.message = str(payload.get("message", ""))

    def _checks_finished(self, payload: dict[str, Any]) -> None:
        stage = "before" if payload.get("stage") == "before" else "after"
        for check in _dicts(payload.get("checks")):
            name = str(check.get("name") or check.get("command") or "check")
            state = self.checks.setdefault(name, CheckState(name))
            result = "passed" if check.get("passed") else "flaky" if check.get("passes_again") else "failed"
            tests = check.get("tests")
            # Where a check does not tell its tests one by one, there is nothing to count.
            count = tests if isinstance(tests, int) and tests > 0 else None
            if stage == "before":
                state.before, state.tests_before = result, count
            else:
                state.after, state.tests_after = result, count

    def _model_replied(self, payload: dict[str, Any]) -> None:
        step = payload.get("step")
        execution = str(payload.get("execution", ""))
        self.replied[execution] = step if isinstance(step, int) else 0
        self.writing.pop(execution, None)
        text = text_clean(str(payload.get("text") or ""))
        if text.strip():
            self.text = text[-_TEXT_KEPT:]
        usage = payload.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        self.steps += 1
        self.tokens += int(usage.get("input_tokens") or 0) + int(usage.get("output_tokens") or 0)
        self.cost_usd += float(usage.get("cost_usd") or 0)
        self.priced = self.priced and usage.get("priced") is not False
        if payload.get("model"):
            # Roles may have models of their own, and a fallback may have answered.
            self.model = text_line(str(payload["model"]), width=100)

    @property
    def tasks(self) -> list[TaskState]:
        return self.plan.tasks

    @property
    def doing(self) -> str:
        """In a few words, what is going on."""
        match self.status:
            case "pending":
                return "waiting for a worker"
            case "waiting_input":
                return "waiting for your answer"
            case "waiting_approval":
                return "waiting for your approval"
            case "running":
                if (beside := sum(task.status == "running" for task in self.tasks)) > 1:
                    return f"{beside} tasks side by side"
                return PHASES.get(self.phase, self.phase or "starting")
            case "completed" if self.outcome:
                return f"completed, {self.outcome}"
        return self.status


def argument_short(arguments: Any, *, width: int = 120) -> str:
    """The argument that tells most about a tool call, on one line."""
    if not isinstance(arguments, dict):
        return ""
    for name in _TELLING:
        if arguments.get(name):
            return text_line(str(arguments[name]), width=width)
    return text_line(" ".join(f"{name}={value}" for name, value in arguments.items()), width=width)


def _approval(payload: dict[str, Any]) -> Approval | None:
    try:
        return Approval.model_validate(payload)
    except ValidationError:
        return None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def places_short(hits: Any) -> list[str]:
    """What an event says was located, each file in one word: ``path:first-last`` of the function that fits best."""
    places = []
    for hit in hits if isinstance(hits, list) else ():
        if not isinstance(hit, dict) or not hit.get("path"):
            continue
        functions = hit.get("functions")
        best = functions[0] if isinstance(functions, list) and functions and isinstance(functions[0], dict) else {}
        lines = f":{best['start_line']}-{best['end_line']}" if {"start_line", "end_line"} <= best.keys() else ""
        places.append(f"{hit['path']}{lines}")
    return places

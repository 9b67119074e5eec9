"""Following a session at the terminal: the view, questions, and Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Literal

from rich.console import Console
from rich.text import Text

from cli.approval_call import Decision, approval_send, approval_show, arguments_read
from cli.client import Api
from cli.command import command_line
from cli.errors import ApiError, CliError
from cli.live import SessionView, view_open
from cli.plan_api import PlanApi
from cli.plan_approval import PlanDecision, plan_approval_show, plan_decision_send
from cli.resources import Approval, Event, PlanApproval, Question, Session
from cli.state import SessionState
from cli.text import text_clean
from cli.watch import Delta, Disconnected, Ended, SessionWatch, Tick

JUDGEMENT = "Use your judgement; nobody is here to ask."

#: How following came to its end: the session's end, the user's wish, or a session that waits for somebody.
Ending = Literal["ended", "detached", "waiting", "interrupted"]


@dataclass(frozen=True)
class Manners:
    """How to behave towards whoever is there."""

    #: Somebody sits at a terminal and can be asked.
    interactive: bool
    #: Questions are answered with "use your judgement", confirmations are skipped.
    yes: bool = False
    #: A program reads the result: rather an end than a wait for a person.
    json_output: bool = False
    #: This command started the session, so that Ctrl-C may mean its end.
    owner: bool = True


@dataclass(frozen=True)
class Followed:
    state: SessionState
    ending: Ending


def manners_of(*, yes: bool, json_output: bool, owner: bool) -> Manners:
    interactive = not json_output and sys.stdin.isatty() and sys.stdout.isatty()
    return Manners(interactive=interactive, yes=yes, json_output=json_output, owner=owner)


def session_follow(api: Api, session: Session, *, console: Console, manners: Manners, seen: int = 0) -> Followed:
    """Show the session until it ends, is left, or waits for an answer that nobody here gives.

    Events up to ``seen`` are known to whoever looks: they make the state, and aren't told again.
    """
    state = SessionState.from_session(session)
    elapsed = api.session_progress(session.id).elapsed_s
    with view_open(state, console=console, elapsed_s=elapsed) as view, _interrupts() as interrupt:
        follower = _Follower(api, state, view, console, manners)
        for item in SessionWatch(api=api, session_id=session.id):
            match item:
                case Event():
                    state.event_apply(item)
                    if item.seq > seen:
                        view.event_show(item)
                case Delta():
                    state.delta_apply(item.text, speaker=item.speaker)
                case Disconnected():
                    view.note(f"{item.reason}; trying again")
                case Ended():
                    follower.plan_settle()
                    view.refresh()
                    return Followed(state, "ended")
                case Tick(caught_up=True):
                    # Only now: in a replay, a question may have been answered long ago.
                    follower.plan_settle()
                    if ending := follower.wait_settle():
                        return Followed(state, ending)
            view.refresh()
            if interrupt.taken() and (ending := follower.interrupted()):
                return Followed(state, ending)
    raise AssertionError("a watch ends with Ended")


class _Follower:
    """What to do when the session, or the person, wants something."""

    def __init__(self, api: Api, state: SessionState, view: SessionView, console: Console, manners: Manners) -> None:
        self._api = api
        self._state = state
        self._view = view
        self._console = console
        self._manners = manners
        self._told = ""

    def wait_settle(self) -> Ending | None:
        """Deal with a session that waits for somebody; an ending when it is not going to be this command."""
        state = self._state
        if state.question is not None:
            return self._question(state.question)
        if state.status == "waiting_approval":
            return self._approval()
        if state.status == "paused":
            if not self._manners.interactive:
                return "waiting"
            why = f": {state.message}" if state.message else ""
            self._tell(f"the session is {state.doing}{why}")
            self._tell(f"to go on: {command_line('resume', state.session_id)}")
        return None

    def plan_settle(self) -> None:
        """Ask what follows for tasks that have not started, once something has ended or changed that they may need."""
        plan = self._state.plan
        if not plan.is_unsettled:
            return
        try:
            plans = PlanApi(self._api)
            plan_id = plans.of_session(self._state.session_id)
            standing = plans.progress(plan_id).tasks if plan_id else []
        except ApiError:
            # The watch says so where the server is away; asked again with the next thing that happens.
            return
        for task in plan.settled(standing):
            self._view.note(f"{task.key} {task.title} can't start: {task.reason}")

    def _refused(self, error: ApiError) -> None:
        self._view.note("; ".join(filter(None, (error.message, error.next_step))))

    def _approval(self) -> Ending | None:
        """Ask about the call that waits. With ``--yes`` nobody has looked at it: it stays as it is."""
        if not self._manners.interactive or self._manners.yes:
            return "waiting"
        session = self._api.session_get(self._state.session_id)
        if session.plan_approval is not None:
            return self._plan_approval(session.plan_approval)
        approval = session.approval
        if approval is None:
            return None
        with self._view.suspended():
            decision = approval_ask(self._console, approval)
        if decision is None:
            return "detached"
        try:
            approval_send(self._api, self._state.session_id, approval, decision)
        except ApiError as error:
            # Decided elsewhere meanwhile, or not what can be done: said, and asked again if it still waits.
            if error.status not in (400, 409):
                raise
            self._refused(error)
            return None
        # The event follows; until then the call counts as dealt with.
        self._state.approval, self._state.status = None, "running"
        return None

    def _plan_approval(self, approval: PlanApproval) -> Ending | None:
        """Ask about the plan that waits."""
        with self._view.suspended():
            decision = plan_approval_ask(self._console, approval)
        if decision is None:
            return "detached"
        try:
            plan_decision_send(self._api, approval, decision)
        except ApiError as error:
            if error.status not in (400, 409):
                raise
            self._refused(error)
            # Only a higher autonomy helps: asked again, the person would say the same.
            return "waiting" if error.state == "observe" else None
        self._state.plan_waits, self._state.status = 0, "running"
        return None

    def interrupted(self) -> Ending | None:
        """Ctrl-C: leave the session alone, end it, or go on watching."""
        if not self._manners.owner:
            return "detached"
        if not self._manners.interactive:
            self._cancel()
            return "interrupted"
        with self._view.suspended():
            choice = prompt(self._console, "(d)etach and let it work on, (c)ancel it, or Enter to go on watching: ")
        if choice is None or choice.lower().startswith("d"):
            return "detached"
        if choice.lower().startswith("c"):
            self._cancel()
        return None

    def _question(self, question: Question) -> Ending | None:
        if self._manners.yes:
            self._answer(question, JUDGEMENT)
            self._view.note(f"asked: {question.text} (answered: use your judgement)")
        elif self._manners.interactive:
            with self._view.suspended():
                answer = _question_ask(self._console, question)
            if answer is None:
                return "detached"
            self._answer(question, answer)
        elif self._manners.json_output:
            return "waiting"
        else:
            self._tell(f"asked: {question.text}")
            self._tell(f"to answer: {command_line('answer', self._state.session_id, 'TEXT')}")
        return None

    def _answer(self, question: Question, answer: str) -> None:
        try:
            self._api.session_answer(self._state.session_id, question_id=question.id, answer=answer)
        except ApiError as error:
            if error.status != 409:
                raise
            self._view.note("somebody else has answered meanwhile")
        # The event follows; until then the question counts as dealt with.
        self._state.question = None

    def _cancel(self) -> None:
        try:
            self._api.session_command(self._state.session_id, "cancel")
        except ApiError as error:
            if error.status != 409:
                raise
            self._view.note("it had ended already")

    def _tell(self, text: str) -> None:
        """Say it once."""
        if text not in self._told:
            self._told += text
            self._view.note(text)


def _question_ask(console: Console, question: Question) -> str | None:
    """The person's answer; a number picks a choice. None when they rather leave."""
    console.print(Text(f"\n{text_clean(question.text)}", style="bold yellow"))
    choices = question.choices or []
    for number, choice in enumerate(choices, start=1):
        console.print(Text(f"  {number}  {text_clean(choice)}"))
    hint = "number, or an answer in your own words" if choices else "answer"
    while (answer := prompt(console, f"{hint} (Ctrl-C leaves the session waiting): ")) is not None:
        if choices and answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(choices):
            return choices[int(answer) - 1]
        if answer:
            return answer
    return None


def approval_ask(console: Console, approval: Approval) -> Decision | None:
    """The person's word on a call; None when they rather leave it waiting."""
    approval_show(approval, console=console)
    hint = "(y)es, (a)lways for 8 hours, (e)dit, (n)o (Ctrl-C leaves it waiting): "
    while (said := prompt(console, hint)) is not None:
        match said.lower():
            case "y" | "yes":
                return Decision("approve")
            case "a" | "always":
                return Decision("approve", always_minutes=480)
            case "e" | "edit":
                text = prompt(console, "the arguments, as JSON (or @FILE): ")
                if text is None:
                    return None
                try:
                    return Decision("edit", arguments=arguments_read(text))
                except CliError as error:
                    console.print(Text(error.message, style="yellow"))
            case "n" | "no":
                reason = prompt(console, "what is the agent to be told (Enter: nothing more)? ")
                return None if reason is None else Decision("reject", message=reason)
    return None


def plan_approval_ask(console: Console, approval: PlanApproval) -> PlanDecision | None:
    """The person's word on a plan; None when they rather leave it waiting."""
    plan_approval_show(approval, console=console)
    while (said := prompt(console, "(y)es, (n)o (Ctrl-C leaves it waiting): ")) is not None:
        match said.lower():
            case "y" | "yes":
                return PlanDecision(approve=True)
            case "n" | "no":
                comment = prompt(console, "what should be different (Enter: nothing, end the session)? ")
                return None if comment is None else PlanDecision(approve=False, comment=comment)
    return None


def prompt(console: Console, text: str) -> str | None:
    """A line from the person; None for Ctrl-C or the end of the input."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return console.input(Text(text)).strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return None
    finally:
        signal.signal(signal.SIGINT, previous)


class _Interrupt:
    """Ctrl-C as a flag: an exception could fall between an event's arrival and its being shown."""

    def __init__(self) -> None:
        self._set = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        self._set = True

    def taken(self) -> bool:
        was, self._set = self._set, False
        return was


@contextmanager
def _interrupts() -> Iterator[_Interrupt]:
    interrupt = _Interrupt()
    previous = signal.signal(signal.SIGINT, interrupt.handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, previous)

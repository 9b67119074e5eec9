"""What loopback models say: small programs that see a request as the real model would, and nothing else.

What they know about a repository they have from the tools' answers. Where they are they see from the conversation and
never from a counter, so that the same request gets the same answer, as often as it is sent.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .wire import Reply, Request, ToolCall

Turn = Reply | Callable[[Request], Reply]


def call(name: str, **arguments: object) -> ToolCall:
    return ToolCall(name, arguments)


def says(*calls: ToolCall, text: str = "") -> Reply:
    return Reply(text=text or "On with it.", tool_calls=calls)


def finishes(summary: str = "Done.") -> Reply:
    return says(call("finish", summary=summary))


def plans(*titles: str, instructions: str = "See the goal.") -> Reply:
    """One feature with a task for each title."""
    tasks = [{"title": title, "instructions": instructions} for title in titles]
    return says(call("submit_plan", summary="Do it.", features=[{"title": "The change", "tasks": tasks}]))


def runs(command: str, **more: object) -> Reply:
    return says(call("run_command", command=command, **more))


def is_planner(request: Request) -> bool:
    return "submit_plan" in request.tools


def task_title(request: Request) -> str:
    """The task that a coder was given."""
    found = re.search(r"^Task: (.*)$", request.user, re.MULTILINE)
    return found[1] if found else ""


def turn(request: Request) -> int:
    """How often the model has spoken in this conversation."""
    return sum(message["role"] == "assistant" for message in request.messages)


class Agents:
    """A planner and a coder that say one thing after another, and the tokens that they reported.

    The last turn is said again as often as it is asked for. ``coder`` may be a function of the request instead.
    With ``counted`` the server says what a reply took, its cache included (see ``ModelServer.tokens``).
    """

    def __init__(
        self,
        coder: Sequence[Turn] | Callable[[Request], Reply] = (),
        *,
        planner: Sequence[Turn] | Callable[[Request], Reply] = (),
        counted: bool = False,
    ) -> None:
        self._counted = counted
        self._coder = coder or [finishes()]
        self._planner = planner or [plans("Do it")]
        self._lock = threading.Lock()
        #: Tokens in and out that were reported, and how many replies that took.
        self.input_tokens = self.output_tokens = self.replies = 0

    def __call__(self, request: Request) -> Reply:
        turns = self._planner if is_planner(request) else self._coder
        said = turns(request) if callable(turns) else turns[min(turn(request), len(turns) - 1)]
        reply = said if isinstance(said, Reply) else said(request)
        if reply.failure is not None or reply.raw is not None or reply.without_usage or self._counted:
            return reply
        read = sum(len(str(message)) for message in request.messages) // 4
        written = 5 + len(str(reply.tool_calls)) // 4
        with self._lock:
            self.input_tokens += read
            self.output_tokens += written
            self.replies += 1
        return replace(reply, usage=(read, written, 0))


@dataclass(frozen=True)
class Found:
    path: str
    line: int


@dataclass(frozen=True)
class Repair:
    """A model that looks for a line, reads around it, changes it, has the checks run, and says how that went.

    ``hint`` is what it searches for (it stands for the model's idea from the goal); ``bad`` is what it takes for wrong
    in what it reads, and ``good`` what it writes there instead.
    """

    hint: str
    bad: str
    good: str

    def planner(self, request: Request) -> Reply:
        found = self._found(request)
        if found is None:
            if request.results("search"):
                return plans("Look harder", instructions="The search found nothing.")
            return says(call("list_files", depth=3), call("search", pattern=self.hint), text="Where is it?")
        if not request.results("read_file"):
            return says(self._read(found), text="Let me see.")
        return plans("Mend it", instructions=f"Look at line {found.line} of {found.path}.")

    def coder(self, request: Request) -> Reply:
        if not request.results("run_checks"):
            return says(call("run_checks"), call("search", pattern=self.hint), text="How do the tests stand?")
        found = self._found(request)
        assert found is not None, f"no code in {request.results('search')}"
        read = request.results("read_file")
        if not read:
            return says(self._read(found))
        edits = request.results("edit_file")
        if not edits:
            old = self._bad_lines(read[-1])
            return says(call("edit_file", path=found.path, old_text=old, new_text=re.sub(self.bad, self.good, old)))
        if len(request.results("run_checks")) == 1:
            return says(call("run_checks"), text="That should be it.")
        if not request.results("run_command"):
            return runs("git status --short && git diff --stat")
        passed = "FAILED" not in request.results("run_checks")[-1]
        return finishes(f"Changed {found.path}; the checks {'pass' if passed else 'still fail'}.")

    @property
    def agents(self) -> Agents:
        return Agents(self.coder, planner=self.planner)

    def _found(self, request: Request) -> Found | None:
        """The first match of the search outside the tests."""
        for result in request.results("search"):
            for line in result.splitlines():
                match = re.match(r"(?P<path>[^:]+):(?P<line>\d+):", line)
                if match is not None and not re.search(r"(^|/)tests?(/|_|\.)", match["path"]):
                    return Found(match["path"], int(match["line"]))
        return None

    def _read(self, found: Found) -> ToolCall:
        return call("read_file", path=found.path, start_line=max(1, found.line - 40), end_line=found.line + 80)

    def _bad_lines(self, shown: str) -> str:
        """The wrong line as it stands in the file, with the one before it, so that it is there once."""
        lines = [line.partition("\t")[2] for line in shown.splitlines() if re.match(r" *\d+\t", line)]
        wrong = [index for index, line in enumerate(lines) if re.search(self.bad, line)]
        assert len(wrong) == 1, f"{len(wrong)} lines like {self.bad!r} in:\n{shown}"
        return "\n".join(lines[wrong[0] - 1 : wrong[0] + 1]) + "\n"


class Gate:
    """Holds a reply back until it is opened: what happens in the middle of a model call."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def holds(self, reply: Reply) -> Turn:
        def turn(request: Request) -> Reply:
            self.reached.set()
            assert self._opened.wait(120), "the gate was never opened"
            return reply

        return turn

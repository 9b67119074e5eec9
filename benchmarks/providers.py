"""``archon bench providers``: what becomes of sessions whose model fails, in every way and over every protocol.

Each case is a real session on a stack of its own, with a model server that fails as the case says. The servers are the
strict ones of the tests. Exit code 1 when a session ends otherwise than it should, or a server was asked without end,
or faster than it may be.
"""

from __future__ import annotations

import argparse
import email.utils
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cli.resources import Project, Session
from tests.loopback.agents import call, finishes, runs, says
from tests.loopback.enveloped import Enveloped
from tests.loopback.wire import ModelServer, Reply, Request, ToolCall
from tests.loopback.wires import WIRES
from tests.stacks import LiveStack, home_open, stack_open

#: Seconds that a model may be silent here.
IDLE_SECONDS = 3.0
#: More requests than this in one session are an endless loop, however it ends.
MOST_REQUESTS = 24
#: Whatever takes longer hangs.
PATIENCE_SECONDS = 240.0
#: Models of this name are asked so often a minute at most: as many at once, and then one after the other.
LIMITED, LIMITED_REQUESTS = "limited", 6

Answer = Callable[[Request, int], Reply]


@dataclass(frozen=True)
class Case:
    """A way to fail. ``answer`` sees the request and how many there were before it."""

    name: str
    expected: str
    answer: Answer
    #: The only key that the server takes.
    api_key: str | None = None
    #: The role has another model, which works.
    fallback: bool = False
    #: More requests than this are too many.
    most: int = MOST_REQUESTS
    #: Another name for the model.
    model: str = ""
    protocols: Sequence[str] = tuple(WIRES)


def works(request: Request, _count: int = 0) -> Reply:
    """A coder that looks once and is done."""
    if not request.results():
        return says(call("list_files"), text="Let me see.")
    return finishes("There is nothing to do.")


def always(reply: Reply) -> Answer:
    return lambda request, count: reply


def first(*replies: Reply) -> Answer:
    """These, and then everything works."""
    return lambda request, count: replies[count] if count < len(replies) else works(request)


def without(part: Callable[[Request], bool], words: str, otherwise: Callable[[Request], Reply] = works) -> Answer:
    """An endpoint that refuses a part of the request, and works without it."""
    return lambda request, count: (Reply(failure="bad_request", message=words) if part(request) else otherwise(request))


def after_looking(times: int) -> Answer:
    """A coder that looks so often, and is done."""
    # Another command each time: the same again would be a loop.
    return lambda request, count: (runs(f"echo {count}") if count < times else finishes("There is nothing to do."))


def in_a_second() -> str:
    """A date, as ``Retry-After`` has it; whole seconds, so that it is one to two from now."""
    return email.utils.formatdate(time.time() + 2, usegmt=True)


def rests_until_a_date(request: Request, count: int) -> Reply:
    return Reply(failure="rate_limited", retry_after=in_a_second()) if not count else works(request)


def document(status: int, text: str) -> Reply:
    return Reply(raw=(status, {"content-type": "application/json"}, text.encode()))


TOO_BUSY = document(529, '{"error": {"type": "overloaded_error", "message": "Overloaded", "code": 529}}')
BROKEN = says(ToolCall("read_file", '{"path": "READ'))
HTML = Reply(raw=(200, {"content-type": "text/html"}, b"<html><body>Log in</body></html>"))
NONSENSE = Reply(raw=(200, {"content-type": "application/json"}, b'{"hello": "world"}'))
REDIRECT = Reply(raw=(307, {"location": "http://127.0.0.1:1/elsewhere"}, b""))
TEXTUAL = ("openai-chat", "openai-responses", "anthropic")

CASES = [
    Case("nothing fails", "completed", first()),
    Case("wrong key", "paused", first(), api_key="another", most=1),
    Case("wrong key, with a fallback", "paused", first(), api_key="another", most=1, fallback=True),
    Case("model not found", "paused", always(Reply(failure="not_found")), most=1),
    Case("model not found, then the fallback", "completed", always(Reply(failure="not_found")), fallback=True),
    Case("no credit left", "paused", always(Reply(failure="quota")), most=1),
    Case("no credit left, then the fallback", "completed", always(Reply(failure="quota")), fallback=True),
    Case("rate limited once", "completed", first(Reply(failure="rate_limited", retry_after="0"))),
    Case("rate limited for a second", "completed", first(Reply(failure="rate_limited", retry_after="1")), most=3),
    Case("rate limited until a date", "completed", rests_until_a_date, most=3),
    Case("rate limited for ever", "paused", always(Reply(failure="rate_limited"))),
    Case("rate limited for ever, then the fallback", "completed", always(Reply(failure="rate_limited")), fallback=True),
    Case("rate limited for an hour", "paused", always(Reply(failure="rate_limited", retry_after="3600")), most=1),
    Case("asked no faster than the server's limit", "completed", after_looking(LIMITED_REQUESTS), model=LIMITED),
    Case("server error once", "completed", first(Reply(failure="server_error"))),
    Case("server errors for ever", "paused", always(Reply(failure="server_error"))),
    Case("server errors, then the fallback", "completed", always(Reply(failure="server_error")), fallback=True),
    Case("too busy (529) twice", "completed", first(*[TOO_BUSY] * 2)),
    Case("too busy (529) for ever", "paused", always(TOO_BUSY)),
    Case("overloaded twice", "completed", first(*[Reply(failure="overloaded")] * 2)),
    Case("overloaded for ever", "paused", always(Reply(failure="overloaded"))),
    Case("stream cut once", "completed", first(Reply(text="Half of what I have to say", failure="cut"))),
    Case("streams cut for ever", "paused", always(Reply(text="Half of what I have to say", failure="cut"))),
    Case("streams cut, then the fallback", "completed", always(Reply(text="Half", failure="cut")), fallback=True),
    Case("empty stream once", "completed", first(Reply(failure="empty"))),
    Case("hung once", "completed", first(Reply(failure="hang"))),
    Case("hung for ever", "paused", always(Reply(failure="hang"))),
    Case("hung, then the fallback", "completed", always(Reply(failure="hang")), fallback=True),
    Case("malformed arguments once", "completed", first(BROKEN), protocols=TEXTUAL),
    Case("malformed arguments for ever", "paused", always(BROKEN), protocols=TEXTUAL),
    Case("malformed, then the fallback", "completed", always(BROKEN), fallback=True, protocols=TEXTUAL),
    Case("unknown tool once", "completed", first(says(call("launch_rocket", where="up")))),
    Case("unknown tool for ever", "paused", always(says(call("launch_rocket", where="up")))),
    Case("unknown tool, then the fallback", "completed", always(says(call("launch_rocket"))), fallback=True),
    Case("empty answer once", "completed", first(Reply())),
    Case("empty answers for ever", "paused", always(Reply())),
    Case("empty answers, then the fallback", "completed", always(Reply()), fallback=True),
    Case("words and no calls", "completed", always(Reply(text="I believe that all is well."))),
    Case("no usage reported", "completed", lambda request, count: replace(works(request), without_usage=True)),
    Case("documents for streams", "completed", lambda request, count: replace(works(request), plain=True)),
    Case("context too long", "paused", always(Reply(failure="context_too_long"))),
    Case("bad request", "paused", always(Reply(failure="bad_request", message="this is not how it is done"))),
    Case("streams refused", "completed", without(lambda r: r.stream, "stream is not supported")),
    Case(
        "tools refused",
        "completed",
        without(lambda r: bool(r.tools), "this model does not support tools", Enveloped(works)),
    ),
    Case("redirect", "paused", always(REDIRECT)),
    Case("a page of HTML", "paused", always(HTML)),
    Case("another document", "paused", always(NONSENSE)),
]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench providers", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--protocol", choices=[*WIRES, "all"], default="all")
    parser.add_argument("--case", action="append", help="only cases whose name holds this (repeatable)")
    parser.add_argument("--at-once", type=int, default=3, help="sessions that run side by side")
    options = parser.parse_args(argv)
    protocols = list(WIRES) if options.protocol == "all" else [options.protocol]
    wanted = [
        (protocol, case)
        for protocol in protocols
        for case in CASES
        if protocol in case.protocols and (not options.case or any(part in case.name for part in options.case))
    ]
    with home_open() as home, tempfile.TemporaryDirectory(prefix="archon-bench-") as folder:
        print("starting a stack …", file=sys.stderr)
        settings = {
            "ARCHON_MODEL_IDLE_SECONDS": str(IDLE_SECONDS),
            "ARCHON_PROVIDER_LIMITS": f"*:{LIMITED}={LIMITED_REQUESTS}/",
        }
        with stack_open(home, **settings) as stack:
            project = stack.project_make(_repository(Path(folder) / "small"))
            with ThreadPoolExecutor(max_workers=options.at_once) as pool:
                rows = list(pool.map(lambda pair: _case_run(stack, project, *pair), wanted))
    unexpected = [row for row in rows if not row["as_expected"]]
    if options.json:
        print(json.dumps({"failures": rows, "unexpected": len(unexpected)}, indent=2))
    else:
        for row in rows:
            mark = "ok " if row["as_expected"] else "NOT"
            print(
                f"{mark} {row['protocol']:17} {row['name']:26} {row['session_status']:10} "
                f"{row['requests']:3} requests {row['seconds']:7.2f} s  {row['reason']}"
            )
    return 1 if unexpected or not rows else 0


def _case_run(stack: LiveStack, project: Project, protocol: str, case: Case) -> dict[str, Any]:
    spoken = WIRES[protocol]
    counted = _Counted(case.answer)
    others = _Counted(lambda request, count: works(request))
    with spoken.server(counted, api_key=case.api_key) as server, spoken.server(others) as other:
        model = f"{spoken.provider}:{case.model}" if case.model else spoken.name
        # Beside the server's address: one of them alone would be another's as well.
        options: dict[str, Any] = {"fallbacks": [f"{spoken.name}@{other.base_url}"]} if case.fallback else {}
        started = time.monotonic()
        session = stack.session_start(project, base_url=server.base_url, model=model, **options)
        ended = _wait(stack, session.id)
        seconds = time.monotonic() - started
        requests = len(server.paths)
        refused = _refused(server) + _refused(other)
        if case.model == LIMITED and (problem := counted.too_fast(LIMITED_REQUESTS)):
            refused.append(problem)
    reason = ended.reason.message if ended is not None and ended.reason else ""
    status = ended.status if ended is not None else "running"
    row = {
        "name": case.name,
        "protocol": protocol,
        "expected": case.expected,
        "session_status": status,
        "reason": reason[:300],
        "requests": requests,
        "fallback_requests": len(other.paths),
        "refused": refused,
        "seconds": round(seconds, 2),
        "as_expected": status == case.expected and requests <= case.most and not refused,
    }
    print(f"{protocol}: {case.name}: {status}", file=sys.stderr)
    return row


class _Counted:
    """Tells an answer how many requests there were before, and remembers when they came."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._came: list[float] = []

    def __call__(self, request: Request) -> Reply:
        self._came.append(time.monotonic())
        return self._answer(request, len(self._came) - 1)

    def too_fast(self, per_minute: int) -> str:
        """Where more came than that many at once and one after the other from then on; empty: nowhere."""
        for number, moment in enumerate(self._came):
            early = self._came[0] + (number + 1 - per_minute) * 60 / per_minute - moment
            if early > 0.5:
                return f"request {number + 1} came {early:.1f} s too early for {per_minute} a minute"
        return ""


def _wait(stack: LiveStack, session_id: str) -> Session | None:
    try:
        return stack.session_wait(session_id, seconds=PATIENCE_SECONDS)
    except AssertionError:
        stack.api.session_command(session_id, "cancel")
        return None


def _refused(server: ModelServer) -> list[str]:
    """Requests that the real API would not have taken."""
    return [problem[:300] for problem in server.refused]


def _repository(folder: Path) -> Path:
    folder.mkdir()
    (folder / "README").write_text("Nothing to see.\n")
    identity = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost")
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder

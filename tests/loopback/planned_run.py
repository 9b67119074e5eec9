"""A run of several features on a real package, as its models play it: planner, coders, reviewer, replanner.

The goal is reached in two features and what makes them known. Of the five tasks that are planned two can be worked on
side by side, one's check fails at first, the reviewer finds something in another, and one turns out to need something
that is no part of it, so that the plan is revised. Everything is said by what is asked (who is asked, about which task,
what the tools have answered), so a run that was killed in the middle says the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from .agents import call, finishes, says, task_title
from .planned_work import (
    AGE,
    CHANGES,
    CODEC,
    ENCODING,
    EXPORT,
    FOUND_AT,
    LOADS,
    LOADS_ANEW,
    SERIALIZER,
    SIGNED_BY,
    TESTS,
    TIMED,
    WORK,
    Edit,
)
from .wire import Reply, Request, ToolCall, text_of

GOAL = (
    "Values can be encoded as hex beside Base64, and signers and serializers tell how old a signed value is. Both are "
    "tested, and told in the change log."
)
#: What only the server knows of a call whose worker died.
_UNKNOWN = "outcome is unknown"


def _check(path: str, name: str) -> dict[str, str]:
    return {"command": f"python -m pytest -q {path}", "name": name}


def _task(key: str, title: str, instructions: str, path: str, test: str, needs: Sequence[str]) -> dict[str, Any]:
    return {
        "key": key,
        "title": title,
        "instructions": instructions,
        "depends_on": list(needs),
        "files": [path],
        "creates": [f"{TESTS}/{test}.py"],
        "checks": [_check(f"{TESTS}/{test}.py", "its own tests")],
    }


_CHANGES_TASK = {
    "key": "changes",
    "title": CHANGES,
    "instructions": "A section for 2.3.0 on top of CHANGES.rst that names what is new.",
    "depends_on": ["hex-export", "age-loads"],
    "files": ["CHANGES.rst"],
    "checks": [{"command": "grep -q hex_encode CHANGES.rst && grep -q signed_by CHANGES.rst", "name": "all is named"}],
}
PLAN: dict[str, Any] = {
    "summary": "Hex beside Base64, and the age of signed values; then the change log.",
    "intent": "feature",
    "features": [
        {
            "key": "hex",
            "title": "Hex encoding",
            "tasks": [
                _task(
                    "hex-codec",
                    CODEC,
                    f"hex_encode and hex_decode in {ENCODING}, beside base64_encode and base64_decode.",
                    ENCODING,
                    "test_hex",
                    (),
                ),
                _task(
                    "hex-export",
                    EXPORT,
                    "Both from the package itself, as the others of encoding.py are.",
                    "src/itsdangerous/__init__.py",
                    "test_exports",
                    ("hex-codec",),
                ),
            ],
        },
        {
            "key": "age",
            "title": "The age of signed values",
            "priority": "high",
            "tasks": [
                _task(
                    "age-of",
                    AGE,
                    f"TimestampSigner.age(signed_value) in {TIMED}: seconds since it was signed.",
                    TIMED,
                    "test_age",
                    (),
                ),
                _task(
                    "age-loads",
                    LOADS,
                    "TimedSerializer.age(s), by the signer that signed the value, also where keys were rotated.",
                    TIMED,
                    "test_serializer_age",
                    ("age-of",),
                ),
            ],
        },
        {"key": "known", "title": "Make it known", "effort": "small", "tasks": [_CHANGES_TASK]},
    ],
}
BLOCKED = {
    "reason": "iter_unsigners says of no signer that it signed a value: there is none to be asked for the age.",
    "needs": f"Serializer in {SERIALIZER} has to say which of its signers signed a value.",
}
REVISION: dict[str, Any] = {
    "reason": "A serializer has to know which signer signed a value before it can tell the age: a task of its own.",
    "features": [
        {
            "key": "age",
            "tasks": [
                _task(
                    "signed-by",
                    SIGNED_BY,
                    f"Serializer.signed_by(s, salt) in {SERIALIZER}, over iter_unsigners.",
                    SERIALIZER,
                    "test_signed_by",
                    (),
                ),
                _task(
                    "age-serializer",
                    LOADS_ANEW,
                    "TimedSerializer.age(s, salt) by signed_by and TimestampSigner.age.",
                    TIMED,
                    "test_serializer_age",
                    ("signed-by", "age-of"),
                )
                | {"replaces": "age-loads"},
            ],
        },
        {"key": "known", "tasks": [{"key": "changes"}]},
    ],
}
FINDING = "What is no hex raises ValueError here; base64_decode raises BadData, which callers catch."


# --- Who is asked -----------------------------------------------------------------------------------------------------
def answer(request: Request) -> Reply:
    """What the model says, whichever role it plays."""
    roles = {"planner": _planner, "replanner": _replanner, "reviewer": _reviewer, "coder": _coder}
    found = re.match(r"You are Archon's (\w+)\.", request.system)
    assert found is not None and found[1] in roles, f"nobody is asked: {request.system[:100]!r}"
    return roles[found[1]](request)


def _planner(request: Request) -> Reply:
    for path in (ENCODING, TIMED):
        if not _read(request, path):
            return says(call("read_file", path=path), text="What is there?")
    return says(call("submit_plan", **PLAN), text="So it can be done.")


def _replanner(request: Request) -> Reply:
    if not _read(request, SERIALIZER):
        return says(call("read_file", path=SERIALIZER), text="Is it so?")
    # What has not started by now is up to when each of those side by side came to its end; it stays as it is.
    waits = re.search(r"^ *- hex-export \[(pending|blocked)", request.user, re.MULTILINE)
    kept = [{"key": "hex", "tasks": [{"key": "hex-export"}]}] if waits else []
    return says(call("revise_plan", **{**REVISION, "features": [*kept, *REVISION["features"]]}), text="It is.")


def _reviewer(request: Request) -> Reply:
    found = re.search(r"^Review the change of this task: (.*)$", request.user, re.MULTILINE)
    assert found is not None, request.user[:2000]
    if found[1] != CODEC:
        return says(call("submit_review", summary="It does what the task asks for, and is tested."))
    if not _read(request, ENCODING):
        return says(call("read_file", path=ENCODING), text="How do the others do it?")
    former = re.findall(r"\[(\d+\.\d+)\] ", request.user)
    if former:
        return says(call("submit_review", summary="Invalid data is told as for Base64 now.", resolved=former))
    [line] = re.findall(rf"^ *(\d+) \+ *{re.escape(FOUND_AT)}$", request.user, re.MULTILINE)
    finding = {"path": ENCODING, "line": int(line), "severity": "major", "comment": FINDING}
    return says(call("submit_review", summary="One case is told otherwise than before.", findings=[finding]))


def _coder(request: Request) -> Reply:
    title = task_title(request)
    if title == LOADS:
        if not _read(request, SERIALIZER):
            return says(call("read_file", path=SERIALIZER), text="Who has signed it?")
        return says(call("report_blocked", **BLOCKED), text="Nobody can say.")
    stages = WORK[title]
    # Every word after the task sends it back.
    back = sum(message["role"] == "user" for message in request.messages) - 1
    for edits in stages[: back + 1]:
        for edit in edits:
            if (step := _step(request, edit)) is not None:
                return says(step)
    return finishes(f"{title}: done, with tests." if back == 0 else f"{title}: mended.")


def _step(request: Request, edit: Edit) -> ToolCall | None:
    """What comes next of an edit; None: it is made."""
    made: bool | None = False
    for name, arguments, result in _calls(request):
        if edit.is_made_by(name, arguments):
            made = None if _UNKNOWN in result else True
        elif made is None and name == "read_file" and arguments.get("path") == edit.path:
            made = edit.mark in result
    if made:
        return None
    if edit.old and (made is None or not _read(request, edit.path)):
        return call("read_file", path=edit.path)
    return edit.call


def _read(request: Request, path: str) -> bool:
    return any(name == "read_file" and arguments.get("path") == path for name, arguments, _ in _calls(request))


def _calls(request: Request) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The calls that were made so far, with what came of each."""
    results = {m["tool_call_id"]: text_of(m) for m in request.messages if m["role"] == "tool"}
    for message in request.messages:
        for made in message.get("tool_calls") or ():
            said = made["function"]
            yield said["name"], json.loads(said["arguments"]), results.get(made["id"], _UNKNOWN)

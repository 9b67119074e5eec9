"""A run of several features on a real package, as its models play it: planner, coders, reviewer, replanner.

The goal is reached in two features and what makes them known. Of the five tasks that are planned two can be worked on
side by side, one's check fails at first, the reviewer finds something in another, and one turns out to need something
that is no part of it, so that the plan is revised. Everything is said by what is asked (who is asked, about which task,
what the tools have answered), so a run that was killed in the middle says the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .agents import call, finishes, says, task_title
from .wire import Reply, Request, ToolCall, text_of

GOAL = (
    "Values can be encoded as hex beside Base64, and signers and serializers tell how old a signed value is. Both are "
    "tested, and told in the change log."
)
#: What only the server knows of a call whose worker died.
_UNKNOWN = "outcome is unknown"


@dataclass(frozen=True)
class Edit:
    """A text in the place of another; a file of its own where there is no other."""

    path: str
    new: str
    old: str = ""

    @property
    def call(self) -> ToolCall:
        if not self.old:
            return call("write_file", path=self.path, content=self.new)
        return call("edit_file", path=self.path, old_text=self.old, new_text=self.new)

    def is_made_by(self, name: str, arguments: Mapping[str, Any]) -> bool:
        return name == self.call.name and dict(arguments) == self.call.arguments

    @property
    def mark(self) -> str:
        """A line by which one sees that it was made."""
        return max((line for line in self.new.splitlines() if line not in self.old.splitlines()), key=len)


def _before(anchor: str, text: str) -> dict[str, str]:
    return {"old": anchor, "new": text + anchor}


_ENCODING = "src/itsdangerous/encoding.py"
_TIMED = "src/itsdangerous/timed.py"
_SERIALIZER = "src/itsdangerous/serializer.py"
_TESTS = "tests/test_itsdangerous"

_HEX_LOOSE = '''\
def hex_decode(string: str | bytes) -> bytes:
    """Hex decode a string of bytes or text. The result is bytes."""
    string = want_bytes(string, encoding="ascii", errors="ignore")
    return bytes.fromhex(string.decode("ascii"))
'''
_HEX_STRICT = '''\
def hex_decode(string: str | bytes) -> bytes:
    """Hex decode a string of bytes or text. The result is bytes."""
    string = want_bytes(string, encoding="ascii", errors="ignore")

    try:
        return bytes.fromhex(string.decode("ascii"))
    except ValueError as e:
        raise BadData("Invalid hex-encoded data") from e
'''
#: The line that the reviewer points at.
FOUND_AT = 'return bytes.fromhex(string.decode("ascii"))'
_HEX = f'''\
def hex_encode(string: str | bytes) -> bytes:
    """Hex encode a string of bytes or text: longer than Base64, but the same
    in upper and lower case.
    """
    return want_bytes(string).hex().encode("ascii")


{_HEX_LOOSE}

'''
_HEX_TESTS = """\
from __future__ import annotations

import pytest

from itsdangerous.encoding import hex_decode
from itsdangerous.encoding import hex_encode


@pytest.mark.parametrize("value", ("mañana", b"tomorrow", b"\\x00\\xff"))
def test_hex(value):
    encoded = hex_encode(value)
    assert isinstance(encoded, bytes)
    expected = value.encode("utf-8") if isinstance(value, str) else value
    assert hex_decode(encoded) == expected
    assert hex_decode(encoded.upper()) == expected
"""
_HEX_BAD_TEST = """

@pytest.mark.parametrize("value", ("0", "xx", "0x12"))
def test_hex_bad(value):
    with pytest.raises(BadData):
        hex_decode(value)
"""
_HEX_TESTS_MORE = (
    _HEX_TESTS.replace(
        "from itsdangerous.encoding import hex_encode\n",
        "from itsdangerous.encoding import hex_encode\nfrom itsdangerous.exc import BadData\n",
    )
    + _HEX_BAD_TEST
)
_EXPORT_TESTS = """\
from __future__ import annotations

import itsdangerous


def test_hex_is_exported():
    assert itsdangerous.hex_decode(itsdangerous.hex_encode("a")) == b"a"
"""
_AGE_WRONG = "        return int(signed_at.timestamp()) - self.get_timestamp()\n"
_AGE_RIGHT = "        return self.get_timestamp() - int(signed_at.timestamp())\n"
_AGE = f'''\
    def age(self, signed_value: str | bytes) -> int:
        """Returns how many seconds ago the given value was signed.
        Raises :exc:`.BadSignature` if it wasn't signed by this signer.
        """
        _, signed_at = self.unsign(signed_value, return_timestamp=True)
{_AGE_WRONG}
'''
_AGE_TESTS = """\
from __future__ import annotations

import pytest
from freezegun import freeze_time

from itsdangerous.exc import BadSignature
from itsdangerous.timed import TimestampSigner


def test_age():
    signer = TimestampSigner("secret-key")

    with freeze_time("2024-04-16T12:00:00"):
        signed = signer.sign("value")

    with freeze_time("2024-04-16T12:00:10"):
        assert signer.age(signed) == 10


def test_age_of_what_was_not_signed():
    with pytest.raises(BadSignature):
        TimestampSigner("secret-key").age(TimestampSigner("other").sign("value"))
"""
_SIGNED_BY = '''\
    def signed_by(self, s: str | bytes, salt: str | bytes | None = None) -> Signer:
        """Returns the one of the serializer's signers that signed the
        value. Raises :exc:`.BadSignature` if none of them did.
        """
        s = want_bytes(s)
        last_exception = None

        for signer in self.iter_unsigners(salt):
            try:
                signer.unsign(s)
            except BadSignature as err:
                last_exception = err
            else:
                return signer

        raise t.cast(BadSignature, last_exception)

'''
_SIGNED_BY_TESTS = """\
from __future__ import annotations

import hashlib

import pytest

from itsdangerous.exc import BadSignature
from itsdangerous.serializer import Serializer


def test_signed_by():
    former = Serializer("secret-key", signer_kwargs={"digest_method": hashlib.sha512})
    current = Serializer(
        "secret-key", fallback_signers=[{"digest_method": hashlib.sha512}]
    )
    assert current.signed_by(current.dumps(1)).digest_method is not hashlib.sha512
    assert current.signed_by(former.dumps(1)).digest_method is hashlib.sha512


def test_signed_by_nobody():
    with pytest.raises(BadSignature):
        Serializer("secret-key").signed_by(Serializer("other").dumps(1))
"""
_AGE_SERIALIZER = '''\
    def age(self, s: str | bytes, salt: str | bytes | None = None) -> int:
        """Returns how many seconds ago the given value was signed, by
        whichever of the serializer's signers. Raises :exc:`.BadSignature`
        if it was signed by none of them.
        """
        return t.cast(TimestampSigner, self.signed_by(s, salt)).age(s)

'''
_AGE_SERIALIZER_TESTS = """\
from __future__ import annotations

import pytest
from freezegun import freeze_time

from itsdangerous.exc import BadSignature
from itsdangerous.timed import TimedSerializer


def test_serializer_age():
    serializer = TimedSerializer("secret-key")

    with freeze_time("2024-04-16T12:00:00"):
        signed = serializer.dumps({"id": 42})

    with freeze_time("2024-04-16T12:01:00"):
        assert serializer.age(signed) == 60


def test_serializer_age_of_what_was_not_signed():
    with pytest.raises(BadSignature):
        TimedSerializer("secret-key").age(TimedSerializer("other").dumps(1))
"""
_CHANGES = """\
Version 2.3.0
-------------

Unreleased

-   ``hex_encode`` and ``hex_decode``, beside Base64.
-   ``TimestampSigner.age`` and ``TimedSerializer.age`` tell how old a signed value
    is, ``Serializer.signed_by`` which signer signed it.


"""

CODEC, EXPORT, AGE = "Add hex encoding", "Export hex encoding", "Let a signer tell the age of a value"
LOADS, SIGNED_BY = "Let a serializer tell the age of a value", "Say which signer a value was signed by"
LOADS_ANEW, CHANGES = "Let a serializer ask its signer for the age", "Tell it in the change log"

#: By task: what is done at first, and once it was sent back.
_WORK: dict[str, Sequence[Sequence[Edit]]] = {
    CODEC: (
        (
            Edit(_ENCODING, **_before("# The alphabet used by base64.urlsafe_*\n", _HEX)),
            Edit(f"{_TESTS}/test_hex.py", _HEX_TESTS),
        ),
        (
            Edit(_ENCODING, old=_HEX_LOOSE, new=_HEX_STRICT),
            Edit(f"{_TESTS}/test_hex.py", _HEX_TESTS_MORE),
        ),
    ),
    EXPORT: (
        (
            Edit(
                "src/itsdangerous/__init__.py",
                **_before(
                    "from .encoding import want_bytes as want_bytes\n",
                    "from .encoding import hex_decode as hex_decode\nfrom .encoding import hex_encode as hex_encode\n",
                ),
            ),
            Edit(f"{_TESTS}/test_exports.py", _EXPORT_TESTS),
        ),
    ),
    AGE: (
        (
            Edit(_TIMED, **_before("    def validate(self, signed_value", _AGE)),
            Edit(f"{_TESTS}/test_age.py", _AGE_TESTS),
        ),
        (Edit(_TIMED, old=_AGE_WRONG, new=_AGE_RIGHT),),
    ),
    SIGNED_BY: (
        (
            Edit(_SERIALIZER, **_before("    def dumps(self, obj: t.Any, salt", _SIGNED_BY)),
            Edit(f"{_TESTS}/test_signed_by.py", _SIGNED_BY_TESTS),
        ),
    ),
    LOADS_ANEW: (
        (
            Edit(_TIMED, **_before("    def loads_unsafe(  # type: ignore[override]\n", _AGE_SERIALIZER)),
            Edit(f"{_TESTS}/test_serializer_age.py", _AGE_SERIALIZER_TESTS),
        ),
    ),
    CHANGES: ((Edit("CHANGES.rst", **_before("Version 2.2.0\n-------------\n", _CHANGES)),),),
}


def _check(path: str, name: str) -> dict[str, str]:
    return {"command": f"python -m pytest -q {path}", "name": name}


def _task(key: str, title: str, instructions: str, path: str, test: str, needs: Sequence[str]) -> dict[str, Any]:
    return {
        "key": key,
        "title": title,
        "instructions": instructions,
        "depends_on": list(needs),
        "files": [path],
        "creates": [f"{_TESTS}/{test}.py"],
        "checks": [_check(f"{_TESTS}/{test}.py", "its own tests")],
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
                    f"hex_encode and hex_decode in {_ENCODING}, beside base64_encode and base64_decode.",
                    _ENCODING,
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
                    f"TimestampSigner.age(signed_value) in {_TIMED}: seconds since it was signed.",
                    _TIMED,
                    "test_age",
                    (),
                ),
                _task(
                    "age-loads",
                    LOADS,
                    "TimedSerializer.age(s), by the signer that signed the value, also where keys were rotated.",
                    _TIMED,
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
    "needs": f"Serializer in {_SERIALIZER} has to say which of its signers signed a value.",
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
                    f"Serializer.signed_by(s, salt) in {_SERIALIZER}, over iter_unsigners.",
                    _SERIALIZER,
                    "test_signed_by",
                    (),
                ),
                _task(
                    "age-serializer",
                    LOADS_ANEW,
                    "TimedSerializer.age(s, salt) by signed_by and TimestampSigner.age.",
                    _TIMED,
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

#: Titles of the tasks that are done in the end, and of the one that was left.
DONE = (CODEC, EXPORT, AGE, SIGNED_BY, LOADS_ANEW, CHANGES)


# --- Who is asked -----------------------------------------------------------------------------------------------------
def answer(request: Request) -> Reply:
    """What the model says, whichever role it plays."""
    roles = {"planner": _planner, "replanner": _replanner, "reviewer": _reviewer, "coder": _coder}
    found = re.match(r"You are Archon's (\w+)\.", request.system)
    assert found is not None and found[1] in roles, f"nobody is asked: {request.system[:100]!r}"
    return roles[found[1]](request)


def _planner(request: Request) -> Reply:
    for path in (_ENCODING, _TIMED):
        if not _read(request, path):
            return says(call("read_file", path=path), text="What is there?")
    return says(call("submit_plan", **PLAN), text="So it can be done.")


def _replanner(request: Request) -> Reply:
    if not _read(request, _SERIALIZER):
        return says(call("read_file", path=_SERIALIZER), text="Is it so?")
    # What has not started by now is up to when each of those side by side came to its end; it stays as it is.
    waits = re.search(r"^ *- hex-export \[(pending|blocked)", request.user, re.MULTILINE)
    kept = [{"key": "hex", "tasks": [{"key": "hex-export"}]}] if waits else []
    return says(call("revise_plan", **{**REVISION, "features": [*kept, *REVISION["features"]]}), text="It is.")


def _reviewer(request: Request) -> Reply:
    found = re.search(r"^Review the change of this task: (.*)$", request.user, re.MULTILINE)
    assert found is not None, request.user[:2000]
    if found[1] != CODEC:
        return says(call("submit_review", summary="It does what the task asks for, and is tested."))
    if not _read(request, _ENCODING):
        return says(call("read_file", path=_ENCODING), text="How do the others do it?")
    former = re.findall(r"\[(\d+\.\d+)\] ", request.user)
    if former:
        return says(call("submit_review", summary="Invalid data is told as for Base64 now.", resolved=former))
    [line] = re.findall(rf"^ *(\d+) \+ *{re.escape(FOUND_AT)}$", request.user, re.MULTILINE)
    finding = {"path": _ENCODING, "line": int(line), "severity": "major", "comment": FINDING}
    return says(call("submit_review", summary="One case is told otherwise than before.", findings=[finding]))


def _coder(request: Request) -> Reply:
    title = task_title(request)
    if title == LOADS:
        if not _read(request, _SERIALIZER):
            return says(call("read_file", path=_SERIALIZER), text="Who has signed it?")
        return says(call("report_blocked", **BLOCKED), text="Nobody can say.")
    stages = _WORK[title]
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


def edits_in_order() -> Iterator[Edit]:
    """All that is changed, in an order in which it can be: what the branch holds in the end, without a session."""
    for title in DONE:
        for stage in _WORK[title]:
            yield from stage

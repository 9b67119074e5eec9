"""What the coders of the planned run (``planned_run``) change in the package, task by task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .agents import call
from .wire import ToolCall


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


ENCODING = "src/itsdangerous/encoding.py"
TIMED = "src/itsdangerous/timed.py"
SERIALIZER = "src/itsdangerous/serializer.py"
TESTS = "tests/test_itsdangerous"

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
WORK: dict[str, Sequence[Sequence[Edit]]] = {
    CODEC: (
        (
            Edit(ENCODING, **_before("# The alphabet used by base64.urlsafe_*\n", _HEX)),
            Edit(f"{TESTS}/test_hex.py", _HEX_TESTS),
        ),
        (
            Edit(ENCODING, old=_HEX_LOOSE, new=_HEX_STRICT),
            Edit(f"{TESTS}/test_hex.py", _HEX_TESTS_MORE),
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
            Edit(f"{TESTS}/test_exports.py", _EXPORT_TESTS),
        ),
    ),
    AGE: (
        (
            Edit(TIMED, **_before("    def validate(self, signed_value", _AGE)),
            Edit(f"{TESTS}/test_age.py", _AGE_TESTS),
        ),
        (Edit(TIMED, old=_AGE_WRONG, new=_AGE_RIGHT),),
    ),
    SIGNED_BY: (
        (
            Edit(SERIALIZER, **_before("    def dumps(self, obj: t.Any, salt", _SIGNED_BY)),
            Edit(f"{TESTS}/test_signed_by.py", _SIGNED_BY_TESTS),
        ),
    ),
    LOADS_ANEW: (
        (
            Edit(TIMED, **_before("    def loads_unsafe(  # type: ignore[override]\n", _AGE_SERIALIZER)),
            Edit(f"{TESTS}/test_serializer_age.py", _AGE_SERIALIZER_TESTS),
        ),
    ),
    CHANGES: ((Edit("CHANGES.rst", **_before("Version 2.2.0\n-------------\n", _CHANGES)),),),
}
#: Titles of the tasks that are done in the end, and of the one that was left.
DONE = (CODEC, EXPORT, AGE, SIGNED_BY, LOADS_ANEW, CHANGES)


def edits_in_order() -> Iterator[Edit]:
    """All that is changed, in an order in which it can be: what the branch holds in the end, without a session."""
    for title in DONE:
        for stage in WORK[title]:
            yield from stage

"""Keeping secrets out of what is written down: their values, as they are and as programs commonly write them.

A value is found raw, URL-encoded, escaped as in JSON, in Base64 (at any offset, with line breaks) and in hexadecimal,
also where it comes in pieces. What somebody encodes otherwise, on purpose, is not.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

#: A value that is shorter would take ordinary words with it.
SHORTEST = 8
#: Lines of a value of several are looked for by themselves from this length on.
_LINE = 16
_BREAK = (b"\n", b"\r\n")
_ESCAPES = {"\n": b"\\n", "\r": b"\\r", "\t": b"\\t", '"': b'\\"', "\\": b"\\\\", "/": b"\\/"}

#: What each place of a value may look like, in order of preference.
_Places = tuple[tuple[bytes, ...], ...]


class Redactor:
    """Replaces the values of secrets by their names."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._names: list[str] = []
        self._variants: list[_Places] = []
        parts: list[bytes] = []
        for name, value in secrets.items():
            if len(value) < SHORTEST:
                raise ValueError(f"the secret {name} is shorter than {SHORTEST} characters")
            for places in _variants(value):
                # The empty group at its end tells which one it was; at its beginning one would slow the search.
                parts.append(_first(places[0]) + b"".join(_pattern(place) for place in places[1:]) + b"()")
                self._names.append(name)
                self._variants.append(places)
        self._expression = re.compile(b"|".join(parts)) if parts else None
        lengths = (sum(max(map(len, place)) for place in places) for places in self._variants)
        self._longest = max(lengths, default=0)
        #: By the byte that they begin with.
        self._beginning: dict[int, list[_Places]] = {}
        for places in self._variants:
            for byte in {form[0] for form in places[0]}:
                self._beginning.setdefault(byte, []).append(places)

    def __bool__(self) -> bool:
        return self._expression is not None

    def text(self, text: str) -> str:
        if self._expression is None or not text:
            return text
        encoded = text.encode("utf-8", "surrogatepass")
        redacted = self.data(encoded)
        return text if redacted == encoded else redacted.decode("utf-8", "surrogatepass")

    def data(self, data: bytes) -> bytes:
        return data if self._expression is None else self._expression.sub(self._replacement, data)

    def value(self, value: Any) -> Any:
        """The same in all texts of a plain value (keys included)."""
        if self._expression is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value

    def stream(self) -> RedactedStream:
        """For what comes in pieces."""
        return RedactedStream(self)

    def begun(self, data: bytes) -> int:
        """From where on the end of the data may be the beginning of a value; its length when nothing is."""
        if self._expression is None:
            return len(data)
        for start in range(max(0, len(data) - self._longest), len(data)):
            for places in self._beginning.get(data[start], ()):
                if _may_begin(places, data, start):
                    return start
        return len(data)

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """What can be passed on, redacted, and what has to wait for more."""
        if self._expression is None:
            return data, b""
        end = 0
        for match in self._expression.finditer(data):
            end = match.end()
        kept = end + self.begun(data[end:])
        return self.data(data[:kept]), data[kept:]

    def _replacement(self, match: re.Match[bytes]) -> bytes:
        return f"[secret {self._names[(match.lastindex or 1) - 1]}]".encode()


class RedactedStream:
    """Output in pieces; what may be the beginning of a value is held back until it is known."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._waiting = b""

    def feed(self, data: bytes) -> bytes:
        passed, self._waiting = self._redactor.split(self._waiting + data)
        return passed

    def flush(self) -> bytes:
        """The rest: nothing comes any more."""
        rest, self._waiting = self._redactor.data(self._waiting), b""
        return rest


#: Of those who have no secrets.
NOTHING_SECRET = Redactor({})


def _variants(value: str) -> list[_Places]:
    """Every way to look for the value, the longest first."""
    raw = value.encode("utf-8", "surrogatepass")
    # As it is, before it is looked for in other spellings, in which a longer one may be taken for the start of it.
    found: list[_Places] = [((raw,),), tuple(_character(character) for character in value)]
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw)
        # Without the characters that the neighbours of the value have a share in.
        core = encoded[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]
        for alphabet in dict.fromkeys((core, core.translate(bytes.maketrans(b"+/", b"-_")))):
            found.append(_broken_lines([bytes([byte]) for byte in alphabet]))
    digits = raw.hex()
    found.append(_broken_lines([digit.encode() for digit in digits], both_cases=True))
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        found += [tuple(_character(character) for character in line) for line in lines if len(line) >= _LINE]
    return found


def _character(character: str) -> tuple[bytes, ...]:
    """A character as it is, URL-encoded, and as JSON writes it."""
    raw = character.encode("utf-8", "surrogatepass")
    upper = "".join(f"%{byte:02X}" for byte in raw).encode()
    lower = "".join(f"%{byte:02x}" for byte in raw).encode()
    units = character.encode("utf-16-be", "surrogatepass")
    escaped = "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)).encode()
    found = [raw, upper, lower, escaped]
    if character in _ESCAPES:
        found.append(_ESCAPES[character])
    if character == " ":
        found.append(b"+")
    if character == "\n":
        found.append(b"\r\n")
    return tuple(dict.fromkeys(found))


def _broken_lines(characters: Sequence[bytes], *, both_cases: bool = False) -> _Places:
    """Characters with a line break before any but the first."""
    places: list[tuple[bytes, ...]] = []
    for index, character in enumerate(characters):
        forms = tuple(dict.fromkeys((character, character.upper()))) if both_cases else (character,)
        broken = tuple(mark + form for form in forms for mark in _BREAK) if index else ()
        places.append((*forms, *broken))
    return tuple(places)


def _pattern(place: tuple[bytes, ...]) -> bytes:
    if len(place) == 1:
        return re.escape(place[0])
    # The longest, for good: to go back over what may be read in two ways takes forever on a value of backslashes.
    return b"(?>" + b"|".join(map(re.escape, sorted(place, key=len, reverse=True))) + b")"


def _first(place: tuple[bytes, ...]) -> bytes:
    """The pattern of the first place, so that the search can pass over all bytes that nothing begins with."""
    forms = sorted(place, key=len, reverse=True)
    ways = b"|".join(b"(?<=" + re.escape(form[:1]) + b")" + re.escape(form[1:]) for form in forms)
    return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted({form[0] for form in forms})) + b"](?>" + ways + b")"


def _may_begin(places: _Places, data: bytes, start: int) -> bool:
    """Whether the data from ``start`` to its end is the beginning of what the places describe."""
    pending = [(0, start)]
    seen: set[tuple[int, int]] = set()
    while pending:
        index, at = pending.pop()
        if (index, at) in seen:
            continue
        seen.add((index, at))
        if at == len(data):
            return True
        if index == len(places):
            continue
        rest = len(data) - at
        for form in places[index]:
            if data.startswith(form, at):
                pending.append((index + 1, at + len(form)))
            elif rest < len(form) and form.startswith(data[at:]):
                return True
    return False

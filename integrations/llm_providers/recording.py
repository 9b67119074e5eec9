"""The file format of a recorded dialogue: where files may be, how they are read, and which entry answers.

``docs/reference/scripted-models.md`` describes the format. Nothing here knows of any model library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings

from .errors import RecordingInvalid

FORMAT = 1
MAX_BYTES = 5 * 1024 * 1024

_PLACEHOLDER = re.compile(r"\{\{\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<number>:int)?\s*\}\}")
_WHEN_KEYS = {"role", "task", "user", "tools", "last_tool", "last_result", "seen", "not_seen"}
_REPLY_KEYS = {"text", "tool_calls"}
_ENTRY_KEYS = {"note", "when", "reply", "usage", "delay_ms"}
_FILE_KEYS = {"format", "description", "delay_ms", "entries"}


@dataclass(frozen=True)
class Call:
    """A tool call of a reply; strings in the arguments may hold placeholders."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the model says."""

    text: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Entry:
    """One answer and the requests that it answers. A condition that is None is not asked for."""

    number: int
    role: str | None
    task: re.Pattern[str] | None
    user: re.Pattern[str] | None
    tools: frozenset[str]
    last_tool: str | None
    last_result: re.Pattern[str] | None
    seen: tuple[re.Pattern[str], ...]
    not_seen: tuple[re.Pattern[str], ...]
    text: str
    calls: tuple[Call, ...]
    input_tokens: int | None
    output_tokens: int | None
    delay_s: float


class Request(Protocol):
    """What an entry asks of a request; the transcript is made only for those that ask."""

    role: str
    task: str
    user: str
    tools: frozenset[str]
    last_tool: str | None
    last_result: str | None

    @property
    def transcript(self) -> str: ...


@dataclass(frozen=True)
class Recording:
    """A dialogue, ready to be played."""

    path: Path
    entries: tuple[Entry, ...]

    def answer(self, request: Request) -> tuple[Entry, Reply] | None:
        """The first entry whose conditions all hold, its placeholders filled in; None if there is none."""
        for entry in self.entries:
            groups = _match(entry, request)
            if groups is not None:
                return entry, _fill(entry, groups)
        return None


def recording_folders() -> tuple[Path, ...]:
    """Where recordings may be: what comes with Archon, and the operator's own."""
    return (
        settings.BASE_DIR / "examples",
        settings.BASE_DIR / "benchmarks",
        settings.ARCHON_HOME / "recordings",
    )


def recording_path(reference: str) -> Path:
    """The file that ``scripted:REFERENCE`` means: a path within the allowed folders, or a name within one of them.

    A name stands for ``FOLDER/NAME.json`` or ``FOLDER/NAME/recording.json``.
    """
    folders = [Path(folder).resolve() for folder in recording_folders()]
    where = "Recordings are looked for in " + ", ".join(str(folder) for folder in folders) + "."
    candidates: list[Path] = []
    for folder in folders:
        candidates += [folder / reference, folder / f"{reference}.json", folder / reference / "recording.json"]
    for candidate in (Path(settings.BASE_DIR) / reference, *candidates):
        try:
            path = candidate.resolve()
            if path.is_file() and any(path.is_relative_to(folder) for folder in folders):
                return path
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, or a loop of links
            continue
    raise RecordingInvalid(f"there is no recording '{reference}'", next_step=where)


def recording_load(path: Path) -> Recording:
    """Read and check a recording. Raises :class:`RecordingInvalid`, which names the entry at fault."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecordingInvalid(f"{path} is over {MAX_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordingInvalid(f"{path} cannot be read: {error}") from error
    _keys(document, _FILE_KEYS, str(path))
    if document.get("format") != FORMAT:
        raise RecordingInvalid(f"{path}: format has to be {FORMAT}, not {document.get('format')!r}")
    entries = document.get("entries")
    if not isinstance(entries, list) or not entries:
        raise RecordingInvalid(f"{path}: entries has to be a list with something in it")
    delay = _number(document.get("delay_ms", 0), f"{path}: delay_ms")
    return Recording(
        path=path,
        entries=tuple(
            _entry(entry, number=number, delay_ms=delay, where=f"{path}: entry {number}")
            for number, entry in enumerate(entries, start=1)
        ),
    )


def _entry(entry: Any, *, number: int, delay_ms: float, where: str) -> Entry:
    _keys(entry, _ENTRY_KEYS, where)
    when = _keys(entry.get("when", {}), _WHEN_KEYS, f"{where}, when")
    reply = _keys(entry.get("reply"), _REPLY_KEYS, f"{where}, reply")
    usage = _keys(entry.get("usage", {}), {"input_tokens", "output_tokens"}, f"{where}, usage")
    text = _string(reply.get("text", ""), f"{where}, text")
    calls: list[Call] = []
    for call in _list(reply.get("tool_calls", []), f"{where}, tool_calls"):
        _keys(call, {"name", "args"}, f"{where}, tool_calls")
        arguments = call.get("args", {})
        if not isinstance(arguments, dict):
            raise RecordingInvalid(f"{where}: args has to be an object")
        calls.append(Call(name=_string(call.get("name"), f"{where}, name"), arguments=arguments))
    if not text and not calls:
        raise RecordingInvalid(f"{where}: the reply has neither text nor tool_calls")
    result = Entry(
        number=number,
        role=_optional(when, "role", where),
        task=_pattern(_optional(when, "task", where), where),
        user=_pattern(_optional(when, "user", where), where),
        tools=frozenset(_strings(when.get("tools", []), f"{where}, tools")),
        last_tool=_optional(when, "last_tool", where),
        last_result=_pattern(_optional(when, "last_result", where), where),
        seen=_patterns(when.get("seen", []), f"{where}, seen"),
        not_seen=_patterns(when.get("not_seen", []), f"{where}, not_seen"),
        text=text,
        calls=tuple(calls),
        input_tokens=_count(usage.get("input_tokens"), f"{where}, usage"),
        output_tokens=_count(usage.get("output_tokens"), f"{where}, usage"),
        delay_s=_number(entry.get("delay_ms", delay_ms), f"{where}, delay_ms") / 1000,
    )
    known = {name for pattern in _asked(result) for name in pattern.groupindex}
    for placeholder in _placeholders([text, [call.arguments for call in calls]]):
        if placeholder not in known:
            raise RecordingInvalid(f"{where}: {{{{{placeholder}}}}} is no named group of its conditions")
    return result


def _asked(entry: Entry) -> list[re.Pattern[str]]:
    return [pattern for pattern in (entry.task, entry.user, entry.last_result, *entry.seen) if pattern is not None]


def _match(entry: Entry, request: Request) -> dict[str, str] | None:
    """The named groups of an entry's expressions, or None where a condition does not hold."""
    if entry.role is not None and entry.role != request.role:
        return None
    if entry.last_tool is not None and entry.last_tool != request.last_tool:
        return None
    if not entry.tools <= request.tools:
        return None
    groups: dict[str, str] = {}
    for pattern, text in (
        (entry.task, request.task),
        (entry.user, request.user),
        (entry.last_result, request.last_result),
    ):
        if pattern is None:
            continue
        found = pattern.search(text) if text is not None else None
        if found is None:
            return None
        groups.update(_groups(found))
    for pattern in entry.seen:
        found = pattern.search(request.transcript)
        if found is None:
            return None
        groups.update(_groups(found))
    if any(pattern.search(request.transcript) for pattern in entry.not_seen):
        return None
    return groups


def _groups(found: re.Match[str]) -> dict[str, str]:
    return {name: value for name, value in found.groupdict().items() if value is not None}


def _fill(entry: Entry, groups: Mapping[str, str]) -> Reply:
    return Reply(
        text=_filled_text(entry.text, groups),
        calls=tuple(
            Call(name=call.name, arguments={key: _filled(value, groups) for key, value in call.arguments.items()})
            for call in entry.calls
        ),
    )


def _filled(value: Any, groups: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        whole = _PLACEHOLDER.fullmatch(value)
        if whole is not None and whole["number"]:
            number = groups.get(whole["name"], "")
            return int(number) if re.fullmatch(r"-?[0-9]+", number) else number
        return _filled_text(value, groups)
    if isinstance(value, list):
        return [_filled(item, groups) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, groups) for key, item in value.items()}
    return value


def _filled_text(text: str, groups: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: groups.get(found["name"], ""), text) if "{{" in text else text


def _placeholders(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from (found["name"] for found in _PLACEHOLDER.finditer(value))
    elif isinstance(value, list):
        for item in value:
            yield from _placeholders(item)
    elif isinstance(value, dict):
        yield from _placeholders(list(value.values()))


def _keys(value: Any, allowed: set[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecordingInvalid(f"{where}: has to be an object")
    unknown = sorted(set(value) - allowed)
    if unknown:
        raise RecordingInvalid(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(allowed))}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise RecordingInvalid(f"{where}: has to be a list")
    return value


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise RecordingInvalid(f"{where}: has to be a string")
    return value


def _strings(value: Any, where: str) -> list[str]:
    return [_string(item, where) for item in _list(value, where)]


def _optional(when: Mapping[str, Any], key: str, where: str) -> str | None:
    return None if when.get(key) is None else _string(when[key], f"{where}, {key}")


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise RecordingInvalid(f"{where}: has to be a number that is not negative")
    return float(value)


def _count(value: Any, where: str) -> int | None:
    return None if value is None else int(_number(value, where))


def _pattern(text: str | None, where: str) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text, re.MULTILINE)
    except re.error as error:
        raise RecordingInvalid(f"{where}: '{text}' is no regular expression: {error}") from error


def _patterns(value: Any, where: str) -> tuple[re.Pattern[str], ...]:
    compiled = (_pattern(text, where) for text in _strings(value, where))
    return tuple(pattern for pattern in compiled if pattern is not None)

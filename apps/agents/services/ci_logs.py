"""Logs of CI runs: the noise removed, and the telling parts picked where all of it is too long for a model."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_]|[()][0-9A-B])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]")
#: `gh run view --log` puts the job and the step before each line.
_JOB_AND_STEP = re.compile(r"^[^\t\n]{0,200}\t[^\t\n]{0,200}\t(?=\ufeff?\d{4}-\d\d-\d\dT)")
_TIMESTAMP = re.compile(
    r"^\s*\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?(?:\s\d\d[OE]\+?)?(?:\s|$)"
)
_SECTION = re.compile(r"section_(?:start|end):\d+:[\w.-]+(?:\[[^\]]*\])?")
_GROUP_END = re.compile(r"^\s*(?:##\[endgroup\]|::endgroup::|travis_fold:end:.*)\s*$")
_COMMAND = re.compile(r"^\s*(?:##\[(\w+)\]|::(\w+)(?:\s[^:]*)?::)")
_DROPPED_COMMANDS = frozenset({"debug", "add-mask", "set-output", "save-state", "echo"})

#: Lines that name what failed.
_FAILURE = re.compile(
    r"^\s*(?:FAILED|FAIL|ERROR|not ok|---\s*FAIL:|✕|✗|✘|×|●)(?:\W|$)|^FAIL:|\bFAILED\s*$|\.\.\. (?:FAILED|FAIL|ERROR)\b"
    r"|^test .* \.\.\. FAILED|^\s*\d+\) .+#|^Tests?:? .*\bfail|\b\d+ (?:failed|failures?|errors?)\b"
    r"|^=+ .*(?:failed|error)"
)
#: Lines that say why.
_ERROR = re.compile(
    r"^Traceback \(most recent|^\s*(?:\w+\.)*\w*(?:Error|Exception|Panic)\b(?::|$)|^error(?:\[\w+\])?:"
    r"|: error:|:\d+: error"
    r"|panicked at|^E\s{2,}|npm ERR!|\bfatal(?: error)?:|^\s*(?:AssertionError|assert )|Segmentation fault"
    r"|[Pp]rocess completed with exit code [1-9]|exited with (?:code|status) [1-9]|make(?:\[\d+\])?: \*\*\*|^Caused by:"
)
_TAIL = 30
_BEFORE, _AFTER = 2, 14
_LINE = 600


def log_clean(text: str) -> str:
    """The log without colours, progress bars, timestamps, fold marks and repeated lines."""
    lines: list[str] = []
    repeated = 0
    for raw in text.replace("\r\n", "\n").split("\n"):
        line = _line_clean(raw)
        if line is None:
            continue
        if lines and line == lines[-1]:
            repeated += bool(line)
            continue
        if repeated:
            lines.append(f"[the line before: {repeated} times more]")
            repeated = 0
        lines.append(line)
    if repeated:
        lines.append(f"[the line before: {repeated} times more]")
    return "\n".join(lines).strip("\n")


def log_cut(text: str, *, limit: int) -> str:
    """At most ``limit`` characters of a cleaned log: its end, the failures, and what was said around the errors.

    Lines stay whole and in order; what is left out is said where it was. A log that fits stays as it is.
    """
    if len(text) <= limit:
        return text
    lines = [_shortened(line) for line in text.split("\n")]
    taken: set[int] = set()
    # Each gap costs a line of its own; reckoning it for every line taken keeps the sum on the safe side of the limit.
    left = limit - 2 * len(_gap(len(lines)))
    for number in _by_worth(lines):
        if number in taken:
            continue
        gaps = (number - 1 not in taken) + (number + 1 not in taken)
        cost = len(lines[number]) + 1 + (gaps - 1) * len(_gap(len(lines)))
        if cost > left:
            # What is worth most and doesn't fit is not left for what is worth less.
            break
        taken.add(number)
        left -= cost
    return _joined(lines, sorted(taken))[:limit]


def _line_clean(raw: str) -> str | None:
    line = _JOB_AND_STEP.sub("", raw)
    line = _ESCAPES.sub("", line)
    line = _SECTION.sub("", line)
    # A bar that was drawn again and again: what stood there last.
    line = line.rstrip("\r").rpartition("\r")[2]
    line = _CONTROLS.sub("", line)
    line = _TIMESTAMP.sub("", line, count=1).rstrip()
    if _GROUP_END.match(line):
        return None
    command = _COMMAND.match(line)
    if command is not None:
        name = (command[1] or command[2]).lower()
        if name in _DROPPED_COMMANDS:
            return None
        line = line[command.end() :]
        if name in ("error", "warning"):
            line = f"{name}: {line}"
    return line


def _shortened(line: str) -> str:
    return line if len(line) <= _LINE else f"{line[: _LINE * 2 // 3]} […] {line[-_LINE // 3 :]}"


def _by_worth(lines: Sequence[str]) -> list[int]:
    """Line numbers, the most telling first: the very end, what failed, why, around that, and the rest of the end."""
    last = len(lines) - 1
    failures = [number for number, line in enumerate(lines) if _FAILURE.search(line)]
    errors = [number for number, line in enumerate(lines) if _ERROR.search(line)]
    order = list(range(last, max(-1, last - 8), -1))
    # The first errors are mostly the cause, and the last failures the summary.
    order += failures[-40:][::-1]
    for number in errors[:60]:
        order += [number, *range(number - 1, max(-1, number - _BEFORE - 1), -1)]
        order += range(number + 1, min(last, number + _AFTER) + 1)
    for number in failures[:40]:
        order += range(number, min(last, number + _AFTER) + 1)
    order += failures
    order += errors
    order += range(last, max(-1, last - _TAIL), -1)
    return order + list(range(last, -1, -1))


def _gap(count: int) -> str:
    return f"[... {count} lines left out ...]\n"


def _joined(lines: Sequence[str], numbers: Sequence[int]) -> str:
    parts: list[str] = []
    expected = 0
    for number in numbers:
        if number > expected:
            parts.append(_gap(number - expected).rstrip("\n"))
        parts.append(lines[number])
        expected = number + 1
    if expected < len(lines):
        parts.append(_gap(len(lines) - expected).rstrip("\n"))
    return "\n".join(parts)

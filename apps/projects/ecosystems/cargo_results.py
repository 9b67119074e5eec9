"""The text that ``cargo test`` prints: on a stable toolchain the test harness says its results in no other way.

For each binary, cargo announces it, and the harness in it prints one line for each test and sums up::

         Running unittests src/lib.rs (target/debug/deps/adder-cd768151cb021c17)

    running 2 tests
    test tests::adds ... FAILED
    test tests::zero ... ok
    ...
    test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

Tests that print past the harness may tear these lines apart: where what was read doesn't add up to the sum, the binary
counts as one test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from apps.projects.ecosystems.named_results import names_numbered, results_named
from apps.projects.ecosystems.types import TestResult

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TARGET = re.compile(r"\s+Running (?:(unittests) )?(\S.*?) \((\S+)\)|\s+(Doc-tests) (\S+)")
_RUNNING = re.compile(r"running (\d{1,9}) tests?")
_LINE = re.compile(r"test (\S(?:.*\S)?) \.\.\. (.*)")
_SUM = re.compile(
    r".*test result: (ok|FAILED)\. (\d{1,9}) passed; (\d{1,9}) failed; (\d{1,9}) ignored; (\d{1,9}) measured; .*"
)
_TARGET_FAILED = re.compile(r"error: (doc)?test failed, to rerun pass .*")
_HASH = re.compile(r"-[0-9a-f]{16}$")
#: Where a documentation test stands, which any edit above it changes.
_DOC_LINE = re.compile(r" \(line (\d{1,9})\)")
_MODES = re.compile(r"( - (should panic|compile|compile fail))+$")


@dataclass
class _Block:
    """What one run of a harness prints, as far as it was read."""

    announced: int
    lines: list[tuple[str, TestResult]] = field(default_factory=list)
    listing: bool = True


@dataclass
class _Target:
    """A test binary, or a crate's documentation tests."""

    label: str
    tests: list[tuple[str, TestResult]] = field(default_factory=list)
    block: _Block | None = None
    blocks: int = 0
    failed: bool = False


def libtest_read(text: str) -> dict[str, TestResult]:
    """Results by test, as ``tests/cli.rs::runs`` or ``adder src/lib.rs::tests::adds``.

    Output of a build that failed has none. A harness that ended in the middle, and that cargo took for a success, is an
    error of that binary.
    """
    targets: list[_Target] = []
    for line in _COLOUR.sub("", text).splitlines():
        if (match := _TARGET.fullmatch(line)) is not None:
            targets.append(_Target(_label(match)))
        elif targets:
            _line_take(targets[-1], line)
    for target, label in zip(targets, names_numbered(target.label for target in targets), strict=True):
        target.label = label
    return results_named(test for target in targets for test in _named(target))


def _label(match: re.Match[str]) -> str:
    unit, path, binary, documentation, crate = match.groups()
    if documentation:
        return f"{crate} doc"
    # Several crates of a workspace have a `src/lib.rs`; the files of integration tests usually have names of their own.
    return f"{_HASH.sub('', binary.rpartition('/')[2])} {path}" if unit else str(path)


def _line_take(target: _Target, line: str) -> None:
    block = target.block
    if block is None:
        if (match := _RUNNING.fullmatch(line)) is not None:
            target.block = _Block(int(match[1]))
            target.blocks += 1
        elif _TARGET_FAILED.fullmatch(line):
            target.failed = True
        return
    if (match := _SUM.fullmatch(line)) is not None:
        target.tests += _block_results(block, match)
        target.block = None
    elif _TARGET_FAILED.fullmatch(line):
        # It crashed, and cargo knows: what had run until then stands.
        target.tests += block.lines
        target.failed = True
        target.block = None
    elif line in ("failures:", "successes:"):
        # What follows quotes what tests printed.
        block.listing = False
    elif block.listing and (match := _LINE.search(line)) is not None:
        result = _result(match[2])
        if result is not None:
            block.lines.append((match[1], result))


def _result(said: str) -> TestResult | None:
    # A test that prints while it runs alone stands between the dots and the result.
    if said.endswith("ok"):
        return "passed"
    if said.endswith("FAILED"):
        return "failed"
    return "skipped" if re.search(r"ignored(, .*)?$", said) else None


def _block_results(block: _Block, match: re.Match[str]) -> list[tuple[str, TestResult]]:
    passed, failed, ignored, measured = (int(number) for number in match.groups()[1:])
    counted = [result for _, result in block.lines]
    told = (passed, failed, ignored)
    if measured == 0 and told == tuple(counted.count(result) for result in ("passed", "failed", "skipped")):
        return block.lines
    if block.announced == 0 or passed + failed == 0:
        return []
    return [("", "failed" if match[1] == "FAILED" or failed else "passed")]


def _named(target: _Target) -> list[tuple[str, TestResult]]:
    if target.block is not None:
        return [(f"{target.label}: ended before it had run all of its tests", "error")]
    if target.blocks == 0:
        # A harness of its own, of which only cargo's verdict is known.
        own = not target.label.endswith(" doc") and " doc (" not in target.label
        return [(target.label, "failed" if target.failed else "passed")] if own else []
    if any(not name for name, _ in target.tests):
        return [(target.label, result) for name, result in target.tests]
    plain = sorted(target.tests, key=lambda test: _place(test[0]))
    names = names_numbered(_place(name)[0] for name, _ in plain)
    return [(f"{target.label}::{name}", result) for name, (_, result) in zip(names, plain, strict=True)]


def _place(name: str) -> tuple[str, int]:
    """The name that stays the same, and for one of several documentation tests of an item where it stands."""
    name = _MODES.sub("", name)
    match = _DOC_LINE.search(name)
    return (_DOC_LINE.sub("", name), int(match[1])) if match else (name, 0)

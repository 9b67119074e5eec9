"""Run ``python -m unittest`` with the same arguments and write each test's result to a JUnit file.

Bound into a check's sandbox, where nothing of the server can be imported: standard library only. The first argument is
the file to write, the rest is unittest's own.
"""

from __future__ import annotations

import sys
import unittest
import xml.etree.ElementTree as ElementTree
from typing import Any


class Result(unittest.TextTestResult):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.outcomes: list[tuple[str, str]] = []

    def note(self, test: Any, outcome: str) -> None:
        self.outcomes.append((test.id(), outcome))

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self.note(test, "passed")

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self.note(test, "failure")

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self.note(test, "error")

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self.note(test, "skipped")

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self.note(test, "skipped")

    def addUnexpectedSuccess(self, test: Any) -> None:
        super().addUnexpectedSuccess(test)
        self.note(test, "failure")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note(test, "failure" if issubclass(err[0], test.failureException) else "error")


class Runner(unittest.TextTestRunner):
    resultclass = Result


def main() -> None:
    target, *arguments = sys.argv[1:]
    # As for `python -m`: modules come from the current folder, not from this file's.
    sys.path[0] = ""
    program = unittest.main(module=None, argv=["python -m unittest", *arguments], exit=False, testRunner=Runner)
    suite = ElementTree.Element("testsuite")
    result: Any = program.result
    for name, outcome in result.outcomes:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "", "name": name})
        if outcome != "passed":
            ElementTree.SubElement(case, outcome)
    ElementTree.ElementTree(suite).write(target, encoding="utf-8")
    sys.exit(not result.wasSuccessful())


main()

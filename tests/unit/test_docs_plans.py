"""docs/reference/plans.md has every code of a problem, every member of the document, and every operation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from apps.agents.tools.plan_judging import _CODES
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.markdown import plan_from_markdown, plan_to_markdown
from apps.planning.operations import Operation
from apps.planning.types import TaskStatus

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "plans.md").read_text()


def _section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _codes() -> Iterator[str]:
    """Of all problems that are made anywhere."""
    yield from _CODES.values()
    for path in (ROOT / "apps").rglob("*.py"):
        text = path.read_text()
        if "Problem" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
            place = {"Problem": 1, "_problem": 1, "_refused": 0 if path.name == "plan_answers.py" else None}.get(called)
            code = node.args[place] if place is not None else None
            if isinstance(code, ast.Constant):
                yield str(code.value)


def test_every_code_is_there_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", _section("Rules"), re.MULTILINE)
    # That one is told of the document and of the repository.
    rows.remove("check_cannot_run")
    assert sorted(rows) == sorted(set(_codes()))


def test_every_member_of_the_document_is_there() -> None:
    tables = _section("The document").split("\n\n|")
    for kind, name in ((PlanDoc, "the plan"), (FeatureDoc, "a feature"), (TaskDoc, "a task")):
        (table,) = [each for each in tables if each.lstrip("| ").startswith(f"{name} |")]
        assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(kind.model_fields)


def test_every_operation_is_there() -> None:
    kinds = get_args(get_args(Operation)[0])
    rows = dict(re.findall(r"^\| (`[^|]+) \| ([^|]+) \|$", _section("Operations"), re.MULTILINE))
    told = {op: members for names, members in rows.items() for op in re.findall(r"`(\w+)`", names)}
    assert set(told) == {kind.model_fields["op"].default for kind in kinds}
    for kind in kinds:
        members = told[kind.model_fields["op"].default]
        if "any" not in members:
            named = set(re.findall(r"`(\w+)`", members.partition(" of `{")[0]))
            assert named == set(kind.model_fields) - {"op"}, kind


def test_the_markdown_that_is_shown_is_what_is_written() -> None:
    (shown,) = re.findall(r"```markdown\n(.*?)```", PAGE, re.DOTALL)
    read = plan_from_markdown(shown)
    statuses = {"T1": TaskStatus.DONE}
    assert plan_to_markdown(read.document, statuses=statuses, plan_id=read.plan_id, version=read.version) == shown

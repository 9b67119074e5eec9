"""``archon bench plan``: are plans that models answer taken, mended or refused as they should be?

Each line of the cases is ``{"name", "repository", "goal", "answer" or "answers", "expected", "codes"}``, as told in
docs/reference/benchmarks.md. An answer goes the very way that a planner's goes in a session. It needs no services.
"""

from __future__ import annotations

import argparse
import codecs
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.agents.tools.plan_answers import FENCES, PROSE
from apps.planning.types import TaskStatus
from benchmarks._plan_programs import SYSTEM, TOOLCHAINS

if TYPE_CHECKING:
    from apps.projects.commit_paths import CommitPaths
    from benchmarks._plan_repositories import Source

_LINE_END = re.compile(rb"\r\n|[\r\n]")
_PYTHON = re.compile(r"(?:python|pip|pypy)\d(?:\.\d+)?")
_MANIFESTS = frozenset(
    {"pyproject.toml", "setup.py", "setup.cfg", "package.json", "Cargo.toml", "composer.json", "Gemfile"}
)
OUTCOMES = ("accepted", "repaired", "refused")
#: What may be said of a case's answer.
MENDED = (FENCES, PROSE)


@dataclass(frozen=True)
class Case:
    """A line of the file."""

    line: int
    name: str
    repository: Source
    answers: tuple[Any, ...]
    expected: str
    #: None: whatever is told.
    codes: frozenset[str] | None
    mended: tuple[str, ...] | None
    #: None: those of toolchains and of this machine.
    programs: frozenset[str] | None
    subfolder: str
    before: Any
    states: Mapping[str, str]


@dataclass(frozen=True)
class Judged:
    """What came of a case."""

    name: str
    expected: str
    outcome: str
    #: Of all that was told, however many answers it took.
    codes: tuple[str, ...]
    codes_expected: tuple[str, ...] | None
    mended: tuple[str, ...]
    mended_expected: tuple[str, ...] | None
    problems: tuple[str, ...]

    @property
    def failed(self) -> bool:
        codes = self.codes_expected is not None and set(self.codes) != set(self.codes_expected)
        mended = self.mended_expected is not None and self.mended != self.mended_expected
        return self.outcome != self.expected or codes or mended


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench plan", description=__doc__)
    parser.add_argument(
        "--cases", type=Path, default=Path(__file__).with_name("plan_cases.jsonl"), help="JSON lines; those that ship"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_args(argv)
    try:
        cases = cases_read(options.cases)
    except (OSError, ValueError) as error:
        print(f"The cases can't be read: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="archon-bench-") as folder:
        _setup(Path(folder))
        try:
            judged = cases_judge(cases)
        except ValueError as error:
            print(f"The cases can't be judged: {error}", file=sys.stderr)
            return 2
    failed = [each for each in judged if each.failed]
    report = {
        "cases": len(judged),
        "accepted": sum(each.outcome == "accepted" for each in judged),
        "repaired": sum(each.outcome == "repaired" for each in judged),
        "refused": sum(each.outcome == "refused" for each in judged),
        "failed": len(failed),
        "cases_failed": [asdict(each) for each in failed],
    }
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names and what is told may hold what no terminal can be given, such as half a character.
        sys.stdout.reconfigure(errors="backslashreplace")
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name in ("cases", "accepted", "repaired", "refused", "failed"):
            print(f"{name:10} {report[name]}")
        for each in failed:
            print(f"{each.name}: {each.outcome}, not {each.expected}; {', '.join(each.codes) or 'nothing was told'}")
            for problem in each.problems:
                print(f"    {problem}")
    return 1 if failed else 0


def cases_read(path: Path) -> list[Case]:
    """The cases of a file. Raises ValueError, which names the line."""
    found = []
    for number, line in enumerate(_LINE_END.split(path.read_bytes().removeprefix(codecs.BOM_UTF8)), 1):
        if not line.strip():
            continue
        try:
            found.append(_case(json.loads(line.decode()), number, path.parent))
        except UnicodeDecodeError as error:
            raise ValueError(f"line {number}: it is not in UTF-8 ({error.reason} at byte {error.start})") from None
        except RecursionError:
            raise ValueError(f"line {number}: it is nested too deeply to be read") from None
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if not found:
        raise ValueError("there is no case in the file")
    return found


def _case(data: Any, number: int, folder: Path) -> Case:
    if not isinstance(data, dict):
        raise ValueError("it is no object")
    if data.get("expected") not in OUTCOMES:
        raise ValueError(f"expected has to be one of {', '.join(OUTCOMES)}")
    if ("answer" in data) == ("answers" in data):
        raise ValueError("give an answer or answers, and one of them alone")
    answers = data["answers"] if "answers" in data else [data["answer"]]
    if not isinstance(answers, list) or not answers:
        raise ValueError("answers has to be a list with one or more")
    repository = {} if data.get("repository") is None else data["repository"]
    if isinstance(repository, str):
        repository = (folder / repository).resolve()
    elif not isinstance(repository, dict) or not all(isinstance(text, str) for text in repository.values()):
        raise ValueError("repository has to be an object of paths and texts, or a path")
    mended = data.get("mended")
    if mended is not None and (not isinstance(mended, list) or any(each not in MENDED for each in mended)):
        raise ValueError(f"mended has to be a list of {' and '.join(MENDED)}")
    states = data.get("states") or {}
    if not isinstance(states, dict) or any(state not in TaskStatus.values for state in states.values()):
        raise ValueError(f"states has to be an object of keys of tasks, each one of {', '.join(TaskStatus.values)}")
    if states and data.get("before") is None:
        raise ValueError("states are of the tasks of a plan before, and there is none")
    if not isinstance(subfolder := data.get("subfolder") or "", str):
        raise ValueError("subfolder has to be a text")
    return Case(
        line=number,
        name=str(data.get("name") or f"line {number}"),
        repository=repository,
        answers=tuple(answers),
        expected=data["expected"],
        codes=_names(data, "codes"),
        mended=None if mended is None else tuple(mended),
        programs=_names(data, "programs"),
        subfolder=subfolder,
        before=data.get("before"),
        states=states,
    )


def _names(data: Mapping[str, Any], member: str) -> frozenset[str] | None:
    value = data.get(member)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{member} has to be a list of texts")
    return frozenset(value)


def _setup(folder: Path) -> None:
    """Django with a home of its own and without services."""
    os.environ["ARCHON_HOME"] = str(folder / "home")
    from config.bootstrap import prepare

    prepare(command="check")
    import django

    django.setup()


def cases_judge(cases: Sequence[Case]) -> list[Judged]:
    """What comes of each. Raises ValueError for a repository that can't be made."""
    from benchmarks._plan_repositories import UnusableRepository, repositories_make

    try:
        project_id, commits = repositories_make([case.repository for case in cases])
    except UnusableRepository as error:
        raise ValueError(f"line {cases[error.number].line}: {error}") from None
    return [_judge(case, project_id, commit) for case, commit in zip(cases, commits, strict=True)]


def _judge(case: Case, project_id: object, commit: str) -> Judged:
    from apps.agents.tools.grounding import RepositoryGrounding
    from apps.agents.tools.plan_answers import answer_open
    from apps.agents.tools.plan_judging import intent_problems, plan_judge, plan_read, unchanged_problems
    from apps.planning.types import TaskState
    from apps.projects.commit_paths import CommitPaths

    declared = _declared(CommitPaths(project_id=project_id, commit=commit))
    grounding = RepositoryGrounding(
        project_id=project_id,
        commit=commit,
        subfolder=case.subfolder,
        program_exists=_programs(case.programs, declared),
    )
    before = None if case.before is None else plan_read(case.before)
    if isinstance(before, list):
        raise ValueError(f"line {case.line}: before is no plan: {before[0]}")
    states = {key: TaskState(TaskStatus(status)) for key, status in case.states.items()}
    outcome, mended = "refused", tuple[str, ...]()
    told: dict[str, None] = {}
    words: list[str] = []
    for number, answer in enumerate(case.answers):
        read = plan_read(answer)
        if isinstance(read, list):
            problems = read
        else:
            problems = [*intent_problems(read), *plan_judge(read, grounding, before=before, states=states)]
            if before is not None:
                problems += unchanged_problems(read, before)
        if not problems:
            mended = answer_open(answer).mended
            outcome = "repaired" if number or mended else "accepted"
            break
        told |= dict.fromkeys(problem.code for problem in problems)
        words += [f"{problem.where}: {problem}" for problem in problems]
    return Judged(
        name=case.name,
        expected=case.expected,
        outcome=outcome,
        codes=tuple(told),
        codes_expected=None if case.codes is None else tuple(sorted(case.codes)),
        mended=mended,
        mended_expected=case.mended,
        problems=tuple(words[:20]),
    )


def _programs(given: frozenset[str] | None, declared: str) -> Callable[[str], bool]:
    def exists(name: str) -> bool:
        if given is not None:
            return name in given or name.rpartition("/")[2] in SYSTEM
        if name in TOOLCHAINS or name.rpartition("/")[2] in SYSTEM or _PYTHON.fullmatch(name):
            return True
        # What the project says of its own programs and of what it needs is taken for installed.
        return shutil.which(name) is not None or bool(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", declared))

    return exists


def _declared(paths: CommitPaths) -> str:
    """What the repository's manifests say."""
    named = [path for path in paths.files if path.rpartition("/")[2] in _MANIFESTS]
    return "\n".join(paths.read(path, limit=1_000_000) or "" for path in named)

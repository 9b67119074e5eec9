"""What a plan's document shows of itself, and what it lacks of a repository that is made up of a few names.

Each rule is also shown by cases of ``archon bench plan``, on real repositories; here are those that need a closer look.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from apps.planning.checking import PlanRefused, plan_problems, problems_refuse
from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.paths import path_clean, path_fault


class Ground:
    """A repository of these paths, in which every check can run that names none of the others."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths
        self.asked: list[tuple[str, frozenset[str]]] = []

    def file_exists(self, path: str) -> bool:
        return path in self.paths

    def files_like(self, path: str) -> Sequence[str]:
        return [each for each in self.paths if each.rpartition("/")[2] == path.rpartition("/")[2]]

    def check_problem(self, command: str, made: Collection[str]) -> str:
        self.asked.append((command, frozenset(made)))
        return "it can't" if command == "no" else ""


def plan(*tasks: TaskDoc, **features: str) -> PlanDoc:
    return PlanDoc(summary="s", features=(FeatureDoc(key="F1", title="F", tasks=tasks),))


def task(key: str, needs: str = "", **members: object) -> TaskDoc:
    return TaskDoc(key=key, title=key, depends_on=tuple(needs.split()), **members)  # type: ignore[arg-type]


def told(document: PlanDoc, ground: Ground | None = None, **options: Collection[str]) -> list[tuple[str, str]]:
    return [(problem.where, problem.code) for problem in plan_problems(document, ground, **options)]


def test_a_file_is_there_for_what_needs_the_task_that_makes_it() -> None:
    ground = Ground("a.py")
    made = task("T1", creates=("b.py", "new/"))
    uses = task("T3", "T2", files=("a.py", "b.py", "new/c.py"))
    assert told(plan(made, task("T2", "T1"), uses), ground) == []
    assert told(plan(made, task("T2"), uses), ground) == [("tasks.T3.files", "missing_file")] * 2
    hints = [problem.hint for problem in plan_problems(plan(made, task("T2"), uses), ground)]
    assert hints[0] == "T1 makes it: let T3 depend on T1"


def test_what_is_skipped_makes_nothing_and_is_not_waited_through() -> None:
    ground = Ground()
    uses = task("T3", "T2", files=("b.py",))
    # T3 may begin before T1 is done: nothing holds it up but T2, which is done without.
    skipped = plan(task("T1", creates=("b.py",)), task("T2", "T1", skipped=True, files=("nowhere",)), uses)
    assert told(skipped, ground) == [("tasks.T3.files", "missing_file")]
    gone = plan(task("T2", creates=("b.py",), skipped=True), uses)
    (problem,) = plan_problems(gone, ground)
    assert (problem.code, problem.hint) == ("missing_file", "T2, which would make it, is skipped")


def test_what_was_begun_is_not_looked_at_but_what_it_makes_counts() -> None:
    ground = Ground("b.py")
    document = plan(
        task("T1", files=("gone.py",), creates=("b.py", "c.py"), checks=(CheckDoc(command="no"),)),
        task("T2", "T1", files=("c.py",)),
        task("T3", creates=("c.py",)),
    )
    assert {code for _, code in told(document, ground)} == {
        *("missing_file", "exists_already", "check_cannot_run", "created_twice")
    }
    assert told(document, ground, begun={"T1"}) == []


def test_a_check_runs_with_what_is_made_and_touched_by_then() -> None:
    ground = Ground("a.py", "b.py")
    document = plan(
        task("T1", creates=("./x.py",), files=("a.py",)),
        task("T2", "T1", files=("b.py",), checks=(CheckDoc(command="go"), CheckDoc(command="no"))),
        task("T3", creates=("y.py",)),
    )
    assert told(document, ground) == [("tasks.T2.checks.1", "check_cannot_run")]
    assert ground.asked == [(command, frozenset({"x.py", "a.py", "b.py"})) for command in ("go", "no")]


def test_files_of_a_task_whose_needs_are_unclear_may_be_made_by_any() -> None:
    document = plan(task("T1", creates=("b.py",)), task("T2", "T9", files=("b.py", "c.py")))
    assert told(document, Ground()) == [
        ("tasks.T2.depends_on", "missing_dependency"),
        ("tasks.T2.files", "missing_file"),
    ]


def test_a_plan_of_the_largest_size_is_looked_at_in_no_time() -> None:
    chain = [task(f"T{number}", f"T{number - 1}" if number else "", files=("new.py",)) for number in range(200)]
    chain[0] = task("T0", creates=("new.py",))
    assert told(plan(*chain), Ground()) == []
    dense = [task(f"T{n}", " ".join(f"T{m}" for m in range(200) if m != n), files=("x",)) for n in range(200)]
    problems = plan_problems(plan(*dense), Ground())
    assert {problem.code for problem in problems} == {"cycle", "missing_file"}
    # Not each of the cycles that there are.
    assert sum(problem.code == "cycle" for problem in problems) <= 10


def test_all_that_is_wrong_is_told_at_once() -> None:
    document = plan(task("T1", "T9", files=("../x",), creates=("/y",)), task("T1"), task("T2", "T2 T2"))
    with pytest.raises(PlanRefused) as refused:
        problems_refuse(plan_problems(document, Ground()))
    problems = refused.value.extra["problems"]
    assert [problem["code"] for problem in problems] == [
        *("duplicate_key", "missing_dependency", "cycle", "duplicate_dependency", "bad_path", "bad_path")
    ]
    assert all(problem["hint"] for problem in problems)
    assert "; and 1 more" in refused.value.message
    problems_refuse([])


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("src/a.py", ""),
        ("./src//a.py", ""),
        (".github/workflows/ci.yml", ""),
        ("a..b/...", ""),
        ("app/[id]/page.tsx", ""),
        (".", ""),
        ("..", "leads out of the repository"),
        ("a/../../b", "leads out of the repository"),
        ("a\\..\\..\\b", "leads out of the repository"),
        ("a/../b", "has .. in it"),
        ("/", "is absolute"),
        ("/workspace/a.py", "is absolute"),
        ("~/a", "is absolute"),
        ("C:/a", "is absolute"),
        (".git", "is git's own"),
        ("sub/.Git/config", "is git's own"),
        (" ", "is blank"),
        ("a\nb", "has a character that can't be seen"),
    ],
)
def test_paths_are_of_the_repository(path: str, fault: str) -> None:
    found = path_fault(path)
    assert (found[0] if found else "") == fault
    if not found:
        assert path_fault(path_clean(path)) is None and path_clean(path_clean(path)) == path_clean(path)

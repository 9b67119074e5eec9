"""``archon bench plan``: the cases that ship come out as they should, and those of others are read as documented."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.plan import cases_judge, cases_read

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "benchmarks" / "plan_cases.jsonl"
PAGE = (ROOT / "docs" / "reference" / "plans.md").read_text().partition("\n## Rules")[2]


def test_the_cases_that_ship_are_as_expected() -> None:
    cases = cases_read(SHIPPED)
    assert len(cases) >= 120 and len({case.name for case in cases}) == len(cases)
    judged = cases_judge(cases)
    assert [(each.name, each.outcome, each.codes, each.problems) for each in judged if each.failed] == []
    assert {each.outcome for each in judged} == {"accepted", "repaired", "refused"}
    # Each rule of the page is broken by one of them, but those that a planner's answer as such can't break.
    told = {code for each in judged for code in each.codes}
    of_changes = PAGE.partition("What is asked of changes")[2].partition("What is read of an answer")[0]
    assert told == _rules(PAGE) - _rules(of_changes) - {"duplicate_dependency", "depends_on_failed"}


def _rules(page: str) -> set[str]:
    return set(re.findall(r"^\| `(\w+)` \| [^|]+ \|$", page.partition("\n## Markdown")[0], re.MULTILINE))


def test_the_examples_of_the_page_are_cases(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "benchmarks.md").read_text()
    (examples,) = re.findall(
        r"```json\n(\{.*?)\n```\n\n\| key", page.partition("## `plan`")[2].partition("\n## ")[0], re.DOTALL
    )
    (tmp_path / "cases.jsonl").write_text(examples)
    judged = cases_judge(cases_read(tmp_path / "cases.jsonl"))
    assert [each.outcome for each in judged] == ["accepted", "repaired"] and not any(each.failed for each in judged)


def _run(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "plan", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


def test_cases_of_others_are_run_by_the_command(tmp_path: Path) -> None:
    answer = {"summary": "s", "features": [{"title": "F", "tasks": [{"title": "t", "files": ["a/b.txt"]}]}]}
    folder, repository = tmp_path / "folder", tmp_path / "repository"
    for place in (folder, repository):
        (place / "a").mkdir(parents=True)
        (place / "a" / "b.txt").write_text("x")
    git = ["git", "-c", "user.name=T", "-c", "user.email=t@localhost"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "First"]):
        subprocess.run([*git, *arguments], cwd=repository, check=True)
    (repository / "later.txt").write_text("not committed")
    later = json.loads(json.dumps(answer).replace("a/b.txt", "later.txt"))
    lines = [
        {"repository": "folder", "goal": "g", "answer": answer, "expected": "accepted"},
        {"repository": str(repository), "goal": "g", "answer": answer, "expected": "accepted", "codes": []},
        {"name": "later", "repository": "repository", "answers": [later, answer], "expected": "repaired"},
        {"name": "wrong outcome", "answer": answer, "expected": "accepted", "comment": "there is no such file"},
        {"name": "wrong codes", "answer": answer, "expected": "refused", "codes": ["cycle"]},
        {
            "name": "wrongly mended",
            "repository": "folder",
            "answer": answer,
            "expected": "accepted",
            "mended": ["prose"],
        },
    ]
    cases = tmp_path / "cases.jsonl"
    cases.write_text("\n\n".join(json.dumps(line) for line in lines))
    code, printed, _ = _run("--cases", str(cases), "--json")
    report = json.loads(printed)
    failed = report.pop("cases_failed")
    assert (code, report) == (1, {"cases": 6, "accepted": 3, "repaired": 1, "refused": 2, "failed": 3})
    assert [each["name"] for each in failed] == ["wrong outcome", "wrong codes", "wrongly mended"]
    assert failed[0]["outcome"] == "refused" and failed[1]["codes"] == ["missing_file"] and failed[1]["problems"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: "),
        ("[]", "line 2: it is no object"),
        ('{"answer": {}}', "line 2: expected has to be one of"),
        ('{"expected": "refused"}', "line 2: give an answer or answers"),
        ('{"expected": "refused", "answers": []}', "line 2: answers has to be a list"),
        ('{"expected": "refused", "answer": 1, "repository": 3}', "line 2: repository has to be"),
        ('{"expected": "refused", "answer": 1, "codes": "x"}', "line 2: codes has to be a list"),
        ('{"expected": "refused", "answer": 1, "mended": 5}', "line 2: mended has to be a list"),
        ('{"expected": "refused", "answer": 1, "subfolder": 5}', "line 2: subfolder has to be a text"),
        ('{"expected": "refused", "answer": 1, "before": {}, "states": {"T1": "lost"}}', "line 2: states has to be"),
        ('{"expected": "refused", "answer": 1, "states": [1]}', "line 2: states has to be"),
        ('{"expected": "refused", "answer": 1, "states": {"T1": "done"}}', "line 2: states are of the tasks"),
        (f'{{"expected": "refused", "answer": {"[" * 100_000}', "line 2: it is nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_its_line(tmp_path: Path, line: str, told: str) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text(f'{{"expected": "refused", "answer": ""}}\n{line}\n')
    with pytest.raises(ValueError, match=re.escape(told)):
        cases_read(cases)


@pytest.mark.parametrize(
    ("repository", "told"),
    [
        ("nowhere", "line 3: there is no folder"),
        ("cases.jsonl", "is no folder"),
        ({"../a": ""}, "line 3: the path '../a' leads out"),
        ({"a": "", "a/b/c": ""}, "line 3: the path 'a/b/c' is below 'a', which is a file"),
        ({"\ud800": ""}, "line 3: the path '\\ud800' has half a character"),
    ],
)
def test_a_repository_that_cannot_be_made_is_told_by_its_line(tmp_path: Path, repository: object, told: str) -> None:
    cases = tmp_path / "cases.jsonl"
    line = {"expected": "refused", "answer": "", "repository": repository}
    cases.write_text(f'{{"expected": "refused", "answer": ""}}\n\n{json.dumps(line)}')
    with pytest.raises(ValueError, match=re.escape(told)):
        cases_judge(cases_read(cases))


def test_files_of_editors_are_read_and_those_in_other_encodings_told(tmp_path: Path) -> None:
    line, cases = b'{"expected": "refused", "answer": ""}', tmp_path / "cases.jsonl"
    for text in (b"\xef\xbb\xbf" + line + b"\r\n" + line + b"\r\n", line + b"\r" + line):
        cases.write_bytes(text)
        assert [case.line for case in cases_read(cases)] == [1, 2]
    cases.write_bytes(line + b'\n{"name": "caf\xe9"}')
    with pytest.raises(ValueError, match="line 2: it is not in UTF-8"):
        cases_read(cases)
    cases.write_bytes(b"\n \n")
    with pytest.raises(ValueError, match="no case"):
        cases_read(cases)


def test_a_folder_is_taken_with_its_links_and_what_can_be_run(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "real").mkdir(parents=True)
    (folder / "real" / "a.txt").write_text("x")
    (folder / "link").symlink_to("real")
    (folder / "package.json").write_text('{"scripts": {"dev": "vite"}}')
    (folder / "run").write_text("true")
    # As on file systems where everything can be run: what is in it stays as it is.
    (folder / "package.json").chmod(0o755)
    (folder / "run").chmod(0o755)
    checks = [{"command": "./run && npm run dev"}, {"command": "npm run nothing"}]
    task = {"title": "t", "files": ["link/a.txt", "link"], "checks": checks[:1]}
    answer = {"summary": "s", "features": [{"title": "F", "tasks": [task]}]}
    wrong = {"summary": "s", "features": [{"title": "F", "tasks": [task | {"checks": checks}]}]}
    lines = [
        {"repository": "folder", "answer": answer, "expected": "accepted"},
        {"repository": "folder", "answer": wrong, "expected": "refused", "codes": ["check_cannot_run"]},
    ]
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [each.problems for each in cases_judge(cases_read(tmp_path / "cases.jsonl")) if each.failed] == []

"""What broke the promises of indexing, search and locating once."""

from __future__ import annotations

import subprocess
import tracemalloc
import uuid
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from apps.context.locating.issue import issue_read
from apps.context.locating.kinds import is_test
from apps.context.mapping.duplication import duplicates_find
from apps.context.parsing.parse import file_parse
from apps.context.searching.candidates import Candidate
from apps.context.searching.checking import _confirm
from apps.context.searching.projects import ProjectHit, _rescaled
from apps.context.types import FusedPart, Hit, Snippet
from apps.context.walking import tree_walk
from apps.projects.sandbox.gitignore import IgnoreRules
from cli.code_watch import _WatchedFolder


@pytest.mark.timeout(20)
@pytest.mark.parametrize("run", ["~", "@", "+", "\\a", "/a", "<!--"])
def test_no_run_of_characters_takes_the_square_of_its_length(run: str) -> None:
    """That took 40 seconds, which held up all else in the process."""
    assert issue_read("title\n" + run * (40_000 // len(run))).title


def test_paths_and_comments_of_an_issue_are_read_as_before() -> None:
    wanted = issue_read("t <!-- left.py\nout --> x\nsee ~/a/b.py, (src\\c.ts) and @app/d.vue, <!-- open e.py")
    assert {"~/a/b.py", "src/c.ts", "@app/d.vue", "e.py"} <= set(wanted.paths)
    assert "left.py" not in wanted.paths


def test_equal_lines_in_thousands_take_little_memory() -> None:
    tracemalloc.start()
    found = duplicates_find(texts={"a.py": "value = 1\n" * 5_000})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Such a table is no duplicate of itself.
    assert found.duplicates == ()
    assert peak < 16 << 20


def test_prose_with_a_paragraph_a_line_is_not_minified() -> None:
    text = ("Words that somebody wrote on one line. " * 25 + "\n\n").encode() * 12
    assert not file_parse(path="docs/guide.md", content=text).is_generated
    assert file_parse(path="a.js", content=text).is_generated


def test_shipped_code_is_no_test_for_its_name() -> None:
    assert not is_test("src/main/java/com/squareup/javapoet/TypeSpec.java")
    assert not is_test("Source/JavaScriptCore/jit/JIT.cpp")
    assert is_test("src/test/java/a/StoreSpec.java")
    assert is_test("src/it/java/a/StoreIT.java")


def _candidate(**fields: object) -> Candidate:
    known: dict[str, object] = {
        "chunk_id": 1, "file_id": 1, "path": "a.py", "blob": "b", "language": "python", "kind": "module", "symbol": "",
        "start_line": 3, "end_line": 5, "text": "\n\nx = 1",
    }  # fmt: skip
    return Candidate(**{**known, **fields})  # type: ignore[arg-type]


def test_a_chunk_that_begins_with_blank_lines_is_found_again_at_its_own_lines() -> None:
    found = _confirm(_candidate(line=5), ["new", "def f():", "    pass", "", "", "x = 1"], changed=True)
    assert found is not None
    assert (found[0].start_line, found[0].end_line, found[0].line) == (6, 6, 6)


def test_a_signature_over_some_lines_is_found_again() -> None:
    lines = ["# new", "def save(", "    self,", "    force: bool = False,", ") -> None:", "    pass"]
    symbol = _candidate(text="", signature="def save( self, force: bool = False, ) -> None", start_line=1, end_line=5)
    found = _confirm(symbol, lines, changed=True)
    assert found is not None
    assert found[0].start_line == 2
    assert _confirm(symbol, ["def save(", "    other) -> None:"], changed=True) is None


def test_a_project_without_vectors_does_not_stand_behind_all_others() -> None:
    def hit(path: str, *fused_of: FusedPart) -> ProjectHit:
        made = Hit(path, 1, 1, "", "function", "python", 1.0, "c", Snippet(1, ""), fused_of=fused_of)
        return ProjectHit(uuid.uuid4(), made)

    def parts(text: float, vector: float, embedder: str) -> tuple[FusedPart, FusedPart]:
        return FusedPart("text", 0.3, text), FusedPart(embedder, 0.7, vector)

    embedded = (hit("a.py", *parts(3.0, 0.4, "e")), hit("b.py", *parts(2.0, 0.2, "e")))
    words = (hit("exact.py", FusedPart("text", 1.0, 20.0)),)
    scores = {each.hit.path: each.hit.score for each in _rescaled([embedded, words], kinds={})}
    assert scores["exact.py"] > scores["a.py"] > scores["b.py"]
    # Another embedder's cosines are no measure of this one's.
    other = (hit("c.py", *parts(2.5, 0.9, "o")), hit("d.py", *parts(2.0, 0.8, "o")))
    scores = {each.hit.path: each.hit.score for each in _rescaled([embedded, other], kinds={})}
    assert scores["a.py"] > scores["c.py"] > scores["b.py"] == scores["d.py"]


def test_a_watched_folder_keeps_what_archonignore_names(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "secrets").mkdir()
    for name, text in ((".archonignore", "secrets/\n*.env\n"), ("secrets/key.txt", "k"), ("a.env", "k"), ("a.py", "")):
        (tmp_path / name).write_text(text)
    folder = _WatchedFolder(Any, project_id="p", folder=tmp_path, bring=list, console=Console())  # type: ignore[arg-type]
    assert folder._uncommitted({"secrets/key.txt", "a.env", "a.py"}) == {"a.py": True}


def test_whoever_walks_a_tree_says_that_it_is_at_it(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "a.py").write_text("a = 1\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    held: list[int] = []
    walk = tree_walk(git_dir=tmp_path / ".git", revision="HEAD", hold=lambda: held.append(1))
    assert [file.path for file in walk.files] == ["a.py"]
    assert held


def test_of_too_many_ignore_rules_the_strongest_stay() -> None:
    rules = IgnoreRules().with_file("", "\n".join(f"name{number}" for number in range(3_000)))
    assert rules.with_file("", "secret.txt").ignores("secret.txt", is_folder=False)


def test_a_path_too_long_for_an_index_is_told_and_skipped(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path)], check=True)
    blob = (
        subprocess.run([*git, "hash-object", "-w", "--stdin"], input=b"a = 1\n", capture_output=True, check=True)
        .stdout.decode()
        .strip()
    )
    long = "/".join(["é" * 100] * 20)
    listing = f"100644 {blob}\t{long}/a.py\n100644 {blob}\t{long}/b.py\n100644 {blob}\tc.py\n"
    subprocess.run([*git, "update-index", "--index-info"], input=listing.encode(), check=True)
    tree = subprocess.run([*git, "write-tree"], capture_output=True, check=True).stdout.decode().strip()
    files = tree_walk(git_dir=tmp_path, revision=tree).files
    assert len({file.path for file in files}) == 3
    assert [bool(file.skip) for file in files] == [False, True, True]
    assert all(len(file.path.encode()) < 2_000 for file in files)

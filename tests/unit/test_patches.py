"""Patches: what is said is done to the byte, and nothing else is."""

from __future__ import annotations

import difflib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.tools.patch import PatchError, hunks_apply, patch_format, patch_parse
from apps.agents.tools.text import text_decode, text_encode

#: Lines as files have them: of few kinds, so that hunks fit in more than one place, some with the marks of diffs.
WORDS = st.sampled_from(
    ["", "a", "b", "  a", "-- a", "++ b", "@@ -1 +1 @@", "--- a/x", "+++ b/x", "\\ no", "\x0c", "ÿ é"]
)
ENDS = st.sampled_from(["\n", "\n", "\r\n"])
BYTES = st.sampled_from([b"", b"\xff\xfe", b"\xc3"])


@st.composite
def contents(draw: st.DrawFn) -> str:
    lines = draw(st.lists(st.tuples(WORDS, BYTES, ENDS), max_size=12))
    content = b"".join(word.encode() + extra + end.encode() for word, extra, end in lines)
    if draw(st.booleans()):
        content = content.removesuffix(b"\n").removesuffix(b"\r")
    return text_decode(content, "file")


def unified(before: str, after: str, *, context: int = 3) -> str:
    def lines(text: str) -> list[str]:
        parts = text.split("\n")
        return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])

    said = []
    for line in difflib.unified_diff(lines(before), lines(after), "a/file", "b/file", n=context):
        said.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(said)


def applied(before: str, patch: str) -> str:
    (change,) = patch_parse(patch)
    return hunks_apply(before, change.hunks, path=change.path, says_ends=change.says_ends)


@given(contents(), contents())
def test_a_unified_diff_of_two_files_makes_one_into_the_other(before: str, after: str) -> None:
    patch = unified(before, after)
    if patch:
        assert text_encode(applied(before, patch)) == text_encode(after)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_a_diff_that_git_made_makes_one_into_the_other(before: bytes, after: bytes) -> None:
    import tempfile

    if before == after or b"\0" in before + after:
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").write_bytes(before)
        (Path(folder) / "b").write_bytes(after)
        said = subprocess.run(
            ["git", "diff", "--no-index", "--text", "a", "b"], cwd=folder, capture_output=True
        ).stdout.decode("utf-8", "surrogateescape")
    patch = said.replace("+++ b/b", "+++ b/a")
    assert text_encode(applied(before.decode("utf-8", "surrogateescape"), patch)) == after


@given(contents(), contents())
def test_a_v4a_patch_of_two_files_makes_one_into_the_other(before: str, after: str) -> None:
    """The whole file as one hunk; the format cannot speak of the last line's end, which stays as it is."""
    if before == after or not before or not after or before.endswith("\n") != after.endswith("\n"):
        return
    old, new = before.removesuffix("\n").split("\n"), after.removesuffix("\n").split("\n")
    lines: list[str] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            lines += [f" {line}" for line in old[a:b]]
        else:
            lines += [f"-{line}" for line in old[a:b]] + [f"+{line}" for line in new[c:d]]
    if not before.endswith("\n") and (old[-1].endswith("\r") or new[-1].endswith("\r")):
        return
    patch = "\n".join(["*** Begin Patch", "*** Update File: file", "@@", *lines, "*** End of File", "*** End Patch"])
    assert text_encode(applied(before, patch)) == text_encode(after)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.sampled_from(["\n", "\r\n"]), st.data())
def test_v4a_hunks_with_little_context_find_their_places(kinds: list[int], end: str, data: st.DataObject) -> None:
    """Lines that are there once: several hunks in order, in a file with either line end."""
    before = [f"line {number}" for number in range(len(kinds))]
    after: list[str] = []
    for number, kind in enumerate(kinds):
        after += {0: [before[number]], 1: [], 2: [before[number], f"new {number}"]}[kind]
    groups = difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(2)
    lines: list[str] = []
    for group in groups:
        lines.append("@@")
        for tag, a, b, c, d in group:
            if tag == "equal":
                lines += [f" {line}" + data.draw(st.sampled_from(["", " ", "\t"])) for line in before[a:b]]
            else:
                lines += [f"-{line}" for line in before[a:b]] + [f"+{line}" for line in after[c:d]]
    if not lines:
        return
    patch = "\n".join(["*** Begin Patch", "*** Update File: file", *lines, "*** End Patch"])
    text = end.join([*before, ""])
    assert applied(text, patch) == end.join([*after, ""])


@given(contents(), contents(), st.lists(WORDS, max_size=5))
def test_line_numbers_may_be_off_when_there_is_one_place(before: str, after: str, above: list[str]) -> None:
    patch = unified(before, after)
    marked = "".join(f"other {number} {word}\n" for number, word in enumerate(above))
    if not patch or not before:
        return
    try:
        result = applied(marked + before, patch)
    except PatchError as error:
        assert "more than one place" in str(error) or "doesn't fit" in str(error)
    else:
        if patch.count("\n@@ ") == 1:
            # Wherever it went, all that is above it stands as it was.
            assert result.startswith(marked) and len(result) == len(marked) + len(after)


def test_several_files_of_a_git_diff_are_read() -> None:
    changes = patch_parse(
        "From 1234 Mon Sep 17\nSubject: a mail\n\n"
        "diff --git a/old name.py b/new name.py\nsimilarity index 90%\nrename from old name.py\nrename to new name.py\n"
        "--- a/old name.py\t2020-01-01\n+++ b/new name.py\n@@ -1 +1 @@\n-a\n+b\n"
        "diff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"
        'diff --git "a/\\303\\251" "b/\\303\\251"\nnew file mode 100644\n--- /dev/null\n+++ "b/\\303\\251"\n'
        "@@ -0,0 +1 @@\n+a\n"
        "diff --git a/x b/y\nrename from x\nrename to y\n--\n2.39\n"
    )
    assert [(change.kind, change.path, change.move_to) for change in changes] == [
        ("update", "old name.py", "new name.py"),
        ("delete", "gone", ""),
        ("add", "é", ""),
        ("update", "x", "y"),
    ]


def test_a_diff_as_models_write_it_is_taken() -> None:
    """Counts that are wrong, an empty line without its space, a fence around it, a head without numbers."""
    before = "def a():\n    one\n\n    two\n\ndef b():\n    three\n"
    patch = (
        "```diff\n--- a/f.py\n+++ b/f.py\n@@ -1,99 +1,2 @@\n def a():\n-    one\n+    uno\n\n     two\n"
        "@@ def b(): @@\n-    three\n+    tres\n```\n"
    )
    assert applied(before, patch) == "def a():\n    uno\n\n    two\n\ndef b():\n    tres\n"


V4A = """*** Begin Patch
*** Update File: src/app.py
*** Move to: src/main.py
@@ class App
@@ def run(self):
-        return 1
+        return 2
*** Add File: docs/new.md
+# New
+
+text
*** Delete File: old.txt
*** End Patch
"""


def test_a_v4a_patch_of_several_files_is_read() -> None:
    update, added, deleted = patch_parse(f"apply_patch <<'EOF'\n{V4A}EOF\n")
    assert (update.kind, update.path, update.move_to) == ("update", "src/app.py", "src/main.py")
    before = (
        "class Other:\n    def run(self):\n        return 1\n\nclass App:\n    x = 1\n\n"
        "    def run(self):\n        return 1\n"
    )
    assert hunks_apply(before, update.hunks, path="x") == before[: before.rindex("1")] + "2\n"
    assert hunks_apply("", added.hunks, path="x") == "# New\n\ntext\n"
    assert (deleted.kind, deleted.path) == ("delete", "old.txt")
    assert patch_format(V4A) == "v4a" and patch_format("--- a\n+++ b\n") == "unified"


def test_lines_alone_go_to_the_end_or_below_their_anchor() -> None:
    head, tail = "*** Begin Patch\n*** Update File: f\n", "*** End Patch"
    assert applied("a\nb", f"{head}@@\n+c\n{tail}") == "a\nb\nc"
    assert applied("a\nb\n", f"{head}@@ a\n+c\n{tail}") == "a\nc\nb\n"


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("", "empty"),
        ("hello", "changes no file"),
        ("@@ -1 +1 @@\n-a\n+b\n", "before the name"),
        ("--- a/f\n+++ b/f\n", "changes nothing"),
        ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-c\n+d\n", "twice"),
        ("diff --git a/f b/f\nGIT binary patch\nliteral 1\n", "binary"),
        ("diff --git a/f b/g\ncopy from f\ncopy to g\n", "copies"),
        ("*** Begin Patch\n*** Update File: f\n@@\n-a\n+b\n", "cut off"),
        ("*** Update File: f\n@@\n-a\n+b\n*** End Patch", "no line `\\*\\*\\* Begin Patch`"),
        ("*** Begin Patch\n*** Update File: f\n@@\na\n*** End Patch", "this one in the section of f doesn't"),
        ("*** Begin Patch\n*** Add File: f\nhello\n*** End Patch", "begins with `\\+`"),
        ("*** Begin Patch\n*** Rename File: f\n*** End Patch", "begins with none of"),
        ("*** Begin Patch\n*** Update File: f\n@@ x\n*** End Patch", "nothing follows"),
        ("*** Begin Patch\n*** Delete File: f\n-a\n*** End Patch", "lines in it"),
        ("*** Begin Patch\n*** Delete File:\n*** End Patch", "needs a path"),
    ],
)
def test_what_cannot_be_read_is_refused(patch: str, message: str) -> None:
    with pytest.raises(PatchError, match=message):
        patch_parse(patch)


@pytest.mark.parametrize(
    ("before", "hunk", "message"),
    [
        ("a\nb\na\n", "-a\n+c", r"more than one place \(lines 1, 3\)"),
        ("def total(items):\n    return 1\n", "-def totals(item):\n+x", r"closest place:(?s:.*)     1\tdef total"),
        ("if a:\n\treturn b\n", "-    return b\n+    return c", "indentation from lines 2 to 2"),
        ("a\n", "@@ nowhere\n-a\n+b", "`@@ nowhere` names no line"),
        ("a\nb\nc\n", "-c\n+d\n@@\n-a\n+b", "hunks go in the file's order"),
    ],
)
def test_what_does_not_fit_is_told_with_the_closest_place(before: str, hunk: str, message: str) -> None:
    with pytest.raises(PatchError, match=message):
        applied(before, f"*** Begin Patch\n*** Update File: f\n@@\n{hunk}\n*** End Patch")


def test_a_place_that_a_line_number_names_is_taken_among_several() -> None:
    patch = "--- a/f\n+++ b/f\n@@ -3 +3 @@\n-a\n+c\n"
    assert applied("a\nb\na\n", patch) == "a\nb\nc\n"

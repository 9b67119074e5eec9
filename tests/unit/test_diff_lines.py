"""Which lines a change touched: those that came, and where some went the lines around the place."""

from __future__ import annotations

import uuid

from apps.agents.services.reviews import Finding, ReviewScope, findings_merge, findings_open, findings_place
from apps.agents.types import Severity
from apps.projects.diff_lines import ChangedFile, diff_numbered, lines_changed
from apps.projects.repository_diff import Diff, FileChange

DIFF = r"""diff --git a/calc.py b/calc.py
index 1..2 100644
--- a/calc.py
+++ b/calc.py
@@ -1,7 +1,7 @@
 one
-two
+zwei
 three
-four
 five
 six
+sechs
 seven
@@ -20,3 +20,2 @@ def last():
 x
 y
-z
\ No newline at end of file
diff --git "a/sp\303\244t.py" "b/sp\303\244t.py"
new file mode 100644
--- /dev/null
+++ "b/sp\303\244t.py"
@@ -0,0 +1,2 @@
+--- a/no.py
++++ b/no.py
diff --git a/gone.py b/gone.py
deleted file mode 100644
--- a/gone.py
+++ /dev/null
@@ -1 +0,0 @@
-gone
diff --git a/old.bin b/new.bin
similarity index 100%
rename from old.bin
rename to new.bin
"""
FILES = (
    FileChange("calc.py", "modified", 2, 3),
    FileChange("spät.py", "added", 2, 0),
    FileChange("gone.py", "deleted", 0, 1),
    FileChange("new.bin", "renamed", None, None, "old.bin"),
)


def test_lines_are_those_of_the_new_side() -> None:
    calc, late, gone, moved = lines_changed(Diff(DIFF, FILES, False))
    # `four` went from between `three` (3) and `five` (4); `z` from after `y` (21).
    assert calc == ChangedFile("calc.py", ((2, 4), (6, 6), (21, 21)))
    assert late == ChangedFile("spät.py", ((1, 2),))
    assert gone.whole and moved.whole and gone.has(7)
    shown = diff_numbered(Diff(DIFF, FILES, False), limit=10_000)
    assert "     2 +zwei\n     3  three\n       -four\n     4  five" in shown
    assert "spät.py (added, +2 -0)" in shown and "     1 +--- a/no.py" in shown
    assert "new.bin (renamed from old.bin, not text)" in shown


def test_what_is_too_long_is_said_to_be_left_out() -> None:
    shown = diff_numbered(Diff(DIFF, FILES, False), limit=60)
    assert len(shown) < 400 and "[the rest of the diff is left out, of calc.py, " in shown
    cut = Diff(DIFF[: DIFF.index("diff --git a/gone")], FILES, True)
    assert [file.whole for file in lines_changed(cut)] == [False, False, True, True]


def test_findings_are_on_the_change_and_earlier_ones_are_spoken_of() -> None:
    former = Finding("1.1", "calc.py", 2, Severity.MAJOR, "wrong")
    scope = ReviewScope(uuid.uuid4(), 2, 3, "c" * 40, lines_changed(Diff(DIFF, FILES, False)), (former,))
    assert ReviewScope.read(scope.as_dict()) == scope
    given = [
        ("./calc.py", 6, Severity.MINOR, "on it"),
        ("calc.py", 5, Severity.MAJOR, "beside it"),
        ("gone.py", 3, Severity.INFO, "of a file that is gone"),
        ("other.py", 1, Severity.CRITICAL, "elsewhere"),
    ]
    found = findings_place(scope, given, resolved=["1.1", "9.9"], unresolved=[])
    assert [(each.id, each.path, each.line) for each in found.findings] == [
        ("2.1", "calc.py", 6),
        ("2.2", "gone.py", 0),
    ]
    assert found.beside == 2 and found.resolved == ("1.1",)
    assert "line 5 of calc.py is not changed; changed lines are 2-4, 6, 21" in found.problems
    assert any("no earlier finding 9.9" in problem for problem in found.problems)
    assert "1.1 in `resolved` or `unresolved`" in findings_place(scope, [], resolved=[], unresolved=[]).problems[0]
    merged = findings_merge([former], found.findings, found.resolved)
    assert [each.id for each in findings_open(merged)] == ["2.1", "2.2"]
    assert findings_open(merged, Severity.MAJOR) == []

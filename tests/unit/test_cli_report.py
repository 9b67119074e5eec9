"""A report on a terminal: everything of it is to be read, and nothing of it is HTML."""

from __future__ import annotations

import io

from rich.console import Console

from cli.report_view import report_print, report_unfolded

REPORT = """# Mend parsing

- [x] **T1** Mend @&#8203;it (`abc`)

<details><summary>T1 &lt;b&gt; *it*: done</summary>

````text
<details><summary>printed</summary>
```
</details>
````

</details>

| check | after |
|---|---|
| `a` | passed |

<!-- archon:report x -->"""


def test_what_is_folded_is_unfolded_and_code_stays_as_it_is() -> None:
    text = report_unfolded(REPORT)
    assert "**T1 \\<b\\> \\*it\\*\\: done**" in text and text.count("</details>") == 1
    assert "<details><summary>printed</summary>\n```" in text and "archon:report" not in text


def test_printed() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=False, color_system=None)
    with console.capture() as captured:
        report_print(REPORT + "\x1b[2J", console=console)
    shown = captured.get()
    for part in ("Mend parsing", "T1 Mend @it (abc)", "T1 <b> *it*: done", "<details><summary>printed", "passed"):
        assert part in shown, (part, shown)
    assert "\x1b[2J" not in shown

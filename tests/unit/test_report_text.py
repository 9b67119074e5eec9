"""A report says all there is in Markdown that nothing in it can break, and fits where it goes."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from apps.agents.services import markdown_safe as safe
from apps.agents.services.report_text import report_brief, report_markdown, report_title
from apps.agents.services.report_types import (
    CheckFact,
    DroppedFact,
    FeatureFact,
    FindingFact,
    ModelFact,
    ProjectCheckFact,
    ReportFacts,
    SpendingFact,
    TaskFact,
    VersionFact,
)

#: As forges read it.
MARKDOWN = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
NASTY = (
    "@alice #12 !7 GH-3 a/b#4 <script>alert(1)</script> | `un` ``` ~~~ </details> [x](http://e.vil) ![i](u) "
    "**b** <!-- c --> $1$ &amp; \\ \x1b[31mred\x1b[0m \u202eevil http://e.vil/issues/1 user@host _x_ *y*"
)


def task(key: str = "T1", **changes: Any) -> TaskFact:
    made = TaskFact(
        key=key, title=f"Do {key}", type="code", status="done", attempts=1, commit="c" * 40, result="Done.",
        files=("a.py",), checks=(), findings=(), reason="",
    )  # fmt: skip
    return replace(made, **changes)


def facts(*tasks: TaskFact, **changes: Any) -> ReportFacts:
    model = ModelFact("openai:gpt-4o", 3, 1, 10_000, 500, 7_500, 0.75, 0.0421, True, False)
    made = ReportFacts(
        session_id="6f1d9f0e-0000", goal="Mend the parser", agent_type="executor", status="completed", final=True,
        outcome="verified", reasons=(), summary="Mend parsing", answer="", plan_version=1, approved_version=None,
        versions=(VersionFact(1, "planner", "", 0, 0, 0),),
        features=(FeatureFact("F1", "Parsing", 0, "done", tasks or (task(),)),), dropped=(), checks=(),
        changed_tests=(), changed_check_config=(), files=("a.py",), base_branch="main", base_commit="b" * 40,
        branch="archon/6f1d9f0e", head_commit="c" * 40, merged_commit="", published_branch="",
        spending=SpendingFact((model,), 3, 10_000, 500, 0.75, 0.0421, True, 201),
    )  # fmt: skip
    return replace(made, **changes)


FULL = facts(
    task(
        attempts=2,
        checks=(CheckFact("lint", "make lint", False, 2, "line one\nE501 too long"), CheckFact("t", "t", True, 0, "")),
        findings=(
            FindingFact("a.py", 3, "major", "Off by one", True),
            FindingFact("b.py", None, "minor", "Name it", False),
        ),
    ),
    task("T2", status="failed", commit="", files=(), reason="check failed"),
    task("T3", status="blocked", commit="", files=(), result="", reason="T2, which it needs, failed"),
    task("T4", status="skipped", commit="", files=(), result="", reason="not wanted"),
    outcome="failing",
    reasons=("task T2 was not done: Do T2",),
    plan_version=2,
    approved_version=1,
    versions=(VersionFact(1, "planner", "", 0, 0, 0), VersionFact(2, "replan", "T5 can't work | so", 1, 1, 2)),
    dropped=(DroppedFact("T5", "Old way", 2, "T5 can't work"),),
    checks=(
        ProjectCheckFact(
            "pytest", "pytest", "passed", "failed", 10, 11, 1, "FAILED test_x\n```\n</details>\n# no heading",
            ("tests/a.py::f",), ("tests/a.py::n",), (), (), ("tests/a.py::k",),
        ),
    ),
    changed_tests=("tests/test_a.py",),
)  # fmt: skip


def test_says_what_was_done_and_what_not() -> None:
    text = report_markdown(FULL)
    for part in (
        "# Mend parsing",
        "Outcome: **failing**",
        "- task T2 was not done: Do T2",
        "- [x] **T1** Do T1 (`cccccccccc`)",
        "- [ ] **T2** Do T2: failed",
        "<details><summary>T1 Do T1: done, 2 attempts, 1 file, 1 of 2 checks failing, 2 findings, 1 open</summary>",
        "Check `lint`: failed (exit code 2)",
        "E501 too long",
        "- major, resolved, `a.py:3`: Off by one",
        "- minor, **open**, `b.py`: Name it",
        "- **T2** Do T2: failed, check failed",
        "- **T3** Do T3: blocked, T2, which it needs, failed",
        "- **T4** Do T4: skipped, not wanted",
        "- **T5** Old way: left out by version 2, T5 can't work",
        "| `pytest` | passed | failed | 10 | 11 |",
        "- newly failing (1): `tests/a.py::n`",
        "- fixed (1): `tests/a.py::f`",
        "- flaky (1): `tests/a.py::k`",
        "Changed tests (1): `tests/test_a.py`",
        "Version 2, version 1 approved by a person.",
        "| 2 | replan | 1 added, 1 removed, 2 changed | T5 can't work \\| so |",
        "3 steps, 10,500 tokens (75% of the input cached), 0.0421 USD, 3 min 21 s.",
        "| `openai:gpt-4o` | 3 (1 failed) | 10,000 | 75% | 500 | 0.0421 USD |",
        "archon fetch 6f1d9f0e-0000",
    ):
        assert part in text, part
    assert text == report_markdown(FULL)
    brief = report_brief(FULL)
    assert "- [ ] Do T2: failed, check failed" in brief and "open finding, b.py: Name it" in brief
    assert "Models: `openai:gpt-4o` (3 calls, 1 failed, 10,500 tokens, 75% of the input cached, $0.0421)" in brief


def test_before_the_end_and_without_a_plan() -> None:
    early = facts(task(status="running", commit=""), outcome=None, status="running", final=False, head_commit="")
    text = report_markdown(replace(early, spending=replace(early.spending, seconds=None)))
    assert "this is what there is so far" in text and "- [ ] **T1** Do T1: under way" in text
    assert "## Try it" not in text and " min " not in text and "## What was not done" not in text
    bare = replace(
        early, features=(), summary="", plan_version=None, versions=(), goal="# Why?\nTell me", answer="By tabs"
    )
    assert report_markdown(bare).startswith("# Why?") and "By tabs" in report_markdown(bare)
    assert report_brief(bare).startswith("By tabs") and report_title(bare) == "Why?"
    assert report_title(replace(bare, goal=" \n\x07 ")) == "Changes by Archon"


def nasty_facts(words: str) -> ReportFacts:
    """The words wherever others have a say."""
    one = task(
        title=words, result=f"{words}\n- {words}\n# {words}\n```\n{words}", files=(words,), reason=words,
        checks=(CheckFact(words, words, False, 1, words),), findings=(FindingFact(words, 1, words, words, False),),
    )  # fmt: skip
    check = replace(FULL.checks[0], name=words, output=words, newly_failing=(words,))
    return replace(
        FULL,
        goal=words,
        summary=f"{words}\n{words}",
        reasons=(words,),
        features=(FeatureFact("F1", words, 0, "failed", (one, replace(one, status="failed"))),),
        versions=(FULL.versions[0], VersionFact(2, "replan", words, 0, 0, 0)),
        dropped=(DroppedFact("T5", words, 2, words),),
        checks=(check,),
        changed_tests=(words,),
    )


def structure(text: str) -> list[str]:
    """What the page is made of, apart from words."""
    kept = ("heading_open", "table_open", "tr_open", "td_open", "th_open", "fence", "html_block", "hr", "code_block")
    return [token.type for token in MARKDOWN.parse(text) if token.type in kept]


def calm_facts(words: str) -> ReportFacts:
    return nasty_facts("calm" if words.strip() else "")


def rendered(text: str) -> str:
    """What a forge looks for names and numbers in: the page's text, code left out."""
    page = re.sub(r"<(code|pre)[^>]*>.*?</\1>", "", MARKDOWN.render(text), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", "", page))


@pytest.mark.parametrize(
    "words", [NASTY, NASTY.replace(" ", "\n"), "a\n---\nb", "| a | b |\n|---|---|", "~~~\n@x", "1. @x"]
)
def test_nothing_in_it_breaks_it_or_calls_anybody(words: str) -> None:
    text = report_markdown(nasty_facts(words))
    page = MARKDOWN.render(text)
    assert page.count("<details>") == page.count("</details>") == 3
    assert "<script" not in page and "<a " not in page and "<img" not in page and "<del>" not in page
    assert not re.search(r"[@#]\w|[!$]\d|GH-\d", rendered(text)), rendered(text)
    assert "\x1b" not in text and "\u202e" not in text
    if "```" not in words and "~~~" not in words:
        assert structure(text) == structure(report_markdown(calm_facts(words)))


@given(st.text(st.sampled_from("`~<>|*_[]()#!@-=+.1\\&$ \nab:/"), max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_words_stay_within_their_place(words: str) -> None:
    for render in (safe.inline, safe.code, safe.html_text):
        assert "\n" not in render(words)
    page = MARKDOWN.render(f"| a | b |\n|---|---|\n| {safe.inline(words, cell=True)} | {safe.code(words, cell=True)} |")
    assert page.count("<td>") == 2
    inline = MARKDOWN.render(f"- x {safe.inline(words)}\n\nend")
    assert inline.count("<li>") == 1 and inline.count("<p>end</p>") == 1 and "<a" not in inline and "<h" not in inline
    alone = MARKDOWN.parse(f"{safe.inline(words)}\n\nend")
    assert {token.type for token in alone} <= {"paragraph_open", "inline", "paragraph_close"}
    block = MARKDOWN.render(f"{safe.block(words)}\n\n<details>\n\nend\n\n</details>")
    assert block.rstrip().endswith("<details>\n<p>end</p>\n</details>") and "<table" not in block and "<h1" not in block
    fence = MARKDOWN.parse(f"{safe.fenced(words)}\n\nend")
    assert [token.type for token in fence] == ["fence", "paragraph_open", "inline", "paragraph_close"]


#: What GitLab takes for no part of a description's commands, and what it takes for one: after its extractor.
_GITLAB_CODE = re.compile(r"^```.+?\n```$|`.+?`", re.DOTALL | re.MULTILINE)
_GITLAB_COMMAND = re.compile(r"^/(?:assign|close|label|merge)\b.*$", re.MULTILINE)
_GITLAB_CLOSES = re.compile(
    r"\b(?:clos(?:e[sd]?|ing)|fix(?:e[sd]|ing)?|resolv(?:e[sd]?|ing)|implement(?:s|ed|ing)?):? +"
    r"(?:issues? +)?(?:[\w/.-]*#\d+|https?://\S+|[A-Z][A-Z0-9_]+-\d+)",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    "words",
    [
        *(
            "/assign @root",
            "fine\n/close",
            "```\n/merge\n```",
            "a\n```\nb\n/label ~bug",
            "a ` b\n/close",
            "\\`\n/close",
        ),
        *("Closes #12", "fixes: issue team/app#3 and #4", "`Resolves  #5`", "```\nclosed #6\n```", "Fixes SHOP-17"),
        "Implements https://forge.example/team/app/-/issues/7",
    ],
)
def test_nothing_in_it_is_a_command_or_closes_an_issue_for_whoever_reads_the_source(words: str) -> None:
    for text in (report_markdown(nasty_facts(words)), safe.block(words), safe.fenced(words), safe.inline(words)):
        assert not _GITLAB_COMMAND.search(text), "whatever is code to GitLab and what not"
        assert not _GITLAB_COMMAND.search(_GITLAB_CODE.sub("", text))
        assert not _GITLAB_CLOSES.search(text), text


def test_fits_where_it_goes() -> None:
    long = "A long word of what was done. " * 400
    many = tuple(
        task(f"T{n}", title=f"Task {n} {'x' * 250}", result=long, files=tuple(f"f{i}.py" for i in range(300)))
        for n in range(200)
    )
    large = replace(facts(*many), goal=long, checks=(replace(FULL.checks[0], output="line\n" * 5000),))
    for limit in (60_000, 20_000, 2_000):
        text = report_markdown(large, limit=limit)
        assert len(text) <= limit and "Outcome: **verified**" in text
        assert text.count("<details>") == text.count("</details>") and text.count("\n```") % 2 == 0
    assert len(report_markdown(facts())) < 2_000


def test_the_end_of_an_output_counts() -> None:
    told = safe.tail("\n".join(f"line {n}" for n in range(1000)), 100)
    assert told.startswith("… ") and told.endswith("line 999") and len(told) < 160
    assert safe.tail("\x1b[1mshort\x1b[0m\r\n", 100) == "short"

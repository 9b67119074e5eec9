"""A plan at a terminal: the tree, the picture of what waits for what, and plain lines for programs."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Iterable
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from cli.plan_picture import arrows_of, layers_of, picture_lines
from cli.plan_resources import PlanFeature, PlanProgress, PlanTask
from cli.plan_shown import plan_print


def task(key: str, needs: str = "", *, status: str = "pending", **more: Any) -> PlanTask:
    title = more.pop("title", f"Do {key}")
    return PlanTask(id=key, key=key, title=title, needs=needs.split(), status=status, **more)


TASKS = [
    task("T1", status="done", commit="c0ffee" * 6),
    task("T2", "T1", status="running", attempts=2, files=["a.py"], creates=["b.py"], checks=["pytest -q"]),
    task("T3", status="skipped", type="docs"),
    task("T4", "T1"),
    task("T5", "T1 T2 T4"),
    task("T6", "T1 T3 T5", status="blocked", blocked_reason="T5, which it needs, failed"),
]
PLAN = PlanProgress(
    id="12345678-0000-0000-0000-000000000000",
    summary="Mend it all",
    status="waiting",
    intent="small_edit",
    version=3,
    estimate={"steps": 40, "tokens": {"low": 90_000, "high": 120_000}, "cost_usd": 0.42, "basis": "a guess"},
    done=1,
    total=5,
    features=[
        PlanFeature(id="F1", key="F1", title="Parse", status="running", tasks=TASKS[:2]),
        PlanFeature(id="F2", key="F2", title="Within", depth=1, tasks=TASKS[2:4], blocked_reason="not yet"),
        PlanFeature(id="F3", key="F3", title="Last", tasks=TASKS[4:]),
    ],
)


def printed(plan: PlanProgress, *, terminal: bool, width: int = 70) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=width, color_system=None, highlight=False)
    plan_print(plan, console=console)
    return stream.getvalue()


def drawn(tasks: Iterable[PlanTask], *, width: int, plain: bool = False) -> list[str]:
    return [line.plain for line in picture_lines(list(tasks), width=width, plain=plain)]


def test_a_program_reads_plain_lines() -> None:
    lines = printed(PLAN, terminal=False).splitlines()
    assert lines == [
        "Mend it all",
        "plan 12345678, version 3, waiting, 1 of 5 done, small edit, likely 40 steps, 90,000 to 120,000 tokens, $0.42",
        "It waits for approval, in version 3.",
        "",
        "> F1 Parse (running)",
        "  + T1 Do T1 c0ffeec0ff (done)",
        "  > T2 Do T2 (attempt 2) (running)",
        "    needs T1",
        "    files a.py, b.py (new)",
        "    check pytest -q",
        "  - F2 Within (pending)",
        "      held: not yet",
        "    / T3 Do T3 [docs] (skipped)",
        "    - T4 Do T4 (pending)",
        "      needs T1",
        "- F3 Last (pending)",
        "  - T5 Do T5 (pending)",
        "    needs T1, T2, T4",
        "  ! T6 Do T6 (blocked)",
        "    blocked: T5, which it needs, failed",
        "    needs T1, T3, T5",
    ]


@pytest.mark.parametrize("width", [24, 40, 200])
def test_a_line_of_the_plan_stays_within_the_terminal(width: int) -> None:
    long = PLAN.model_copy(update={"features": [PLAN.features[0].model_copy(update={"title": "long " * 80})]})
    tree = printed(long, terminal=True, width=width).splitlines()[4:]
    assert all(Text(line).cell_len <= max(width, 30) for line in tree)


def test_nothing_of_a_plan_commands_the_terminal() -> None:
    evil = "\x1b]0;gone\x07\x9b2J\u202eevil"
    shown = PLAN.model_copy(
        update={
            "summary": evil,
            "features": [PlanFeature(id="f", key="F1", title=evil, tasks=[task("T1", title=evil)])],
        }
    )
    for text in (
        printed(shown, terminal=False),
        printed(shown, terminal=True),
        "\n".join(drawn(shown.tasks, width=80)),
        "\n".join(drawn(shown.tasks, width=0, plain=True)),
    ):
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)


def test_tasks_stand_below_what_they_need() -> None:
    assert [[task.key for task in layer] for layer in layers_of(TASKS)] == [["T1", "T3"], ["T2", "T4"], ["T5"], ["T6"]]
    # T1 → T5 and T1 → T6 follow from others.
    assert arrows_of(TASKS) == [("T1", "T2"), ("T1", "T4"), ("T2", "T5"), ("T4", "T5"), ("T3", "T6"), ("T5", "T6")]


def test_the_picture_leads_each_arrow_to_its_task() -> None:
    lines = drawn(TASKS, width=100)
    assert [line.count("▼") for line in lines if "▼" in line] == [2, 1, 1]
    for key in ("T1", "T2", "T3", "T4", "T5", "T6"):
        assert sum(f" {key} ─" in line for line in lines) == 1
    # An arrow ends right above a box.
    for above, below in itertools.pairwise(lines):
        for column, character in enumerate(above):
            if character == "▼":
                assert below[:column].rfind("╭") > below[:column].rfind("╮"), (above, below)


@pytest.mark.parametrize("width", [30, 60, 120])
def test_any_plan_is_drawn_within_the_width(width: int) -> None:
    for _ in range(30):
        count = random.randrange(1, 14)
        tasks = [
            task(f"T{at}", " ".join(f"T{needed}" for needed in range(1, at) if random.random() < 0.3))
            for at in range(1, count + 1)
        ]
        lines = drawn(tasks, width=width)
        assert all(len(line) <= width for line in lines), "\n".join(lines)
        assert all(any(f"{each.key} " in line for line in lines) for each in tasks)


def test_what_cannot_be_drawn_is_listed() -> None:
    assert drawn(TASKS, width=0, plain=True) == [
        "1. at once",
        "   + T1 Do T1 (done)",
        "   / T3 Do T3 (skipped)",
        "2.",
        "   > T2 Do T2 (running) <- T1",
        "   - T4 Do T4 (pending) <- T1",
        "3.",
        "   - T5 Do T5 (pending) <- T1, T2, T4",
        "4.",
        "   ! T6 Do T6 (blocked) <- T1, T3, T5",
    ]
    assert drawn(TASKS, width=25)[0] == "1. at once"


@pytest.mark.parametrize("width", [30, 60, 100])
def test_characters_of_two_columns_leave_no_box_open(width: int) -> None:
    tasks = [
        task("T1", title="日本語の長い題名がここに続きますよ" * 2),
        task("T2", "T1", title="短い"),
        task("T3", "T1", title="a 😀 b"),
    ]
    lines = drawn(tasks, width=width)
    assert all(Text(line).cell_len <= width for line in lines), "\n".join(lines)
    for top, title in itertools.pairwise(lines):
        if "╭─ " in top:
            ends = {side: [Text(line[: line.index(side)]).cell_len for line in (top,)] for side in "╮"}
            assert Text(title[: title.index(" │", 2)]).cell_len + 1 == ends["╮"][0], f"{top}\n{title}"
    plan = PLAN.model_copy(update={"features": [PLAN.features[0].model_copy(update={"tasks": tasks})]})
    assert all(Text(line).cell_len <= width for line in printed(plan, terminal=True, width=width).splitlines()[3:])


def test_a_long_title_does_not_hide_what_a_task_waits_for() -> None:
    tasks = [task(f"T{at}", title="a long title " * 20) for at in range(1, 9)] + [
        task("T9", "T1 T2", title="long " * 50)
    ]
    line = drawn(tasks, width=60)[-1]
    assert line.endswith("… (pending) <- T1, T2") and len(line) <= 60

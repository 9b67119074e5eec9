"""Plans as Markdown: what is written is read back, and what people write is read as they mean it."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import example, given, settings

from apps.core.errors import InvalidInput
from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.markdown import plan_from_markdown, plan_to_markdown
from apps.planning.types import Priority, TaskAgent, TaskStatus, TaskType
from tests.unit.plan_documents import documents

PLAN_ID = uuid.UUID("6f1c9a52-8a55-4a35-9a0b-1f1d2a1f7a60")
INSTRUCTIONS = "# Not a heading\n\n- [ ] not a task\n\n```python\nx = `1`\n\n\ndef f(): ...\n```\n> quoted"
PLAN = PlanDoc(
    summary="Totals are exact",
    features=(
        FeatureDoc(
            key="F1",
            title="Money: *all* of <it> #",
            description="Amounts are decimals.\n\nEverywhere.",
            priority=Priority.HIGH,
            tasks=(
                TaskDoc(
                    key="T1",
                    title="Sum with `decimals`",
                    instructions=INSTRUCTIONS,
                    files=("src/a.py", "with `tick`.py", 'with "quote".py', "with, comma"),
                    creates=("src/ money.py",),
                    checks=(CheckDoc(command="pytest -q `x`", name="sums — all"), CheckDoc(command="a\nb")),
                ),
                TaskDoc(key="T2", title="Round", depends_on=("T1",), type=TaskType.REFACTOR, skipped=True),
            ),
            features=(
                FeatureDoc(
                    key="F2",
                    title="Taxes",
                    depends_on=("nothing",),
                    description="# like a heading\n- [ ] like a task",
                    blocked_reason="until the rates are known",
                    tasks=(TaskDoc(key="T3", title="Look", type=TaskType.RESEARCH, agent_type=TaskAgent.RESEARCHER),),
                ),
            ),
        ),
    ),
)


@settings(max_examples=250, deadline=None)
@given(documents())
@example(PLAN)
def test_what_is_written_is_read_back(plan: PlanDoc) -> None:
    statuses = dict(zip(plan.tasks, [*TaskStatus] * 50, strict=False))
    for text in (plan_to_markdown(plan, plan_id=PLAN_ID, version=3), plan_to_markdown(plan, statuses=statuses)):
        assert plan_from_markdown(text).document == plan, text
    # Also where it went through an editor that ends lines otherwise.
    assert plan_from_markdown(text.replace("\n", "\r\n")).document == plan


def test_what_is_written_can_be_read_by_people() -> None:
    text = plan_to_markdown(
        PLAN, statuses={"T1": TaskStatus.DONE, "T3": TaskStatus.BLOCKED}, plan_id=PLAN_ID, version=3
    )
    assert text == (
        "<!-- archon-plan: 6f1c9a52-8a55-4a35-9a0b-1f1d2a1f7a60 version 3 -->\n"
        "\n"
        "# Totals are exact\n"
        "\n"
        "## F1 · Money: *all* of \\<it> \\#\n"
        "\n"
        "- priority: high\n"
        "\n"
        "Amounts are decimals.\n"
        "\n"
        "Everywhere.\n"
        "\n"
        "- [x] T1 · Sum with `decimals`\n"
        '  - files: `src/a.py`, `` with `tick`.py ``, `with "quote".py`, `with, comma`\n'
        "  - creates: `src/ money.py`\n"
        '  - check: "pytest -q `x`" — sums — all\n'
        '  - check: "a\\nb"\n'
        "  - status: done\n"
        "\n"
        "  # Not a heading\n"
        "\n"
        "  - [ ] not a task\n"
        "\n"
        "  ```python\n"
        "  x = `1`\n"
        "\n"
        "\n"
        "  def f(): ...\n"
        "  ```\n"
        "  > quoted\n"
        "\n"
        "- [x] T2 · Round\n"
        "  - type: refactor\n"
        "  - needs: T1\n"
        "  - status: skipped\n"
        "\n"
        "### F2 · Taxes\n"
        "\n"
        '- needs: "nothing"\n'
        "- held: until the rates are known\n"
        "\n"
        "> # like a heading\n"
        "> - [ ] like a task\n"
        "\n"
        "- [ ] T3 · Look\n"
        "  - type: research\n"
        "  - agent: researcher\n"
        "  - status: blocked\n"
    )
    read = plan_from_markdown(text)
    assert (read.document, read.plan_id, read.version) == (PLAN, PLAN_ID, 3)


def _outline(text: str) -> list[tuple[str, ...]]:
    """Features with those that they are in, then tasks with what they need."""
    plan = plan_from_markdown(text).document
    features = [(*(f.key for f in each.within), each.feature.key, each.feature.title) for each in plan.placed_features]
    return [*features, *((t.feature.key, t.task.key, t.task.title, *t.task.depends_on) for t in plan.placed_tasks)]


HAND_WRITTEN = """# Add a login

People should be able to sign in.

## Backend
Some words about it:

- not a task

1. [ ] Add the model
2. [ ] Add the view
   in `views.py`

   ```python
   # - [ ] not a task
   ```
* [X] Choose a library

### Tests
- [ ] Write tests
    - files: tests/test_login.py, `tests/test_view.py`
    - Check: pytest -q
    - depends on: nothing
    - all of them

    And run them.

Frontend
--------

## T7: Front end ##
- [ ] F: the page
- [ ] T2: The form
"""


def test_what_people_write_is_read_as_they_mean_it() -> None:
    plan = plan_from_markdown(HAND_WRITTEN).document
    assert plan.summary == "Add a login\n\nPeople should be able to sign in."
    assert _outline(HAND_WRITTEN) == [
        ("F1", "Backend"),
        ("F1", "F2", "Tests"),
        ("T7", "Front end"),
        ("F1", "T1", "Add the model"),
        ("F1", "T3", "Add the view", "T1"),
        ("F1", "T4", "Choose a library", "T3"),
        ("F2", "T5", "Write tests"),
        ("T7", "T6", "F: the page", "T5"),
        ("T7", "T2", "The form"),
    ]
    assert plan.features_by_key["F1"].description == "Some words about it:\n\n- not a task"
    assert plan.tasks["T3"].instructions == "in `views.py`\n\n```python\n# - [ ] not a task\n```"
    assert plan.tasks["T4"].skipped and not plan.tasks["T3"].skipped
    tests = plan.tasks["T5"]
    assert tests.files == ("tests/test_login.py", "tests/test_view.py") and tests.checks[0].command == "pytest -q"
    assert tests.instructions == "- all of them\n\nAnd run them."


def test_the_least_is_a_list() -> None:
    assert _outline("- Write a\n- Write b\n") == [
        ("F1", "Tasks"),
        ("F1", "T1", "Write a"),
        ("F1", "T2", "Write b", "T1"),
    ]
    assert _outline("# Plan\n\n1. One\n2) Two") == [("F1", "Plan"), ("F1", "T1", "One"), ("F1", "T2", "Two", "T1")]
    assert _outline("# A\n- [ ] x\n# B\n- [ ] y") == [
        ("F1", "A"),
        ("F2", "B"),
        ("F1", "T1", "x"),
        ("F2", "T2", "y", "T1"),
    ]
    assert _outline("") == _outline("Words alone.") == []


def test_a_plan_that_is_edited_is_read_with_the_edits() -> None:
    text = plan_to_markdown(PLAN).replace(
        "- [x] T2 · Round\n", "- [ ] Test it\n  - needs: T1\n\n- [x] T2 · Round down\n"
    )
    plan = plan_from_markdown(text).document
    assert [(each.key, each.title) for each in plan.features[0].tasks] == [
        ("T1", "Sum with `decimals`"),
        ("T4", "Test it"),
        ("T2", "Round down"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# P\n\n## A\n- [ ] x\n  - type: cod\n", "line 5: type: there is no 'cod'"),
        ("## A\n- [ ] x\n  - files: `a\n", "line 3: files: `a doesn't end"),
        ("## A\n- [ ] x\n  - files: `a` `b`\n", "line 3: files: a comma is missing"),
        ("## A\n- [ ] x\n  - check:\n", "line 3: check: a command is missing"),
        ("## A\n- [ ] x\n  - status: finished\n", "line 3: status: there is no 'finished'"),
        ("## A\n\n- [ ] x\n  - needs: a b\n", "line 4: needs: 'a b' is no key"),
        ("# P\n- intent: fun\n", "line 2: intent: there is no 'fun'"),
        ("# P\n## \n", "line 2: a title is missing"),
        ("# P\n\n- [ ]\n", "line 3: a title is missing"),
        ("## A\n- level: deep\n", "line 2: level has to be a number"),
        ("- [ ] " + "x" * 301, "line 1: title: "),
        ("# P\n## A\n" + "x" * 50_001, "line 2: description: "),
        (f"<!-- archon-plan: {'-' * 36} version 1 -->", "line 1: the plan's id is none"),
    ],
)
def test_errors_name_the_line(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as error:
        plan_from_markdown(text)
    assert error.value.message.startswith(told)


def test_blank_lines_that_editors_put_in_front_of_notes_lose_none() -> None:
    text = plan_to_markdown(PLAN, statuses={"T1": TaskStatus.DONE})
    loose = re.sub(r"^(- \[.\] .*\n)(  - )", r"\1\n\2", text, flags=re.MULTILINE)
    assert loose != text and plan_from_markdown(loose).document == PLAN


def test_instructions_that_begin_as_notes_do_stay_instructions() -> None:
    for instructions in ("- files: these", "- Check: it\n- needs: T9", "- note: x\n- files: y", "- file: x"):
        task = TaskDoc(key="T1", title="t", files=("a",), instructions=instructions)
        for each in (task, task.model_copy(update={"files": ()})):
            plan = PlanDoc(summary="s", features=(FeatureDoc(key="F1", title="f", tasks=(each,)),))
            assert plan_from_markdown(plan_to_markdown(plan)).document == plan


def test_notes_among_other_items_are_read() -> None:
    text = "# P\n\n## A\n\n- [ ] T1 - one\n- [ ] T2: two\n  - Beware: it is old\n  - needs: T1\n\n  Text.\n"
    one, two = plan_from_markdown(text).document.tasks.values()
    assert (one.key, one.title) == ("T1", "one")
    assert two.depends_on == ("T1",) and two.instructions == "- Beware: it is old\n\nText."


@pytest.mark.parametrize(
    ("note", "told"),
    [
        ("- file: `a`", "line 6: there is no note 'file'; was 'files' meant?"),
        ("- chekc: true", "was 'check' meant?"),
        ("- needs: T1 and T2", "line 6: needs: 'T1 and T2' is no key"),
    ],
)
def test_a_note_that_would_be_lost_is_told(note: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(told)):
        plan_from_markdown(f"# P\n\n## A\n\n- [ ] one\n  {note}\n")


def test_a_note_of_a_feature_that_would_be_lost_is_told() -> None:
    with pytest.raises(InvalidInput, match="line 5: there is no note 'prio'; was 'priority' meant"):
        plan_from_markdown("# P\n\n## A\n\n- prio: high\n\n- [ ] one\n")


def test_line_ends_of_any_system_are_read() -> None:
    text = plan_to_markdown(PLAN)
    assert plan_from_markdown(text.replace("\n", "\r")).document == PLAN

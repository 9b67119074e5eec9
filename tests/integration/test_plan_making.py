"""Making a plan: a question is answered, what doesn't hold is fed back, what is unclear asked, what it takes said."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentSession
from apps.agents.presenters import progress_present, session_present
from apps.agents.selectors import question_get
from apps.agents.services.master_orchestrator import session_answer
from apps.agents.types import AgentType
from apps.authentication.models import User
from apps.planning.models import Plan
from apps.projects.models import Project
from tests.integration.plan_scene import FILES, begin, coded, plan, plan_of, results_of, titles_of
from tests.integration.session_scene import entry, events_of, messages_of, project_make, session_run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


@pytest.fixture
def scene() -> Iterator[tuple[User, Project]]:
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", FILES)


def answer(*citations: tuple[str, int, int], **more: Any) -> tuple[str, dict[str, Any]]:
    cited = [{"path": path, "start_line": start, "end_line": end} for path, start, end in citations]
    return "answer", {"text": "It is **two**.", "citations": cited, **more}


def ran(scene: tuple[User, Project], *entries: dict[str, Any], **more: Any) -> AgentSession:
    return session_run(begin(*scene, entries, **more).id)


@pytest.mark.parametrize("agent_type", [AgentType.EXECUTOR, AgentType.PLANNER])
def test_a_question_is_answered_with_citations_that_are_there(
    scene: tuple[User, Project], agent_type: AgentType
) -> None:
    session = ran(
        scene,
        entry("planner", answer(), not_seen=["^answer "]),
        entry("planner", answer(("gone.txt", 1, 0), ("a.txt", 2, 9)), last_result="needs citations"),
        entry("planner", answer(("./a.txt", 2, 3), ("src/b.txt", 1, 0))),
        goal="What is in a.txt?",
        agent_type=agent_type,
    )
    assert (session.status, session.outcome) == ("completed", "unverified"), session.reason
    assert session.reason and "nothing was changed" in session.reason["message"]
    assert session.report.startswith("It is **two**.\n\nSources:\n- `a.txt:2-3`\n- `src/b.txt:1`\n")
    refused = results_of(session)[1]
    assert "gone.txt:1: there is no such file" in refused and "a.txt:2-9: the file has 3 lines" in refused
    told = [event.payload for event in events_of(session.id, "GoalAnswered")]
    cited = [{"path": "a.txt", "start_line": 2, "end_line": 3}, {"path": "src/b.txt", "start_line": 1, "end_line": 1}]
    assert [each["citations"] for each in told] == [cited]
    assert session_present(session)["answer"]["citations"] == cited
    assert progress_present(session)["answer"]["text"] == "It is **two**."
    assert not Plan.objects.exists() and session.plan_id is None
    opening = next(message["data"]["content"] for _, message in messages_of(session.id) if message["type"] == "human")
    assert "looks like a question" in str(opening)


def test_an_answer_that_is_not_about_the_code_says_why(scene: tuple[User, Project]) -> None:
    session = ran(scene, entry("planner", answer(uncited_reason="it is about arithmetic")))
    assert session.report.startswith("It is **two**.\n\nNo sources: it is about arithmetic")


def test_an_answer_whose_citations_never_hold_is_taken_with_a_note(scene: tuple[User, Project]) -> None:
    session = ran(scene, entry("planner", answer(("a.txt", 1, 0), ("gone.txt", 1, 0))))
    assert len(results_of(session)) == 4
    assert "It is **two**.\n\nNote: after 4 tries" in session.report and "Sources:\n- `a.txt:1`" in session.report
    assert session_present(session)["answer"]["note"].endswith("gone.txt:1: there is no such file")


def test_what_does_not_hold_in_a_plan_is_told_and_set_right(scene: tuple[User, Project]) -> None:
    checks = [{"command": "no-such-program -v"}]
    wrong = {"title": "Two", "depends_on": ["T9"], "files": ["b.txt"], "checks": checks}
    session = ran(
        scene,
        entry("planner", ("submit_plan", {"summary": "no", "features": [{"tasks": []}]}), not_seen=["^submit_plan "]),
        entry("planner", plan("One", intent="question"), last_result="features.0.title"),
        entry("planner", plan("One", wrong), last_result="gets an answer and no plan"),
        entry("planner", plan("One", {"title": "Two", "depends_on": []}, intent="small_edit"), last_result="T9"),
        *coded(),
    )
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    refused = [result for result in results_of(session) if "can't be carried out as it is" in result]
    assert len(refused) == 3
    for told in (
        "- tasks.T2.depends_on: T2 depends on T9, and the plan has no such task; known are T1",
        "- tasks.T2.files: T2 names b.txt, which is not in the repository",
        "was src/b.txt meant?",
        "- tasks.T2.checks.0: the check no-such-program -v of T2 can't run: there is no program no-such-program",
    ):
        assert told in refused[2], refused[2]
    assert [event.payload["note"] for event in events_of(session.id, "PlanCreated")] == [""]
    made = plan_of(session)
    # What has two tasks is no small edit.
    assert (made.intent, made.version, titles_of(made.id)) == ("feature", 1, ["One", "Two"])
    assert made.estimate["tasks"] == 2 and made.estimate["basis"] == "from typical figures"
    assert made.estimate["cost_usd"] == {"low": 0, "high": 0}, "recordings cost nothing"


def test_after_a_few_plans_the_best_is_made_of_the_last(scene: tuple[User, Project]) -> None:
    bad = plan({"title": "One", "depends_on": ["T9"]}, {"title": "Two", "depends_on": ["One", "T1"]})
    session = ran(scene, entry("planner", bad), *coded())
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    created = events_of(session.id, "PlanCreated")[0].payload
    assert "of 4 plans none held" in created["note"] and "T9" in created["note"]
    assert [task["depends_on"] for task in _tasks(session)] == [[], ["T1"]]


def test_where_nothing_can_be_made_of_it_the_goal_is_the_one_task(scene: tuple[User, Project]) -> None:
    session = ran(
        scene, entry("planner", ("submit_plan", {"summary": "s", "features": "none"})), *coded(), goal="Mend it"
    )
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    created = events_of(session.id, "PlanCreated")[0].payload
    assert created["tasks"] == ["Mend it"] and created["note"].startswith("4 plans were handed over and none held")


def test_an_ambiguous_goal_is_asked_about_and_the_answer_leads_to_the_plan(scene: tuple[User, Project]) -> None:
    user, _ = scene
    asked = ("ask_user", {"question": "Which of the two?", "choices": ["left", "right"]})
    session = ran(
        scene,
        entry("planner", plan("Right"), last_tool="ask_user", last_result="right"),
        entry("planner", asked, not_seen=["^ask_user "]),
        *coded(),
        goal="Do the thing",
    )
    assert session.status == "waiting_input", session.reason
    shown = session_present(session)["question"]
    assert (shown["text"], shown["choices"]) == ("Which of the two?", ["left", "right"])
    question = question_get(session_id=session.id)
    assert question is not None and session.plan_id is None
    session_answer(user=user, session_id=session.id, question_id=question.id, answer="right")
    session = session_run(session.id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    assert titles_of(plan_of(session).id) == ["Right"]


@pytest.mark.slow
def test_a_project_with_a_past_estimates_from_it(scene: tuple[User, Project]) -> None:
    entries = (entry("planner", plan("One", "Two", "Three")), *coded())
    ran(scene, *entries)
    made = plan_of(ran(scene, *entries))
    assert made.estimate["basis"] == "from 3 tasks of this project"
    steps = made.estimate["steps"]
    assert 0 < steps["low"] <= steps["high"] <= 12, "each took two steps"


def _tasks(session: AgentSession) -> list[dict[str, Any]]:
    return [
        {"key": task.key, "depends_on": task.depends_on}
        for feature in plan_of(session).features.all()
        for task in feature.tasks.order_by("position")
    ]

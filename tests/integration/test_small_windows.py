"""Every role at its work with a model that reads 8,192 tokens and no more, its own replies included."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from apps.agents.types import AgentType, Review
from apps.usage.choices import ModelConfiguration
from tests.api import client_for
from tests.integration.session_scene import LIMITS, project_make, session_make, session_run
from tests.loopback.agents import call, finishes, says, task_title
from tests.loopback.narrow import Narrow
from tests.loopback.openai_server import OpenAIServer
from tests.loopback.wire import Reply, Request

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

WINDOW = 8_192
#: About a page, as people write them down.
GOAL = """Invoices show the wrong total when a customer has a discount.

Since the last release `shop/module_03.py` applies the discount of the customer to the total after tax was added, while
`shop/module_04.py` applies it before. The two differ by the tax on the discount, which is what the customer reported:
for 100.00, a discount of 10 % and 19 % tax one page says 107.10 and the other 109.00.

What we want:
- the discount comes before the tax everywhere, rounded once, half up, at the end;
- the amount of the discount is shown as a line of its own, also when it is nothing;
- a short note in NOTES.md says so for whoever reads invoices of the last weeks.

The rounding has been changed before (see the history of `shop/module_07.py`), so please look why before changing it
again. Leave the form of the pages alone: somebody else works on that at the moment.
"""
FILES = {
    "AGENTS.md": "# Conventions\n\n" + "- Money is counted in cents, and rounded where it is shown.\n" * 12,
    "README.md": "A shop.\n",
    **{
        f"shop/module_{number:02}.py": "".join(
            f'def total_{number}_{part}(amount, discount):\n    """The total."""\n    return amount - discount\n\n\n'
            for part in range(12)
        )
        for number in range(40)
    },
}
PLAN = {
    "summary": "The discount before the tax, and a note.",
    "features": [
        {
            "title": "Totals",
            "tasks": [
                {"key": "note", "title": "Note it", "instructions": "In NOTES.md.", "creates": ["NOTES.md"]},
                {"key": "hear", "title": "Ask the bank", "depends_on": []},
                {"key": "more", "title": "Tell more", "depends_on": ["hear"], "files": ["README.md"]},
            ],
        }
    ],
}


def model(request: Request) -> Reply:
    role = request.system.removeprefix("You are Archon's ").partition(".")[0]
    read = request.results("read_file")
    if role == "summarizer":
        return Reply(text="Read some files.")
    if len(read) < 2:
        return says(call("read_file", path=f"shop/module_{3 + len(read):02}.py"))
    if role == "planner":
        return says(call("submit_plan", **PLAN))
    if role == "replanner":
        return says(call("revise_plan", reason="No bank listens.", drop=["hear", "more"]))
    if role == "reviewer" and "submit_review" in request.tools and request.user.count("Review the change"):
        return says(call("submit_review", summary="Nothing is wrong."))
    if role == "coder" and task_title(request) == "Ask the bank":
        return says(call("report_blocked", reason="Nobody answers.", needs="A bank."))
    if role == "coder" and not request.results("write_file"):
        return says(call("write_file", path="NOTES.md", content="The discount comes before the tax.\n"))
    return finishes()


@pytest.mark.parametrize("agent_type", [AgentType.EXECUTOR, AgentType.RESEARCHER, AgentType.REVIEWER])
def test_every_role_works(agent_type: AgentType, settings: Any) -> None:
    settings.ARCHON_MODEL_BASE_URLS = ["http://127.0.0.1:*"]
    settings.ARCHON_MODEL_CONTEXTS = {"openai:small": WINDOW}
    narrow = Narrow(model, window=WINDOW)
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder, OpenAIServer(narrow) as server:
        user, project = project_make(Path(folder) / "repository", FILES)
        client_for(user).patch(f"/api/projects/{project.id}/", {"instructions": "Names are whole words. " * 20})
        client_for(user).patch("/api/auth/me/", {"preferences": "Say little. " * 20})
        session = session_make(
            user, project, "", agent_type=agent_type, checks=["test -f README.md"], goal=GOAL, limits=LIMITS,
            review=Review.ALWAYS, models=ModelConfiguration(model=f"openai:small@{server.base_url}"),
        )  # fmt: skip
        session = session_run(session.id)
        assert server.refused == [] and narrow.refused == []
        worked = {request.system.removeprefix("You are Archon's ").partition(".")[0] for request in server.requests}
    assert session.status == "completed", session.reason
    if agent_type is AgentType.EXECUTOR:
        assert worked >= {"planner", "coder", "reviewer", "replanner"}

"""What conversations open with, for a fixed scene, as golden files: each part in its place and in its words."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import AgentExecution, AgentSession
from apps.agents.services.messages import message_send
from apps.agents.types import AgentType, Review
from tests.api import client_for
from tests.golden import Golden
from tests.integration.session_scene import entry, project_make, recording_write, session_make, session_run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

FILES = {
    "AGENTS.md": "Use tabs.\n",
    "calc.py": "def add(a, b):\n    return a - b\n",
    "docs/notes.md": "Notes.\n",
}
PLAN = {
    "summary": "Mend the sum, then say so.",
    "features": [
        {
            "title": "The sum",
            "tasks": [
                {
                    "key": "mend",
                    "title": "Mend the sum",
                    "instructions": "Make `add` add.",
                    "files": ["calc.py"],
                    "checks": [{"command": "grep -q 'a + b' calc.py", "name": "it adds"}],
                },
                {
                    "key": "note",
                    "title": "Note it",
                    "instructions": "Write down what was done.",
                    "depends_on": ["mend"],
                    "creates": ["CHANGES.md"],
                },
                {"key": "tell", "title": "Tell it", "instructions": "Say it to others.", "depends_on": ["note"]},
                {"key": "last", "title": "Sum it up", "depends_on": ["tell"], "files": ["docs/notes.md"]},
            ],
        }
    ],
}
DONE = ("finish", {"summary": "It is done."})


def model() -> str:
    return recording_write(
        [
            entry("planner", ("submit_plan", PLAN)),
            entry("replanner", ("keep_plan", {"reason": "It serves."})),
            entry("coder", ("report_blocked", {"reason": "Nobody hears.", "needs": "Ears."}), task="^Task: Tell"),
            entry("coder", DONE, last_tool="write_file"),
            entry("coder", ("write_file", {"path": "MORE.md", "content": "more\n"}), seen=["asks further"]),
            entry("coder", ("write_file", {"path": "CHANGES.md", "content": "a\n"}), task="^Task: Note"),
            entry("coder", ("write_file", {"path": "calc.py", "content": "def add(a, b):\n    return a + b\n"})),
            entry("researcher", DONE),
            entry("reviewer", ("submit_review", {"summary": "Nothing is wrong."}), user="^Review the change"),
            entry("reviewer", DONE),
        ]
    )


def shown(content: Any) -> str:
    """A message with its blocks apart, and whatever differs from run to run by a word for it."""
    blocks = [content] if isinstance(content, str) else [block["text"] for block in content]
    text = "\n--- the next block ---\n".join(blocks)
    text = re.sub(r"<(/?)(material|instructions) [0-9a-f]{12}", r"<\1\2 CODE", text)
    # The report is Markdown for people; what is in it has tests of its own.
    text = re.sub(r"(What was reported at its end:\n)[\s\S]*?(?=\n\nThe branch so far)", r"\1REPORT", text)
    return re.sub(r"\b(?=\w*\d)[0-9a-f]{10,40}\b", "COMMIT", text).strip() + "\n"


def opening_of(execution: AgentExecution) -> str:
    system, brief = (row.message for row in execution.messages.order_by("position")[:2])
    assert system["type"] == "system"
    return shown(brief["data"]["content"])


def test_what_conversations_open_with(golden: Golden) -> None:
    texts: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        user, project = project_make(Path(folder) / "repository", FILES)
        client_for(user).patch(f"/api/projects/{project.id}/", {"instructions": "Short names.\n\nNo jokes."})
        client_for(user).patch("/api/auth/me/", {"preferences": "Explain little."})
        checks, goal = ["test -f calc.py"], "Mend the sum.\n\nIt subtracts."

        def run(agent_type: AgentType) -> AgentSession:
            session = session_run(
                session_make(
                    user, project, model(), agent_type=agent_type, checks=checks, goal=goal, review=Review.ALWAYS
                ).id
            )
            assert session.status == "completed", session.reason
            return session

        session = run(AgentType.EXECUTOR)
        reviewed = session.executions.get(role="reviewer", task__title="Mend the sum")
        texts["reviewer.task.txt"] = opening_of(reviewed)
        texts["replanner.txt"] = opening_of(session.executions.get(role="replanner"))
        texts["planner.txt"] = opening_of(session.executions.get(role="planner"))
        for name, title in (("coder.txt", "Mend the sum"), ("coder.second.txt", "Note it")):
            texts[name] = opening_of(session.executions.get(role="coder", task__title=title))
        client_for(user).patch("/api/auth/me/", {"preferences": ""})
        message_send(user=user, session_id=session.id, text="Write more.")
        assert session_run(session.id).status == "completed"
        said = [
            row.message["data"]["content"]
            for execution in session.executions.filter(role="coder")
            for row in execution.messages.order_by("position")
            if row.message["type"] == "human" and "asks further" in str(row.message)
        ]
        (further,) = said
        texts["coder.follow-up.txt"] = shown(further)
        for role in (AgentType.RESEARCHER, AgentType.REVIEWER):
            texts[f"{role.value}.txt"] = opening_of(run(role).executions.get())
    golden.check_folder("briefs", texts)

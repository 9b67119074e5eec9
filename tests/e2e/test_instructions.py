"""``archon instructions`` and ``archon preferences``: what is set is what an agent is told, in every conversation."""

from __future__ import annotations

from pathlib import Path

from tests.builders import repository_build
from tests.loopback.agents import Agents, finishes
from tests.loopback.openai_server import OpenAIServer
from tests.stacks import LiveStack


def test_what_is_set_by_the_command_line_is_told(stack: LiveStack, tmp_path: Path) -> None:
    project = stack.project_make(repository_build(tmp_path / "words", {"a.txt": "a\n"}))
    text = tmp_path / "rules.md"
    text.write_text("# Rules\n\n- Short names.\n")
    empty = tmp_path / "empty.md"
    empty.write_text("\n")
    too_long = tmp_path / "long.md"
    too_long.write_text("x" * 20_001)
    nothing = stack.archon("instructions", project.id)
    assert (nothing.code, "Nothing is said" in nothing.output) == (0, True)
    done = stack.archon("instructions", project.id, str(text), "--json")
    assert done.document == {"project_id": project.id, "instructions": "# Rules\n\n- Short names."}
    assert "- Short names." in stack.archon("instructions", project.id).output
    for wrong, said in ((empty, "--clear"), (too_long, "20000 characters"), (tmp_path / "none", "cannot be read")):
        refused = stack.archon("instructions", project.id, str(wrong))
        assert refused.code != 0 and said in refused.output + refused.errors, refused
    text.write_text("Few words.")
    try:
        assert stack.archon("preferences", str(text), "--json").document == {"preferences": "Few words."}
        with OpenAIServer(Agents([finishes()])) as server:
            ended = stack.session_wait(stack.session_start(project, base_url=server.base_url, checks=["true"]).id)
            assert ended.status == "completed", stack.story(ended.id)
            (user,) = {request.user.partition("Task: ")[0] for request in server.requests}
    finally:
        cleared = stack.archon("preferences", "--clear", "--json")
    assert user.index("- Short names.") < user.index("Few words.")
    assert cleared.document == {"preferences": ""}

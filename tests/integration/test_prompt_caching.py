"""What vendors' prompt caches live on, seen where they see it: requests begin with what they have read before."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from apps.agents.models import AgentSession
from apps.agents.presenters import session_present
from apps.agents.services.messages import message_send
from apps.core.storable import json_ordered
from apps.usage.choices import ModelConfiguration
from tests.api import client_for
from tests.integration.session_scene import project_make, session_make, session_run
from tests.loopback.agents import Agents, call, finishes, plans, says, task_title
from tests.loopback.wire import ModelServer, PrefixCache, Reply, Request, text_of
from tests.loopback.wires import WIRES

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

CHECK = "! grep -rq BROKEN ."
OTHERS = sorted(set(WIRES) - {"anthropic"})


def writes(path: str, content: str) -> Reply:
    return says(call("write_file", path=path, content=content))


def planner(request: Request) -> Reply:
    return plans("First", "Second") if request.results("list_files") else says(call("list_files"))


def coder(request: Request) -> Reply:
    """Breaks something in the second task, hears so, and mends it; a follow-up is one file more."""
    said = "\n".join(text_of(message) for message in request.messages)
    name = task_title(request).lower()
    if "asks further" in said:
        return finishes() if "MORE" in str(request.results("write_file")[-1]) else writes("MORE.md", "more\n")
    written = len(request.results("write_file"))
    if not written:
        return writes(f"{name}.md", "BROKEN\n" if name == "second" else "fine\n")
    if "doesn't stand yet" in said and not request.results("edit_file"):
        # Arguments that a row gives back in another order than this one.
        return says(call("edit_file", path=f"{name}.md", old_text="BROKEN", new_text="fine"))
    return finishes()


def conversations(requests: Sequence[Request], segments: Any) -> list[list[list[str]]]:
    """What the vendor read of each conversation, request by request."""
    found: dict[str, list[list[str]]] = defaultdict(list)
    for request in requests:
        found[request.system[:40] + request.user].append(segments(request.body)[0])
    return list(found.values())


def heads(server: ModelServer) -> dict[str, set[str]]:
    """By role: all that was ever sent before the first message."""
    found: dict[str, set[str]] = defaultdict(set)
    for request in server.requests:
        tools = request.body.get("tools")
        # The marks for a cache stand beside the text, and are none of it.
        plain = json.dumps([request.system, tools]).replace(', "cache_control": {"type": "ephemeral"}', "")
        found[role_of(request)].add(plain)
    return found


def role_of(request: Request) -> str:
    return request.system.removeprefix("You are Archon's ").partition(".")[0]


def run(folder: Path, server: ModelServer, wire: str, *, words: str) -> AgentSession:
    files = {"a.txt": f"{words}\n", "AGENTS.md": f"Write {words}. " * 40}
    user, project = project_make(folder, files)
    client_for(user).patch(f"/api/projects/{project.id}/", {"instructions": f"Say {words}. " * 40})
    models = ModelConfiguration(model=f"{WIRES[wire].name}@{server.base_url}")
    session = session_run(session_make(user, project, "", checks=[CHECK], models=models, goal=f"Make {words}").id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    message_send(user=user, session_id=session.id, text="And more.")
    session = session_run(session.id)
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason
    return session


@pytest.mark.parametrize("wire", ["anthropic", *(pytest.param(wire, marks=pytest.mark.slow) for wire in OTHERS)])
def test_requests_begin_with_what_was_read_before(wire: str, settings: Any) -> None:
    settings.ARCHON_MODEL_BASE_URLS = ["http://127.0.0.1:*"]
    spoken = WIRES[wire]
    segments = spoken.wire().segments
    with (
        tempfile.TemporaryDirectory(prefix="archon-test-") as place,
        spoken.server(Agents(coder, planner=planner, counted=True)) as server,
    ):
        first = run(Path(place) / "one", server, wire, words="red")
        requests = server.requests
        run(Path(place) / "two", server, wire, words="blue")
        assert server.refused == []
        # Another project, person, goal, day: the same beginning, to the last letter.
        assert {role: len(sent) for role, sent in heads(server).items()} == {"planner": 1, "coder": 1}
    told = conversations(requests, segments)
    assert len(told) == 3, "the planner's and the two coders'; the follow-up goes on in one of these"
    for requested in told:
        for former, later in pairwise(requested):
            assert later[: len(former)] == former, "each request is the one before it, and more"
    coders = sorted((requested[0] for requested in told), key=len)[-2:]
    shared = next(index for index, (one, other) in enumerate(zip(*coders, strict=False)) if one != other)
    if wire == "anthropic":
        # By blocks: what holds for every agent is read once for the two of them.
        assert "Say red." in coders[0][shared - 1] and "Task: First" not in coders[0][shared - 1]
    _share_require(first, requests, segments)


def _share_require(session: AgentSession, requests: Sequence[Request], segments: Any) -> None:
    """What the session says of each role's cache is what a vendor with a cache of its own would count."""
    cache = PrefixCache()
    read: defaultdict[str, int] = defaultdict(int)
    cached: defaultdict[str, int] = defaultdict(int)
    for request in requests:
        total, found, _ = cache.read(*segments(request.body))
        read[role_of(request)] += total
        cached[role_of(request)] += found
    usage = session_present(session)["usage"]
    lines = {line.role: line for line in usage["by_role"]}
    assert {role: (line.input_tokens, line.cached_tokens) for role, line in lines.items()} == {
        role: (read[role], cached[role]) for role in read
    }
    for role, line in lines.items():
        assert line.cached_share == round(cached[role] / read[role], 4)
    assert lines["coder"].cached_share > 0.7, "most of a conversation has been read before"
    assert usage["cached_tokens"] == sum(cached.values())
    assert usage["cached_share"] == round(sum(cached.values()) / sum(read.values()), 4)


def test_members_are_ordered_as_postgres_orders_them() -> None:
    names = ["path", "old_text", "new_text", "b", "a", "ä", "zz", "Z", "", "aaaa", "日本"]
    value = {name: [dict.fromkeys(names)] for name in names}
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb::text", [json.dumps(value)])
        (stored,) = cursor.fetchone()
    assert json.dumps(json_ordered(value)) == json.dumps(json.loads(stored))

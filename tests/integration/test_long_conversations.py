"""Conversations that outgrow their model, agents that go round in circles, outputs too long to be shown."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import messages_from_dict

from apps.agents.models import AgentSession, Compaction, ExecutionMessage, ToolCall
from apps.agents.services import conversation_view
from apps.agents.services.leftovers import session_files_prune
from apps.agents.services.master_orchestrator import session_resume
from apps.agents.types import AgentType
from apps.projects.models import Project
from apps.projects.worktree import session_server_path
from apps.usage.choices import ModelConfiguration
from apps.usage.models import ModelCall
from tests.integration.session_scene import (
    LIMITS,
    Cut,
    entry,
    events_of,
    lease_let_run_out,
    project_make,
    recording_write,
    session_make,
    session_run,
)
from tests.loopback.agents import call, finishes, runs, says
from tests.loopback.narrow import Narrow
from tests.loopback.openai_server import OpenAIServer, Reply, Request
from tests.loopback.wire import text_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

STEPS = 12


@pytest.fixture
def place(settings: Any) -> Iterator[tuple[Any, Project]]:
    settings.ARCHON_MODEL_BASE_URLS = ["http://127.0.0.1:*"]
    with tempfile.TemporaryDirectory(prefix="archon-test-") as folder:
        yield project_make(Path(folder) / "repository", {"data.txt": "x\n"})


def printer(request: Request) -> Reply:
    """Prints something large a step, and ends after so many."""
    whole = "\n".join(text_of(message) for message in request.messages)
    done = max((int(number) for number in re.findall(r"step (\d+) done", whole)), default=0)
    if "Archon's summarizer" in request.system:
        return Reply(text=f"A summary: step {done} done.")
    if done < STEPS:
        return runs(f"seq {done}000 {done}999; echo step {done + 1} done >> log.txt; tail -n 1 log.txt")
    return finishes(f"step {done} done")


def start(
    place: tuple[Any, Project], server: OpenAIServer, *, models: Sequence[str] = ("gpt-4",), **more: Any
) -> AgentSession:
    user, project = place
    first, *others = [f"openai:{name}@{server.base_url}" for name in models]
    configuration = ModelConfiguration.model_validate({"model": first, "fallbacks": others, **more})
    return session_make(
        user, project, "", agent_type=AgentType.CODER, checks=["true"], limits=LIMITS, models=configuration
    )


def done(session: AgentSession) -> None:
    assert (session.status, session.outcome) == ("completed", "verified"), session.reason


def commands_of(session: AgentSession) -> int:
    return ToolCall.objects.filter(session=session, name="run_command", status="finished").count()


def views_of(session: AgentSession) -> list[list[Any]]:
    """What was sent at each reply, worked out from the rows alone."""
    (execution,) = session.executions.all()
    said = messages_from_dict([row.message for row in ExecutionMessage.objects.filter(execution=execution)])
    views = []
    for position, message in enumerate(said):
        if message.type == "ai":
            row = Compaction.objects.filter(execution=execution, position__lte=position).last()
            cut = (
                conversation_view.Cut(
                    row.dropped_to, tuple(row.kept), row.cleared_to, row.output_limit, row.summary, row.position
                )
                if row
                else None
            )
            views.append(conversation_view.view_of(said[:position], cut))
    return views


def test_a_window_that_nobody_knew_is_learned_and_kept_to(place: tuple[Any, Project]) -> None:
    """The model is taken for one of 128,000 tokens; it refuses more than 8192, once."""
    narrow = Narrow(printer, window=8_192)
    with OpenAIServer(narrow) as server:
        session = session_run(start(place, server, models=["unheard-of"]).id)
        assert server.refused == []
    done(session)
    assert commands_of(session) == STEPS
    # The first request already asks for too long a reply; from then on the window is known.
    assert len(narrow.refused) <= 3 and len(narrow.taken) > STEPS
    causes = [event.payload["cause"] for event in events_of(session.id, "ConversationCompacted")]
    assert causes
    assert ModelCall.objects.filter(budget_id=session.id, state="reserved").count() == 0


def test_what_is_sent_follows_from_the_rows(place: tuple[Any, Project]) -> None:
    with OpenAIServer(printer) as server:
        session = session_run(start(place, server).id)
        requests = [request for request in server.requests if "summarizer" not in request.system]
    done(session)
    assert Compaction.objects.filter(execution__session=session).count() >= 2
    views = views_of(session)
    assert len(views) == len(requests)
    for view, request in zip(views, requests, strict=True):
        sent = [text_of(message) for message in request.messages]
        assert [message.type for message in view] == [
            {"system": "system", "user": "human", "assistant": "ai", "tool": "tool"}[message["role"]]
            for message in request.messages
        ]
        assert all(
            str(message.text) in text for message, text in zip(view, sent, strict=True) if message.type == "tool"
        )
        assert "Task: make it work" in request.user


def test_without_a_summary_there_is_a_digest(place: tuple[Any, Project]) -> None:
    def mute(request: Request) -> Reply:
        return Reply(text="") if "Archon's summarizer" in request.system else printer(request)

    with OpenAIServer(mute) as server:
        session = session_run(start(place, server).id)
    done(session)
    cuts = [event.payload for event in events_of(session.id, "ConversationCompacted") if event.payload["summary"]]
    assert cuts and {cut["summary_by"] for cut in cuts} == {"digest"}
    assert "tail -n 1 log.txt" in cuts[-1]["summary"]


def test_a_fallback_that_reads_less_gets_less(place: tuple[Any, Project], settings: Any) -> None:
    settings.ARCHON_MODEL_CONTEXTS = {"openai:small": 8_192}

    def answer(request: Request) -> Reply:
        whole = "\n".join(text_of(message) for message in request.messages)
        if request.model == "large" and "step 6 done" in whole:
            return Reply(failure="not_found")
        return printer(request)

    narrow = Narrow(answer, window=8_192, models=("small",))
    with OpenAIServer(narrow) as server:
        session = session_run(start(place, server, models=["large", "small"]).id)
        assert server.refused == []
    done(session)
    assert commands_of(session) == STEPS
    assert narrow.refused == [] and narrow.taken
    cuts = [event.payload for event in events_of(session.id, "ConversationCompacted")]
    assert cuts[0]["cause"] == "smaller_model"


def test_what_cannot_fit_pauses_with_a_reason(place: tuple[Any, Project], settings: Any) -> None:
    settings.ARCHON_MODEL_CONTEXTS = {"openai:*": 2_500}
    with OpenAIServer(printer) as server:
        session = session_run(start(place, server, models=["tiny"]).id)
        assert server.requests == []
    assert session.status == "paused" and session.reason is not None
    assert session.reason["code"] == "context_too_small" and "2500 tokens" in session.reason["message"]


@pytest.mark.slow
def test_a_worker_may_die_anywhere_around_a_compaction(place: tuple[Any, Project]) -> None:
    """At each of its points once: the same number of steps, each summary paid for once, the same view."""
    with OpenAIServer(printer) as server:
        reference = Cut(at=None)
        first = session_run(start(place, server).id, cut=reference)
        done(first)
        for at in range(40, reference.points, max(1, reference.points // 8)):
            session = start(place, server)
            session_run(session.id, cut=Cut(at))
            lease_let_run_out(session.id)
            ended = session_run(session.id)
            done(ended)
            sequences = list(Compaction.objects.filter(execution__session=session).values_list("sequence", flat=True))
            assert sequences == list(range(len(sequences)))
            told = events_of(session.id, "ConversationCompacted")
            assert len(told) == len(sequences)
            settled = ModelCall.objects.filter(budget_id=session.id, state="settled", key__contains=":summary:")
            by_model = [event for event in told if event.payload["summary_by"].startswith("openai:")]
            assert settled.count() == len(by_model)
            assert views_of(ended)


# --- Going round in circles -------------------------------------------------------------------------------------------
READS = ("read_file", {"path": "data.txt"})


def looping(user: Any, project: Project, *calls: Any) -> AgentSession:
    entries = [entry("coder", one) for one in calls] or [entry("coder", READS)]
    return session_make(
        user, project, recording_write(entries), agent_type=AgentType.CODER, checks=["true"], limits=LIMITS
    )


def test_a_loop_is_warned_paused_and_begun_anew_by_resuming(place: tuple[Any, Project]) -> None:
    user, project = place
    session = session_run(looping(user, project).id)
    assert session.status == "paused" and session.reason is not None
    assert session.reason["code"] == "loop_detected" and "read_file" in session.reason["message"]
    assert session.reason["next_step"]
    assert ToolCall.objects.filter(session=session).count() == 5
    (warned,) = events_of(session.id, "LoopWarned")
    assert (warned.payload["kind"], warned.payload["repeats"]) == ("same_call", 3)
    session_resume(user=user, session_id=session.id)
    session = session_run(session.id)
    assert session.status == "paused" and ToolCall.objects.filter(session=session).count() == 10
    assert len(events_of(session.id, "LoopWarned")) == 2
    said = [row.message["data"]["content"] for row in ExecutionMessage.objects.filter(execution__session=session)]
    assert sum("was paused here" in str(text) for text in said) == 2


@pytest.mark.slow
def test_a_worker_s_death_does_not_begin_the_count_anew(place: tuple[Any, Project]) -> None:
    user, project = place
    reference = Cut(at=None)
    session_run(looping(user, project).id, cut=reference)
    for at in range(reference.points - 40, reference.points, 5):
        session = looping(user, project)
        session_run(session.id, cut=Cut(at))
        lease_let_run_out(session.id)
        row = session_run(session.id)
        assert (row.status, (row.reason or {}).get("code")) == ("paused", "loop_detected"), at
        assert ToolCall.objects.filter(session=row).count() == 5
        assert len(events_of(row.id, "LoopWarned")) == len(events_of(row.id, "SessionPaused")) == 1


def test_no_guard_where_it_is_switched_off(place: tuple[Any, Project], settings: Any) -> None:
    settings.ARCHON_LOOP_LIMIT = 0
    user, project = place
    entries = [entry("coder", ("finish", {"summary": "done"}), seen=[r"(?s)(^read_file .*){8}"]), entry("coder", READS)]
    model = recording_write(entries)
    session = session_make(user, project, model, agent_type=AgentType.CODER, checks=["true"], limits=LIMITS)
    assert session_run(session.id).status == "completed"
    assert ToolCall.objects.filter(session=session, name="read_file").count() == 8


# --- Long outputs -----------------------------------------------------------------------------------------------------
def test_a_long_output_is_paged_by_another_worker(place: tuple[Any, Project]) -> None:
    def answer(request: Request) -> Reply:
        commands, pages = request.results("run_command"), request.results("command_output")
        if not commands:
            return runs("seq 1 20000")
        if not pages:
            output_id = re.search(r"by the id (c[\d-]+)", commands[-1])
            assert output_id is not None and "characters left out" in commands[-1] and "20000" in commands[-1]
            return says(call("command_output", id=output_id[1], offset=40_000))
        return finishes()

    with OpenAIServer(answer) as server:
        reference = Cut(at=None)
        session_run(start(place, server).id, cut=reference)
        # Dies when the command has run and its page has not been asked for yet.
        sessions = [start(place, server) for _ in range(2)]
        for session, at in zip(sessions, (reference.points - 30, reference.points - 45), strict=True):
            session_run(session.id, cut=Cut(at))
            lease_let_run_out(session.id)
            ended = session_run(session.id)
            assert ended.status == "completed", ended.reason
            page = ToolCall.objects.filter(session=session, name="command_output").last()
            assert page is not None and page.ok and "exit code" not in page.observation.partition("\n")[0]
            assert re.search(r"^\d{4}\n", page.observation, re.MULTILINE) and "bytes 40000 to" in page.observation
        last = sessions[-1]
        kept = session_server_path(session_id=last.id) / "outputs"
        assert [path.name for path in kept.glob("*/*")]
        AgentSession.objects.filter(id=last.id).update(finished_at="2020-01-01T00:00:00Z")
        session_files_prune()
        assert not kept.exists()

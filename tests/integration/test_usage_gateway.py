"""The gateway: the spending and the caller's rows commit together, and no way out leaves money unaccounted for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from pytest_django import Settings

from apps.core.database import Connection
from apps.usage.errors import BudgetExceeded, ModelCallFailed, ModelRefused
from apps.usage.types import ModelReply
from integrations.llm_providers.types import ModelSpec
from tests.integration.usage_scene import MESSAGES, Scene, loopback_spec, scene
from tests.loopback.openai_server import OpenAIServer, Reply

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


@pytest.fixture
def recorded(settings: Settings, tmp_path: Path) -> ModelSpec:
    """A recording that reads a file and has nothing to say to a planner."""
    settings.ARCHON_HOME = tmp_path
    (tmp_path / "recordings").mkdir()
    entry = {
        "when": {"role": "coder"},
        "reply": {"text": "Reading it.", "tool_calls": [{"name": "read_file", "args": {"path": "a.py"}}]},
        "usage": {"input_tokens": 50, "output_tokens": 10},
    }
    (tmp_path / "recordings" / "one.json").write_text(json.dumps({"format": 1, "entries": [entry]}))
    return ModelSpec(provider="scripted", model="one", max_output_tokens=500)


@tool
def read_file(path: str) -> str:
    """Read a file."""
    return path


async def project_names(on: Scene) -> list[str]:
    async with on.database.pool.connection() as connection:
        cursor = await connection.execute("SELECT name FROM projects_project ORDER BY name")
        return [row["name"] for row in await cursor.fetchall()]


async def rename(connection: Connection, reply: ModelReply) -> None:
    await connection.execute("UPDATE projects_project SET name = %s", [reply.message.content])


async def test_a_recording_is_a_model_like_any_other(recorded: ModelSpec) -> None:
    parts: list[str] = []
    async with scene(tokens=10_000) as on:
        reply = await on.call(recorded, tools=[read_file], on_delta=parts.append)
        budget, calls = await on.budget(), await on.calls()
    assert parts == ["Reading ", "it."]
    assert reply.message.tool_calls[0]["args"] == {"path": "a.py"}
    assert [budget.input_tokens, budget.output_tokens, budget.steps, budget.cost_usd] == [50, 10, 1, 0]
    assert [(call.role, call.provider, call.model, call.state) for call in calls] == [
        ("coder", "scripted", "one", "settled")
    ]
    assert not budget.unpriced


async def test_the_callers_rows_commit_with_the_spending(recorded: ModelSpec) -> None:
    async with scene() as on:
        await on.call(recorded, on_settle=rename)
        assert await project_names(on) == ["Reading it."]
        assert (await on.budget()).steps == 1


async def test_rows_that_are_refused_leave_the_spending_counted(recorded: ModelSpec) -> None:
    async def stale(connection: Connection, reply: ModelReply) -> None:
        await rename(connection, reply)
        raise PermissionError("another worker has the session")

    async with scene() as on:
        with pytest.raises(PermissionError):
            await on.call(recorded, on_settle=stale)
        budget = await on.budget()
        assert await project_names(on) == ["sums"]
    assert (budget.input_tokens, budget.steps, budget.reserved_steps, budget.reserved_tokens) == (50, 1, 0, 0)


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
async def test_a_reply_outlives_a_database_that_goes_away(
    recorded: ModelSpec, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """It is kept once and paid for once, whether or not the first commit has succeeded."""
    tried: list[str] = []

    async def cut_off(connection: Connection, reply: ModelReply) -> None:
        tried.append(when)
        await rename(connection, reply)
        if when == "before the commit" and len(tried) == 1:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            await connection.execute("SELECT 1")

    async with scene() as on:
        transaction = on.database.transaction

        @asynccontextmanager
        async def broken() -> AsyncIterator[Connection]:
            async with transaction() as connection:
                yield connection
            if when == "after the commit" and tried and not broken_off:
                broken_off.append(True)
                raise psycopg.OperationalError("server closed the connection unexpectedly")

        broken_off: list[bool] = []
        monkeypatch.setattr(on.database, "transaction", broken)
        await on.call(recorded, on_settle=cut_off)
        budget, calls = await on.budget(), await on.calls()
        assert await project_names(on) == ["Reading it."]
    assert len(tried) == (2 if when == "before the commit" else 1)
    assert [call.state for call in calls] == ["settled"]
    assert (budget.input_tokens, budget.steps, budget.reserved_steps, budget.reserved_tokens) == (50, 1, 0, 0)


async def test_cancelling_while_rows_are_written_still_writes_them(recorded: ModelSpec) -> None:
    inside = asyncio.Event()

    async def slow(connection: Connection, reply: ModelReply) -> None:
        inside.set()
        await asyncio.sleep(0)
        await rename(connection, reply)

    async with scene() as on:
        task = asyncio.create_task(on.call(recorded, on_settle=slow))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await project_names(on) == ["Reading it."]
        assert (await on.budget()).steps == 1


async def test_cancelling_at_any_moment_leaves_nothing_reserved(recorded: ModelSpec) -> None:
    async with scene() as on:
        for turns in range(0, 60, 3):
            task = asyncio.create_task(on.call(recorded, on_settle=rename))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        budget, calls = await on.budget(), await on.calls()
    assert (budget.reserved_steps, budget.reserved_tokens) == (0, 0)
    assert {call.state for call in calls} <= {"settled", "failed"}
    assert budget.input_tokens == sum(call.input_tokens for call in calls)


async def test_a_request_without_a_recording_says_what_was_asked(recorded: ModelSpec) -> None:
    async with scene() as on:
        with pytest.raises(ModelCallFailed) as caught:
            await on.call(recorded, messages=[SystemMessage("You are Archon's planner."), HumanMessage("Plan it")])
        budget = await on.budget()
    assert caught.value.kind == "recording_missing"
    assert not caught.value.retryable
    assert "role: planner" in caught.value.message
    assert "Plan it" in caught.value.message
    assert (budget.steps, budget.reserved_steps) == (0, 0)


async def test_a_recording_that_is_gone_is_told(recorded: ModelSpec) -> None:
    async with scene() as on:
        with pytest.raises(ModelRefused, match="there is no recording 'two'"):
            await on.call(ModelSpec(provider="scripted", model="two"))
        assert (await on.budget()).reserved_steps == 0


async def test_a_fault_of_the_callers_own_is_not_taken_for_the_models(recorded: ModelSpec) -> None:
    def broken(text: str) -> None:
        raise KeyError("a bug")

    async with scene() as on:
        with pytest.raises(KeyError, match="a bug"):
            await on.call(recorded, on_delta=broken)
        budget = await on.budget()
    assert (budget.reserved_steps, budget.reserved_tokens) == (0, 0)


async def test_nothing_is_sent_once_a_budget_is_used_up() -> None:
    with OpenAIServer(lambda request: Reply(text="Hello", usage=(600, 10, 0))) as server:
        async with scene(tokens=2000) as on:
            await on.call(loopback_spec(server))
            await on.call(loopback_spec(server))
            await on.call(loopback_spec(server))
            with pytest.raises(BudgetExceeded) as caught:
                await on.call(loopback_spec(server))
        assert len(server.requests) == 3
    assert caught.value.limit == "tokens"


async def test_the_last_reply_that_fits_is_asked_to_be_short() -> None:
    with OpenAIServer(lambda request: Reply(text="Hello", usage=(100, 10, 0))) as server:
        async with scene(tokens=700) as on:
            await on.call(loopback_spec(server, max_output_tokens=1000))
        sent: dict[str, Any] = server.requests[0].body
    assert 256 <= sent["max_tokens"] < 700


async def test_calls_side_by_side_never_pass_the_budget() -> None:
    with OpenAIServer(lambda request: Reply(text="Hello", usage=(100, 1000, 0))) as server:
        async with scene(cost_usd="0.0031") as on:
            spec = loopback_spec(server)
            outcomes = await asyncio.gather(*(on.call(spec) for _ in range(20)), return_exceptions=True)
            budget = await on.budget()
    assert any(isinstance(outcome, ModelReply) for outcome in outcomes)
    assert any(isinstance(outcome, BudgetExceeded) for outcome in outcomes)
    assert budget.cost_usd <= budget.limits.cost_usd  # type: ignore[operator]
    assert budget.steps == sum(isinstance(outcome, ModelReply) for outcome in outcomes)


async def test_a_model_without_a_price_is_counted_in_tokens_and_said_to_be_unpriced() -> None:
    with OpenAIServer(lambda request: Reply(text="Hello", usage=(100, 10, 0))) as server:
        async with scene(cost_usd="0.001") as on:
            reply = await on.call(loopback_spec(server, "a-local-model"))
            budget = await on.budget()
    assert not reply.usage.priced
    assert [budget.unpriced, budget.cost_usd, budget.input_tokens] == [True, 0, 100]


async def test_many_tools_and_sessions_share_one_gateway(recorded: ModelSpec) -> None:
    async with scene() as on:
        for number in range(100):  # more sets of tools than are remembered
            await on.call(recorded, tools=[{"name": f"t{number}", "description": "d", "parameters": {}}])
        replies = await asyncio.gather(*(on.call(recorded, messages=MESSAGES) for _ in range(20)))
    assert len({reply.message.tool_calls[0]["id"] for reply in replies}) == 20

"""``archon bench steps``: what a step of an agent costs, beside a bare LangGraph of two nodes.

Both run in this process, on the same Postgres, with the same instant model and one file read a step, checkpoints
written synchronously. Ours has everything on: lease and fence, reservation and settlement, policy, ledger, events,
messages in rows, a real sandboxed workspace. Rounds alternate, and medians are reported, since machines are noisy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict

FILES = {"module.py": "".join(f"def function_{number}():\n    return {number}\n\n" for number in range(40))}
#: Six lines a step, and another six the next time: who reads the same over and over is stopped.
_BLOCKS = 8


def _reads(block: int, **when: str) -> dict[str, Any]:
    arguments = {"path": "module.py", "start_line": 6 * block + 1, "end_line": 6 * block + 6}
    return {
        "when": {"role": "researcher", **when},
        "reply": {"tool_calls": [{"name": "read_file", "args": arguments}]},
    }


RECORDING = {
    "format": 1,
    "entries": [
        *(_reads((block + 1) % _BLOCKS, last_result=rf"function_{2 * block}\(") for block in range(_BLOCKS)),
        _reads(0),
    ],
}


@dataclass
class Round:
    """One run of so many steps."""

    cpu_ms: float
    cpu_with_postgres_ms: float
    wall_ms: float
    parts: dict[str, float] = field(default_factory=dict)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench steps", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="archon-bench-") as folder:
        os.environ["ARCHON_HOME"] = str(Path(folder) / "home")
        os.environ["ARCHON_REPOSITORY_ROOTS"] = folder
        os.chmod(folder, 0o755)
        for name in ("DB_HOST", "REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
            os.environ.pop(name, None)
        report = _measure(Path(folder), steps=options.steps, rounds=options.rounds)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:32} {value}")
    return 0


def _measure(folder: Path, *, steps: int, rounds: int) -> dict[str, Any]:
    from config.bootstrap import prepare

    prepare()
    import django

    django.setup()
    from django.core.management import call_command

    import config.celery  # noqa: F401
    from apps.core.database import AsyncDatabase

    print("migrating …", file=sys.stderr)
    call_command("migrate", verbosity=0)
    (Path(os.environ["ARCHON_HOME"]) / "recordings").mkdir(parents=True, exist_ok=True)
    recording = Path(os.environ["ARCHON_HOME"]) / "recordings" / "steps.json"
    recording.write_text(json.dumps(RECORDING))
    project_id, user = _project_make(folder)

    async def run() -> dict[str, Any]:
        database = AsyncDatabase()
        await database.open()
        try:
            ours, bare = [], []
            # Once for warming up.
            _, session_id = await _ours(database, project_id, user, recording, 10)
            _, thread = await _bare(database, folder / "repository", recording, 10)
            for number in range(rounds):
                print(f"round {number + 1} of {rounds} …", file=sys.stderr)
                measured, session_id = await _ours(database, project_id, user, recording, steps)
                ours.append(measured)
                bare_measured, thread = await _bare(database, folder / "repository", recording, steps)
                bare.append(bare_measured)
            rows = await _rows(database, session_id)
            ours_bytes = await _bytes(database, session_id)
            bare_bytes = await _checkpoint_bytes(database, thread)
        finally:
            await database.close()
        return _report(steps, rounds, ours, bare, rows, ours_bytes, bare_bytes)

    return asyncio.run(run())


def _report(
    steps: int,
    rounds: int,
    ours: list[Round],
    bare: list[Round],
    rows: dict[str, int],
    ours_bytes: dict[str, int],
    bare_bytes: int,
) -> dict[str, Any]:
    def per_step(values: list[float]) -> float:
        return round(statistics.median(values) / steps, 3)

    def spread(values: list[float]) -> list[float]:
        return [round(min(values) / steps, 3), round(max(values) / steps, 3)]

    cpu, cpu_bare = [item.cpu_ms for item in ours], [item.cpu_ms for item in bare]
    whole, whole_bare = [item.cpu_with_postgres_ms for item in ours], [item.cpu_with_postgres_ms for item in bare]
    parts = {name: per_step([item.parts[name] for item in ours]) for name in ours[0].parts}
    parts["rest"] = round(per_step(cpu) - sum(parts.values()), 3)
    return {
        "steps": steps,
        "rounds": rounds,
        "cpu_ms_per_step": per_step(cpu),
        "cpu_ms_per_step_range": spread(cpu),
        "cpu_ms_per_step_with_postgres": per_step(whole),
        "wall_ms_per_step": per_step([item.wall_ms for item in ours]),
        "parts": parts,
        "bare_cpu_ms_per_step": per_step(cpu_bare),
        "bare_cpu_ms_per_step_range": spread(cpu_bare),
        "bare_cpu_ms_per_step_with_postgres": per_step(whole_bare),
        "ratio": round(statistics.median(a / b for a, b in zip(cpu, cpu_bare, strict=True)), 2),
        "ratio_with_postgres": round(statistics.median(a / b for a, b in zip(whole, whole_bare, strict=True)), 2),
        "rows": rows,
        "bytes_per_step": round(sum(ours_bytes.values()) / steps),
        "bytes_per_step_by_table": {name: round(size / steps) for name, size in ours_bytes.items()},
        "bare_bytes_per_step": round(bare_bytes / steps),
        "load": os.getloadavg()[0],
    }


# --- Ours -------------------------------------------------------------------------------------------------------------


def _project_make(folder: Path) -> tuple[uuid.UUID, Any]:
    from apps.authentication.models import User
    from apps.projects.services import project_create

    repository = folder / "repository"
    repository.mkdir()
    for path, content in FILES.items():
        (repository / path).write_text(content)
    identity = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost")
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *identity, *command], cwd=repository, check=True)
    user = User.objects.create_user("bench@localhost.local", "a-password-for-the-bench")
    project = project_create(user=user, name="bench", repository_path=str(repository))
    return project.id, user


async def _ours(
    database: Any, project_id: uuid.UUID, user: Any, recording: Path, steps: int
) -> tuple[Round, uuid.UUID]:
    """One session of a researcher that reads a file a step until its limit of steps is reached."""
    from apps.agents.models import AgentSession
    from apps.agents.services.autonomous_executor import SessionExecutor
    from apps.agents.services.leases import LeaseKeeper
    from apps.agents.services.master_orchestrator import SessionRequest, session_start
    from apps.agents.types import AgentType
    from apps.core.realtime import Hub
    from apps.usage.choices import ModelConfiguration
    from apps.usage.gateway import ModelGateway
    from apps.usage.types import Limits

    request = SessionRequest(
        project_id=project_id,
        goal="read the module over and over",
        agent_type=AgentType.RESEARCHER,
        models=ModelConfiguration(model=f"scripted:{recording}"),
        limits=Limits(cost_usd=None, tokens=None, steps=steps),
        limit_seconds=3600,
    )
    session = await database.run_in_thread(session_start, user=user, request=request, execute=True)
    hub, gateway, keeper = Hub(), ModelGateway(database=database), LeaseKeeper(seconds=10)
    keeper.start()
    executor = SessionExecutor(database=database, hub=hub, gateway=gateway, keeper=keeper, owner="bench")
    try:
        with _parts() as parts:
            measured = await _timed(lambda: executor.session_execute(session.id))
            measured.parts = dict(parts)
    finally:
        keeper.stop()
        # The last bell may still be on its way.
        await asyncio.sleep(0.1)
        await gateway.close()
        await hub.close()
    ended = await database.run_in_thread(AgentSession.objects.get, id=session.id)
    if (ended.reason or {}).get("code") != "budget_exceeded":
        raise SystemExit(f"the session ended {ended.status} instead of reaching its limit: {ended.reason}")
    return measured, session.id


@contextmanager
def _parts() -> Any:
    """CPU of this thread inside each part; a session's steps run one after the other, so the parts don't overlap."""
    from apps.agents.services.checkpoints import FencedSaver
    from apps.agents.services.ledger import Ledger
    from apps.projects.sandbox import SandboxWorkspace
    from apps.usage.gateway import ModelGateway

    spent = {"model_and_spending": 0.0, "ledger": 0.0, "checkpoints": 0.0, "workspace": 0.0}
    replaced: list[tuple[type, str, Any]] = []

    def watch(owner: type, name: str, part: str) -> None:
        original = getattr(owner, name)

        async def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.thread_time()
            try:
                return await original(*args, **kwargs)
            finally:
                spent[part] += (time.thread_time() - began) * 1000

        replaced.append((owner, name, original))
        setattr(owner, name, timed)

    watch(ModelGateway, "call", "model_and_spending")
    watch(Ledger, "tool_call_open", "ledger")
    watch(FencedSaver, "aput", "checkpoints")
    watch(FencedSaver, "aput_writes", "checkpoints")
    watch(SandboxWorkspace, "file_read", "workspace")
    try:
        yield spent
    finally:
        for owner, name, original in replaced:
            setattr(owner, name, original)


# --- A bare graph -----------------------------------------------------------------------------------------------------


async def _bare(database: Any, folder: Path, recording: Path, steps: int) -> tuple[Round, str]:
    """Two nodes and LangGraph's own saver: the model asks for a file, a node reads it."""
    from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage, ToolMessage
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from langgraph.graph import END, START, StateGraph
    from langgraph.graph.message import add_messages

    from apps.agents.tools.catalogue import tools_for
    from apps.agents.tools.definitions import tool_definition
    from integrations.llm_providers import get_chat_model
    from integrations.llm_providers.types import ModelSpec

    # In its functional form, since LangGraph looks the names up in the module, which imports nothing heavy.
    State = TypedDict("State", {"messages": Annotated[list[AnyMessage], add_messages], "step": int})  # noqa: UP013

    tools = [tool_definition(tool) for tool in tools_for("researcher").values()]
    model = get_chat_model(ModelSpec(provider="scripted", model=str(recording))).bind_tools(tools)

    async def call(state: Any) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])], "step": state["step"] + 1}

    async def read(state: Any) -> dict[str, Any]:
        last: Any = state["messages"][-1]
        asked = last.tool_calls[0]["args"]
        lines = (folder / asked["path"]).read_text().splitlines()[asked["start_line"] - 1 : asked["end_line"]]
        return {"messages": [ToolMessage("\n".join(lines), tool_call_id=last.tool_calls[0]["id"])]}

    graph = StateGraph(State)
    graph.add_node("call", call)
    graph.add_node("read", read)
    graph.add_edge(START, "call")
    graph.add_edge("call", "read")
    graph.add_conditional_edges(
        "read", lambda state: END if state["step"] >= steps else "call", {END: END, "call": "call"}
    )
    compiled = graph.compile(checkpointer=AsyncPostgresSaver(database.pool))
    thread = str(uuid.uuid4())
    start: Any = {
        "messages": [SystemMessage("You are Archon's researcher."), HumanMessage("read the module over and over")],
        "step": 0,
    }
    config: Any = {"configurable": {"thread_id": thread}, "recursion_limit": 10 * steps}
    return await _timed(lambda: compiled.ainvoke(start, config, durability="sync")), thread


# --- Measuring --------------------------------------------------------------------------------------------------------


async def _timed(body: Callable[[], Awaitable[Any]]) -> Round:
    postgres = _postgres_processes()
    own, database, wall = _own_cpu(), _tree_cpu(postgres), time.perf_counter()
    await body()
    own_spent = (_own_cpu() - own) * 1000
    database_spent = (_tree_cpu(postgres) - database) * 1000
    return Round(own_spent, own_spent + database_spent, (time.perf_counter() - wall) * 1000)


def _own_cpu() -> float:
    """Seconds of this process, its living children and those that have ended."""
    import psutil

    return _tree_cpu(psutil.Process())


def _tree_cpu(root: Any) -> float:
    import psutil

    times = root.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in root.children(recursive=True):
        try:
            child_times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += child_times.user + child_times.system
    return float(total)


def _postgres_processes() -> Any:
    """The server process of the database that is used."""
    import psutil
    from django.db import connection

    port = str(connection.settings_dict["PORT"])
    for process in psutil.process_iter(["name", "cmdline"]):
        line = process.info["cmdline"] or []
        if process.info["name"] == "postgres" and any(port in argument for argument in line):
            return process
    raise SystemExit(f"no postgres process listens on port {port}")


async def _rows(database: Any, session_id: uuid.UUID) -> dict[str, int]:
    """Rows that the session left, by table."""
    queries = {
        "events": "SELECT count(*) AS n FROM agents_sessionevent WHERE session_id = %s",
        "messages": "SELECT count(*) AS n FROM agents_executionmessage m JOIN agents_agentexecution e"
        " ON e.id = m.execution_id WHERE e.session_id = %s",
        "tool_calls": "SELECT count(*) AS n FROM agents_toolcall WHERE session_id = %s",
        "model_calls": "SELECT count(*) AS n FROM usage_modelcall WHERE scope_id = %s",
        "checkpoints": "SELECT count(*) AS n FROM checkpoints WHERE thread_id = %s::text",
    }
    counts = {}
    async with database.pool.connection() as connection:
        for name, query in queries.items():
            row = await (await connection.execute(query, (session_id,))).fetchone()
            counts[name] = row["n"]
    return counts


async def _bytes(database: Any, session_id: uuid.UUID) -> dict[str, int]:
    """Bytes that the session's rows take, as stored, by table."""
    queries = {
        "events": "SELECT sum(pg_column_size(t.*)) AS n FROM agents_sessionevent t WHERE session_id = %s",
        "messages": "SELECT sum(pg_column_size(t.*)) AS n FROM agents_executionmessage t JOIN agents_agentexecution e"
        " ON e.id = t.execution_id WHERE e.session_id = %s",
        "tool_calls": "SELECT sum(pg_column_size(t.*)) AS n FROM agents_toolcall t WHERE session_id = %s",
        "model_calls": "SELECT sum(pg_column_size(t.*)) AS n FROM usage_modelcall t WHERE scope_id = %s",
    }
    sizes = {}
    async with database.pool.connection() as connection:
        for name, query in queries.items():
            row = await (await connection.execute(query, (session_id,))).fetchone()
            sizes[name] = int(row["n"] or 0)
    sizes["checkpoints"] = await _checkpoint_bytes(database, str(session_id))
    return sizes


async def _checkpoint_bytes(database: Any, thread: str) -> int:
    total = 0
    async with database.pool.connection() as connection:
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            cursor = await connection.execute(
                f"SELECT sum(pg_column_size(t.*)) AS n FROM {table} t WHERE thread_id = %s", (thread,)
            )
            row = await cursor.fetchone()
            total += int(row["n"] or 0)
    return total

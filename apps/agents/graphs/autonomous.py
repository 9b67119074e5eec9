"""The graphs that sessions run, one for each agent type; wiring alone."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph

from apps.agents.graphs.agent import agent_graph
from apps.agents.graphs.task import task_wire
from apps.agents.nodes.baseline import prepare, route_after_prepare
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.follow_up import follow_up_begin
from apps.agents.nodes.lanes import lanes_run
from apps.agents.nodes.planning import plan_begin, plan_record, plan_skip, research_begin
from apps.agents.nodes.rebase import rebase_verify
from apps.agents.nodes.report import answer_report, report
from apps.agents.nodes.tasks import route_after_choice, task_accept, task_give_up, task_next
from apps.agents.types import AgentType


def session_graph(agent_type: AgentType, saver: BaseCheckpointSaver[Any] | None) -> Any:
    """The compiled graph of an agent type, with this saver."""
    # Compiling takes as long as a step does, and nothing of it depends on the session.
    return _wired(agent_type).copy({"checkpointer": saver})


@cache
def _wired(agent_type: AgentType) -> Any:
    builders = {
        AgentType.EXECUTOR: _executor,
        AgentType.CODER: _coder,
        AgentType.PLANNER: _planner,
        AgentType.RESEARCHER: _reader,
        AgentType.REVIEWER: _reader,
    }
    graph = StateGraph(SessionState, context_schema=RunContext)
    graph.add_node("prepare", prepare)
    graph.add_edge(START, "prepare")
    builders[agent_type](graph)
    return graph.compile()


def _executor(graph: StateGraph[Any, Any, Any, Any]) -> None:
    """prepare → plan → for each task: code → verify → accept, or again, or give up → report.

    Tasks that may run side by side are one node, in which each goes through a graph of its own (``graphs.lane``).

    A follow-up comes with its task: prepare → take it up → code → … A branch that was put onto another commit is judged
    anew: prepare → judge → END.
    """
    _plan(graph)
    _follow_up(graph, goal="plan_begin")
    _carry_out(graph, after="plan_record")


def _coder(graph: StateGraph[Any, Any, Any, Any]) -> None:
    """As the executor, with the goal as the one task."""
    graph.add_node("plan_skip", plan_skip)
    _follow_up(graph, goal="plan_skip")
    _carry_out(graph, after="plan_skip")


def _planner(graph: StateGraph[Any, Any, Any, Any]) -> None:
    """prepare → plan → report."""
    _plan(graph)
    graph.add_edge("prepare", "plan_begin")
    graph.add_node("report", report)
    graph.add_edge("plan_record", "report")
    graph.add_edge("report", END)


def _reader(graph: StateGraph[Any, Any, Any, Any]) -> None:
    """prepare → read → answer."""
    graph.add_node("research_begin", research_begin)
    graph.add_node("read", agent_graph())
    graph.add_node("answer_report", answer_report)
    graph.add_edge("prepare", "research_begin")
    graph.add_edge("research_begin", "read")
    graph.add_edge("read", "answer_report")
    graph.add_edge("answer_report", END)


def _plan(graph: StateGraph[Any, Any, Any, Any]) -> None:
    graph.add_node("plan_begin", plan_begin)
    graph.add_node("plan", agent_graph())
    graph.add_node("plan_record", plan_record)
    graph.add_edge("plan_begin", "plan")
    graph.add_edge("plan", "plan_record")


def _follow_up(graph: StateGraph[Any, Any, Any, Any], *, goal: str) -> None:
    graph.add_node("follow_up_begin", follow_up_begin)
    graph.add_node("rebase_verify", rebase_verify)
    ways: dict[Hashable, str] = {"goal": goal, "follow_up": "follow_up_begin", "rebase": "rebase_verify"}
    graph.add_conditional_edges("prepare", route_after_prepare, ways)
    graph.add_edge("rebase_verify", END)
    graph.add_edge("follow_up_begin", "task_next")


def _carry_out(graph: StateGraph[Any, Any, Any, Any], *, after: str) -> None:
    graph.add_node("task_next", task_next)
    graph.add_node("lanes_run", lanes_run)
    task_wire(graph, agent=agent_graph(), accept="task_accept", give_up="task_give_up")
    graph.add_node("task_accept", task_accept)
    graph.add_node("task_give_up", task_give_up)
    graph.add_node("report", report)
    graph.add_edge(after, "task_next")
    ways: dict[Hashable, str] = {"code": "code_begin", "lanes": "lanes_run", "report": "report"}
    graph.add_conditional_edges("task_next", route_after_choice, ways)
    graph.add_edge("lanes_run", "task_next")
    graph.add_edge("task_accept", "task_next")
    graph.add_edge("task_give_up", "task_next")
    graph.add_edge("report", END)

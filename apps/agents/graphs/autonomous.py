"""The graphs that sessions run, one for each agent type; wiring alone."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph

from apps.agents.graphs.agent import agent_graph
from apps.agents.graphs.task import task_wire
from apps.agents.nodes.approval import plan_wait, route_after_wait
from apps.agents.nodes.baseline import prepare, route_after_prepare
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.follow_up import follow_up_begin
from apps.agents.nodes.lanes import lanes_run
from apps.agents.nodes.plan_closing import plan_close, route_after_close
from apps.agents.nodes.planning import plan_begin, plan_record, plan_skip, research_begin, route_after_plan
from apps.agents.nodes.rebase import rebase_verify
from apps.agents.nodes.replanning import replan_begin, replan_record, route_after_replan
from apps.agents.nodes.report import answer_report, report
from apps.agents.nodes.review import review_give_up
from apps.agents.nodes.tasks import route_after_choice, task_accept, task_block, task_give_up, task_next, tasks_close
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
    """prepare → plan → each task: code → verify → review → accept, or again, or give up → close the plan → report.

    Where something has happened that what has not started may have to follow, replan comes before the next task. Tasks
    that may run side by side are one node, in which each goes through a graph of its own (``graphs.lane``).

    A goal that is a question ends with its answer. A plan that a person has to approve waits for that, and is made
    otherwise where they say so; one that was there before the session comes in there. A follow-up comes with its task:
    prepare → take it up → code → … A branch that was put onto another commit is judged anew: prepare → judge → END.
    """
    _plan(graph, planned="plan_wait")
    graph.add_node("plan_wait", plan_wait)
    _follow_up(graph, goal="plan_begin", plan="plan_wait")
    _carry_out(graph, revised="plan_wait")
    graph.add_conditional_edges("plan_wait", route_after_wait, {"go": "task_next", "revise": "plan"})


def _coder(graph: StateGraph[Any, Any, Any, Any]) -> None:
    """As the executor, with the goal as the one task."""
    graph.add_node("plan_skip", plan_skip)
    _follow_up(graph, goal="plan_skip", plan="task_next")
    _carry_out(graph, revised="task_next")
    graph.add_edge("plan_skip", "task_next")


def _planner(graph: StateGraph[Any, Any, Any, Any]) -> None:
    """prepare → plan → report."""
    _plan(graph, planned="report")
    graph.add_edge("prepare", "plan_begin")
    graph.add_node("report", report)
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


def _plan(graph: StateGraph[Any, Any, Any, Any], *, planned: str) -> None:
    graph.add_node("plan_begin", plan_begin)
    graph.add_node("plan", agent_graph())
    graph.add_node("plan_record", plan_record)
    graph.add_node("answer_report", answer_report)
    graph.add_edge("plan_begin", "plan")
    graph.add_edge("plan", "plan_record")
    ways: dict[Hashable, str] = {"plan": planned, "answered": "answer_report", "again": "plan"}
    graph.add_conditional_edges("plan_record", route_after_plan, ways)
    graph.add_edge("answer_report", END)


def _follow_up(graph: StateGraph[Any, Any, Any, Any], *, goal: str, plan: str) -> None:
    graph.add_node("follow_up_begin", follow_up_begin)
    graph.add_node("rebase_verify", rebase_verify)
    ways: dict[Hashable, str] = {
        "goal": goal,
        "plan": plan,
        "follow_up": "follow_up_begin",
        "rebase": "rebase_verify",
    }
    graph.add_conditional_edges("prepare", route_after_prepare, ways)
    graph.add_edge("rebase_verify", END)
    graph.add_edge("follow_up_begin", "task_next")


def _carry_out(graph: StateGraph[Any, Any, Any, Any], *, revised: str) -> None:
    graph.add_node("task_next", task_next)
    graph.add_node("lanes_run", lanes_run)
    graph.add_node("task_accept", task_accept)
    graph.add_node("task_give_up", task_give_up)
    graph.add_node("task_block", task_block)
    graph.add_node("review_give_up", review_give_up)
    graph.add_node("plan_close", plan_close)
    graph.add_node("tasks_close", tasks_close)
    graph.add_node("report", report)
    ways: dict[Hashable, str] = {
        "code": "code_begin",
        "lanes": "lanes_run",
        "replan": "replan_begin",
        "report": "plan_close",
    }
    graph.add_conditional_edges("task_next", route_after_choice, ways)
    task_wire(graph, agent=agent_graph(), accept="task_accept", give_up="task_give_up")
    for ended in ("lanes_run", "task_accept", "task_give_up", "task_block", "review_give_up"):
        graph.add_edge(ended, "task_next")
    _replan(graph, revised=revised)
    graph.add_conditional_edges("plan_close", route_after_close, {"report": "tasks_close", "tasks": "task_next"})
    graph.add_edge("tasks_close", "report")
    graph.add_edge("report", END)


def _replan(graph: StateGraph[Any, Any, Any, Any], *, revised: str) -> None:
    graph.add_node("replan_begin", replan_begin)
    graph.add_node("replan", agent_graph())
    graph.add_node("replan_record", replan_record)
    graph.add_edge("replan_begin", "replan")
    graph.add_edge("replan", "replan_record")
    # A version that a person has to approve waits for that before any more of the plan is carried out.
    ways: dict[Hashable, str] = {"tasks": "task_next", "again": "replan", "wait": revised}
    graph.add_conditional_edges("replan_record", route_after_replan, ways)

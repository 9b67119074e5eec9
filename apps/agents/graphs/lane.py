"""One task that is worked on beside others, from its beginning until its work is merged; wiring alone."""

from __future__ import annotations

from functools import cache
from typing import Any

from langgraph.graph import END, START, StateGraph

from apps.agents.graphs.agent import agent_graph
from apps.agents.graphs.task import task_wire
from apps.agents.nodes.context import RunContext, SessionState
from apps.agents.nodes.lane_merge import lane_block, lane_give_up, lane_merge, route_after_merge
from apps.agents.nodes.lanes import lane_step
from apps.agents.nodes.review import review_give_up


@cache
def lane_graph() -> Any:
    """code → verify → review → merge, or again, or give up; compiled, without a saver: rows decide where it is."""
    graph = StateGraph(SessionState, context_schema=RunContext)
    task_wire(graph, agent=agent_graph(each=lane_step), each=lane_step, accept="lane_merge", give_up="lane_give_up")
    graph.add_node("lane_merge", lane_step(lane_merge))
    graph.add_node("lane_give_up", lane_step(lane_give_up))
    graph.add_node("task_block", lane_step(lane_block))
    graph.add_node("review_give_up", lane_step(review_give_up))
    graph.add_edge(START, "code_begin")
    graph.add_conditional_edges(
        "lane_merge", route_after_merge, {"merged": END, "again": "code", "failed": "lane_give_up"}
    )
    graph.add_edge("task_block", END)
    # What was committed is kept there.
    graph.add_edge("review_give_up", "lane_give_up")
    graph.add_edge("lane_give_up", END)
    return graph.compile()

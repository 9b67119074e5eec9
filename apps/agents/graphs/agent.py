"""An agent at work: ask the model, carry out what it asks for, until it is done."""

from __future__ import annotations

from typing import Any

from langgraph.graph import END, START, StateGraph

from apps.agents.nodes.agent_loop import model_call, route_after_tools, tools_run
from apps.agents.nodes.context import RunContext, SessionState


def agent_graph() -> Any:
    """model → tools → model …, compiled; as a node of another graph it shares that graph's checkpoints."""
    graph = StateGraph(SessionState, context_schema=RunContext)
    graph.add_node("model", model_call)
    graph.add_node("tools", tools_run)
    # The rows may say already that the agent has ended: then there is nothing to ask.
    graph.add_conditional_edges(START, route_after_tools, {"model": "model", "end": END})
    graph.add_edge("model", "tools")
    graph.add_conditional_edges("tools", route_after_tools, {"model": "model", "end": END})
    return graph.compile()

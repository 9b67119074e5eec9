"""An agent at work: ask the model, carry out what it asks for, until it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.graph import END, START, StateGraph

from apps.agents.nodes.agent_loop import route_after_step, step_take
from apps.agents.nodes.context import RunContext, SessionState


def agent_graph(each: Callable[[Any], Any] | None = None) -> Any:
    """step → step …, compiled; as a node of another graph it shares that graph's checkpoints.

    A step is the model's reply and the calls in it. They are one node, since what happened between them stands in rows:
    a checkpoint there would cost a third of it and tell nothing. ``each``: how the node is taken, if not as it is.
    """
    graph = StateGraph(SessionState, context_schema=RunContext)
    graph.add_node("step", each(step_take) if each else step_take)
    # The rows may say already that the agent has ended: then there is nothing to ask.
    graph.add_conditional_edges(START, route_after_step, {"step": "step", "end": END})
    graph.add_conditional_edges("step", route_after_step, {"step": "step", "end": END})
    return graph.compile()

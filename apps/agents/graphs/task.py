"""One task: coded, committed, judged, and coded again until it stands or is given up; wiring alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.graph import StateGraph

from apps.agents.nodes.tasks import code_begin, route_after_verify, task_retry, verify


def _as_it_is(node: Any) -> Any:
    return node


def task_wire(
    graph: StateGraph[Any, Any, Any, Any],
    *,
    agent: Any,
    accept: str,
    give_up: str,
    each: Callable[[Any], Any] = _as_it_is,
) -> None:
    """code_begin → code → verify → ``accept``, again, or ``give_up``. ``each``: how every node is taken."""
    graph.add_node("code_begin", each(code_begin))
    graph.add_node("code", agent)
    graph.add_node("verify", each(verify))
    graph.add_node("task_retry", each(task_retry))
    graph.add_edge("code_begin", "code")
    graph.add_edge("code", "verify")
    graph.add_conditional_edges(
        "verify", route_after_verify, {"passed": accept, "retry": "task_retry", "failed": give_up}
    )
    graph.add_edge("task_retry", "code")

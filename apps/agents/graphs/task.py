"""One task: coded, committed, judged, reviewed, and coded again until it stands or is given up; wiring alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from langgraph.graph import StateGraph

from apps.agents.nodes.review import review_ask, review_begin, review_record, review_retry, route_after_review
from apps.agents.nodes.task_verdict import route_after_verify, verify
from apps.agents.nodes.tasks import code_begin, task_retry


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
    """code_begin → code → verify → review → ``accept``, again, ``give_up``, ``task_block`` or ``review_give_up``.

    The last four are the caller's. ``each``: how every node is taken.
    """
    graph.add_node("code_begin", each(code_begin))
    graph.add_node("code", agent)
    graph.add_node("verify", each(verify))
    graph.add_node("task_retry", each(task_retry))
    graph.add_node("review_begin", each(review_begin))
    graph.add_node("review", agent)
    graph.add_node("review_record", each(review_record))
    graph.add_node("review_ask", each(review_ask))
    graph.add_node("review_retry", each(review_retry))
    graph.add_edge("code_begin", "code")
    graph.add_edge("code", "verify")
    verdicts: dict[Hashable, str] = {
        "passed": "review_begin",
        "retry": "task_retry",
        "failed": give_up,
        "blocked": "task_block",
    }
    graph.add_conditional_edges("verify", route_after_verify, verdicts)
    graph.add_conditional_edges("review_begin", route_after_review, {"passed": accept, "review": "review"})
    graph.add_edge("review", "review_record")
    found: dict[Hashable, str] = {"passed": accept, "retry": "review_retry", "ask": "review_ask"}
    graph.add_conditional_edges("review_record", route_after_review, found)
    decided: dict[Hashable, str] = {"passed": accept, "retry": "review_retry", "failed": "review_give_up"}
    graph.add_conditional_edges("review_ask", route_after_review, decided)
    for again in ("task_retry", "review_retry"):
        graph.add_edge(again, "code")

"""Handing over a review."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from apps.agents.services.reviews import COMMENT_LENGTH, HANDED_BACK, MAX_FINDINGS, Found, ReviewScope, findings_place
from apps.agents.tools.base import Arguments, Finish, Observation, Risk, Tool, ToolContext
from apps.agents.types import Severity

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

NAME = "submit_review"
_BACK = "the review can't be taken as it is; hand over all of it again, put right:"


class FindingArguments(Arguments):
    path: str = Field(min_length=1, max_length=1000)
    line: int = Field(ge=0, description="As numbered in the diff, on the new side; a line that the change touched.")
    severity: Severity = Field(
        description="critical: it does harm or the task is not done; major: it is wrong in a case that will come up;"
        " minor: worth mending; info: worth knowing."
    )
    comment: str = Field(min_length=1, max_length=COMMENT_LENGTH, description="What is wrong, when, and why.")


class SubmitReviewArguments(Arguments):
    summary: str = Field(min_length=1, max_length=10_000, description="The review in a few sentences.")
    findings: tuple[FindingArguments, ...] = Field(
        default=(), max_length=MAX_FINDINGS, description="New ones, the most serious first; none: nothing is wrong."
    )
    resolved: tuple[str, ...] = Field(
        default=(), max_length=500, description="Ids of earlier findings that the change has resolved."
    )
    unresolved: tuple[str, ...] = Field(default=(), max_length=500, description="Ids of those that it has not.")


async def submit_review(context: ToolContext, arguments: SubmitReviewArguments) -> Finish | Observation:
    scope = context.review
    if scope is None:
        return Finish("the review is taken", {"summary": _told(arguments), "findings": _findings(arguments)})
    found = findings_place(
        scope,
        [(each.path, each.line, each.severity, each.comment) for each in arguments.findings],
        resolved=arguments.resolved,
        unresolved=arguments.unresolved,
    )
    if found.problems and _handed_back(context.conversation) < HANDED_BACK:
        listed = "\n".join(f"- {problem}" for problem in found.problems)
        return Observation(
            f"{_BACK}\n{listed}",
            ok=False,
            summary=f"handed back: {found.problems[0]}",
        )
    return Finish("the review is taken", _result(scope, arguments, found), listens=False)


def _result(scope: ReviewScope, arguments: SubmitReviewArguments, found: Found) -> dict[str, Any]:
    return {
        "summary": arguments.summary,
        "reviewed": True,
        "findings": [each.as_dict() for each in found.findings],
        "resolved": list(found.resolved),
        "beside": found.beside,
    }


def _handed_back(conversation: Sequence[BaseMessage]) -> int:
    """How many reviews were handed back to the agent already."""
    return sum(said.type == "tool" and str(said.text).startswith(_BACK) for said in conversation)


def _findings(arguments: SubmitReviewArguments) -> list[dict[str, Any]]:
    return [each.model_dump(mode="json") for each in arguments.findings]


def _told(arguments: SubmitReviewArguments) -> str:
    """A review of no change of the session's, as its answer: the findings in words."""
    lines = [f"- {each.path}:{each.line} ({each.severity.value}): {each.comment}" for each in arguments.findings]
    return "\n".join([arguments.summary, *([""] if lines else []), *lines])


SUBMIT_REVIEW = Tool(
    NAME,
    "Hand your review over and end your work. In the review of a change, a finding is on a line that the change"
    " touched, and of each earlier finding you say whether it is resolved.",
    SubmitReviewArguments,
    Risk.TALK,
    submit_review,
)

"""What a tool is: a name, typed arguments in, a typed observation out.

A tool knows neither the model, the graph nor the policy. It gets a :class:`ToolContext` and says what came of the call
in words that a model can act on. Errors that a model can recover from are observations with ``ok`` False; anything else
is a bug and crashes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

from apps.agents.services.code_knowledge import CodeKnowledge
from apps.agents.services.images import Image
from apps.agents.services.reviews import ReviewScope
from apps.agents.tools.kept_outputs import KeptOutputs
from apps.agents.types import Citation
from apps.agents.types import Risk as Risk
from apps.core.outbound import Fetched
from apps.planning.document import PlanDoc
from apps.planning.problems import Problem
from apps.projects.repository_history import RepositoryHistory
from apps.projects.workspace import Workspace

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage  # the API process doesn't load LangChain

#: What one observation may say, in characters; of more the middle is left out, and kept in a file. Where the model has
#: a small context window, it is this share of it (with three characters a token), and no less than the second number.
OBSERVATION_LIMIT, OBSERVATION_SHARE, OBSERVATION_LEAST = 24_000, 0.125, 1_500


class Arguments(BaseModel):
    """Base of all arguments: unknown ones are an error, so that a misspelt name is told to the model.

    Every field has one plain type, since not every server and model copes with ``anyOf``; null is the default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_defaults(cls, given: Any) -> Any:
        # Some models name every argument, and give null for those that they don't need.
        if not isinstance(given, dict):
            return given
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: value for name, value in given.items() if value is not None or name not in optional}


@dataclass(frozen=True)
class NamedImage:
    """An image that the model is shown."""

    image: Image
    name: str


@dataclass(frozen=True)
class Observation:
    """What the model is told. ``summary`` is one line for people."""

    text: str
    ok: bool = True
    summary: str = ""
    images: tuple[NamedImage, ...] = ()
    #: An edit was carried out as it was written, whatever else there is to say of it.
    edited: bool = False
    #: What is kept to be paged where the text is too long to be shown; None: the text.
    whole: str | None = None


@dataclass(frozen=True)
class Finish:
    """The agent says that its work is done; ``result`` is what it hands over."""

    text: str
    result: dict[str, Any] = field(default_factory=dict)
    #: A person's word that it has not heard keeps it from ending; False: such a word is for the agent after it.
    listens: bool = True


@dataclass(frozen=True)
class Question:
    """A person has to answer before the agent goes on."""

    text: str
    choices: tuple[str, ...] = ()


ToolResult = Observation | Finish | Question


class CheckRunner(Protocol):
    """Runs the project's checks on the worktree as it is now."""

    async def __call__(self) -> Observation: ...


class PageFetcher(Protocol):
    """Gets a web page from one of the hosts that the project allows; raises ApplicationError."""

    async def __call__(self, url: str) -> Fetched: ...


class PlanRevision(Protocol):
    """Looks at a revision of the plan that is carried out: None where it holds, or what doesn't, in words."""

    async def __call__(self, arguments: Arguments) -> Observation | Finish | None: ...


@dataclass(frozen=True)
class FittedPlan:
    """What a plan that was handed over would come to, and why it can't be."""

    document: PlanDoc
    problems: tuple[Problem, ...] = ()
    #: The version of the plan that it would follow; 0: there is none yet.
    version: int = 0


class PlanDesk(Protocol):
    """What planners hand over is held against: the repository, and the plan that is there already."""

    async def keys_taken(self) -> frozenset[str]:
        """Keys that a task or feature without one must not get: they are of what stays in the plan."""

    async def plan_fit(self, submitted: PlanDoc) -> FittedPlan:
        """The plan as it would stand: what was begun is kept, a feature that is broken down holds what is new."""

    async def answer_problem(self) -> str:
        """Why an answer won't do and a plan is wanted; empty: it will do."""

    async def citation_problems(self, citations: Sequence[Citation]) -> list[str]:
        """For each, why there are no such lines in the commit that the session works from; empty: there are."""


@dataclass(frozen=True)
class ToolContext:
    """What tools may touch."""

    workspace: Workspace
    checks_run: CheckRunner
    command_seconds: int
    #: By what this call's output is found again; once in an execution.
    command_id: str
    #: What was too long to be shown.
    outputs: KeptOutputs
    #: All that was said in the execution so far.
    conversation: Sequence[BaseMessage]
    #: What one observation may say, in characters.
    observation_limit: int
    history: RepositoryHistory
    page_fetch: PageFetcher
    #: What the index knows of the code, as the session has it.
    code: CodeKnowledge
    #: The model can be shown images.
    vision: bool
    planning: PlanDesk
    #: Of an agent that reviews a task's change: that.
    review: ReviewScope | None = None
    #: For whoever looks at the plan again.
    plan_revision: PlanRevision | None = None


A = TypeVar("A", bound=Arguments)


@dataclass(frozen=True)
class Tool(Generic[A]):
    """A tool as the model sees it and as it runs."""

    name: str
    description: str
    arguments: type[A]
    risk: Risk
    run: Callable[[ToolContext, A], Awaitable[ToolResult]]
    #: May run again when nobody knows whether it did; by its risk unless said.
    repeatable: bool | None = None
    #: What it runs, it runs on a copy: nothing of the worktree changes.
    on_copy: bool = False

    @property
    def mutating(self) -> bool:
        """It may change something of the session's."""
        return self.risk not in (Risk.READ, Risk.TALK, Risk.NETWORK) and not self.on_copy

    @property
    def may_repeat(self) -> bool:
        if self.repeatable is not None:
            return self.repeatable
        return self.risk in (Risk.READ, Risk.TALK, Risk.NETWORK)


def observation_limit(context_tokens: int) -> int:
    """What an observation may say to a model with such a context window, in characters."""
    return min(OBSERVATION_LIMIT, max(OBSERVATION_LEAST, int(3 * OBSERVATION_SHARE * context_tokens)))


def text_cut(text: str, limit: int = OBSERVATION_LIMIT) -> str:
    """The text, its middle left out (and said so) when it is over the limit."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    return f"{text[:head]}\n[... {len(text) - head - tail} characters left out ...]\n{text[-tail:]}"

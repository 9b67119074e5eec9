"""What the app says to others."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from apps.core.errors import ApplicationError, Conflict


class LeaseLost(Exception):
    """Somebody else holds the index now, or the job is over: whoever meets this stops."""


class IndexMissing(Conflict):
    """There is nothing to search yet."""

    code = "not_indexed"


class IndexGivenUp(ApplicationError):
    """The job was taken up too often, and never came to an end."""

    code = "given_up"


@dataclass(frozen=True)
class Lease:
    """The right to write to an index, as long as its fence is the last one."""

    index_id: int
    fence: int
    #: How long it is held each time.
    seconds: int = 60


@dataclass(frozen=True)
class JobHead:
    """How far a job is, for whoever follows its events."""

    id: uuid.UUID
    #: Of the project's jobs, in the order in which they were wanted.
    number: int
    target: str
    state: str
    #: The last event's number.
    seq: int


@dataclass(frozen=True)
class WorkFiles:
    """Files that are worked on: a session's own, or those of one of its lanes."""

    session_id: uuid.UUID
    #: The worktree beside the session's own; empty: its own.
    lane: str = ""
    #: The tree of the project's repository that they are, where that is known: what is found is held against it.
    tree: str = ""

    @property
    def key(self) -> uuid.UUID:
        """What the index has them by: the session's id, or one of its own for each lane."""
        return uuid.uuid5(self.session_id, self.lane) if self.lane else self.session_id


def session_files(session_id: uuid.UUID | None) -> WorkFiles | None:
    """A session's own files, whatever they are now; None without one."""
    return None if session_id is None else WorkFiles(session_id)


@dataclass(frozen=True)
class View:
    """What a search looks at: one generation of the tree, and an overlay of files that are worked on."""

    index_id: int
    generation: int
    overlay_id: int | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {"index": self.index_id, "generation": self.generation, "overlay": self.overlay_id}


SearchMode = Literal["hybrid", "text", "vector", "symbol", "regex"]
#: ``incomplete``: stopped while the first commit was being read.
INDEX_STATES = ("none", "indexing", "incomplete", "ready", "updating", "failed")
SEARCH_MODES: tuple[SearchMode, ...] = ("hybrid", "text", "vector", "symbol", "regex")


@dataclass(frozen=True)
class SearchFilters:
    """Which code is meant; empty: all of it."""

    #: Globs, of which a path has to match one.
    paths: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    #: Of chunks, and with the mode ``symbol`` of symbols.
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchRequest:
    query: str
    mode: SearchMode = "hybrid"
    limit: int = 10
    filters: SearchFilters = field(default_factory=SearchFilters)
    #: Lines before and after what is shown of a hit.
    context_lines: int = 2
    #: Lines that are shown of a hit at most, without those around it.
    snippet_lines: int = 12
    explain: bool = False


@dataclass(frozen=True)
class Snippet:
    start_line: int
    text: str


@dataclass(frozen=True)
class FusedPart:
    """What one signal gave to a fused score, before it was scaled; None: the hit is not among its best."""

    #: Values of one scale can be compared: those of words, or of one embedder's vectors.
    scale: str
    weight: float
    value: float | None


@dataclass(frozen=True)
class Hit:
    """Code that was found, as it is in the file: it was looked at before this was said."""

    path: str
    start_line: int
    end_line: int
    #: The qualified name of the function or class; empty: none.
    symbol: str
    kind: str
    language: str
    score: float
    #: The commit that the lines were read at; with a session, the one that its files lie on.
    commit: str
    snippet: Snippet
    #: The line that answers best.
    line: int = 0
    signature: str = ""
    #: It is otherwise in the file than in the index, and was found there again.
    moved: bool = False
    #: How the score came about; empty unless asked for.
    scores: Mapping[str, Any] = field(default_factory=dict)
    #: What a fused score is made of; empty: it isn't fused.
    fused_of: tuple[FusedPart, ...] = ()


@dataclass(frozen=True)
class IndexState:
    """How an index stands, for whoever searches it."""

    #: One of ``INDEX_STATES``; ``indexing``: for the first time, and what was read so far is found.
    state: str
    commit: str = ""
    head_commit: str = ""
    #: What is searched is not what the branch, or the session's files, are now.
    lagging: bool = False
    files_done: int = 0
    files_total: int = 0
    reason: Mapping[str, Any] | None = None
    #: Of the vectors: as ``apps.vector_store`` says it; empty where they weren't asked for.
    vectors: str = ""


@dataclass(frozen=True)
class SearchResult:
    hits: tuple[Hit, ...]
    index: IndexState
    #: What was done otherwise than asked, for people: terms left out, vectors that aren't there yet.
    notes: tuple[str, ...] = ()
    #: Hits that were left out since their files are otherwise now.
    stale: int = 0
    #: There is more than was looked at.
    truncated: bool = False

"""``code_search``: the one way to search, for the API, the command line, agents and MCP clients."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from apps.context.models import CodeIndex, IndexJob, JobState, JobTarget, Overlay
from apps.context.searching.candidates import Candidate, Scope, scope_make
from apps.context.searching.checking import Now, hits_check
from apps.context.searching.fusion import DEPTH, KIND_WEIGHTS, TEXT_WEIGHT, kinds_weigh, rankings_fuse
from apps.context.searching.meaning import MeaningFound, meaning_search
from apps.context.searching.regex import regex_search
from apps.context.searching.symbol import symbol_search
from apps.context.searching.text import TextFound, terms_explain, text_search
from apps.context.types import Hit, IndexMissing, IndexState, SearchRequest, SearchResult, View
from apps.core.errors import InvalidInput, LimitReached
from apps.core.storable import text_storable
from apps.projects.models import Project, RepositoryState
from apps.projects.repository import repository_path
from apps.vector_store.types import Payer, SpaceStatus

QUERY_CHARACTERS = 20_000
#: Candidates beyond those that are wanted, in place of those whose files are otherwise now.
_SPARE = 20


@dataclass
class _Found:
    candidates: Sequence[Candidate]
    notes: list[str] = field(default_factory=list)
    truncated: bool = False
    vectors: str = ""
    scores: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


def code_search(
    *, project: Project, request: SearchRequest, session_id: uuid.UUID | None = None, payer: Payer | None = None
) -> SearchResult:
    """What answers the request in a project's code (with a session: in its files), held against the files.

    Who may read the project, and that the session is one of it (its checkout is found by its id alone), is for the
    caller to see to. Raises IndexMissing where nothing was indexed yet, InvalidInput for a query that can't be
    understood.
    """
    _request_check(request)
    request = replace(request, query=text_storable(request.query))
    view, state = index_view(project=project, session_id=session_id)
    scope = scope_make(view=view, filters=request.filters)
    found = _found(scope, request, payer or Payer(project_id=project.id))
    now = Now(
        project_id=project.id,
        git_dir=repository_path(project_id=project.id),
        commit=state.commit,
        head_commit=state.head_commit,
        session_id=session_id,
    )
    checked = hits_check(candidates=found.candidates, limit=request.limit, now=now, request=request)
    notes = found.notes
    if state.lagging or any(hit.moved for hit in checked.hits) or checked.stale:
        state = replace(state, lagging=True)
        notes = [*notes, "The index lags behind the files; what it has of files that were changed was looked for anew."]
    return SearchResult(
        hits=tuple(_scores_told(hit, found, request) for hit in checked.hits),
        index=replace(state, vectors=found.vectors),
        notes=tuple(notes),
        stale=checked.stale,
        truncated=found.truncated,
    )


def index_view(*, project: Project, session_id: uuid.UUID | None = None) -> tuple[View, IndexState]:
    """What there is to search of a project, or of a session's files. Raises IndexMissing where there is nothing."""
    state = index_state(project=project)
    index = CodeIndex.objects.filter(project=project).first()
    if index is None or not index.generation:
        raise IndexMissing(
            (
                "The project's code has not been indexed yet."
                if state.state in ("none", "failed")
                else "The project's code is about to be indexed."
            ),
            next_step=(
                "wait a moment and search again"
                if state.state == "indexing"
                else "POST /api/context/index/ (archon index) has it indexed"
            ),
            state=state.state,
        )
    if session_id is not None:
        overlay = Overlay.objects.filter(index_id=index.id, session_id=session_id).first()
        if overlay is not None:
            behind = IndexJob.objects.filter(
                index=index,
                session_id=session_id,
                target=JobTarget.SESSION,
                state__in=[JobState.WAITING, JobState.RUNNING],
            ).exists()
            return View(index.id, overlay.generation, overlay.id), replace(state, commit=overlay.commit, lagging=behind)
    return View(index.id, index.generation), state


def index_state(*, project: Project) -> IndexState:
    """How a project's index stands."""
    index = CodeIndex.objects.filter(project=project).first()
    head = project.head_commit if project.repository_state == RepositoryState.READY else ""
    if index is None:
        return IndexState("none", head_commit=head, lagging=bool(head))
    jobs = IndexJob.objects.filter(index=index, target=JobTarget.HEAD)
    active = jobs.filter(state__in=[JobState.RUNNING, JobState.WAITING]).order_by("created_at").first()
    last = jobs.order_by("-created_at").first()
    if active is not None:
        state = "updating" if index.complete else "indexing"
    elif last is not None and last.state == JobState.FAILED and last.commit != index.commit:
        state = "failed"
    elif index.complete:
        state = "ready"
    else:
        # Cancelled in the middle of the first time.
        state = "incomplete" if index.generation else "none"
    shown = active or last
    progress = shown.progress if shown is not None else {}
    return IndexState(
        state=state,
        commit=index.commit,
        head_commit=head,
        lagging=not index.complete or index.commit != head,
        files_done=progress.get("files_done", 0),
        files_total=progress.get("files_total", 0),
        reason=last.reason if last is not None and state == "failed" else None,
    )


def _request_check(request: SearchRequest) -> None:
    if not request.query.strip():
        raise InvalidInput("The query is empty.", next_step="say what you look for")
    if len(request.query) > QUERY_CHARACTERS:
        raise InvalidInput(
            f"The query has {len(request.query)} characters, more than {QUERY_CHARACTERS}",
            next_step="send the part that says what is looked for",
        )


def _found(scope: Scope, request: SearchRequest, payer: Payer) -> _Found:
    wanted = request.limit + _SPARE
    if request.mode == "symbol":
        return _Found(symbol_search(scope=scope, query=request.query, limit=wanted))
    if request.mode == "regex":
        lines = regex_search(scope=scope, pattern=request.query, limit=wanted)
        return _Found(lines.candidates, truncated=lines.truncated or len(lines.candidates) > request.limit)
    if request.mode == "text":
        text = text_search(scope=scope, query=request.query, limit=wanted)
        ranked = kinds_weigh(text.candidates)
        return _Found(ranked, list(text.notes), scores=_text_scores(scope, request, text, ranked))
    depth = max(DEPTH, wanted)
    try:
        meaning = meaning_search(scope=scope, payer=payer, query=request.query, limit=depth)
    except LimitReached as error:
        if request.mode == "vector":
            raise
        # Words cost nothing.
        meaning = MeaningFound((), SpaceStatus("primary", "stopped", "", "", -1, error.message, error.next_step))
    notes = _vector_notes(meaning.status.state, meaning.status.detail, mode=request.mode)
    if request.mode == "vector":
        scores = {
            candidate.chunk_id: {"cosine": round(candidate.score, 6), **_kind_told(candidate)}
            for candidate in meaning.candidates
        }
        return _Found(kinds_weigh(meaning.candidates), notes, vectors=meaning.status.state, scores=scores)
    text = text_search(scope=scope, query=request.query, limit=depth)
    if not meaning.candidates:
        ranked = kinds_weigh(text.candidates)
        scores = _text_scores(scope, request, text, ranked)
        return _Found(ranked, [*text.notes, *notes], vectors=meaning.status.state, scores=scores)
    fused = rankings_fuse(text=text.candidates, vector=meaning.candidates)
    explained = _text_scores(scope, request, text, [each.candidate for each in fused[:wanted]])
    told = {
        each.candidate.chunk_id: {
            "text": each.text,
            "text_scaled": round(each.text_scaled, 4),
            "text_weight": TEXT_WEIGHT,
            "vector": each.vector,
            "vector_scaled": round(each.vector_scaled, 4),
            "vector_weight": round(1 - TEXT_WEIGHT, 4),
            **_kind_told(each.candidate),
            **explained.get(each.candidate.chunk_id, {}),
        }
        for each in fused[:wanted]
    }
    candidates = [each.candidate for each in fused]
    return _Found(candidates, [*text.notes, *notes], vectors=meaning.status.state, scores=told)


def _text_scores(
    scope: Scope, request: SearchRequest, text: TextFound, candidates: Sequence[Candidate]
) -> dict[int, dict[str, Any]]:
    if not request.explain:
        return {}
    ids = [candidate.chunk_id for candidate in candidates[: request.limit + _SPARE]]
    shares = terms_explain(index_id=scope.view.index_id, postings=text.postings, chunk_ids=ids)
    kinds = {candidate.chunk_id: _kind_told(candidate) for candidate in candidates}
    return {chunk_id: {"terms": terms, **kinds[chunk_id]} for chunk_id, terms in shares.items()}


def _kind_told(candidate: Candidate) -> dict[str, float]:
    weight = KIND_WEIGHTS.get(candidate.kind)
    return {} if weight is None else {"kind_weight": weight}


def _vector_notes(state: str, detail: str, *, mode: str) -> list[str]:
    if state in ("ready", "refilling"):
        return []
    instead = "words alone decide" if mode == "hybrid" else "this finds what has vectors already"
    why = {
        "off": "There are no vectors here",
        "empty": "Nothing is embedded yet",
        "filling": "Vectors are still being filled in",
        "stopped": "Vectors can't be made or read now",
    }.get(state, "Vectors are not ready")
    return [f"{why}{f' ({detail})' if detail else ''}: {instead}."]


def _scores_told(hit: Hit, found: _Found, request: SearchRequest) -> Hit:
    told = found.scores.get(hit.scores["chunk"], {})
    fused_of = (told.get("text"), told.get("vector")) if "text_scaled" in told else None
    if fused_of is None and request.mode == "hybrid":
        # Words alone decided.
        fused_of = (hit.score, None)
    return replace(hit, scores=dict(told) if request.explain else {}, fused_of=fused_of)

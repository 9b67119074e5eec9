"""``code_search``: the one way to search, for the API, the command line, agents and MCP clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from apps.context.models import ACTIVE_JOB_STATES, CodeIndex, IndexJob, JobState, JobTarget, Overlay
from apps.context.searching.candidates import Candidate, Scope, scope_make
from apps.context.searching.checking import Now, hits_check
from apps.context.searching.fusion import (
    DEPTH,
    TEXT_SCALE,
    Fused,
    KindWeights,
    Signal,
    SignalName,
    kind_weights,
    kinds_weigh,
    rankings_fuse,
)
from apps.context.searching.meaning import MeaningFound, meaning_lacks, meaning_search
from apps.context.searching.regex import regex_search
from apps.context.searching.symbol import symbol_search
from apps.context.searching.text import TextFound, terms_explain, text_search
from apps.context.types import (
    FusedPart,
    Hit,
    IndexMissing,
    IndexState,
    SearchRequest,
    SearchResult,
    View,
    WorkFiles,
)
from apps.core.errors import InvalidInput, LimitReached
from apps.core.storable import text_storable
from apps.projects.models import Project, RepositoryState
from apps.projects.repository import repository_path
from apps.vector_store.spaces import slots_serving
from apps.vector_store.types import Payer, Slot, SpaceStatus

QUERY_CHARACTERS = 20_000
#: Candidates beyond those that are wanted, in place of those whose files are otherwise now.
_SPARE = 20


_UNKNOWN_NOTE = "No word of the query is known to {}: by meaning it finds nothing."


@dataclass
class _Found:
    candidates: Sequence[Candidate]
    notes: list[str] = field(default_factory=list)
    truncated: bool = False
    vectors: str = ""
    scores: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    #: What fused scores are made of, by chunk.
    fused: Mapping[int, Fused] = field(default_factory=dict)
    #: What scores count by the kinds of chunks.
    kinds: KindWeights = field(default_factory=dict)


def code_search(
    *, project: Project, request: SearchRequest, files: WorkFiles | None = None, payer: Payer | None = None
) -> SearchResult:
    """What answers the request in a project's code (or in these files of it), held against the files.

    Who may read the project, and that the files are of a session of it (its checkout is found by its id alone), is for
    the caller to see to. Raises IndexMissing where nothing was indexed yet, InvalidInput for a query that can't be
    understood.
    """
    _request_check(request)
    request = replace(request, query=text_storable(request.query))
    view, state = index_view(project=project, files=files)
    scope = scope_make(view=view, filters=request.filters)
    found = _found(scope, request, payer or Payer(project_id=project.id))
    now = Now(
        project_id=project.id,
        git_dir=repository_path(project_id=project.id),
        commit=state.commit,
        head_commit=state.head_commit,
        files=files,
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


def index_view(*, project: Project, files: WorkFiles | None = None) -> tuple[View, IndexState]:
    """What there is to search of a project, or of files that are worked on. Raises IndexMissing where nothing is."""
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
    if files is not None:
        overlay = Overlay.objects.filter(index_id=index.id, session_id=files.key).first()
        if overlay is not None:
            behind = _is_behind(overlay, files)
            return View(index.id, overlay.generation, overlay.id), replace(state, commit=overlay.commit, lagging=behind)
        state = replace(state, lagging=state.lagging or bool(files.tree))
    return View(index.id, index.generation), state


def _is_behind(overlay: Overlay, files: WorkFiles) -> bool:
    """Whether the files are others by now than the overlay has."""
    if files.tree:
        return overlay.revision != files.tree
    jobs = IndexJob.objects.filter(index_id=overlay.index_id, session_id=files.key, state__in=ACTIVE_JOB_STATES)
    return jobs.exclude(revision=overlay.revision).exists()


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
        return _found_by_words(scope, request, text)
    return _found_by_meaning(scope, request, payer, wanted)


def _found_by_words(
    scope: Scope, request: SearchRequest, text: TextFound, *, notes: Sequence[str] = (), vectors: str = ""
) -> _Found:
    kinds = kind_weights(request.query)
    ranked = kinds_weigh(text.candidates, kinds=kinds)
    scores = _text_scores(scope, request, text, ranked, kinds)
    return _Found(ranked, [*text.notes, *notes], vectors=vectors, scores=scores, kinds=kinds)


def _found_by_meaning(scope: Scope, request: SearchRequest, payer: Payer, wanted: int) -> _Found:
    """By the vectors of each slot that has some, and in hybrid mode by words as well."""
    depth = max(DEPTH, wanted)
    slots: list[Slot] = ["primary", *(slot for slot in slots_serving(payer.project_id) if slot != "primary")]
    meanings = {slot: _meaning(scope, request, payer, depth, slot) for slot in slots}
    notes = _vector_notes(meanings["primary"].status, mode=request.mode)
    notes += [_UNKNOWN_NOTE.format(meaning.status.embedder_key) for meaning in meanings.values() if meaning.is_unknown]
    if "second" in meanings:
        notes += _second_notes(meanings["second"].status)
    vectors = meanings["primary"].status.state
    text = TextFound((), ())
    if request.mode == "hybrid":
        text = text_search(scope=scope, query=request.query, limit=depth)
    signals = _signals(payer, text.candidates if request.mode == "hybrid" else None, meanings)
    if [signal.name for signal in signals] == ["text"]:
        return _found_by_words(scope, request, text, notes=notes, vectors=vectors)
    kinds = kind_weights(request.query)
    fused = rankings_fuse(signals, kinds=kinds)
    candidates = [each.candidate for each in fused]
    scores: dict[int, dict[str, Any]] = {}
    if request.explain:
        explained = _text_scores(scope, request, text, candidates[:wanted], kinds)
        for each in fused[:wanted]:
            chunk_id = each.candidate.chunk_id
            scores[chunk_id] = {**_fused_told(each, kinds), **explained.get(chunk_id, {})}
    return _Found(
        candidates,
        [*text.notes, *notes],
        vectors=vectors,
        scores=scores,
        fused={each.candidate.chunk_id: each for each in fused[:wanted]},
        kinds=kinds,
    )


def _meaning(scope: Scope, request: SearchRequest, payer: Payer, depth: int, slot: Slot) -> MeaningFound:
    try:
        return meaning_search(scope=scope, payer=payer, query=request.query, limit=depth, slot=slot)
    except LimitReached as error:
        if request.mode == "vector":
            raise
        # Words cost nothing.
        return MeaningFound((), SpaceStatus(slot, "stopped", "", "", -1, error.message, error.next_step))


def _signals(payer: Payer, text: Sequence[Candidate] | None, meanings: Mapping[Slot, MeaningFound]) -> list[Signal]:
    """The rankings that there are: of words, if they are asked for, and of each embedder that found something."""
    found = {slot: meaning for slot, meaning in meanings.items() if meaning.candidates}
    signals = [Signal("text", TEXT_SCALE, text)] if text is not None else []
    every = {each.chunk_id: each for each in text or ()}
    for meaning in found.values():
        every |= {each.chunk_id: each for each in meaning.candidates}
    for slot, meaning in found.items():
        own = {each.chunk_id for each in meaning.candidates}
        others = [each for chunk_id, each in every.items() if chunk_id not in own]
        unknown = meaning_lacks(payer=payer, candidates=others, slot=slot)
        name: SignalName = "vector" if slot == "primary" else "second"
        signals.append(Signal(name, meaning.status.embedder_key, meaning.candidates, unknown))
    return signals


def _fused_told(fused: Fused, kinds: KindWeights) -> dict[str, Any]:
    """How a fused score came about; a signal that can say nothing of the chunk is left out."""
    told: dict[str, Any] = {}
    for share in fused.shares:
        told[share.name] = share.value
        told[f"{share.name}_scaled"] = round(share.scaled, 4)
        told[f"{share.name}_weight"] = round(share.weight, 4)
        if share.scale != TEXT_SCALE:
            told[f"{share.name}_embedder"] = share.scale
    return {**told, **_kind_told(fused.candidate, kinds)}


def _text_scores(
    scope: Scope, request: SearchRequest, text: TextFound, candidates: Sequence[Candidate], kinds: KindWeights
) -> dict[int, dict[str, Any]]:
    if not request.explain:
        return {}
    ids = [candidate.chunk_id for candidate in candidates[: request.limit + _SPARE]]
    shares = terms_explain(index_id=scope.view.index_id, postings=text.postings, chunk_ids=ids)
    told = {candidate.chunk_id: _kind_told(candidate, kinds) for candidate in candidates}
    return {chunk_id: {"terms": terms, **told[chunk_id]} for chunk_id, terms in shares.items()}


def _kind_told(candidate: Candidate, kinds: KindWeights) -> dict[str, float]:
    weight = kinds.get(candidate.kind)
    return {} if weight is None else {"kind_weight": weight}


def _vector_notes(status: SpaceStatus, *, mode: str) -> list[str]:
    if status.state in ("ready", "refilling"):
        return []
    instead = "words alone decide" if mode == "hybrid" else "this finds what has vectors already"
    if mode == "hybrid" and status.state == "filling":
        instead = "words alone decide where there are none yet"
    why = {
        "off": "There are no vectors here",
        "empty": "Nothing is embedded yet",
        "filling": "Vectors are still being filled in",
        "stopped": "Vectors can't be made or read now",
    }.get(status.state, "Vectors are not ready")
    return [f"{why}{f' ({status.detail})' if status.detail else ''}: {instead}."]


def _second_notes(status: SpaceStatus) -> list[str]:
    if status.state in ("ready", "refilling", "off"):
        return []
    why = "are still being filled in" if status.state in ("filling", "empty") else "can't be made or read now"
    detail = f" ({status.detail})" if status.detail else ""
    return [f"The second embedder's vectors {why}{detail}: they count where they are there."]


def _scores_told(hit: Hit, found: _Found, request: SearchRequest) -> Hit:
    told = found.scores.get(hit.scores["chunk"], {})
    fused = found.fused.get(hit.scores["chunk"])
    parts: tuple[FusedPart, ...] = ()
    if fused is not None:
        parts = tuple(FusedPart(share.scale, share.weight, share.value) for share in fused.shares)
    elif request.mode == "hybrid":
        # Words alone decided.
        parts = (FusedPart(TEXT_SCALE, 1.0, hit.score / found.kinds.get(hit.kind, 1.0)),)
    return replace(hit, scores=dict(told) if request.explain else {}, fused_of=parts)

"""A project's vectors: which there are, how they are filled, and which of them a search uses.

A space is the vectors of one embedder. Each slot of a project has one that serves, and while its embedder is being
changed another one that fills up behind it and takes its place when it is complete: a search never has less than
before.
Whoever knows the texts fills a space (``space_fill``) and keeps it up to date (``vectors_write``, ``vectors_delete``).
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from apps.core.errors import ApplicationError, InvalidInput, NotFound, Unavailable
from apps.core.kill_points import kill_point
from apps.projects.models import Project

from .embedders import (
    OFF,
    EmbedderChoice,
    choice_read,
    embedder_of_record,
    embedder_record,
    is_instant,
    is_of,
    model_preserve,
    says_nothing,
    spec_resolve,
    texts_batch,
)
from .errors import EmbedderFailed, EmbedderRefused, VectorIndexUnavailable
from .former_models import models_prune
from .index_choice import index_chosen, vector_index
from .indexes.namespaces import MAX_LIMIT
from .models import ProjectEmbedders, SpaceRole, VectorNamespace, VectorSpace
from .types import SLOTS, Payer, Scored, Slot, SpaceState, SpaceStatus, TextSource, VectorHits

if TYPE_CHECKING:
    from .types import Vector

logger = logging.getLogger(__name__)

MAX_HITS = MAX_LIMIT
#: What failed and may succeed later is tried again after this, or after what was asked for.
RETRY_AFTER = timedelta(minutes=2)
#: So long queries don't ask an embedder that has just failed: each would wait for it before its words are looked up.
DOWN_SECONDS = 15.0
#: A namespace that no space has is emptied after this: whoever made it may be about to take it.
_ORPHANED_AFTER = timedelta(minutes=10)
#: Says how far a space is (done, of); False: stop.
Progress = Callable[[int, int], bool]


#: Until when each embedder is not asked by queries, and why.
_down: dict[int, tuple[float, ApplicationError]] = {}


@dataclass(frozen=True)
class Filled:
    """What came of filling: vectors that were made, and whether all are there now."""

    made: int
    complete: bool
    status: SpaceStatus


def choice_for(project_id: uuid.UUID, slot: Slot) -> EmbedderChoice:
    """What the project says of the slot, or else the server. Raises :class:`EmbedderRefused`."""
    row = ProjectEmbedders.objects.filter(project_id=project_id).first()
    choice = _choice_of(row, slot)
    if slot == "second" and choice == _choice_of(row, "primary"):
        # Its vectors are there already, and would count twice.
        return EmbedderChoice(OFF)
    return choice


def _choice_of(row: ProjectEmbedders | None, slot: Slot) -> EmbedderChoice:
    if row is not None and row.name_of(slot):
        return choice_read(row.name_of(slot), row.dimension)
    return choice_server(slot)


def choice_server(slot: Slot) -> EmbedderChoice:
    """What the server's settings say. Raises :class:`EmbedderRefused`."""
    return choice_read(_server_name(slot), settings.ARCHON_EMBEDDER_DIMENSION)


def _server_name(slot: str) -> str:
    name: str = settings.ARCHON_EMBEDDER if slot == "primary" else settings.ARCHON_EMBEDDER_SECOND
    return name or OFF


def embedders_get(project_id: uuid.UUID) -> dict[str, Any]:
    """What was set for the project."""
    row = ProjectEmbedders.objects.filter(project_id=project_id).first() or ProjectEmbedders()
    return {"primary": row.primary, "second": row.second, "dimension": row.dimension}


def choice_set(*, project_id: uuid.UUID, primary: str, second: str, dimension: int) -> None:
    """Which embedders the project uses from now on; empty: what the server says. Raises :class:`EmbedderRefused`."""
    for name in (primary, second):
        if name.strip():
            choice_read(name, dimension)
    ProjectEmbedders.objects.update_or_create(
        project_id=project_id,
        defaults={"primary": primary.strip(), "second": second.strip(), "dimension": dimension},
    )


def spaces_plan(payer: Payer) -> list[VectorSpace]:
    """The project's spaces as its choice of embedders wants them, those to be filled first.

    Made where they are missing. One that failed and isn't to be tried yet is left out. Where an embedder or index can't
    be used, the spaces stay as they are, and the status says why.
    """
    planned: list[VectorSpace] = []
    for slot in SLOTS:
        try:
            planned += _slot_plan(payer, slot)
        except ApplicationError as error:
            logger.warning("vectors of project %s (%s): %s", payer.project_id, slot, error.message)
            for space in _spaces(payer.project_id).filter(slot=slot):
                _failure_write(space, error)
    now = timezone.now()
    due = [space for space in planned if space.retry_at is None or space.retry_at <= now]
    # What takes seconds doesn't wait for what takes an hour.
    return sorted(due, key=lambda space: (not is_instant(space.embedder), space.role != SpaceRole.FILLING, space.slot))


def projects_due(*, limit: int = 100) -> list[uuid.UUID]:
    """Projects that have something to fill: what was broken off or failed and may be tried, what was chosen anew.

    Of those that have vectors at all: a project's first ones come with its index.
    """
    now = timezone.now()
    due: dict[uuid.UUID, None] = {}
    for space in VectorSpace.objects.select_related("embedder", "namespace").order_by("updated_at").iterator():
        waits = space.retry_at is not None and space.retry_at > now
        if not waits and (space.role == SpaceRole.FILLING or not space.complete or space.failure or _is_other(space)):
            due[space.project_id] = None
        if len(due) >= limit:
            break
    return list(due)


def projects_lacking(project_ids: Collection[uuid.UUID]) -> list[uuid.UUID]:
    """Those of the projects that have no space in a slot for which an embedder is chosen."""
    chosen = {row.project_id: row for row in ProjectEmbedders.objects.filter(project_id__in=project_ids)}
    there = set(VectorSpace.objects.filter(project_id__in=project_ids).values_list("project_id", "slot"))
    servers = {slot: _server_name(slot) for slot in SLOTS}

    def is_lacking(project_id: uuid.UUID) -> bool:
        row = chosen.get(project_id)
        names = {slot: ((row.name_of(slot) if row is not None else "") or servers[slot]).strip() for slot in SLOTS}
        if names["second"].lower() == names["primary"].lower():
            del names["second"]
        return any(name.lower() != OFF and (project_id, slot) not in there for slot, name in names.items())

    return [project_id for project_id in project_ids if is_lacking(project_id)]


def space_fill(*, space: VectorSpace, source: TextSource, payer: Payer, progress: Progress | None = None) -> Filled:
    """Embed what has no vector yet, and let the space serve once it is complete.

    May be broken off at any time, and called again: what is there isn't made anew. What stands in the way is written
    to the space and told by its status; nothing raises but what is a bug.
    """
    made, wanted_space = 0, _wanted(space)
    if not VectorSpace.objects.filter(id=space.id).exists():
        # Another one has taken its place.
        return Filled(made, False, status_get(space.project_id, _slot(space)))
    try:
        embedder = embedder_of_record(space.embedder, payer)
        index = vector_index(space.namespace.index)
        model_preserve(space.embedder)
        size = texts_batch(space.embedder)
        batches = [list(batch) for batch in source.ids()]
        wanted, done = sum(map(len, batches)), 0
        for batch in batches:
            missing = sorted(index.missing(namespace=space.namespace.name, ids=batch))
            for start in range(0, len(missing), size):
                texts = source.texts(missing[start : start + size])
                if texts:
                    vectors = embedder.embed(list(texts.values()), kind="document")
                    kill_point("vectors.embedded")
                    # It is there again.
                    _down.pop(space.embedder_id, None)
                    index.upsert(namespace=space.namespace.name, vectors=list(zip(texts, vectors, strict=True)))
                    kill_point("vectors.written")
                made += len(texts)
                # Nothing is paid for any more once something else, or nothing, was chosen.
                is_other = _wanted(space) != wanted_space
                if is_other or (progress is not None and not progress(done + start + len(texts), wanted)):
                    return Filled(made, False, status_get(space.project_id, _slot(space)))
            done += len(batch)
    except ApplicationError as error:
        _failure_write(space, error)
        return Filled(made, False, status_get(space.project_id, _slot(space)))
    _complete(space)
    return Filled(made, True, status_get(space.project_id, _slot(space)))


def vectors_write(*, payer: Payer, texts: Mapping[str, str]) -> list[SpaceStatus]:
    """Embed what has changed, for every space of the project; the texts' ids are new or have new texts.

    What stands in the way is told by the statuses: the next ``space_fill`` makes up for it.
    """
    for space in _spaces(payer.project_id):
        try:
            embedder = embedder_of_record(space.embedder, payer)
            index = vector_index(space.namespace.index)
            ids, size = list(texts), texts_batch(space.embedder)
            for start in range(0, len(ids), size):
                part = ids[start : start + size]
                vectors = embedder.embed([texts[vector_id] for vector_id in part], kind="document")
                index.upsert(namespace=space.namespace.name, vectors=list(zip(part, vectors, strict=True)))
        except ApplicationError as error:
            _failure_write(space, error)
    return statuses(payer.project_id)


def vectors_delete(*, project_id: uuid.UUID, ids: Collection[str]) -> None:
    """Take the vectors of these away from every space.

    An index that is away keeps them, which the log says: whoever searches leaves out hits whose chunk is gone.
    """
    for space in _spaces(project_id):
        try:
            vector_index(space.namespace.index).delete(namespace=space.namespace.name, ids=ids)
        except VectorIndexUnavailable as error:
            logger.warning("vectors of project %s are not taken away: %s", project_id, error.message)


def vectors_search(
    *, payer: Payer, query: str, limit: int, ids: Collection[str] | None = None, slot: Slot = "primary"
) -> VectorHits:
    """The chunks that are nearest in meaning, by the space that serves.

    No vectors, an embedder that is down and an index that is away are no errors: the search has no hits then, and its
    status says why. What a budget refuses is raised. More than ``MAX_HITS`` are not looked for.
    """
    space = _serving(payer.project_id, slot)
    if space is None:
        return VectorHits((), status_get(payer.project_id, slot))
    down = _down.get(space.embedder_id)
    if down is not None and time.monotonic() < down[0]:
        return VectorHits((), _stopped(status_get(payer.project_id, slot), down[1]))
    try:
        (vector,) = embedder_of_record(space.embedder, payer).embed([query], kind="query")
        if says_nothing(vector):
            return VectorHits((), status_get(payer.project_id, slot, count=False), is_unknown=True)
        hits = _query(space, vector, min(limit, MAX_HITS), ids)
    except (Unavailable, InvalidInput) as error:
        # The latter where the operator allows the embedder's address no more.
        if isinstance(error, EmbedderFailed):
            _down[space.embedder_id] = (time.monotonic() + DOWN_SECONDS, error)
        return VectorHits((), _stopped(status_get(payer.project_id, slot), error))
    return VectorHits(tuple(hits), status_get(payer.project_id, slot, count=False))


def vectors_lacking(*, project_id: uuid.UUID, ids: Collection[str], slot: Slot) -> set[str]:
    """Which of them have no vector in the space that serves; all, where none does or its index is away."""
    space = _serving(project_id, slot) if ids else None
    if space is None:
        return set(ids)
    try:
        return vector_index(space.namespace.index).missing(namespace=space.namespace.name, ids=ids)
    except VectorIndexUnavailable:
        return set(ids)


def slots_serving(project_id: uuid.UUID) -> tuple[Slot, ...]:
    """The slots that have vectors, however many, to be searched."""
    serving = {_slot(space) for space in _spaces(project_id) if space.role == SpaceRole.SERVING}
    return tuple(slot for slot in SLOTS if slot in serving)


def statuses(project_id: uuid.UUID) -> list[SpaceStatus]:
    """How far the vectors of each slot are."""
    return [status_get(project_id, slot) for slot in SLOTS]


def status_get(project_id: uuid.UUID, slot: Slot, *, count: bool = True) -> SpaceStatus:
    """How far they are; without ``count``, -1 stands for their number."""
    spaces = {space.role: space for space in _spaces(project_id) if space.slot == slot}
    serving, filling = spaces.get(SpaceRole.SERVING), spaces.get(SpaceRole.FILLING)
    told = filling or serving
    failed = next((each for each in (filling, serving) if each is not None and each.failure), None)
    status = SpaceStatus(
        slot=slot,
        state=_state(serving, filling),
        embedder_key=serving.embedder.key if serving else "",
        filling_key=filling.embedder.key if filling else "",
        vectors=(_count(serving) if count else -1) if serving else 0,
        detail=failed.failure if failed else "",
        next_step=failed.failure_next_step if failed else "",
    )
    if told is None:
        return _unplanned(status, project_id, slot)
    return status


def spaces_drop(*, project_id: uuid.UUID) -> None:
    """Take all vectors of the project away, for good; they can be filled anew."""
    for space in _spaces(project_id):
        namespace = space.namespace
        space.delete()
        _namespace_drop(namespace)


def namespaces_sweep() -> int:
    """Empty and forget namespaces whose space is gone: of projects that are gone, of spaces that were replaced."""
    old = timezone.now() - _ORPHANED_AFTER
    orphans = VectorNamespace.objects.filter(of_space=True, space=None, created_at__lt=old)
    return sum(_namespace_drop(namespace) for namespace in orphans)


def models_forget() -> int:
    """Let go of earlier models of our own that no vectors are from any more; says how many."""
    return models_prune(keys=set(VectorSpace.objects.values_list("embedder__key", flat=True)))


def _slot_plan(payer: Payer, slot: Slot) -> list[VectorSpace]:
    choice = choice_for(payer.project_id, slot)
    there = {space.role: space for space in _spaces(payer.project_id) if space.slot == slot}
    serving, filling = there.get(SpaceRole.SERVING), there.get(SpaceRole.FILLING)
    if choice.is_off:
        for space in there.values():
            _retire(space)
        return []
    record, index = embedder_record(choice, payer), index_chosen()

    def is_wanted(space: VectorSpace | None) -> bool:
        return space is not None and space.embedder_id == record.id and space.namespace.index == index

    if filling is not None and (is_wanted(serving) or not is_wanted(filling)):
        # It was changed back, or to yet another.
        _retire(filling)
        filling = None
    if serving is None:
        serving = _space_make(payer.project_id, slot, SpaceRole.SERVING, record.id, record.dimension, index)
    elif not is_wanted(serving) and filling is None:
        filling = _space_make(payer.project_id, slot, SpaceRole.FILLING, record.id, record.dimension, index)
    return [space for space in (filling, serving) if space is not None]


def _is_other(space: VectorSpace) -> bool:
    """Whether something else than the space's embedder and index is wanted, as far as a look at names tells."""
    wanted = _wanted(space)
    if wanted is None:
        return False
    choice, index = wanted
    other_dimension = bool(choice.dimension) and choice.dimension != space.embedder.dimension
    return space.namespace.index != index or other_dimension or not is_of(choice, space.embedder.key)


def _wanted(space: VectorSpace) -> tuple[EmbedderChoice, str] | None:
    """What is chosen for the space's slot now; None: nothing that could be read."""
    try:
        return choice_for(space.project_id, _slot(space)), index_chosen()
    except EmbedderRefused:
        return None


def _space_make(
    project_id: uuid.UUID, slot: Slot, role: SpaceRole, embedder_id: int, dimension: int, index: str
) -> VectorSpace:
    """Made by whoever is first; the others get the same."""
    with transaction.atomic():
        if Project.objects.select_for_update(no_key=True).filter(id=project_id).first() is None:
            raise NotFound("There is no such project.")
        space = _spaces(project_id).filter(slot=slot, role=role).first()
        if space is None:
            # A name of its own each time: what an index still has of an earlier one is not this one's.
            name = f"{project_id.hex}.{uuid.uuid4().hex[:16]}"
            namespace = VectorNamespace.objects.create(name=name, index=index, dimension=dimension, of_space=True)
            space = VectorSpace.objects.create(
                project_id=project_id, slot=slot, role=role, embedder_id=embedder_id, namespace=namespace
            )
        return space


def _complete(space: VectorSpace) -> None:
    """It has all there is: from now on it serves."""
    with transaction.atomic():
        rows = VectorSpace.objects.select_for_update().filter(project_id=space.project_id, slot=space.slot)
        there = {row.role: row for row in rows.order_by("id")}
        mine = next((row for row in there.values() if row.id == space.id), None)
        if mine is None:
            return
        old = there.get(SpaceRole.SERVING)
        if old is not None and old.id != mine.id:
            old.delete()
        mine.role, mine.complete = SpaceRole.SERVING, True
        mine.failure = mine.failure_kind = mine.failure_next_step = ""
        mine.retry_at = None
        mine.save()


def _retire(space: VectorSpace) -> None:
    """The sweeper empties its namespace."""
    VectorSpace.objects.filter(id=space.id).delete()


def _failure_write(space: VectorSpace, error: ApplicationError) -> None:
    retry_after = getattr(error, "retry_after", None) or error.extra.get("retry_after")
    wait = timedelta(seconds=float(retry_after)) if retry_after else RETRY_AFTER
    VectorSpace.objects.filter(id=space.id).update(
        failure=error.message[:2000],
        failure_kind=str(getattr(error, "kind", "") or error.code)[:40],
        failure_next_step=error.next_step[:2000],
        retry_at=timezone.now() + wait,
    )
    logger.warning("the vectors of project %s stop filling: %s", space.project_id, error.message)


def _namespace_drop(namespace: VectorNamespace) -> bool:
    try:
        vector_index(namespace.index).drop(namespace=namespace.name)
    except VectorIndexUnavailable as error:
        logger.warning("the vectors of %s are not taken away yet: %s", namespace.name, error.message)
        return False
    namespace.delete()
    return True


def _query(space: VectorSpace, vector: Vector, limit: int, ids: Collection[str] | None) -> list[Scored]:
    return vector_index(space.namespace.index).query(
        namespace=space.namespace.name, vector=vector, limit=limit, ids=ids
    )


def _state(serving: VectorSpace | None, filling: VectorSpace | None) -> SpaceState:
    grown = filling or serving
    if grown is not None and grown.failure:
        return "stopped"
    if filling is not None:
        return "refilling"
    if serving is None:
        return "empty"
    return "ready" if serving.complete else "filling"


def _unplanned(status: SpaceStatus, project_id: uuid.UUID, slot: Slot) -> SpaceStatus:
    """Of a slot without any space: nothing was indexed yet, or nothing can be."""
    try:
        choice = choice_for(project_id, slot)
        if choice.is_off:
            return SpaceStatus(slot, "off", "", "", 0, "nothing is embedded here")
        if not choice.is_local:
            spec_resolve(choice, Payer(project_id=project_id))
        index = vector_index(index_chosen())
        index.count(namespace="")
    except (Unavailable, InvalidInput) as error:
        return _stopped(status, error)
    return status


def _stopped(status: SpaceStatus, error: ApplicationError) -> SpaceStatus:
    return SpaceStatus(
        status.slot,
        "stopped",
        status.embedder_key,
        status.filling_key,
        status.vectors,
        error.message,
        error.next_step,
    )


def _count(space: VectorSpace) -> int:
    try:
        return vector_index(space.namespace.index).count(namespace=space.namespace.name)
    except VectorIndexUnavailable:
        return 0


def _serving(project_id: uuid.UUID, slot: Slot) -> VectorSpace | None:
    return _spaces(project_id).filter(slot=slot, role=SpaceRole.SERVING).first()


def _spaces(project_id: uuid.UUID) -> QuerySet[VectorSpace]:
    return VectorSpace.objects.filter(project_id=project_id).select_related("embedder", "namespace").order_by("id")


def _slot(space: VectorSpace) -> Slot:
    return "primary" if space.slot == "primary" else "second"

"""Search for a user: in one project, or in all that they may read."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

from apps.authentication.models import User
from apps.context.models import IndexJob, Overlay
from apps.context.searching.fusion import KindWeights, kind_weights, shares_sum
from apps.context.searching.search import code_search
from apps.context.types import FusedPart, Hit, IndexMissing, IndexState, SearchRequest, session_files
from apps.core.errors import InvalidInput, NotFound
from apps.projects.models import Project
from apps.projects.selectors import project_get_for_user, project_list
from apps.vector_store.types import Payer

#: Projects that one search looks into when it names none, those with the newest index first.
PROJECTS = 20


@dataclass(frozen=True)
class ProjectHit:
    project_id: uuid.UUID
    hit: Hit


@dataclass(frozen=True)
class ProjectsFound:
    hits: tuple[ProjectHit, ...]
    #: By project.
    indexes: tuple[tuple[uuid.UUID, IndexState], ...]
    notes: tuple[str, ...]
    stale: int
    truncated: bool


def projects_search(
    *, user: User, project_id: uuid.UUID | None, session_id: uuid.UUID | None, request: SearchRequest
) -> ProjectsFound:
    """What answers the request in the project, or in all projects of the user that have an index.

    Raises NotFound for a project that isn't the user's and a session that isn't the project's, IndexMissing where
    nothing was indexed yet.
    """
    if project_id is not None:
        project = project_get_for_user(user=user, project_id=project_id)
        if session_id is not None:
            session_check(project, session_id)
            if not _session_is_of(project, session_id):
                session_id = None
        return _merged([_one(user, project, request, session_id)], request)
    if session_id is not None:
        raise InvalidInput("A session is of one project: name that too.", next_step="send project")
    projects = list(
        project_list(user=user).filter(code_index__generation__gt=0).order_by("-code_index__indexed_at")[: PROJECTS + 1]
    )
    if not projects:
        raise IndexMissing(
            "None of your projects has been indexed yet.",
            next_step="POST /api/context/index/ (archon index) has one indexed",
            state="none",
        )
    found = []
    for project in projects[:PROJECTS]:
        try:
            found.append(_one(user, project, request, None))
        except IndexMissing:
            # Deleted or begun anew a moment ago.
            continue
    merged = _merged(found, request)
    if len(projects) > PROJECTS:
        note = f"The {PROJECTS} projects with the newest index were searched; name a project to search another one."
        merged = replace(merged, notes=(*merged.notes, note), truncated=True)
    return merged


def session_check(project: Project, session_id: uuid.UUID) -> None:
    """A session's files are shown to those who may read its project, and under no other project's name."""
    if Overlay.objects.filter(session_id=session_id).exclude(index__project_id=project.id).exists():
        raise NotFound("There is no such session in the project.")


def _session_is_of(project: Project, session_id: uuid.UUID) -> bool:
    """Whether the project's index was ever told of the session: only then may its checkout be looked into. Of any other
    one nothing is known here but an id, which may be that of a session of people whose code this user may not see."""
    told = (
        Overlay.objects.filter(index__project_id=project.id, session_id=session_id),
        IndexJob.objects.filter(index__project_id=project.id, session_id=session_id),
    )
    return any(each.exists() for each in told)


def _one(user: User, project: Project, request: SearchRequest, session_id: uuid.UUID | None) -> ProjectsFound:
    payer = Payer(project_id=project.id, user_id=user.id)
    found = code_search(project=project, request=request, files=session_files(session_id), payer=payer)
    hits = tuple(ProjectHit(project.id, hit) for hit in found.hits)
    return ProjectsFound(hits, ((project.id, found.index),), found.notes, found.stale, found.truncated)


def _merged(found: list[ProjectsFound], request: SearchRequest) -> ProjectsFound:
    if len(found) == 1:
        return found[0]
    every = _rescaled([result.hits for result in found], kind_weights(request.query))
    every.sort(key=lambda each: (-each.hit.score, str(each.project_id), each.hit.path, each.hit.start_line))
    return ProjectsFound(
        hits=tuple(every[: request.limit]),
        indexes=tuple(state for result in found for state in result.indexes),
        notes=tuple(dict.fromkeys(note for result in found for note in result.notes)),
        stale=sum(result.stale for result in found),
        truncated=any(result.truncated for result in found),
    )


def _rescaled(results: list[tuple[ProjectHit, ...]], kinds: KindWeights) -> list[ProjectHit]:
    """Fused scores on one scale: what they are made of is on one, more or less, before fusing scales it.

    What has no vectors yet is weighed by its words alone: it must not stand behind all others for that.
    """
    hits = [each for result in results for each in result]
    known: dict[str, list[float]] = {}
    for each in hits:
        for part in each.hit.fused_of:
            if part.value is not None:
                known.setdefault(part.scale, []).append(part.value)
    if not known:
        return hits

    ranges = {scale: (min(values), max(values)) for scale, values in known.items()}

    def share(part: FusedPart) -> float:
        if part.value is None:
            return 0.0
        least, most = ranges[part.scale]
        return (part.value - least) / (most - least) if most > least else 1.0

    rescaled = []
    for each in hits:
        score = shares_sum([(part.weight, share(part)) for part in each.hit.fused_of])
        score *= kinds.get(each.hit.kind, 1.0)
        rescaled.append(replace(each, hit=replace(each.hit, score=round(score, 6))))
    return rescaled

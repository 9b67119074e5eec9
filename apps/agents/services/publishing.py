"""Handing a session's branch over: wanting it on the project's origin, and a pull request for it. On request only.

The row says what is wanted; a worker does it (``publish_jobs``), and no request waits for another host.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps.agents.models import AgentSession, Publication
from apps.agents.selectors import session_get_for_user
from apps.agents.services.sessions import session_lock, state_require
from apps.agents.types import PublicationState, SessionOutcome, SessionStatus
from apps.core.errors import Conflict, InvalidInput
from apps.core.queue import enqueue_on_commit
from apps.core.storable import text_storable
from apps.projects.forges import forge_access
from apps.projects.models import Project
from apps.projects.repository_push import branch_name_clean
from apps.projects.selectors import source_get

if TYPE_CHECKING:
    from apps.authentication.models import User

PUBLISH_TASK = "apps.agents.tasks.publish_session"
TITLE_LENGTH = 240
_SLUG_LENGTH = 40
_UNDER_WAY = (PublicationState.WANTED, PublicationState.RUNNING)


@dataclass(frozen=True)
class PublishRequest:
    """What a person asks for; what is empty or None is what it was, else the default."""

    branch: str = ""
    target: str = ""
    pull_request: bool = False
    title: str = ""
    draft: bool | None = None
    allow_failing: bool = False


def session_publish(*, user: User, session_id: uuid.UUID, request: PublishRequest) -> Publication:
    """Have the session's branch pushed to the project's origin, with a pull request if that is asked for.

    Again is fine: the branch is moved on, and the pull request that is there brought up to date. One that is under way
    is begun again if something else is asked for now. Raises Conflict for a session that has not completed, has changed
    nothing, fails (unless ``allow_failing``) or whose project has no source; PermissionDenied for a viewer.
    """
    session = session_get_for_user(user=user, session_id=session_id, write=True)
    _publishable_require(session, allow_failing=request.allow_failing)
    project = Project.objects.select_related("source").get(id=session.project_id)
    if source_get(project) is None:
        raise Conflict(
            "the project's repository was not fetched from anywhere, so there is nowhere to push to",
            next_step="give the project a source (PATCH …/repository/source/), or fetch the branch: "
            f"archon fetch {session_id}",
            state="no_source",
        )
    if request.pull_request:
        # Said now, while somebody is there to hear it.
        forge_access(project)
    with transaction.atomic():
        locked = session_lock(session_id)
        _publishable_require(locked, allow_failing=request.allow_failing)
        former = Publication.objects.select_for_update().filter(session=locked).first()
        publication = former or Publication(session=locked)
        asked = _asked(locked, publication, project, request)
        if former is not None and former.state in _UNDER_WAY and asked == _wanted(former):
            return former
        for name, value in asked.items():
            setattr(publication, name, value)
        publication.requested_by = user
        publication.state = PublicationState.WANTED
        # The fence goes on, so that a worker that is at it stops.
        publication.fence += 1
        publication.attempts = 0
        publication.reason = publication.retry_at = publication.lease_until = None
        publication.notice = ""
        publication.save(force_insert=former is None)
        enqueue_on_commit(PUBLISH_TASK, publication_id=str(publication.id))
    return publication


def publication_get(*, user: User, session_id: uuid.UUID) -> Publication:
    """How the handing over stands. Raises NotFound, and Conflict where nobody has asked for it."""
    session = session_get_for_user(user=user, session_id=session_id)
    found = Publication.objects.filter(session=session).first()
    if found is None:
        raise Conflict(
            "the session's branch was not published",
            next_step="ask for it: POST here, or archon push SESSION",
            state="not_published",
        )
    return found


def publication_wanted_list() -> list[uuid.UUID]:
    """Those that are wanted now and that no living worker holds."""
    now = timezone.now()
    due = Q(state=PublicationState.WANTED) & (Q(retry_at=None) | Q(retry_at__lte=now))
    dead = Q(state=PublicationState.RUNNING, lease_until__lt=now)
    return list(Publication.objects.filter(due | dead).order_by("updated_at").values_list("id", flat=True)[:100])


def branch_default(session: AgentSession) -> str:
    """``archon/SHORT-slug-of-the-goal``."""
    plain = unicodedata.normalize("NFKD", session.goal[:400]).encode("ascii", "ignore").decode().lower()
    slug = ""
    for word in re.findall(r"[a-z0-9]+", plain):
        if len(slug) + len(word) >= _SLUG_LENGTH:
            break
        slug += f"-{word}"
    return f"archon/{str(session.id)[:8]}{slug}"


def _asked(
    session: AgentSession, former: Publication, project: Project, request: PublishRequest
) -> dict[str, str | bool | None]:
    target = branch_name_clean(request.target) if request.target else former.target or session.base_branch
    branch = branch_name_clean(request.branch) if request.branch else former.branch or branch_default(session)
    if branch in (target, session.base_branch, project.default_branch):
        raise InvalidInput(
            f"{branch} is a branch that the work is for, and is not pushed to",
            next_step="name another one; the pull request brings it there",
        )
    title = " ".join(text_storable(request.title).split())
    if len(title) > TITLE_LENGTH:
        raise InvalidInput(f"the title is longer than {TITLE_LENGTH} characters", next_step="say it in fewer words")
    return {
        "commit": session.head_commit,
        "branch": branch,
        "target": target,
        "pull_request": request.pull_request,
        "title": title,
        "draft": request.draft,
    }


def _wanted(publication: Publication) -> dict[str, str | bool | None]:
    names = ("commit", "branch", "target", "pull_request", "title", "draft")
    return {name: getattr(publication, name) for name in names}


def _publishable_require(session: AgentSession, *, allow_failing: bool) -> None:
    state_require(session, [SessionStatus.COMPLETED])
    if session.discarded_at is not None:
        raise Conflict("the session's branch was discarded", state="discarded")
    if not session.head_commit or session.head_commit == session.base_commit:
        raise Conflict("the session changed nothing, so there is nothing to publish", state="unchanged")
    if session.outcome == SessionOutcome.FAILING and not allow_failing:
        raise Conflict(
            "the checks fail on this branch",
            next_step="look at the report; to publish it all the same, send allow_failing (--allow-failing)",
            state="failing",
        )

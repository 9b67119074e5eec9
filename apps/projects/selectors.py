"""Reads of the app. Who may see or change what in a project is decided here, for every app above."""

from __future__ import annotations

import uuid

from django.db.models import F, Q, QuerySet
from django.utils import timezone

from apps.authentication.models import User
from apps.core.errors import NotFound, PermissionDenied
from apps.projects.models import FetchState, Membership, Project, RepositorySource, Role

_WRITERS = (Role.OWNER, Role.MEMBER)


def project_list(*, user: User) -> QuerySet[Project]:
    """The user's projects, newest first, each with the user's ``role`` in it."""
    return Project.objects.filter(memberships__user=user).annotate(role=F("memberships__role")).select_related("source")


def project_get_for_user(*, user: User, project_id: uuid.UUID, write: bool = False, manage: bool = False) -> Project:
    """A project that the user may read; with ``write`` one they may change, with ``manage`` one they own.

    Has the user's ``role``. Raises NotFound when the user is not in it, PermissionDenied when their role is too small.
    """
    project = project_list(user=user).filter(id=project_id).first()
    if project is None:
        raise NotFound("There is no such project.", next_step="GET /api/projects/ lists yours")
    role = project_role(project)
    if manage and role != Role.OWNER:
        raise PermissionDenied("Only an owner of the project may do this.", next_step="ask an owner")
    if write and role not in _WRITERS:
        raise PermissionDenied("A viewer may only read.", next_step="ask an owner to make you a member")
    return project


def project_role(project: Project) -> Role:
    """The role with which a project was read by one of the selectors above."""
    return Role(project.role)  # type: ignore[attr-defined]  # annotated by project_list


def source_get(project: Project) -> RepositorySource | None:
    """Where the project's repository comes from; None for one that was uploaded or imported from a folder."""
    try:
        return project.source
    except RepositorySource.DoesNotExist:
        return None


def fetch_wanted_list() -> list[uuid.UUID]:
    """The sources that want to be fetched and that no living worker holds."""
    dead = Q(fetch_state=FetchState.RUNNING, lease_until__lt=timezone.now())
    wanted = RepositorySource.objects.filter(Q(fetch_state=FetchState.WAITING) | dead)
    return list(wanted.values_list("id", flat=True)[:100])


def membership_list(*, project: Project) -> QuerySet[Membership]:
    """Who is in the project, in the order in which they came."""
    return Membership.objects.filter(project=project).select_related("user")

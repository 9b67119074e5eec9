"""Writes of the app: projects, their repository's state, and who is in them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from pathlib import Path

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from apps.authentication.models import User
from apps.authentication.selectors import user_get_by_email
from apps.core.errors import Conflict, InvalidInput, NotFound
from apps.projects.environment import environments_delete
from apps.projects.models import Membership, Project, RepositoryState, Role
from apps.projects.project_fields import host_pattern_clean, subfolder_clean
from apps.projects.repository import (
    RepositoryInfo,
    repository_delete,
    repository_import_bundle,
    repository_import_path,
)
from apps.projects.selectors import project_get_for_user

logger = logging.getLogger(__name__)


def project_create(
    *,
    user: User,
    name: str,
    description: str = "",
    repository_path: str = "",
    branch: str = "",
    setup_command: str = "",
    check_commands: Sequence[str] = (),
    network_hosts: Sequence[str] = (),
    subfolder: str = "",
) -> Project:
    """A project of which the user is the owner, with a copy of the repository at ``repository_path`` if one is given.

    The path has to be under ARCHON_REPOSITORY_ROOTS. A repository that can't be imported raises InvalidInput, and
    there is no project then.
    """
    project = Project(
        name=name,
        description=description,
        setup_command=setup_command,
        check_commands=list(check_commands),
        network_hosts=_hosts_clean(network_hosts),
        subfolder=subfolder_clean(subfolder),
    )
    # Imported before there is a row, since git runs outside transactions: a crash in between leaves a folder that
    # belongs to no project, and never a project that lacks what its row says.
    if repository_path:
        try:
            _repository_apply(
                project, repository_import_path(project_id=project.id, source=repository_path, branch=branch or None)
            )
        except BaseException:
            repository_delete(project_id=project.id)
            raise
    with transaction.atomic():
        project.save(force_insert=True)
        Membership.objects.create(project=project, user=user, role=Role.OWNER)
    return project_get_for_user(user=user, project_id=project.id)


def project_update(
    *,
    project: Project,
    name: str | None = None,
    description: str | None = None,
    setup_command: str | None = None,
    check_commands: Sequence[str] | None = None,
    network_hosts: Sequence[str] | None = None,
    subfolder: str | None = None,
) -> Project:
    """Change what is given and leave the rest."""
    changes = {
        "name": name,
        "description": description,
        "setup_command": setup_command,
        "check_commands": None if check_commands is None else list(check_commands),
        "network_hosts": None if network_hosts is None else _hosts_clean(network_hosts),
        "subfolder": None if subfolder is None else subfolder_clean(subfolder),
    }
    given = {field: value for field, value in changes.items() if value is not None}
    for field, value in given.items():
        setattr(project, field, value)
    project.save(update_fields=[*given, "updated_at"])
    return project


def project_delete(*, project: Project) -> None:
    """Delete the project with all that belongs to it, and once that is committed its repository.

    Raises Conflict while something in it (a running session) must not go.
    """
    project_id = project.id
    try:
        with transaction.atomic():
            project.delete()
            transaction.on_commit(lambda: _repository_remove(project_id))
    except ProtectedError as error:
        raise Conflict(
            "The project is in use.", next_step="cancel its sessions first, then delete it", state="in_use"
        ) from error


def project_bundle_import(*, project: Project, bundle_path: Path, branch: str = "") -> Project:
    """Take over what a git bundle holds; ``branch`` becomes the default branch.

    Raises InvalidInput, TooLarge or Conflict as the repository does, and NotFound when the project was deleted
    meanwhile.
    """
    info = repository_import_bundle(project_id=project.id, bundle_path=bundle_path, branch=branch or None)
    _repository_apply(project, info)
    if not project_repository_record(project_id=project.id, info=info):
        repository_delete(project_id=project.id)
        raise NotFound("The project was deleted meanwhile.")
    return project


def project_repository_record(*, project_id: uuid.UUID, info: RepositoryInfo) -> bool:
    """Note what the repository holds now, after an import or a merge; False when there is no such project."""
    return bool(
        Project.objects.filter(id=project_id).update(
            repository_state=RepositoryState.READY, default_branch=info.default_branch, head_commit=info.head_commit
        )
    )


def project_head_record(*, project_id: uuid.UUID, branch: str, commit: str) -> None:
    """Note that something was merged into a branch of the project."""
    Project.objects.filter(id=project_id, default_branch=branch).update(head_commit=commit)


def member_add(*, project: Project, email: str, role: Role) -> Membership:
    """Let a user into the project. Raises InvalidInput for an unknown address, Conflict for who is in it already."""
    user = user_get_by_email(email=email)
    if user is None:
        raise InvalidInput("There is no user with this address.", next_step="have them register first")
    try:
        with transaction.atomic():
            return Membership.objects.create(project=project, user=user, role=role)
    except IntegrityError as error:
        raise Conflict("The user is in the project already.", next_step="change their role instead") from error


def member_update(*, project: Project, user_id: uuid.UUID, role: Role) -> Membership:
    """Give a member another role. Raises Conflict when the project would have no owner."""
    with transaction.atomic():
        membership = _membership_lock(project, user_id)
        if membership.role == Role.OWNER and role != Role.OWNER:
            _another_owner_require(membership)
        membership.role = role
        membership.save(update_fields=["role", "updated_at"])
    return membership


def member_remove(*, project: Project, user_id: uuid.UUID) -> None:
    """Take a user out of the project. Raises Conflict when the project would have no owner."""
    with transaction.atomic():
        membership = _membership_lock(project, user_id)
        if membership.role == Role.OWNER:
            _another_owner_require(membership)
        membership.delete()


def _membership_lock(project: Project, user_id: uuid.UUID) -> Membership:
    # The project's row is the lock: two owners who remove each other at once must not both succeed.
    Project.objects.select_for_update().filter(id=project.id).first()
    membership = Membership.objects.select_related("user").filter(project=project, user_id=user_id).first()
    if membership is None:
        raise NotFound("There is no such member.")
    return membership


def _another_owner_require(membership: Membership) -> None:
    others = Membership.objects.filter(project=membership.project_id, role=Role.OWNER).exclude(id=membership.id)
    if not others.exists():
        raise Conflict(
            "A project needs an owner.", next_step="make somebody else an owner first, or delete the project"
        )


def _hosts_clean(patterns: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(host_pattern_clean(pattern) for pattern in patterns))


def _repository_apply(project: Project, info: RepositoryInfo) -> None:
    project.repository_state = RepositoryState.READY
    project.default_branch = info.default_branch
    project.head_commit = info.head_commit


def _repository_remove(project_id: uuid.UUID) -> None:
    try:
        repository_delete(project_id=project_id)
        environments_delete(project_id=project_id)
    except OSError as error:
        # The rows are gone: a folder that stays behind costs space and nothing else.
        logger.error("what belonged to the deleted project %s could not be removed: %s", project_id, error)

"""Writes of the app: projects, their repository's state, and who is in them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from apps.authentication.models import User
from apps.authentication.selectors import user_get_by_email
from apps.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from apps.projects.agent_settings import agents_read
from apps.projects.environment import environments_delete
from apps.projects.models import Membership, Project, RepositorySource, RepositoryState, Role
from apps.projects.project_fields import host_pattern_clean, subfolder_clean
from apps.projects.repository import (
    RepositoryInfo,
    branch_default_set,
    repository_delete,
    repository_import_bundle,
    repository_import_path,
    repository_list,
    repository_notices,
)
from apps.projects.repository_archive import repository_import_archive
from apps.projects.selectors import project_get_for_user
from apps.projects.sources import SourceChanges, source_build, source_save_and_fetch, source_wait_refuse

logger = logging.getLogger(__name__)

#: A repository is made before its project's row is.
_PRUNED_AFTER = timedelta(days=1)


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
    autonomy: str = "",
    review: str = "",
    agents: Mapping[str, Any] | None = None,
    instructions: str = "",
    lanes: int | None = None,
    source: SourceChanges | None = None,
) -> Project:
    """A project of which the user is the owner, with a copy of the repository at ``repository_path`` if one is given.

    The path has to be under ARCHON_REPOSITORY_ROOTS. A repository that can't be imported raises InvalidInput, and
    there is no project then. With a ``source`` the repository is fetched from there by the workers.
    """
    if repository_path and source is not None:
        raise InvalidInput(
            "The repository comes from a path or from an address, not from both", next_step="leave one of them out"
        )
    project = Project(
        name=name,
        description=description,
        setup_command=setup_command,
        check_commands=list(check_commands),
        network_hosts=_hosts_clean(network_hosts),
        subfolder=subfolder_clean(subfolder),
        autonomy=autonomy,
        review=review,
        agents=agents_read(agents or {}).as_dict(),
        instructions=instructions,
        lanes=lanes,
    )
    repository_source = None if source is None else source_build(project=project, changes=source)
    # Imported before there is a row, since git runs outside transactions: a crash in between leaves a folder that
    # belongs to no project, and never a project that lacks what its row says.
    if repository_path:
        try:
            info = repository_import_path(project_id=project.id, source=repository_path, branch=branch or None)
            _repository_apply(project, info)
            found = repository_notices(project_id=project.id, commit=info.head_commit)
            project.repository_notices = [notice.as_json() for notice in found]
        except BaseException:
            repository_delete(project_id=project.id)
            raise
    with transaction.atomic():
        project.save(force_insert=True)
        Membership.objects.create(project=project, user=user, role=Role.OWNER)
        if repository_source is not None:
            source_save_and_fetch(repository_source)
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
    autonomy: str | None = None,
    review: str | None = None,
    agents: Mapping[str, Any] | None = None,
    instructions: str | None = None,
    lanes: int | None = None,
    default_branch: str | None = None,
) -> Project:
    """Change what is given and leave the rest. A ``default_branch`` has to be there already.

    ``lanes``: 0 leaves it to the server.
    """
    changes = {
        "name": name,
        "description": description,
        "setup_command": setup_command,
        "check_commands": None if check_commands is None else list(check_commands),
        "network_hosts": None if network_hosts is None else _hosts_clean(network_hosts),
        "subfolder": None if subfolder is None else subfolder_clean(subfolder),
        "autonomy": autonomy,
        "review": review,
        "agents": None if agents is None else agents_read(agents).as_dict(),
        "instructions": instructions,
        "lanes": lanes,
    }
    given = {field: value for field, value in changes.items() if value is not None}
    for field, value in given.items():
        setattr(project, field, value)
    if lanes == 0:
        project.lanes = None
    if default_branch:
        _default_branch_set(project, default_branch)
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
    source_wait_refuse(project)
    return _imported(
        project, repository_import_bundle(project_id=project.id, bundle_path=bundle_path, branch=branch or None)
    )


def project_archive_import(*, project: Project, archive_path: Path, message: str = "") -> Project:
    """Take over the files of an archive, as a commit on top of what the project has; the same files change nothing.

    Raises InvalidInput or TooLarge for an archive that can't be taken.
    """
    source_wait_refuse(project)
    return _imported(
        project, repository_import_archive(project_id=project.id, archive_path=archive_path, message=message)
    )


def _imported(project: Project, info: RepositoryInfo) -> Project:
    notices = [notice.as_json() for notice in repository_notices(project_id=project.id, commit=info.head_commit)]
    _repository_apply(project, info)
    project.repository_notices = notices
    if not project_repository_record(project_id=project.id, info=info, notices=notices):
        repository_delete(project_id=project.id)
        raise NotFound("The project was deleted meanwhile.")
    return project


def repositories_prune() -> None:
    """Remove repositories that belong to no project: their project was deleted while somebody wrote to them."""
    found = repository_list(older_than=_PRUNED_AFTER)
    known = set(Project.objects.filter(id__in=found).values_list("id", flat=True))
    for project_id in found:
        if project_id not in known:
            _repository_remove(project_id)


def project_repository_record(
    *, project_id: uuid.UUID, info: RepositoryInfo, notices: Sequence[dict[str, str]] = ()
) -> bool:
    """Note what the repository holds now, after an import; False when there is no such project."""
    return bool(
        Project.objects.filter(id=project_id).update(
            repository_state=RepositoryState.READY,
            default_branch=info.default_branch,
            head_commit=info.head_commit,
            repository_notices=list(notices),
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


def _default_branch_set(project: Project, branch: str) -> None:
    if project.repository_state != RepositoryState.READY:
        raise Conflict("The project has no repository yet.", state=project.repository_state)
    info = branch_default_set(project_id=project.id, branch=branch)
    _repository_apply(project, info)
    Project.objects.filter(id=project.id).update(default_branch=info.default_branch, head_commit=info.head_commit)
    # The next sync stays with it.
    RepositorySource.objects.filter(project=project).update(branch=branch)


def _hosts_clean(patterns: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(host_pattern_clean(pattern) for pattern in patterns))


def _repository_apply(project: Project, info: RepositoryInfo) -> None:
    project.repository_state = RepositoryState.READY.value
    project.default_branch = info.default_branch
    project.head_commit = info.head_commit


def _repository_remove(project_id: uuid.UUID) -> None:
    try:
        repository_delete(project_id=project_id)
        environments_delete(project_id=project_id)
    except (OSError, Unavailable) as error:
        # The rows are gone: a folder that stays behind costs space and nothing else, and is pruned later.
        logger.error("what belonged to the deleted project %s could not be removed: %s", project_id, error)

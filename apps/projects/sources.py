"""Writes of a repository's source: where it comes from, what opens it there, and that it is wanted now."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from apps.core.encryption import secret_encrypt
from apps.core.errors import Conflict, InvalidInput, NotFound
from apps.core.queue import enqueue_on_commit
from apps.projects.models import FetchState, Project, RepositorySource, RepositoryState
from apps.projects.remote_access import host_key_name
from apps.projects.remote_address import RemoteAddress, remote_address_parse
from apps.projects.remote_fetch import credentials_suit
from apps.projects.selectors import source_get

FETCH_TASK = "apps.projects.tasks.fetch_repository"
_UNDER_WAY = (FetchState.WAITING, FetchState.RUNNING)
_KEY_TYPE = re.compile(r"(?:ssh-(?:ed25519|rsa|dss)|ecdsa-sha2-nistp\d{3}|sk-[a-z0-9@.-]+)")
_KEYS = 20


@dataclass(frozen=True)
class SourceChanges:
    """What is to be different; None leaves it as it is, and empty text takes it away."""

    url: str | None = None
    branch: str | None = None
    username: str | None = None
    token: str | None = None
    deploy_key: str | None = None
    known_hosts: str | None = None
    sync_minutes: int | None = None


def source_build(*, project: Project, changes: SourceChanges) -> RepositorySource:
    """The source of a new project, checked and not yet saved."""
    source = RepositorySource(project=project)
    _apply(source, changes)
    return source


def source_update(*, project: Project, changes: SourceChanges) -> Project:
    """Change the source of a project, or give it one, and fetch from there.

    Another host gets none of the credentials of the one before. A fetch that is under way is begun again.
    """
    with transaction.atomic():
        _project_lock(project)
        source = RepositorySource.objects.select_for_update().filter(project=project).first()
        if source is None and not changes.url:
            raise Conflict(
                "The project's repository has no source",
                next_step="Give it the url that it is to be fetched from.",
                state="no_source",
            )
        source = source or RepositorySource(project=project)
        source.project = project
        _apply(source, changes)
        only_times = all(
            getattr(changes, name) is None
            for name in ("url", "branch", "username", "token", "deploy_key", "known_hosts")
        )
        source.save()
        if not only_times:
            _fetch_want(source, force=False)
    return _fresh(project)


def source_remove(*, project: Project) -> None:
    """Forget where the repository came from, credentials and all; what has come stays."""
    with transaction.atomic():
        _project_lock(project)
        RepositorySource.objects.filter(project=project).delete()
        Project.objects.filter(
            id=project.id, repository_state__in=[RepositoryState.CLONING, RepositoryState.FAILED]
        ).update(repository_state=RepositoryState.EMPTY)


def source_sync(*, project: Project, force: bool = False) -> Project:
    """Have the repository fetched again. One that is under way already is left to it, unless this one has force."""
    with transaction.atomic():
        _project_lock(project)
        source = RepositorySource.objects.select_for_update().filter(project=project).first()
        if source is None:
            raise Conflict(
                "The project's repository was not fetched from anywhere",
                next_step="Upload it again, or give it a source (PATCH …/repository/source/).",
                state="no_source",
            )
        if source.fetch_state not in _UNDER_WAY or (force and not source.fetch_force):
            _fetch_want(source, force=force)
    return _fresh(project)


def source_sync_if_due(*, project: Project) -> bool:
    """Have a repository that is older than its ``sync_minutes`` fetched; whether the caller has to wait for that.

    A source that did not answer is left alone for as long: the project goes on from what is here.
    """
    source = source_get(project)
    if source is None or not source.sync_minutes or project.repository_state != RepositoryState.READY:
        return False
    if source.fetch_state in _UNDER_WAY:
        return True
    last = max((moment for moment in (source.synced_at, source.attempted_at) if moment is not None), default=None)
    if last is not None and timezone.now() - last < timedelta(minutes=source.sync_minutes):
        return False
    source_sync(project=project)
    return True


def source_wait_refuse(project: Project) -> None:
    """Raises Conflict while a fetch is under way: nothing else may bring the repository up to date meanwhile."""
    source = source_get(project)
    if source is not None and source.fetch_state in _UNDER_WAY:
        raise Conflict(
            "The repository is being fetched from its source",
            next_step="Wait until that has ended, or remove the source.",
            state=RepositoryState.CLONING if project.repository_state == RepositoryState.CLONING else "syncing",
        )


def source_save_and_fetch(source: RepositorySource) -> None:
    """Save a new project's source and have it fetched; in the caller's transaction."""
    source.save(force_insert=True)
    _fetch_want(source, force=False)


def _fetch_want(source: RepositorySource, *, force: bool) -> None:
    # The fence goes on, so that a fetch that is under way stops.
    RepositorySource.objects.filter(id=source.id).update(
        fetch_state=FetchState.WAITING,
        fetch_force=force,
        fetch_reason=None,
        fetch_progress=None,
        fetch_attempts=0,
        lease_until=None,
        fence=F("fence") + 1,
    )
    Project.objects.filter(id=source.project_id).exclude(repository_state=RepositoryState.READY).update(
        repository_state=RepositoryState.CLONING
    )
    enqueue_on_commit(FETCH_TASK, source_id=str(source.id))


def _apply(source: RepositorySource, changes: SourceChanges) -> None:
    address = remote_address_parse(changes.url if changes.url is not None else source.url)
    if source.url and remote_address_parse(source.url).origin != address.origin:
        source.username = source.token = source.deploy_key = source.known_hosts = ""
    source.url = address.url
    if changes.branch is not None:
        source.branch = changes.branch.strip()
    if changes.username is not None:
        source.username = changes.username.strip()
    if changes.token is not None:
        source.token = secret_encrypt(token_clean(changes.token)) if changes.token.strip() else ""
    if changes.deploy_key is not None:
        source.deploy_key = secret_encrypt(deploy_key_clean(changes.deploy_key)) if changes.deploy_key.strip() else ""
    if changes.known_hosts is not None:
        source.known_hosts = known_hosts_clean(changes.known_hosts, address=address)
    if changes.sync_minutes is not None:
        source.sync_minutes = changes.sync_minutes
    credentials_suit(address, token=source.token, deploy_key=source.deploy_key)


def token_clean(token: str) -> str:
    token = token.strip()
    if not token.isascii() or any(ord(character) < 33 for character in token):
        raise InvalidInput("The token holds characters that no token has", next_step="Copy it again.")
    return token


def deploy_key_clean(text: str) -> str:
    """A private key as ssh reads it; InvalidInput for what is none, or is behind a passphrase."""
    key = text.replace("\r\n", "\n").strip() + "\n"
    load = load_ssh_private_key if "BEGIN OPENSSH" in key else load_pem_private_key
    try:
        load(key.encode(), None)
    except TypeError as error:
        raise InvalidInput(
            "The deploy key is behind a passphrase, which nobody could type in",
            next_step="Make one without: ssh-keygen -t ed25519 -N '' -f deploy_key",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        # A passphrase of the newer format comes as a ValueError that says so.
        what = "behind a passphrase" if "encrypted" in str(error).lower() else "not a private key"
        raise InvalidInput(
            f"The deploy key is {what}",
            next_step="Give the private half of a key without a passphrase: ssh-keygen -t ed25519 -N '' -f deploy_key",
        ) from error
    return key


def known_hosts_clean(text: str, *, address: RemoteAddress) -> str:
    """Lines as ssh keeps them, each for the source's host; a line may leave the host out."""
    wrong = InvalidInput(
        "known_hosts is not a list of host keys",
        next_step="Give lines such as `ssh-ed25519 AAAA…` or what `ssh-keyscan HOST` prints.",
    )
    lines = []
    for line in text.splitlines():
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        start = 0 if _KEY_TYPE.fullmatch(parts[0]) else 1
        if len(parts) < start + 2 or not _KEY_TYPE.fullmatch(parts[start]):
            raise wrong
        try:
            base64.b64decode(parts[start + 1], validate=True)
        except binascii.Error:
            raise wrong from None
        lines.append(f"{host_key_name(address)} {parts[start]} {parts[start + 1]}\n")
    if len(lines) > _KEYS:
        raise wrong
    return "".join(lines)


@dataclass(frozen=True)
class HostKey:
    host: str
    type: str
    fingerprint: str


def host_keys(known_hosts: str) -> tuple[HostKey, ...]:
    """The keys with the fingerprints that ssh shows."""
    keys = []
    for line in known_hosts.splitlines():
        host, kind, key = line.split()[:3]
        digest = hashlib.sha256(base64.b64decode(key)).digest()
        keys.append(HostKey(host, kind, "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")))
    return tuple(keys)


def _project_lock(project: Project) -> None:
    if not Project.objects.select_for_update().filter(id=project.id).exists():
        raise NotFound("The project was deleted meanwhile.")


def _fresh(project: Project) -> Project:
    """The project as it is now, with the role that it was read with."""
    fresh = Project.objects.select_related("source").get(id=project.id)
    fresh.role = project.role  # type: ignore[attr-defined]  # annotated by project_list
    return fresh

"""The job of fetching a project's repository: taken up under a lease, carried on after a death, recorded once.

The row of the source says what is wanted; a message in the queue only wakes somebody up. Whoever takes it up counts
the fence on, renews the lease while git works, and has the last word only while the fence is still theirs.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.core.encryption import secret_decrypt
from apps.core.errors import ApplicationError
from apps.projects.models import FetchState, Project, RepositorySource, RepositoryState
from apps.projects.remote_access import RemoteCredentials
from apps.projects.remote_address import RemoteAddress, remote_address_parse
from apps.projects.remote_fetch import FetchProgress
from apps.projects.repository import repository_delete
from apps.projects.repository_remote import RemoteFetched, repository_fetch

logger = logging.getLogger(__name__)

_LEASE = timedelta(seconds=30)
_RENEW_SECONDS = 2.0
#: So often a fetch is taken up by workers that die of it or with it.
_ATTEMPTS = 5
#: Fetches that a process does at a time; the others wait for the next sweep.
_FETCHES = 2

_slots = threading.BoundedSemaphore(_FETCHES)
_stopping = threading.Event()


class _FetchAbandoned(Exception):
    """The fetch is no longer this worker's, or the process is about to end."""


@dataclass(frozen=True)
class _Claim:
    source_id: uuid.UUID
    project_id: uuid.UUID
    fence: int
    address: RemoteAddress
    credentials: RemoteCredentials
    branch: str
    force: bool


def fetch_execute(*, source_id: uuid.UUID) -> None:
    """Take the source's fetch up, if it is wanted and nobody has it, and see it through."""
    if _stopping.is_set() or not _slots.acquire(blocking=False):
        return
    try:
        fence = _claim(source_id)
        if fence is not None:
            _fetch(source_id, fence)
    finally:
        _slots.release()


def fetches_stop() -> None:
    """Let go of what this process is fetching, for another to take up: the process ends."""
    _stopping.set()


def _claim(source_id: uuid.UUID) -> int | None:
    now = timezone.now()
    free = Q(fetch_state=FetchState.WAITING) | Q(fetch_state=FetchState.RUNNING, lease_until__lt=now)
    taken = RepositorySource.objects.filter(free, id=source_id).update(
        fetch_state=FetchState.RUNNING,
        fence=F("fence") + 1,
        lease_until=now + _LEASE,
        fetch_attempts=F("fetch_attempts") + 1,
        attempted_at=now,
        fetch_progress=None,
    )
    if not taken:
        return None
    # Somebody may have taken it from us again already: then the first renewal says so.
    return RepositorySource.objects.values_list("fence", flat=True).get(id=source_id)


def _fetch(source_id: uuid.UUID, fence: int) -> None:
    source = RepositorySource.objects.select_related("project").filter(id=source_id).first()
    if source is None:
        return
    renewal = _Renewal(source_id, fence)
    try:
        if source.fetch_attempts > _ATTEMPTS:
            raise FetchGivenUp(
                f"The fetch was begun {_ATTEMPTS} times and never came to an end",
                next_step="Look into the workers' log for why they ended, then sync again.",
            )
        claim = _claim_read(source, fence)
        fetched = repository_fetch(
            project_id=claim.project_id,
            address=claim.address,
            credentials=claim.credentials,
            branch=claim.branch,
            force=claim.force,
            on_progress=renewal.progress,
            on_tick=renewal.tick,
        )
    except _FetchAbandoned:
        if _stopping.is_set():
            RepositorySource.objects.filter(id=source_id, fence=fence, fetch_state=FetchState.RUNNING).update(
                fetch_state=FetchState.WAITING, lease_until=None, fetch_attempts=F("fetch_attempts") - 1
            )
    except ApplicationError as error:
        logger.info("repository not fetched: project=%s code=%s", source.project_id, error.code)
        _failure_record(source_id, fence, error)
    else:
        _success_record(source_id, fence, fetched)
    if not Project.objects.filter(id=source.project_id).exists():
        # Deleted meanwhile: whoever did so may have come before there was anything to remove.
        repository_delete(project_id=source.project_id)


class FetchGivenUp(ApplicationError):
    """The fetch was taken up too often."""

    code = "given_up"


def _claim_read(source: RepositorySource, fence: int) -> _Claim:
    secrets = {
        name: secret_decrypt(stored, what=what) if stored else ""
        for name, stored, what in (
            ("token", source.token, "the repository's token"),
            ("deploy_key", source.deploy_key, "the repository's deploy key"),
        )
    }
    return _Claim(
        source_id=source.id,
        project_id=source.project_id,
        fence=fence,
        address=remote_address_parse(source.url),
        credentials=RemoteCredentials(username=source.username, known_hosts=source.known_hosts, **secrets),
        branch=source.branch,
        force=source.fetch_force,
    )


class _Renewal:
    """Keeps the lease while git works, tells how far it is, and stops it when it is no longer ours."""

    def __init__(self, source_id: uuid.UUID, fence: int) -> None:
        self._source_id = source_id
        self._fence = fence
        self._progress: FetchProgress | None = None
        self._renewed = 0.0

    def progress(self, progress: FetchProgress) -> None:
        self._progress = progress

    def tick(self) -> None:
        if _stopping.is_set():
            raise _FetchAbandoned
        if time.monotonic() - self._renewed < _RENEW_SECONDS:
            return
        changes: dict[str, object] = {"lease_until": timezone.now() + _LEASE}
        if self._progress is not None:
            changes["fetch_progress"] = {
                "phase": self._progress.phase,
                "percent": self._progress.percent,
                "received": self._progress.received,
            }
        held = RepositorySource.objects.filter(
            id=self._source_id, fence=self._fence, fetch_state=FetchState.RUNNING
        ).update(**changes)
        if not held:
            raise _FetchAbandoned
        self._renewed = time.monotonic()


def _success_record(source_id: uuid.UUID, fence: int, fetched: RemoteFetched) -> None:
    with transaction.atomic():
        source = (
            RepositorySource.objects.select_for_update()
            .filter(id=source_id, fence=fence, fetch_state=FetchState.RUNNING)
            .first()
        )
        if source is None:
            return
        source.fetch_state = FetchState.IDLE
        source.fetch_reason = source.fetch_progress = source.lease_until = None
        source.fetch_attempts = 0
        source.fetch_force = False
        source.synced_at = timezone.now()
        if fetched.known_hosts:
            source.known_hosts = fetched.known_hosts
        source.save()
        Project.objects.filter(id=source.project_id).update(
            repository_state=RepositoryState.READY,
            default_branch=fetched.info.default_branch,
            head_commit=fetched.info.head_commit,
            repository_notices=[notice.as_json() for notice in fetched.notices],
        )


def _failure_record(source_id: uuid.UUID, fence: int, error: ApplicationError) -> None:
    with transaction.atomic():
        source = (
            RepositorySource.objects.select_for_update()
            .filter(id=source_id, fence=fence, fetch_state=FetchState.RUNNING)
            .first()
        )
        if source is None:
            return
        source.fetch_state = FetchState.FAILED
        source.fetch_reason = {"code": error.code, "message": error.message, "next_step": error.next_step}
        source.fetch_progress = source.lease_until = None
        source.fetch_attempts = 0
        source.fetch_force = False
        source.save()
        Project.objects.filter(id=source.project_id, repository_state=RepositoryState.CLONING).update(
            repository_state=RepositoryState.FAILED
        )

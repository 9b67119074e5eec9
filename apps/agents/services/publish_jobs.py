"""The job of publishing a session's branch: taken up under a lease, carried on after a death, recorded once.

Everything it does to the origin is the same when it is done again: a branch that is there already is left, one that is
at what a worker wrote down before it died is known as ours, and a pull request that is open is found.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from apps.agents.models import Publication
from apps.agents.services.report_facts import report_facts_shown
from apps.agents.services.report_text import REPORT_LIMIT, report_markdown, report_title
from apps.agents.services.sessions import event_append, session_lock
from apps.agents.types import Event, PublicationState, SessionOutcome, SessionStatus
from apps.core.encryption import secret_decrypt
from apps.core.errors import ApplicationError, Conflict, Unavailable
from apps.core.kill_points import kill_point, kill_points_of
from apps.projects.forge_failures import ForgeLimited, forge_error
from apps.projects.forges import ForgeAccess, forge_access, forge_opened
from apps.projects.models import Project, RepositorySource
from apps.projects.remote_access import RemoteCredentials
from apps.projects.remote_address import RemoteAddress, remote_address_parse
from apps.projects.repository_push import branch_push
from apps.projects.secrets import project_redactor
from integrations.forges.errors import ForgeError
from integrations.forges.putting import Put, Wish, pull_request_put

logger = logging.getLogger(__name__)

#: Longer than a request to a forge usually takes, since it is renewed between them.
_LEASE = timedelta(seconds=40)
_RENEW_SECONDS = 2.0
#: So often it is taken up, by workers that die of it or because the other side asked to wait.
_ATTEMPTS = 6
#: What is waited for at most, and where nobody says how long: by the attempt.
_LONGEST_WAIT = 900.0
_WAITS = (5.0, 15.0, 60.0, 300.0)
#: Publications that a process does at a time; the others wait for the next sweep.
_AT_ONCE = 2

_slots = threading.BoundedSemaphore(_AT_ONCE)
_stopping = threading.Event()


class _Abandoned(Exception):
    """It is no longer this worker's, or the process is about to end."""


class PublishGivenUp(ApplicationError):
    """It was taken up too often."""

    code = "given_up"


@dataclass(frozen=True)
class _Source:
    address: RemoteAddress
    credentials: RemoteCredentials


def publish_execute(*, publication_id: uuid.UUID) -> None:
    """Take the publication up, if it is wanted and nobody has it, and see it through."""
    if _stopping.is_set() or not _slots.acquire(blocking=False):
        return
    try:
        fence = _claim(publication_id)
        if fence is not None:
            _publish(publication_id, fence)
    finally:
        _slots.release()


def publishes_stop() -> None:
    """Let go of what this process is at, for another to take up: the process ends."""
    _stopping.set()


def _claim(publication_id: uuid.UUID) -> int | None:
    now = timezone.now()
    due = Q(state=PublicationState.WANTED) & (Q(retry_at=None) | Q(retry_at__lte=now))
    free = due | Q(state=PublicationState.RUNNING, lease_until__lt=now)
    taken = Publication.objects.filter(free, id=publication_id).update(
        state=PublicationState.RUNNING,
        fence=F("fence") + 1,
        lease_until=now + _LEASE,
        attempts=F("attempts") + 1,
        retry_at=None,
        updated_at=now,
    )
    if not taken:
        return None
    # Somebody may have taken it from us again already: then the first renewal says so.
    return Publication.objects.values_list("fence", flat=True).get(id=publication_id)


def _publish(publication_id: uuid.UUID, fence: int) -> None:
    publication = Publication.objects.select_related("session").filter(id=publication_id).first()
    if publication is None:
        return
    holding = _Holding(publication_id, fence)
    with kill_points_of(publication.session_id):
        try:
            if publication.attempts > _ATTEMPTS:
                raise PublishGivenUp(
                    f"The publication was begun {_ATTEMPTS} times and never came to an end",
                    next_step="Look into the workers' log for why they ended, then publish again.",
                )
            _carry_out(publication, holding)
        except _Abandoned:
            if _stopping.is_set():
                _held(publication_id, fence).update(
                    state=PublicationState.WANTED, lease_until=None, attempts=F("attempts") - 1
                )
        except ApplicationError as error:
            logger.info("session not published: session=%s code=%s", publication.session_id, error.code)
            _failure_record(publication, fence, error)


def _carry_out(publication: Publication, holding: _Holding) -> None:
    session = publication.session
    project = Project.objects.select_related("source").get(id=session.project_id)
    if session.status != SessionStatus.COMPLETED or session.head_commit != publication.commit or session.discarded_at:
        raise Conflict(
            "the session went on, or was discarded, since this was asked for",
            next_step="publish again when it has completed",
            state="went_on",
        )
    source = _source_read(project)
    access = forge_access(project) if publication.pull_request else None
    _push(publication, source, holding)
    kill_point("publish.pushed")
    holding.renew(pushed_commit=publication.commit, pushing_commit="")
    put = _open(publication, access, holding) if access is not None else None
    kill_point("publish.opened")
    _success_record(publication, holding.fence, access, put)


def _push(publication: Publication, source: _Source, holding: _Holding) -> None:
    url, branch = source.address.url, publication.branch
    same = (publication.pushed_url, publication.pushed_branch) == (url, branch)
    pushed = publication.pushed_commit if same else ""
    ours = {commit for commit in (pushed, publication.pushing_commit if same else "") if commit}

    def before_push() -> None:
        holding.renew(pushed_url=url, pushed_branch=branch, pushed_commit=pushed, pushing_commit=publication.commit)

    result = branch_push(
        project_id=publication.session.project_id,
        address=source.address,
        credentials=source.credentials,
        branch=branch,
        commit=publication.commit,
        target=publication.target,
        ours=ours,
        before_push=before_push,
        on_tick=holding.tick,
    )
    if result.was_there:
        before_push()


def _open(publication: Publication, access: ForgeAccess, holding: _Holding) -> Put:
    session = publication.session
    redactor = project_redactor(project_id=session.project_id)
    facts = report_facts_shown(session.id, published_branch=publication.branch)

    def body(limit: int) -> str:
        return report_markdown(facts, limit=min(limit, REPORT_LIMIT))

    wish = Wish(
        head=publication.branch,
        base=publication.target,
        title=redactor.text(publication.title) or report_title(facts),
        title_is_said=bool(publication.title),
        body=body,
        mark=f"archon:report {session.id}",
        draft=publication.draft,
        draft_default=session.outcome != SessionOutcome.VERIFIED,
    )
    try:
        # Renewed before each request: there may be many pages to look through.
        with forge_opened(access, before_request=holding.renew) as forge:
            return pull_request_put(forge, wish)
    except ForgeError as error:
        raise forge_error(error, token=access.token) from error


def _source_read(project: Project) -> _Source:
    source = RepositorySource.objects.filter(project=project).first()
    if source is None:
        raise Conflict("the project's source was taken away", next_step="give it one again", state="no_source")
    secrets = {
        name: secret_decrypt(stored, what=what) if stored else ""
        for name, stored, what in (
            ("token", source.token, "the repository's token"),
            ("deploy_key", source.deploy_key, "the repository's deploy key"),
        )
    }
    credentials = RemoteCredentials(username=source.username, known_hosts=source.known_hosts, **secrets)
    return _Source(remote_address_parse(source.url), credentials)


class _Holding:
    """Keeps the lease while others are waited for, and stops the work when it is no longer ours."""

    def __init__(self, publication_id: uuid.UUID, fence: int) -> None:
        self._publication_id = publication_id
        self.fence = fence
        self._renewed = 0.0

    def tick(self) -> None:
        """For places that are come by often."""
        if _stopping.is_set():
            raise _Abandoned
        if time.monotonic() - self._renewed >= _RENEW_SECONDS:
            self.renew()

    def renew(self, **columns: object) -> None:
        """Write columns with it, which counts only while the lease is ours."""
        if _stopping.is_set():
            raise _Abandoned
        if not _held(self._publication_id, self.fence).update(lease_until=timezone.now() + _LEASE, **columns):
            raise _Abandoned
        self._renewed = time.monotonic()


def _held(publication_id: uuid.UUID, fence: int) -> QuerySet[Publication]:
    return Publication.objects.filter(id=publication_id, fence=fence, state=PublicationState.RUNNING)


# --- What came of it --------------------------------------------------------------------------------------------------
def _success_record(publication: Publication, fence: int, access: ForgeAccess | None, put: Put | None) -> None:
    with transaction.atomic():
        # The head row first, as everywhere.
        session_lock(publication.session_id)
        made = put.pull_request if put is not None else None
        columns: dict[str, object] = {}
        if made is not None and access is not None:
            columns = {
                "forge": access.address.kind,
                "number": made.number,
                "url": made.url[:2000],
                "is_draft": made.is_draft,
            }
        ended = _held(publication.id, fence).update(
            state=PublicationState.DONE,
            notice=put.notice if put is not None else "",
            reason=None,
            lease_until=None,
            attempts=0,
            updated_at=timezone.now(),
            **columns,
        )
        if not ended:
            return
        url = made.url if made is not None else ""
        done = Event("SessionPublished", {"branch": publication.branch, "commit": publication.commit, "url": url})
        event_append(session_id=publication.session_id, events=[done])


def _failure_record(publication: Publication, fence: int, error: ApplicationError) -> None:
    """For good, or to be tried again after a while: where waiting may help, and it is not for too long."""
    reason = {"code": error.code, "message": error.message[:2000], "next_step": error.next_step}
    wait = _wait(error, publication.attempts)
    if wait is not None:
        _held(publication.id, fence).update(
            state=PublicationState.WANTED,
            reason=reason,
            retry_at=timezone.now() + timedelta(seconds=wait),
            lease_until=None,
            updated_at=timezone.now(),
        )
        return
    if "retry_after" in error.extra:
        minutes = max(1, round(float(error.extra["retry_after"]) / 60))
        reason["next_step"] = f"Publish again in {minutes} minutes."
    with transaction.atomic():
        session_lock(publication.session_id)
        ended = _held(publication.id, fence).update(
            state=PublicationState.FAILED, reason=reason, lease_until=None, attempts=0, updated_at=timezone.now()
        )
        if ended:
            event_append(session_id=publication.session_id, events=[Event("PublishFailed", dict(reason))])


def _wait(error: ApplicationError, attempts: int) -> float | None:
    """Seconds until it is worth another try; None: it isn't."""
    if attempts >= _ATTEMPTS or not isinstance(error, Unavailable | ForgeLimited):
        return None
    usual = _WAITS[min(attempts, len(_WAITS)) - 1] if attempts else _WAITS[0]
    wait = max(float(error.extra.get("retry_after", 0.0)), usual)
    return wait if wait <= _LONGEST_WAIT else None

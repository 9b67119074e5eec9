"""Jobs of indexing: wanted by a row, taken up under the index's lease, carried on after a death, told by events.

A message in the queue only wakes somebody up. Whoever takes an index up counts its fence on and does its jobs one after
the other; every write checks the fence, so a worker that was thought dead writes nothing. A job that is running and
that nobody holds is taken up again by the sweep, so none stands at "indexing" for ever.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import F, Max, Q
from django.utils import timezone

from apps.context.models import ACTIVE_JOB_STATES, CodeIndex, IndexEvent, IndexJob, JobState, JobTarget
from apps.context.types import Lease, LeaseLost
from apps.context.writing import lease_hold
from apps.core.errors import ApplicationError, Conflict
from apps.core.queue import enqueue, enqueue_on_commit
from apps.core.realtime import publish_on_commit
from apps.projects.models import Project, RepositoryState

RUN_TASK = "apps.context.tasks.run_index"
#: Workers that may take a job up and not be heard of again.
ATTEMPTS = 5

_CLAIM = """
UPDATE context_codeindex SET fence = fence + 1, lease_until = clock_timestamp() + make_interval(secs => %s)
WHERE id = %s AND (lease_until IS NULL OR lease_until < clock_timestamp()) RETURNING fence
"""
# Numbers are given one after the other, so that whoever sees a job has seen those before it, or can.
_NUMBER_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('context_indexjob.number', %s))"
_RELEASE = "UPDATE context_codeindex SET lease_until = NULL WHERE id = %s AND fence = %s"


def topic_of(project_id: uuid.UUID) -> str:
    """The realtime topic of a project's index."""
    return f"index:{project_id}"


def index_get_or_create(project: Project) -> CodeIndex:
    """The project's index, which may be empty yet."""
    return CodeIndex.objects.get_or_create(project=project)[0]


def job_want(
    *,
    project: Project,
    target: JobTarget = JobTarget.HEAD,
    session_id: uuid.UUID | None = None,
    revision: str = "",
    rebuild: bool = False,
) -> IndexJob:
    """Have the index brought up to date; a job that waits for that is the one. Conflict without a repository."""
    if project.repository_state != RepositoryState.READY:
        raise Conflict(
            "The project has no repository to index yet.",
            next_step="import a folder, upload a git bundle, or wait for the fetch to end",
            state=project.repository_state,
        )
    index = index_get_or_create(project)
    with transaction.atomic():
        job = None
        while job is None:
            waiting = IndexJob.objects.select_for_update().filter(
                index=index, target=target, session_id=session_id, state=JobState.WAITING
            )
            job = waiting.first()
            if job is not None:
                break
            try:
                with transaction.atomic():
                    job = IndexJob.objects.create(
                        index=index,
                        number=_number_next(index),
                        target=target,
                        session_id=session_id,
                        revision=revision,
                        rebuild=rebuild,
                        commit=project.head_commit if target == JobTarget.HEAD else "",
                    )
            except IntegrityError:
                # Somebody wanted the same a moment before us; it may even have been taken up by now.
                continue
            event_add(job, "IndexQueued", {"target": target.value})
        if job.revision != revision or (rebuild and not job.rebuild):
            job.revision, job.rebuild = revision, job.rebuild or rebuild
            job.save(update_fields=["revision", "rebuild", "updated_at"])
        enqueue_on_commit(RUN_TASK, index_id=str(index.id))
    return job


def job_cancel(*, job: IndexJob) -> IndexJob:
    """Stop a job; what it has read stays and is not read again. One that has ended stays as it is."""
    with transaction.atomic():
        locked = IndexJob.objects.select_for_update().get(id=job.id)
        if locked.state == JobState.WAITING:
            _cancel(locked)
        elif locked.state == JobState.RUNNING and not locked.cancel_wanted:
            locked.cancel_wanted = True
            locked.save(update_fields=["cancel_wanted", "updated_at"])
            enqueue_on_commit(RUN_TASK, index_id=str(locked.index_id))
    return locked


def jobs_cancel(*, session_id: uuid.UUID) -> None:
    """Nobody wants a session's files to be read any more; one that is at it writes nothing after this."""
    jobs = IndexJob.objects.filter(session_id=session_id)
    with transaction.atomic():
        # Before the jobs, as whoever holds the lease locks it: what that one is writing now is there then.
        running = jobs.filter(state=JobState.RUNNING).values("index_id")
        list(CodeIndex.objects.select_for_update(no_key=True).filter(id__in=running))
        for job in jobs.select_for_update().filter(state__in=ACTIVE_JOB_STATES):
            if job.state == JobState.WAITING:
                _cancel(job)
            else:
                job.cancel_wanted = True
                job.save(update_fields=["cancel_wanted", "updated_at"])


def _cancel(job: IndexJob) -> None:
    job.state = JobState.CANCELLED
    job.finished_at = timezone.now()
    job.save(update_fields=["state", "finished_at", "updated_at"])
    event_add(job, "IndexCancelled", {})


def index_claim(index_id: int, *, seconds: int = Lease.seconds) -> Lease | None:
    """Take an index up, if nobody has it. Whoever dies with it holds others up for so many seconds."""
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, [seconds, index_id])
        row = cursor.fetchone()
    return Lease(index_id, int(row[0]), seconds) if row else None


def index_release(lease: Lease) -> None:
    """Let go of it, for whoever comes next."""
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE, [lease.index_id, lease.fence])


def lease_renew(lease: Lease, job_id: uuid.UUID) -> bool:
    """Hold it for longer; whether somebody wants the job to stop. Raises LeaseLost."""
    with connection.cursor() as cursor:
        lease_hold(cursor, lease)
    return bool(IndexJob.objects.filter(id=job_id).values_list("cancel_wanted", flat=True).first())


def job_take(lease: Lease) -> IndexJob | None:
    """The next job of the index: one that a dead worker left, or the oldest that waits, the default branch's first."""
    with transaction.atomic():
        _fence_check(lease)
        jobs = IndexJob.objects.select_for_update().filter(index_id=lease.index_id)
        job = jobs.filter(state=JobState.RUNNING).order_by("created_at").first()
        if job is None:
            job = jobs.filter(state=JobState.WAITING).order_by("target", "created_at").first()
        if job is None:
            return None
        job.state = JobState.RUNNING
        job.attempts += 1
        job.started_at = job.started_at or timezone.now()
        job.save(update_fields=["state", "attempts", "started_at", "updated_at"])
        event_add(job, "IndexStarted", {"attempt": job.attempts})
    return job


def job_give_back(job: IndexJob) -> None:
    """The process ends in the middle of it, which says nothing against the job."""
    IndexJob.objects.filter(id=job.id, state=JobState.RUNNING).update(attempts=F("attempts") - 1)


def job_progress(lease: Lease, job: IndexJob, progress: Mapping[str, Any]) -> None:
    """Note how far it is; inside the transaction that wrote what it tells of, or alone."""
    with transaction.atomic():
        _fence_check(lease)
        job.progress = dict(progress)
        IndexJob.objects.filter(id=job.id).update(progress=job.progress)
        event_add(job, "IndexProgressed", job.progress)


def job_end(
    lease: Lease,
    job: IndexJob,
    *,
    state: JobState,
    commit: str | None = None,
    notes: Sequence[Mapping[str, str]] = (),
    error: ApplicationError | None = None,
) -> None:
    """The job's last word."""
    with transaction.atomic():
        _fence_check(lease)
        job.state, job.notes = state, [dict(note) for note in notes]
        job.commit = job.commit if commit is None else commit
        job.finished_at = timezone.now()
        if error is not None:
            job.reason = {"code": error.code, "message": error.message, "next_step": error.next_step}
        job.save(update_fields=["state", "commit", "notes", "finished_at", "reason", "updated_at"])
        if state == JobState.COMPLETED:
            event_add(job, "IndexCompleted", {"commit": job.commit, "notes": job.notes, **job.progress})
        elif state == JobState.CANCELLED:
            event_add(job, "IndexCancelled", {})
        else:
            event_add(job, "IndexFailed", dict(job.reason or {}))


def event_add(job: IndexJob, kind: str, payload: Mapping[str, Any]) -> None:
    """Append an event, inside the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE context_indexjob SET seq = seq + 1 WHERE id = %s RETURNING seq", [job.id])
        job.seq = int(cursor.fetchone()[0])
    IndexEvent.objects.create(job=job, seq=job.seq, type=kind, payload=dict(payload))
    project_id = CodeIndex.objects.values_list("project_id", flat=True).get(id=job.index_id)
    publish_on_commit(topic_of(project_id), {"job": str(job.id), "seq": job.seq})


def jobs_wake(index_id: int) -> None:
    """Have somebody look at the index's jobs: whoever was woken for them may have found it taken."""
    if IndexJob.objects.filter(index_id=index_id, state__in=ACTIVE_JOB_STATES).exists():
        enqueue(RUN_TASK, index_id=str(index_id))


def jobs_wanted() -> list[int]:
    """Indexes with jobs that nobody is at."""
    free = Q(index__lease_until__isnull=True) | Q(index__lease_until__lt=timezone.now())
    wanted = IndexJob.objects.filter(free, state__in=ACTIVE_JOB_STATES).order_by("created_at")
    return list(dict.fromkeys(wanted.values_list("index_id", flat=True)[:500]))


def _number_next(index: CodeIndex) -> int:
    """The next job's number, nobody else's until this transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(_NUMBER_LOCK, [index.id])
    return int(IndexJob.objects.filter(index=index).aggregate(last=Max("number"))["last"] or 0) + 1


def _fence_check(lease: Lease) -> None:
    if not CodeIndex.objects.select_for_update(no_key=True).filter(id=lease.index_id, fence=lease.fence).exists():
        raise LeaseLost

"""What the index knows of a project's code (docs/decisions/0019).

A file is a path with one content: branches and worktrees that have the same content at the same path share its row, its
chunks and its symbols, and it is read once. A *tree* says which files a commit has; it is kept by generations, so that
a new commit writes what changed and whoever reads the former one goes on doing so. An *overlay* is what a session's
worktree, or that of one of its lanes, has otherwise than one generation. Postings are what text search reads.

The rows that come in thousands have no foreign keys in the database: they are written in bulk under the index's lease,
and go by a trigger when the index does (migration 0001).
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from apps.context.models_locating import CommitHistory, ContentTerms
from apps.core.models import BaseModel
from apps.projects.models import Project

#: Models that have a module of their own.
LOCATING_MODELS = (CommitHistory, ContentTerms)


class FileState(models.TextChoices):
    """``PARSED``: with symbols; ``LINES``: no grammar, or one that failed; its lines can be searched."""

    PARSED = "parsed"
    LINES = "lines"
    SKIPPED = "skipped"
    #: The parser died of it or took too long; the reason says so.
    FAILED = "failed"


class JobState(models.TextChoices):
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE_JOB_STATES = (JobState.WAITING, JobState.RUNNING)


class JobTarget(models.TextChoices):
    """What is brought up to date: the default branch, or a session's files."""

    HEAD = "head"
    SESSION = "session"


class CodeIndex(models.Model):
    """One project's index. Only the holder of its lease writes to it."""

    id = models.BigAutoField(primary_key=True)
    project = models.OneToOneField(Project, on_delete=models.CASCADE, related_name="code_index")
    #: The generation of the tree that is read now; 0: there is none yet.
    generation = models.PositiveBigIntegerField(default=0)
    #: The commit that it holds; empty while the first one is being read.
    commit = models.CharField(max_length=64, blank=True, default="")
    #: Whether the tree is whole; while the first one is being read it grows file by file.
    complete = models.BooleanField(default=False)
    #: What decided which files are in, besides ignore files: limits, the parser's version, what was added.
    configuration_key = models.CharField(max_length=64, blank=True, default="")
    #: Counts the files that were added and taken away by hand.
    added_version = models.PositiveBigIntegerField(default=0)
    #: Of all chunks ever counted into the postings that are there: what BM25 weighs by.
    documents = models.BigIntegerField(default=0)
    terms = models.BigIntegerField(default=0)
    #: Chunks whose files are gone, while postings still name them.
    dead_documents = models.BigIntegerField(default=0)
    #: Counts those who took it up: only the last one's writes count.
    fence = models.PositiveBigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    indexed_at = models.DateTimeField(null=True, blank=True)
    #: Vectors are filled under a lease of their own: how often that was wanted, and up to which of these it was done.
    vectors_wanted = models.PositiveBigIntegerField(default=0)
    vectors_filled = models.PositiveBigIntegerField(default=0)
    vectors_fence = models.PositiveBigIntegerField(default=0)
    vectors_lease_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]


class IndexJob(BaseModel):
    """One run of indexing: wanted by a row, woken by the queue, taken up under the index's lease."""

    index = models.ForeignKey(CodeIndex, on_delete=models.CASCADE, related_name="jobs")
    #: Of the index's jobs, from 1, in the order in which they were wanted; one that is seen has all before it there.
    number = models.PositiveBigIntegerField(default=0)
    target = models.CharField(max_length=10, choices=JobTarget.choices, default=JobTarget.HEAD)
    #: The session whose files they are; no foreign key, since sessions are of an app above.
    session_id = models.UUIDField(null=True, blank=True)
    #: A commit or tree of the project's repository; empty: the default branch as it is when the job runs.
    revision = models.CharField(max_length=64, blank=True, default="")
    state = models.CharField(max_length=10, choices=JobState.choices, default=JobState.WAITING)
    cancel_wanted = models.BooleanField(default=False)
    #: Everything is read again, whatever is known.
    rebuild = models.BooleanField(default=False)
    #: `{phase, files_done, files_total, chunks, symbols}`.
    progress = models.JSONField(default=dict, blank=True)
    #: `{code, message, next_step}` of a job that failed.
    reason = models.JSONField(null=True, blank=True)
    #: What people have to know of a job that did all it could, as `{code, message}` each.
    notes = models.JSONField(default=list, blank=True)
    commit = models.CharField(max_length=64, blank=True, default="")
    #: How often it was taken up.
    attempts = models.PositiveIntegerField(default=0)
    seq = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    text_ready_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=JobState.values), name="index_job_state_known"),
            models.CheckConstraint(
                condition=Q(target=JobTarget.HEAD, session_id__isnull=True)
                | Q(target=JobTarget.SESSION, session_id__isnull=False),
                name="index_job_session_has_id",
            ),
            models.UniqueConstraint(fields=["index", "number"], name="index_job_number_unique"),
            # Wanting it again while it waits wants nothing more.
            models.UniqueConstraint(
                fields=["index"], condition=Q(state=JobState.WAITING, target=JobTarget.HEAD), name="index_job_head_once"
            ),
            models.UniqueConstraint(
                fields=["index", "session_id"],
                condition=Q(state=JobState.WAITING, target=JobTarget.SESSION),
                name="index_job_session_once",
            ),
        ]
        indexes = [
            models.Index(
                fields=["state", "created_at"], condition=Q(state__in=ACTIVE_JOB_STATES), name="index_job_active"
            )
        ]


class IndexEvent(models.Model):
    """What happened in a job, numbered from 1 without a gap."""

    job = models.ForeignKey(IndexJob, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveIntegerField()
    type = models.CharField(max_length=40)
    payload = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["seq"]
        constraints = [models.UniqueConstraint(fields=["job", "seq"], name="index_event_seq_unique")]


def _bulk_key(to: type[models.Model] | str, **options: Any) -> models.ForeignKey[Any, Any]:
    """A reference that the database doesn't check, row by row."""
    return models.ForeignKey(to, on_delete=models.DO_NOTHING, db_constraint=False, **options)


class CodeFile(models.Model):
    """A path with one content."""

    id = models.BigIntegerField(primary_key=True)
    index = _bulk_key(CodeIndex, related_name="files", db_index=False)
    path = models.TextField()
    #: git's id of the content.
    blob = models.CharField(max_length=64)
    #: Which parser read it; a new one reads it anew.
    parser = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=10, choices=FileState.choices)
    #: Why it was skipped, or what was wrong with it; empty: nothing.
    reason = models.TextField(blank=True, default="")
    #: As the parser says; empty: unknown.
    language = models.CharField(max_length=40, blank=True, default="")
    size = models.BigIntegerField(default=0)
    lines = models.IntegerField(default=0)
    symbol_count = models.IntegerField(default=0)
    chunk_count = models.IntegerField(default=0)
    complexity = models.IntegerField(default=0)
    #: JSON: `{references: [[name, line, kind, within]], imports: [[module, [names], line]], todos: [[line, text]]}`.
    analysis = models.TextField(blank=True, default="")
    indexed_at = models.DateTimeField()

    class Meta:
        ordering = ["path"]
        constraints = [
            models.UniqueConstraint(fields=["index", "path", "blob", "parser"], name="code_file_content_unique"),
        ]


class TreeEntry(models.Model):
    """A file was in the tree from the generation ``since`` on, until (without) ``until``."""

    id = models.BigAutoField(primary_key=True)
    index = _bulk_key(CodeIndex, related_name="entries", db_index=False)
    file = _bulk_key(CodeFile, related_name="entries")
    since = models.PositiveBigIntegerField()
    until = models.PositiveBigIntegerField(null=True)

    class Meta:
        indexes = [models.Index(fields=["index", "until"], name="tree_entry_until")]


class AddedFile(BaseModel):
    """A file that was put into the context by hand, or taken out of it, whatever the rules and the repository say."""

    index = models.ForeignKey(CodeIndex, on_delete=models.CASCADE, related_name="added")
    path = models.TextField()
    #: A content in the project's repository; empty: as the commit has it.
    blob = models.CharField(max_length=64, blank=True, default="")
    size = models.BigIntegerField(default=0)
    #: It is left out, although the repository has it.
    hidden = models.BooleanField(default=False)

    class Meta:
        ordering = ["path"]
        constraints = [models.UniqueConstraint(fields=["index", "path"], name="added_file_path_unique")]


class Overlay(models.Model):
    """What a session's files, or those of one of its lanes, are otherwise than one generation of the tree."""

    id = models.BigAutoField(primary_key=True)
    index = _bulk_key(CodeIndex, related_name="overlays")
    #: Whose files they are (``types.WorkFiles.key``): a session's id, or one of its own for each of its lanes.
    session_id = models.UUIDField()
    generation = models.PositiveBigIntegerField()
    #: The commit that this generation was of.
    commit = models.CharField(max_length=64, blank=True, default="")
    #: The tree or commit of the repository that it was made of.
    revision = models.CharField(max_length=64)
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["session_id"], name="overlay_session_unique")]


class OverlayEntry(models.Model):
    """In this overlay the path is this file; none: it isn't there."""

    id = models.BigAutoField(primary_key=True)
    overlay = _bulk_key(Overlay, related_name="entries", db_index=False)
    path = models.TextField()
    file = _bulk_key(CodeFile, related_name="overlay_entries", null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["overlay", "path"], name="overlay_entry_path_unique")]


class FileSummary(models.Model):
    """What a model says that a content is for: made once for a content and a model, when somebody asks for it."""

    id = models.BigAutoField(primary_key=True)
    index = models.ForeignKey(CodeIndex, on_delete=models.CASCADE, related_name="summaries")
    #: git's id of the content.
    blob = models.CharField(max_length=64)
    #: ``PROVIDER:MODEL``, with an address behind it where it is not the vendor's own.
    model = models.CharField(max_length=850)
    #: The model as it was asked for; empty: the one of a role.
    asked = models.CharField(max_length=850, blank=True, default="")
    #: Who pays.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, related_name="+", null=True, blank=True
    )
    #: Somebody wanted it then, last of all; it is the file's summary if this is later than of others.
    asked_at = models.DateTimeField()
    #: While it is being made: names the try, and says when it has come to nothing.
    attempt = models.UUIDField(null=True, blank=True)
    patience_until = models.DateTimeField(null=True, blank=True)
    #: A worker has this try, and no other takes it.
    taken_at = models.DateTimeField(null=True, blank=True)
    text = models.TextField(blank=True, default="")
    #: The model saw the file's beginning alone.
    partial = models.BooleanField(default=False)
    made_at = models.DateTimeField(null=True, blank=True)
    #: `{code, message, next_step}` of a try that failed.
    reason = models.JSONField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["index", "blob", "model"], name="file_summary_once")]


class CodeChunk(models.Model):
    """A whole function, class or section (or some lines): what is found, shown and embedded as one."""

    id = models.BigIntegerField(primary_key=True)
    index = _bulk_key(CodeIndex, related_name="chunks", db_index=False)
    file = _bulk_key(CodeFile, related_name="chunks")
    kind = models.CharField(max_length=20)
    qualified_name = models.TextField(blank=True, default="")
    start_line = models.IntegerField()
    end_line = models.IntegerField()
    text = models.TextField()


class CodeSymbol(models.Model):
    """A definition."""

    id = models.BigAutoField(primary_key=True)
    index = _bulk_key(CodeIndex, related_name="symbols", db_index=False)
    file = _bulk_key(CodeFile, related_name="symbols")
    name = models.TextField()
    #: In lower case, for looking up.
    folded = models.TextField()
    qualified_name = models.TextField()
    kind = models.CharField(max_length=20)
    start_line = models.IntegerField()
    end_line = models.IntegerField()
    signature = models.TextField(blank=True, default="")
    docstring = models.TextField(blank=True, default="")
    complexity = models.IntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(fields=["index", "folded"], name="code_symbol_folded", opclasses=["", "text_pattern_ops"])
        ]


class Segment(models.Model):
    """Postings that were written together; small ones are merged into larger ones."""

    id = models.BigAutoField(primary_key=True)
    index = _bulk_key(CodeIndex, related_name="segments")
    documents = models.BigIntegerField()


class Posting(models.Model):
    """The chunks of a segment that have a term, with how often, and how long they are (``apps.context.postings``)."""

    pk = models.CompositePrimaryKey("index", "term", "segment")
    index = _bulk_key(CodeIndex, related_name="+", db_index=False)
    term = models.TextField()
    segment = _bulk_key(Segment, related_name="postings", db_index=False)
    records = models.BinaryField()

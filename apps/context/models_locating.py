"""What locating keeps: each content's terms, and what the commits say. Both can be made anew from the repository."""

from __future__ import annotations

from django.db import models


class ContentTerms(models.Model):
    """The terms of one content, in the form of ``locating.document``: worked out once for all paths and commits."""

    id = models.BigAutoField(primary_key=True)
    #: No foreign key in the database: the rows go by a trigger when the index does.
    index_id = models.BigIntegerField()
    blob = models.CharField(max_length=64)
    language = models.CharField(max_length=40, blank=True, default="")
    #: Of the parser, and of the form: what another one made is made anew.
    parser = models.PositiveSmallIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["index_id", "blob", "language", "parser"], name="content_terms_unique")
        ]


class CommitHistory(models.Model):
    """The commits that were read of a project's repository, in the form of ``locating.memory``."""

    index_id = models.BigIntegerField(primary_key=True)
    data = models.BinaryField()
    commits = models.IntegerField(default=0)
    updated_at = models.DateTimeField()

"""Which embedders there were, what they made, and where a project's vectors are.

The vectors themselves are in an index: pgvector's table, which exists only where PostgreSQL has pgvector, or Pinecone.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.functions import Now

from apps.core.models import BaseModel
from apps.projects.models import Project

KEY_LENGTH = 400


class EmbedderRecord(models.Model):
    """An embedder that vectors are from, and the length of its vectors."""

    key = models.CharField(max_length=KEY_LENGTH, unique=True)
    #: ``minilm``, ``archon-static``, or PROVIDER:MODEL at an address; with 0, the length that the model has by itself.
    name = models.CharField(max_length=200)
    base_url = models.CharField(max_length=500, blank=True, default="")
    asked_dimension = models.IntegerField(default=0)
    dimension = models.IntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(dimension__gt=0), name="embedder_dimension_positive"),
        ]

    def __str__(self) -> str:
        return self.key


class CachedEmbedding(models.Model):
    """A text's vector, so that no text is embedded twice: by the embedder and the text's hash, without the text."""

    pk = models.CompositePrimaryKey("embedder_id", "digest")
    embedder = models.ForeignKey(EmbedderRecord, on_delete=models.CASCADE, db_index=False)
    digest = models.BinaryField(max_length=32)
    #: Numbers of two bytes, the least significant first.
    vector = models.BinaryField()
    #: The last day on which somebody asked for it.
    used_on = models.DateField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["used_on"], name="cached_embedding_used")]


class VectorNamespace(models.Model):
    """A set of vectors of one embedder in an index, as the index keeps account of it."""

    name = models.CharField(max_length=120, unique=True)
    #: ``pgvector`` or ``pinecone``.
    index = models.CharField(max_length=20)
    dimension = models.IntegerField()
    #: It is a space's, and goes once that space is gone; others belong to whoever made them.
    of_space = models.BooleanField(default=False, db_default=False)
    #: Where pgvector has an approximate index for it: how many candidates a search looks at, and which part of the
    #: true neighbours it then found when it was measured. Null: searches are exact.
    search_width = models.IntegerField(null=True, blank=True)
    recall = models.FloatField(null=True, blank=True)
    #: When an approximate index was last built or given up, and for how many vectors.
    measured_at = models.DateTimeField(null=True, blank=True)
    measured_vectors = models.IntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class PineconeVector(models.Model):
    """What Pinecone has, or is to have: a search sees what is written here before Pinecone's own searches do.

    ``content`` is there until Pinecone is known to find it; ``deleted`` until Pinecone is known to have lost it.
    """

    id = models.BigAutoField(primary_key=True)
    namespace = models.ForeignKey(VectorNamespace, on_delete=models.CASCADE, db_index=False)
    vector_id = models.CharField(max_length=64)
    content = models.BinaryField(null=True)
    deleted = models.BooleanField(default=False, db_default=False)
    #: Of the present content: a later write has another, so that what was sent before isn't taken for it.
    version = models.UUIDField()
    written_at = models.DateTimeField(db_default=Now())
    sent_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["namespace", "vector_id"], name="pinecone_vector_once"),
        ]
        indexes = [
            models.Index(
                fields=["namespace", "written_at"],
                name="pinecone_vector_unconfirmed",
                condition=models.Q(content__isnull=False) | models.Q(deleted=True),
            )
        ]


class SlotChoices(models.TextChoices):
    PRIMARY = "primary"
    SECOND = "second"


class SpaceRole(models.TextChoices):
    #: Searches use it.
    SERVING = "serving"
    #: It is filled, and serves once it is complete.
    FILLING = "filling"


class VectorSpace(BaseModel):
    """A project's vectors of one embedder. Written by ``spaces`` alone."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="vector_spaces")
    slot = models.CharField(max_length=10, choices=SlotChoices.choices)
    role = models.CharField(max_length=10, choices=SpaceRole.choices)
    embedder = models.ForeignKey(EmbedderRecord, on_delete=models.PROTECT, related_name="+")
    #: With the space gone, the namespace stays until the sweeper has emptied it.
    namespace = models.OneToOneField(VectorNamespace, on_delete=models.PROTECT, related_name="space")
    #: It was filled to the end at least once.
    complete = models.BooleanField(default=False)
    #: Why filling it stopped; empty: it didn't.
    failure = models.TextField(blank=True, default="")
    failure_kind = models.CharField(max_length=40, blank=True, default="")
    failure_next_step = models.TextField(blank=True, default="")
    retry_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "slot", "role"], name="vector_space_once"),
            models.CheckConstraint(condition=models.Q(slot__in=SlotChoices.values), name="vector_space_slot_known"),
            models.CheckConstraint(condition=models.Q(role__in=SpaceRole.values), name="vector_space_role_known"),
        ]


class ProjectEmbedders(models.Model):
    """Which embedders a project uses, where it says something else than the server. Empty: what the server says."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, primary_key=True, related_name="embedders")
    primary = models.CharField(max_length=700, blank=True, default="")
    second = models.CharField(max_length=700, blank=True, default="")
    dimension = models.IntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    def name_of(self, slot: str) -> str:
        chosen: Any = self.primary if slot == SlotChoices.PRIMARY else self.second
        return str(chosen)

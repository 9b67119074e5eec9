"""Base classes of the models."""

from __future__ import annotations

import uuid

from django.db import models


class BaseModel(models.Model):
    """A row with a random id and the times of its making and last change."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True

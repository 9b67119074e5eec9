"""Embedding texts that somebody sends."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.authentication.models import User
from apps.core.rate_limit import rate_limit_take
from apps.projects.selectors import project_get_for_user

from .embedders import choice_read, embedder_make
from .spaces import choice_for, choice_server
from .types import EmbedKind, Payer

if TYPE_CHECKING:
    from .types import Vectors

MAX_TEXTS = 128
MAX_CHARACTERS = 24_000
MAX_TOTAL = 400_000
#: Requests of one user a minute.
_REQUESTS, _SECONDS = 60, 60


@dataclass(frozen=True)
class EmbeddedTexts:
    """Vectors, one a text, and what made them."""

    vectors: Vectors
    key: str
    dimension: int


def texts_embed(
    *,
    user: User,
    texts: Sequence[str],
    kind: EmbedKind = "document",
    model: str = "",
    dimension: int = 0,
    project_id: uuid.UUID | None = None,
) -> EmbeddedTexts:
    """Embed them with the named embedder, the project's, or the server's.

    With a project its keys and limits are used, and the user has to be a member: a provider's embedder costs money.
    Raises NotFound, PermissionDenied, LimitReached, EmbedderRefused, EmbedderNotConfigured, EmbedderFailed.
    """
    payer = None
    if project_id is not None:
        project = project_get_for_user(user=user, project_id=project_id, write=True)
        payer = Payer(project_id=project.id, user_id=user.id)
    rate_limit_take(name="embed", subject=str(user.id), limit=_REQUESTS, seconds=_SECONDS)
    if model:
        choice = choice_read(model, dimension)
    elif payer is not None:
        choice = choice_for(payer.project_id, "primary")
    else:
        choice = choice_server("primary")
    embedder = embedder_make(choice, payer)
    return EmbeddedTexts(embedder.embed(texts, kind=kind), embedder.key, embedder.dimension)

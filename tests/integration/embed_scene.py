"""What the tests of embedding share: a project that pays, an endpoint on this machine, the processes put away after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from apps.authentication.models import User
from apps.projects.models import Project
from apps.usage.embedding import embedding_gateway_close
from apps.usage.models import ModelCall
from apps.vector_store.embedders import choice_read, embedder_make, engines_close
from apps.vector_store.index_choice import indexes_close
from apps.vector_store.types import Embedder, Payer
from tests.api import project_make, user_make
from tests.loopback.embed_server import EmbedServer


def payer_make() -> Payer:
    user = user_make()
    return Payer(project_id=project_make(owner=user).id, user_id=user.id)


def owner_of(payer: Payer) -> User:
    assert payer.user_id is not None
    return User.objects.get(id=payer.user_id)


def project_of(payer: Payer) -> Project:
    return Project.objects.get(id=payer.project_id)


def embedder_at(
    server: EmbedServer, payer: Payer, *, model: str = "text-embedding-3-small", dimension: int = 0, **more: Any
) -> Embedder:
    """The embedder of the server, whose address the settings name as the vendor's own."""
    vendor = "openai" if server.protocol == "openai" else "gemini"
    return embedder_make(choice_read(f"{vendor}:{model}", dimension), payer, **more)


def calls() -> list[ModelCall]:
    return list(ModelCall.objects.order_by("id"))


@contextmanager
def all_closed() -> Iterator[None]:
    """Nothing of the process's own outlives the test: a connection would hold its database."""
    try:
        yield
    finally:
        embedding_gateway_close()
        engines_close()
        indexes_close()


class Texts:
    """A project's chunks, as whoever knows them would give them."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.all = texts
        #: Ids that were asked for.
        self.asked: list[str] = []

    def ids(self) -> Iterator[Sequence[str]]:
        names = sorted(self.all)
        for start in range(0, len(names), 10):
            yield names[start : start + 10]

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        self.asked += ids
        return {name: self.all[name] for name in ids if name in self.all}

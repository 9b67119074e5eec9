"""Which embedder there is by a name, and the kinds of them: models on this machine, and providers' over the network."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from django.conf import settings
from django.db import connection

from apps.core.encryption import SecretUnreadable
from apps.usage.choices import reference_join, reference_split
from apps.usage.embedding import EmbedCall, embedding_gateway
from apps.usage.errors import ModelCallFailed, provider_error_translate
from apps.usage.keys import stored_keys
from apps.usage.retry import RetryPolicy
from apps.usage.services import standing_scope
from integrations.cache.keys import digest
from integrations.embedders import minilm, static
from integrations.embedders.errors import EmbedderMissing, EmbedError
from integrations.embedders.known import PROTOCOLS, can_shorten, dimension_known
from integrations.llm_providers.credentials import endpoint_parse, model_resolve, vendor_endpoint
from integrations.llm_providers.errors import ProviderError
from integrations.llm_providers.types import ModelSpec
from integrations.llm_providers.vendors import VENDORS, Vendor, vendor_find

from .cache import CachedEmbedder
from .errors import EmbedderFailed, EmbedderNotConfigured, EmbedderRefused
from .former_models import model_find, model_keep
from .models import EmbedderRecord
from .types import Embedder, EmbedKind, Payer

if TYPE_CHECKING:
    from pathlib import Path

    from integrations.embedders.static.model import StaticModel

    from .types import Vector, Vectors

#: Says that nothing is embedded.
OFF = "off"
LOCAL_VENDOR = "local"
MAX_DIMENSION = 8_192
#: Texts that a provider embeds before their vectors are written.
BATCH = 256
#: A question is waited for: one more try, soon.
_QUERY_RETRY = RetryPolicy(attempts=2, base_s=0.3, max_s=1.0, max_retry_after_s=2.0)
_QUERY_SECONDS, _QUERY_DEADLINE_S = 15.0, 25.0
#: A process that answers questions is no gentler than the server itself; those that fill an index are.
_NICENESS: dict[EmbedKind, int] = {"query": 0, "document": 10}


class _Engine(Protocol):
    """What a model on this machine comes down to."""

    def embed(self, texts: Sequence[str]) -> Vectors: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class LocalModel:
    """An embedder that needs no provider. ``engine`` makes what runs it."""

    name: str
    model: str
    version: str
    dimension: int
    #: Where it is, or part of it. Raises EmbedderMissing.
    folder: Callable[[], Path]
    engine: Callable[[EmbedKind], _Engine]
    #: It takes less time than to look whether the vector is known: none is kept in the cache.
    is_instant: bool = False
    #: Texts that are embedded before their vectors are written, which takes some seconds at the most.
    batch: int = 64

    @property
    def key(self) -> str:
        return f"{LOCAL_VENDOR}:{self.model}:{self.version}:{self.dimension}"


def _minilm_engine(kind: EmbedKind) -> _Engine:
    size = 1 if kind == "query" else settings.ARCHON_EMBED_PROCESSES
    return minilm.pool(size=size, idle_s=settings.ARCHON_EMBED_IDLE_SECONDS, niceness=_NICENESS[kind])


#: By name. A model that maps its table into memory needs no process: its engine may do the work itself.
LOCAL_MODELS: dict[str, LocalModel] = {
    model.name: model
    for model in (
        LocalModel(
            name="minilm",
            model=minilm.MODEL,
            version=minilm.VERSION,
            dimension=minilm.DIMENSION,
            folder=minilm.model_file,
            engine=_minilm_engine,
        ),
        LocalModel(
            name="archon-static",
            model=static.MODEL,
            version=static.VERSION,
            dimension=static.DIMENSION,
            folder=static.model_folder,
            engine=static.engine,
            is_instant=True,
            batch=1_024,
        ),
    )
}
_engines: dict[tuple[int, str, EmbedKind], _Engine] = {}
_engines_lock = threading.Lock()


class LocalEmbedder:
    """A model on this machine."""

    def __init__(self, model: LocalModel) -> None:
        self._model = model

    @property
    def key(self) -> str:
        return self._model.key

    @property
    def dimension(self) -> int:
        return self._model.dimension

    def embed(self, texts: Sequence[str], *, kind: EmbedKind) -> Vectors:
        if not self._model.is_instant:
            _connection_return()
        try:
            return _engine(self._model, kind).embed(texts)
        except EmbedderMissing as error:
            raise EmbedderNotConfigured(error.message, next_step=error.next_step) from error
        except EmbedError as error:
            raise _failed(error) from error


class FormerEmbedder:
    """An earlier version of our own model, for vectors that are still from it."""

    def __init__(self, *, key: str, model: StaticModel) -> None:
        self._key = key
        self._model = model

    @property
    def key(self) -> str:
        return self._key

    @property
    def dimension(self) -> int:
        return self._model.dimension

    def embed(self, texts: Sequence[str], *, kind: EmbedKind) -> Vectors:
        return self._model.embed(texts, kind=kind)


class ProviderEmbedder:
    """A provider's model: each call is held and paid for in ``apps.usage``."""

    def __init__(self, *, spec: ModelSpec, record: EmbedderRecord, payer: Payer) -> None:
        self._spec = spec
        self._record = record
        self._payer = payer

    @property
    def key(self) -> str:
        return self._record.key

    @property
    def dimension(self) -> int:
        return self._record.dimension

    def embed(self, texts: Sequence[str], *, kind: EmbedKind) -> Vectors:
        asked = bool(self._record.asked_dimension) and can_shorten(self._spec)
        return _provider_embed(self._spec, self._payer, texts, kind, dimension=self._record.dimension, asked=asked)


@dataclass(frozen=True)
class EmbedderChoice:
    """An embedder by its name; ``dimension`` 0: as many numbers as the model has by itself."""

    name: str
    dimension: int = 0

    @property
    def is_off(self) -> bool:
        return self.name == OFF

    @property
    def is_local(self) -> bool:
        return self.name in LOCAL_MODELS


def choice_read(name: str, dimension: int = 0) -> EmbedderChoice:
    """What somebody wrote, checked as far as it can be without a key. Raises :class:`EmbedderRefused`."""
    name = name.strip()
    if name.lower() in (OFF, *LOCAL_MODELS):
        return EmbedderChoice(name.lower())
    if not 0 <= dimension <= MAX_DIMENSION:
        raise EmbedderRefused(f"a dimension of {dimension} is not between 0 and {MAX_DIMENSION}")
    model, _ = reference_split(name)
    vendor = vendor_find(model.partition(":")[0]) if ":" in model else None
    if vendor is None or vendor.protocol not in PROTOCOLS or not model.partition(":")[2].strip():
        vendors = ", ".join(one.name for one in VENDORS if one.protocol in PROTOCOLS)
        raise EmbedderRefused(
            f"there is no embedder {name[:100]!r} here",
            next_step=f"Embedders are {', '.join(LOCAL_MODELS)}, {OFF} (for none) and PROVIDER:MODEL with one of "
            f"{vendors}, as openai:text-embedding-3-small; @http://HOST/v1 behind it for another address.",
        )
    return EmbedderChoice(name, dimension)


def embedder_make(choice: EmbedderChoice, payer: Payer | None, *, cached: bool = True) -> Embedder:
    """The embedder. A model whose vectors' length nobody knows is asked for one, once.

    ``payer`` may be None for a model on this machine. Raises :class:`EmbedderRefused`,
    :class:`EmbedderNotConfigured`, and what asking a model may raise.
    """
    if choice.is_off:
        raise EmbedderNotConfigured(
            "embedding is switched off here",
            next_step="An operator sets ARCHON_EMBEDDER, for example to archon-static.",
        )
    made: Embedder
    if choice.is_local:
        model = LOCAL_MODELS[choice.name]
        made = LocalEmbedder(model)
        if model.is_instant:
            return made
        record = embedder_record(choice, payer)
    else:
        if payer is None:
            raise EmbedderRefused(
                f"{choice.name} is a provider's, and nobody is named who pays for it",
                next_step="Name a project: its limits and keys are used.",
            )
        spec = spec_resolve(choice, payer)
        record = _provider_record(choice, spec, payer)
        made = ProviderEmbedder(spec=spec, record=record, payer=payer)
    return CachedEmbedder(made, embedder_id=record.id) if cached else made


def embedder_of_record(record: EmbedderRecord, payer: Payer | None) -> Embedder:
    """The embedder that vectors are from, whatever is chosen now: of our own model an earlier version as well.

    EmbedderNotConfigured where another one answers to its name by now: a newer version, or what is at the vendor's
    address since the operator set another.
    """
    choice = EmbedderChoice(reference_join(record.name, record.base_url), record.asked_dimension)
    if not is_of(choice, record.key):
        if record.name == static.MODEL and (former := model_find(record.key)) is not None:
            return FormerEmbedder(key=record.key, model=former)
        raise EmbedderNotConfigured(
            f"the vectors are of {record.key}, and {choice.name} is another embedder now",
            next_step="Wait: everything is embedded anew by itself.",
        )
    return embedder_make(choice, payer)


def says_nothing(vector: Vector) -> bool:
    """Whether it is what our own model makes of a text without any word that it knows: all numbers are the same."""
    return len(vector) > 1 and bool((vector == vector[0]).all())


def is_instant(record: EmbedderRecord) -> bool:
    """Whether its vectors are made as fast as texts are read."""
    model = LOCAL_MODELS.get(record.name)
    return model is not None and model.is_instant


def texts_batch(record: EmbedderRecord) -> int:
    """How many texts are embedded before their vectors are written."""
    model = LOCAL_MODELS.get(record.name)
    return BATCH if model is None else model.batch


def model_preserve(record: EmbedderRecord) -> None:
    """Have vectors of our own model served by it after an upgrade, until they are made anew."""
    model = LOCAL_MODELS.get(record.name)
    if model is not None and model.name == static.MODEL and model.key == record.key:
        model_keep(key=record.key, source=model.folder())


def embedder_record(choice: EmbedderChoice, payer: Payer | None) -> EmbedderRecord:
    """Its row."""
    if choice.is_local:
        model = LOCAL_MODELS[choice.name]
        return _record(choice.name, "", 0, key=model.key, dimension=model.dimension)
    if payer is None:
        raise EmbedderRefused(f"{choice.name} is a provider's, and nobody is named who pays for it")
    return _provider_record(choice, spec_resolve(choice, payer), payer)


def is_of(choice: EmbedderChoice, key: str) -> bool:
    """Whether vectors of the key are of what is chosen, their length aside, as far as can be told without asking.

    False as well for what can't be used as it stands.
    """
    if choice.is_off:
        return False
    if choice.is_local:
        return LOCAL_MODELS[choice.name].key == key
    name, address = reference_split(choice.name)
    vendor = vendor_find(name.partition(":")[0])
    assert vendor is not None, name
    try:
        endpoint = endpoint_parse(address) if address else vendor_endpoint(vendor)
    except ProviderError:
        return False
    return endpoint is not None and key.startswith(_key_start(vendor, name.partition(":")[2].strip(), endpoint.url))


def spec_resolve(choice: EmbedderChoice, payer: Payer) -> ModelSpec:
    """Address and key, by the rules that hold for models. Raises what stands in the way."""
    name, address = reference_split(choice.name)
    stored = stored_keys(user_id=payer.user_id, project_id=payer.project_id)
    try:
        spec = model_resolve(name, address, stored=stored)
    except ProviderError as error:
        raise provider_error_translate(error, prefix="the embedder cannot be used: ") from error
    if spec.key_source and not spec.api_key.reveal():
        raise SecretUnreadable(spec.key_source)
    return spec


def engines_close() -> None:
    """End the processes of all models on this machine; the next text starts them anew."""
    with _engines_lock:
        engines = [engine for (pid, _, _), engine in _engines.items() if pid == os.getpid()]
        _engines.clear()
    for engine in engines:
        engine.close()


def _engine(model: LocalModel, kind: EmbedKind) -> _Engine:
    key = (os.getpid(), model.name, kind)
    with _engines_lock:
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = model.engine(kind)
        return engine


def _provider_record(choice: EmbedderChoice, spec: ModelSpec, payer: Payer) -> EmbedderRecord:
    vendor = vendor_find(spec.provider)
    assert vendor is not None
    own = spec.base_url == vendor_endpoint(vendor).url
    base_url = "" if own else spec.base_url
    # The vendor's own address may be one that the operator has set: another address is another model.
    start = _key_start(vendor, spec.model, spec.base_url)
    known = EmbedderRecord.objects.filter(
        name=spec.name, base_url=base_url, asked_dimension=choice.dimension, key__startswith=start
    ).first()
    if known is not None:
        return known
    dimension = choice.dimension or dimension_known(spec)
    if dimension is None:
        vectors = _provider_embed(spec, payer, ["dimension"], "document", dimension=None, asked=False)
        dimension = int(vectors.shape[1])
    if dimension > MAX_DIMENSION:
        raise EmbedderRefused(
            f"{spec.name} makes vectors of {dimension} numbers, and {MAX_DIMENSION} is the most that is kept here",
            next_step="Choose another model.",
        )
    return _record(spec.name, base_url, choice.dimension, key=f"{start}{dimension}", dimension=dimension)


def _key_start(vendor: Vendor, model: str, address: str) -> str:
    """Of the keys of the model at the address."""
    return f"{vendor.name}:{model}:{'api' if address == vendor.base_url else digest(address)[:8]}:"


def _record(name: str, base_url: str, asked: int, *, key: str, dimension: int) -> EmbedderRecord:
    record, _ = EmbedderRecord.objects.get_or_create(
        key=key, defaults={"name": name, "base_url": base_url, "asked_dimension": asked, "dimension": dimension}
    )
    if record.base_url != base_url:
        # The same address was the vendor's own, or has become it.
        record.base_url = base_url
        record.save(update_fields=["base_url"])
    return record


def _provider_embed(
    spec: ModelSpec, payer: Payer, texts: Sequence[str], kind: EmbedKind, *, dimension: int | None, asked: bool
) -> Vectors:
    scope_id = payer.scope_id
    if scope_id is None:
        scope_id = standing_scope(project_id=payer.project_id, user_id=payer.user_id)
    call = EmbedCall(scope_id=scope_id, spec=spec, kind=kind, dimension=dimension, asked=asked)
    if kind == "query":
        call = EmbedCall(
            scope_id=scope_id,
            spec=spec,
            kind=kind,
            dimension=dimension,
            asked=asked,
            timeout_s=_QUERY_SECONDS,
            deadline_s=_QUERY_DEADLINE_S,
        )
    _connection_return()
    try:
        return embedding_gateway().embed(call, texts, retry=_QUERY_RETRY if kind == "query" else None)
    except EmbedError as error:
        raise _failed(error) from error
    except ModelCallFailed as error:
        raise EmbedderFailed(
            error.message,
            kind="rate_limited",
            next_step=error.next_step,
            retryable=error.retryable,
            retry_after=error.retry_after,
        ) from error


def _connection_return() -> None:
    """Embedding takes seconds, and the pool's connections are few: others have this thread's meanwhile."""
    if not connection.in_atomic_block:
        connection.close()


def _failed(error: EmbedError) -> EmbedderFailed:
    return EmbedderFailed(
        error.message,
        kind=error.kind,
        next_step=error.next_step,
        retryable=error.retryable,
        retry_after=error.retry_after,
    )

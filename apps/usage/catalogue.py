"""What a person can have called: providers, where each is, whether there is a key, and the models that are known.

Nothing is fetched and no provider's library is loaded: models and prices are those of the list that comes with
``genai-prices``.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django.conf import settings

from apps.authentication.models import User
from apps.core.encryption import SecretUnreadable
from apps.core.errors import ApplicationError, InvalidInput
from apps.projects.models import Project
from apps.projects.selectors import project_get_for_user
from integrations.llm_providers import credentials
from integrations.llm_providers.capabilities import capabilities_of
from integrations.llm_providers.credentials import StoredKey
from integrations.llm_providers.errors import ProviderError
from integrations.llm_providers.limits import output_limit
from integrations.llm_providers.types import ModelSpec, Secret
from integrations.llm_providers.vendors import VENDORS, Vendor, vendor_find

from .choices import (
    ROLES,
    ModelConfiguration,
    ModelOptions,
    Role,
    SessionModels,
    choices_make,
    configuration_read,
    options_merge,
    reference_join,
    server_configuration,
)
from .keys import stored_keys
from .models import ProjectModels

#: The vendor's name in the price list, and how the names of its own models begin there.
_LISTS = {
    "openai": ("openai", ""),
    "openai-responses": ("openai", ""),
    "anthropic": ("anthropic", "claude"),
    "gemini": ("google", "gemini"),
    "openrouter": ("openrouter", ""),
}
#: What is priced by tokens and yet writes no code: speech, pictures, vectors, single purposes, long-gone ones.
_OTHER_USES = re.compile(
    r"embedding|\btts|whisper|image|audio|realtime|transcribe|moderation|\blive\b|robotics|omni|banana|search|research"
    r"|rosalind|cyber|computer-use|instruct\b|davinci|curie|babbage|^ada$|^ft:|\.ft-|-v1$|claude-2|chat-latest"
    r"|guard|ocr|veo|lyria|music"
)


@dataclass(frozen=True)
class KnownModel:
    """A model as the price list has it; dollars are for a million tokens."""

    name: str
    title: str
    context_tokens: int
    output_tokens: int
    input_usd: Decimal | None
    output_usd: Decimal | None
    cached_input_usd: Decimal | None
    vision: bool
    tool_calls: str
    effort: bool


@dataclass(frozen=True)
class VendorState:
    """A provider as this person has it."""

    name: str
    title: str
    local: bool
    base_url: str
    configured: bool
    #: Where the key is from: ``project``, ``user``, ``server``, ``environment``; empty: there is none.
    key: str
    default_model: str
    next_step: str
    models: tuple[KnownModel, ...] = ()


@dataclass(frozen=True)
class RoleDefault:
    """What a role calls unless a session says otherwise; ``problem`` says why that does not work."""

    options: ModelOptions
    configured: bool
    problem: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class Catalogue:
    """What there is to choose from."""

    configured: bool
    next_step: str
    defaults: dict[Role, RoleDefault]
    vendors: tuple[VendorState, ...]
    #: Addresses that the operator has allowed besides, as prefixes.
    addresses: tuple[str, ...] = field(default=())


def catalogue_get(*, user: User, project_id: uuid.UUID | None = None, vendor: str = "") -> Catalogue:
    """What the user, in the project if one is named, can have called.

    Models are listed of providers that are configured, and of the one that is named by ``vendor``. Raises NotFound for
    a project that the user is not in, InvalidInput for a provider that there is not.
    """
    project = None if project_id is None else project_get_for_user(user=user, project_id=project_id)
    named = vendor_find(vendor) if vendor else None
    if vendor and (named is None or named not in VENDORS):
        raise InvalidInput(
            f"there is no provider '{vendor[:40]}'",
            next_step=f"providers are {', '.join(one.name for one in VENDORS)}",
        )
    stored = stored_keys(user_id=user.id, project_id=project_id)
    places = [project_configuration(project)] if project is not None else []
    try:
        places.append(server_configuration())
        defaults = {role: _default(role, places, stored) for role in ROLES}
    except ApplicationError as error:
        defaults = {role: RoleDefault(ModelOptions(), False, error.message, error.next_step) for role in ROLES}
    wrong = next((one for one in defaults.values() if not one.configured), None)
    return Catalogue(
        configured=wrong is None,
        next_step=wrong.next_step if wrong is not None else "",
        defaults=defaults,
        vendors=tuple(_vendor_state(one, stored, listed=one is named) for one in VENDORS if named in (None, one)),
        addresses=tuple(prefix.strip() for prefix in settings.ARCHON_MODEL_BASE_URLS if prefix.strip()),
    )


def project_configuration(project: Project) -> ModelConfiguration:
    """What the project says of models; empty where it says nothing."""
    row = ProjectModels.objects.filter(project=project).first()
    return configuration_read(row.configuration) if row is not None else ModelConfiguration()


def project_configuration_set(*, project: Project, configuration: ModelConfiguration) -> ModelConfiguration:
    """Set what the project says of models, whole.

    Names and addresses are checked as for a session; a key may still be missing. Raises :class:`ModelRefused`.
    """
    anything = tuple(StoredKey(vendor=one.name, base_url="", secret=Secret("x"), source="x") for one in VENDORS)
    for role in (None, *configuration.models):
        options = configuration if role is None else configuration.options_for(role)
        if options.model:
            choices_make(roles=[role or "coder"], places=[_alone(options)], stored=anything)
        elif options.fallbacks:
            spare = ModelConfiguration(model="openai:any", fallbacks=options.fallbacks)
            choices_make(roles=[role or "coder"], places=[spare], stored=anything)
    ProjectModels.objects.update_or_create(
        project=project, defaults={"configuration": configuration.model_dump(mode="json", exclude_defaults=True)}
    )
    return configuration


@dataclass(frozen=True)
class ChosenModel:
    """What is called."""

    #: With its address, where that is not the vendor's own.
    name: str
    spec: ModelSpec


def model_choose(*, project: Project, user: User, role: Role, asked: str = "") -> ChosenModel:
    """The model that is asked for, or else the one that the project or the server has for a role; without fallbacks.

    Raises :class:`ModelNotAvailable` where there is none or its key is missing, :class:`ModelRefused` or InvalidInput
    for one that cannot be used.
    """
    stored = stored_keys(user_id=user.id, project_id=project.id)
    if asked:
        places = [configuration_read({"model": asked})]
    else:
        places = [project_configuration(project), server_configuration()]
    options = choices_make(roles=[role], places=places, stored=stored)[role]
    models = SessionModels(choices={role: options}, default=options, stored=stored)
    return ChosenModel(reference_join(*options.reference), models.for_role(role).spec)


def _alone(options: ModelOptions) -> ModelConfiguration:
    return ModelConfiguration(**{name: getattr(options, name) for name in ModelOptions.model_fields})


def _default(role: Role, places: Sequence[ModelConfiguration], stored: Sequence[StoredKey]) -> RoleDefault:
    try:
        return RoleDefault(choices_make(roles=[role], places=places, stored=stored)[role], True)
    except ApplicationError as error:
        return RoleDefault(options_merge(role, places), False, error.message, error.next_step)


def _vendor_state(vendor: Vendor, stored: Sequence[StoredKey], *, listed: bool) -> VendorState:
    state = VendorState(
        name=vendor.name,
        title=vendor.title,
        local=vendor.is_local,
        base_url=vendor.base_url,
        configured=False,
        key="",
        default_model=f"{vendor.name}:{vendor.default_model}" if vendor.default_model else "",
        next_step="",
    )
    try:
        spec = credentials.model_resolve(f"{vendor.name}:{vendor.default_model or 'any'}", stored=stored)
        key = _key_kind(spec.key_source)
        state = replace(state, base_url=spec.base_url, configured=True, key=key)
        if spec.key_source and not spec.api_key.reveal():
            unreadable = SecretUnreadable(spec.key_source)
            state = replace(state, configured=False, next_step=unreadable.next_step)
    except ProviderError as error:
        state = replace(state, next_step=error.next_step)
    return replace(state, models=known_models(vendor.name) if state.configured or listed else ())


def _key_kind(source: str) -> str:
    for scope in ("project", "user", "server"):
        if source.startswith(f"the {scope}'s"):
            return scope
    return "environment" if source else ""


@lru_cache(maxsize=32)
def known_models(vendor: str) -> tuple[KnownModel, ...]:
    """The vendor's models that write text and are not on their way out, by name."""
    if vendor not in _LISTS:
        return ()
    listed_as, beginning = _LISTS[vendor]
    # 0.2 s of import: not before somebody asks.
    from genai_prices.data_snapshot import get_snapshot

    provider = next((one for one in get_snapshot().providers if one.id == listed_as), None)
    if provider is None:
        return ()
    now = datetime.now(UTC)
    found = []
    for info in provider.models:
        if info.deprecated or not info.id.startswith(beginning) or _OTHER_USES.search(info.id.lower()):
            continue
        prices = info.get_prices(now)
        costs = [_dollars(getattr(prices, name, None)) for name in ("input_mtok", "output_mtok", "cache_read_mtok")]
        if (costs[0] is None or costs[1] is None) and vendor != "openrouter":
            continue
        spec = ModelSpec(
            provider=vendor,
            model=info.id,
            max_output_tokens=output_limit(info.id),
            # Said here, so that it is not looked for once more, among hundreds.
            context_tokens=info.context_window,
        )
        known = capabilities_of(spec)
        found.append(
            KnownModel(
                name=f"{vendor}:{info.id}",
                title=info.name or info.id,
                context_tokens=known.context_tokens,
                output_tokens=known.output_tokens,
                input_usd=costs[0],
                output_usd=costs[1],
                cached_input_usd=costs[2],
                vision=known.vision,
                tool_calls=known.tool_calls,
                effort=known.effort,
            )
        )
    return tuple(sorted(found, key=lambda one: one.name))


def _dollars(price: Any) -> Decimal | None:
    """For a million tokens, below the first tier."""
    base = getattr(price, "base", price)
    return base if isinstance(base, Decimal) else None

"""Which model each role of a session uses: what was asked for, what the project and the server say, and what follows.

Three places may say something: a session's request, its project, the server. Each says it for all roles and, in
``models``, for one. Within a place the role's word counts before that for all. The first place that names a model for a
role is the last one that is looked at: what the others say was meant for other models.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from django.conf import settings
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from apps.core.encryption import SecretUnreadable
from apps.core.errors import ApplicationError, InvalidInput
from integrations.llm_providers import credentials
from integrations.llm_providers.credentials import StoredKey
from integrations.llm_providers.errors import ProviderError
from integrations.llm_providers.types import Effort, ModelSpec, ToolCallStyle

from .errors import ModelNotAvailable, provider_error_translate

logger = logging.getLogger(__name__)

Role = Literal["planner", "coder", "reviewer", "researcher"]
ROLES: tuple[Role, ...] = get_args(Role)
EFFORTS: tuple[str, ...] = get_args(Effort)
TOOL_CALL_STYLES: tuple[str, ...] = get_args(ToolCallStyle)
#: How a model is asked to change files; the tools of each are in ``apps.agents.tools``.
EditFormat = Literal["replace", "unified", "v4a", "whole"]
EDIT_FORMATS: tuple[str, ...] = get_args(EditFormat)
MAX_FALLBACKS = 5
#: The longest ``PROVIDER:MODEL`` with an address.
NAME_LENGTH = 300
MAX_TEMPERATURE = 2.0
_SETTINGS = {"model": "ARCHON_MODEL", "models": "ARCHON_MODELS"}
_ADDRESS = re.compile(r"@(?=https?://)", re.IGNORECASE)


def reference_split(text: str) -> tuple[str, str]:
    """Name and address of ``PROVIDER:MODEL`` or ``PROVIDER:MODEL@http://HOST/v1``."""
    parts = _ADDRESS.split(text.strip(), maxsplit=1)
    return parts[0], parts[1] if len(parts) > 1 else ""


def reference_join(name: str, base_url: str) -> str:
    """The text form of a model at an address."""
    return f"{name}@{base_url}" if base_url else name


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("not a number")
    return value


class ModelOptions(BaseModel):
    """What one place says of a role's model; what it leaves empty (None) it says nothing of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: ``PROVIDER:MODEL``; with an address behind it when it comes in.
    model: str = Field(default="", max_length=NAME_LENGTH)
    base_url: str = Field(default="", max_length=500)
    effort: Effort | None = None
    temperature: Annotated[float, Field(ge=0, le=MAX_TEMPERATURE), AfterValidator(_finite)] | None = None
    tool_calls: ToolCallStyle | None = None
    edit_format: EditFormat | None = None
    #: Called in this order when the model doesn't answer; in text form.
    fallbacks: tuple[Annotated[str, Field(max_length=NAME_LENGTH + 500)], ...] | None = Field(
        default=None, max_length=MAX_FALLBACKS
    )

    @model_validator(mode="before")
    @classmethod
    def _address_apart(cls, said: Any) -> Any:
        """``PROVIDER:MODEL@URL`` as a model and a base URL."""
        if not isinstance(said, dict) or not isinstance(said.get("model"), str):
            return said
        name, address = reference_split(said["model"])
        if not address:
            return said
        if said.get("base_url") not in (None, "", address):
            raise ValueError("the model has an address of its own, and base_url is another one")
        return {**said, "model": name, "base_url": address}

    @property
    def reference(self) -> tuple[str, str]:
        """Name and address."""
        return self.model, self.base_url


class ModelConfiguration(ModelOptions):
    """What one place says: for all roles, and for single ones."""

    models: dict[Role, ModelOptions] = Field(default_factory=dict)

    def options_for(self, role: Role) -> ModelOptions:
        """What it says of the role. An address belongs to the model that it stands beside."""
        own = self.models.get(role)
        if own is None:
            return _options(self)
        said = _options(self) if not own.model else _options(self).model_copy(update={"model": "", "base_url": ""})
        return _filled(own, said)


def configuration_read(data: Mapping[str, Any]) -> ModelConfiguration:
    """A configuration as it was stored or sent. Raises :class:`InvalidInput`, which names the member."""
    try:
        return ModelConfiguration.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{where}: {first['msg']}", next_step="see docs/how-to/models.md") from None


def server_configuration() -> ModelConfiguration:
    """What the operator's settings say. Raises :class:`ModelNotAvailable` where they can't be read."""
    by_role: dict[str, dict[str, Any]] = {}
    for entry in settings.ARCHON_MODELS:
        role, _, model = entry.partition("=")
        if role.strip() not in ROLES or not model.strip():
            raise ModelNotAvailable(
                f"the server's ARCHON_MODELS has {entry.strip()!r}, which is no ROLE=PROVIDER:MODEL",
                next_step=f"Write it as planner=anthropic:MODEL,coder=openai:MODEL; roles are {', '.join(ROLES)}.",
            )
        by_role[role.strip()] = {"model": model.strip()}
    said = {
        "model": settings.ARCHON_MODEL.strip(),
        "effort": settings.ARCHON_MODEL_EFFORT or None,
        "temperature": settings.ARCHON_MODEL_TEMPERATURE or None,
        "tool_calls": settings.ARCHON_MODEL_TOOL_CALLS or None,
        "fallbacks": tuple(name.strip() for name in settings.ARCHON_MODEL_FALLBACKS if name.strip()) or None,
        "models": by_role,
    }
    try:
        return configuration_read(said)
    except InvalidInput as error:
        member = error.message.partition(":")[0].partition(".")[0]
        setting = _SETTINGS.get(member, f"ARCHON_MODEL_{member.upper()}")
        raise ModelNotAvailable(
            f"the server's {setting} is wrong: {error.message}",
            next_step=f"The operator corrects {setting}; see docs/reference/settings.md.",
        ) from error


def options_merge(role: Role, places: Sequence[ModelConfiguration]) -> ModelOptions:
    """What holds for a role, the first place first; without a model where no place names one."""
    merged = ModelOptions()
    for place in places:
        merged = _filled(merged, place.options_for(role))
        if merged.model:
            break
    return merged


def choices_make(
    *,
    roles: Sequence[Role],
    places: Sequence[ModelConfiguration],
    stored: Sequence[StoredKey],
) -> dict[Role, ModelOptions]:
    """What each role is to call, complete, checked (name, address, key there), and fit to be stored.

    Raises :class:`ModelNotAvailable` or :class:`ModelRefused`; it names the role where roles differ.
    """
    merged = {role: options_merge(role, places) for role in roles}
    differ = len({(options.reference, options.fallbacks) for options in merged.values()}) > 1
    chosen: dict[Role, ModelOptions] = {}
    for role, options in merged.items():
        whose = f"for the {role}: " if differ else ""
        name, address = options.reference
        spec = _resolve(name, address, stored, whose, role)
        fallbacks = []
        for reference in options.fallbacks or ():
            other = _resolve(*reference_split(reference), stored, f"{whose}as a fallback: ", role)
            fallbacks.append(reference_join(other.name, reference_split(reference)[1] and other.base_url))
        chosen[role] = options.model_copy(
            update={"model": spec.name, "base_url": address and spec.base_url, "fallbacks": tuple(fallbacks)}
        )
    return chosen


@dataclass(frozen=True)
class RoleModel:
    """What a role of a running session calls."""

    spec: ModelSpec
    #: Called in this order when the one before doesn't answer.
    fallbacks: tuple[ModelSpec, ...] = ()
    #: How it changes files; None: by what is known of the model.
    edit_format: EditFormat | None = None


@dataclass(frozen=True)
class SessionModels:
    """The models of a session: what was chosen at its start, with the keys as they are now."""

    choices: Mapping[str, ModelOptions]
    #: For a role that nothing was chosen for.
    default: ModelOptions
    stored: tuple[StoredKey, ...]

    @classmethod
    def read(cls, rows: Mapping[str, Any], *, model: str, base_url: str, stored: Sequence[StoredKey]) -> SessionModels:
        """As a session's row has them."""
        choices: dict[str, ModelOptions] = {
            role: ModelOptions.model_validate(rows[role]) for role in ROLES if role in rows
        }
        return cls(choices=choices, default=ModelOptions(model=model, base_url=base_url), stored=tuple(stored))

    @cached_property
    def _resolved(self) -> dict[str, RoleModel]:
        return {}

    def for_role(self, role: str) -> RoleModel:
        """What the role calls. Raises :class:`ModelNotAvailable` or :class:`ModelRefused`.

        A fallback that can no longer be called (its key is gone) is left out, which the log says.
        """
        found = self._resolved.get(role)
        if found is None:
            found = self._resolved[role] = self._resolve(role, self.choices.get(role, self.default))
        return found

    def _resolve(self, role: str, options: ModelOptions) -> RoleModel:
        spec = _resolve(*options.reference, self.stored, "", role)
        fallbacks = []
        for reference in options.fallbacks or ():
            try:
                fallbacks.append(_resolve(*reference_split(reference), self.stored, "", role))
            except ApplicationError as error:
                logger.warning("the fallback %s is left out: %s", reference, error.message)
        return RoleModel(
            spec=_with_options(spec, options),
            fallbacks=tuple(_with_options(other, options) for other in fallbacks),
            edit_format=options.edit_format,
        )


def _with_options(spec: ModelSpec, options: ModelOptions) -> ModelSpec:
    if spec.protocol == "scripted":
        return spec
    return replace(spec, effort=options.effort, temperature=options.temperature, tool_calls=options.tool_calls)


def _resolve(name: str, address: str, stored: Sequence[StoredKey], prefix: str, role: str) -> ModelSpec:
    try:
        spec = credentials.model_resolve(name, address, stored=stored)
    except ProviderError as error:
        raise provider_error_translate(error, prefix=prefix, role=role) from error
    if spec.key_source and not spec.api_key.reveal():
        raise SecretUnreadable(spec.key_source)
    return spec


def _options(said: ModelOptions) -> ModelOptions:
    return ModelOptions(**{name: getattr(said, name) for name in ModelOptions.model_fields})


def _filled(first: ModelOptions, second: ModelOptions) -> ModelOptions:
    """The first, and where it says nothing the second."""
    return first.model_copy(
        update={
            name: getattr(second, name)
            for name in ModelOptions.model_fields
            if getattr(first, name) in ("", None) and getattr(second, name) not in ("", None)
        }
    )

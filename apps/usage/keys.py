"""Keys of providers that people entrust to the server: stored encrypted, never shown, used for one address alone.

A session gets the keys of its project, then those of whoever started it, then the server's, and the operator's
environment last. Whoever reads a key's row learns its last characters and nothing more of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import Case, IntegerField, Q, QuerySet, Value, When
from django.utils import timezone

from apps.authentication.models import User
from apps.core.encryption import SecretUnreadable, secret_decrypt, secret_encrypt
from apps.core.errors import InvalidInput, NotFound, PermissionDenied
from apps.core.queue import enqueue_on_commit
from apps.core.rate_limit import rate_limit_take
from apps.projects.models import Project
from apps.projects.selectors import project_get_for_user
from integrations.llm_providers import credentials
from integrations.llm_providers.credentials import StoredKey
from integrations.llm_providers.errors import ModelNotConfigured, ProviderError
from integrations.llm_providers.types import ModelSpec, Secret
from integrations.llm_providers.vendors import VENDORS, Vendor, vendor_find

from .errors import provider_error_translate
from .models import KeyScope, KeyTest, ProviderKey

TEST_TASK = "apps.usage.tasks.try_provider_key"
SECRET_LENGTH = 4096
#: A secret shorter than this shows nothing of itself.
_HINTED_LENGTH = 12
#: A test that no worker has taken up by then is given up.
TEST_PATIENCE = timedelta(seconds=60)
_TESTS, _TESTS_SECONDS = 10, 60


@dataclass(frozen=True)
class KeyOwner:
    """Whose sessions a key is for."""

    scope: KeyScope
    project: Project | None = None
    user: User | None = None


def provider_key_list(*, user: User, project_id: uuid.UUID | None = None) -> QuerySet[ProviderKey]:
    """The keys that the user may know of: those of their projects (or of the one), their own, for staff the server's.

    Raises NotFound for a project that the user is not in.
    """
    if project_id is not None:
        project_get_for_user(user=user, project_id=project_id)
        projects = Q(project_id=project_id)
    else:
        projects = Q(project__memberships__user=user)
    known = projects | Q(user=user)
    if user.is_staff:
        known |= Q(scope=KeyScope.SERVER)
    return ProviderKey.objects.filter(known).select_related("created_by").distinct()


def provider_key_get(*, user: User, key_id: uuid.UUID, write: bool = False) -> ProviderKey:
    """A key that the user may know of, with ``write`` one that they may change."""
    key = ProviderKey.objects.filter(id=key_id).select_related("created_by", "project").first()
    if key is None or not _is_known(key, user):
        raise NotFound("There is no such key.", next_step="GET /api/agents/keys/ lists those that you may know of")
    if write and key.project_id is not None:
        project_get_for_user(user=user, project_id=key.project_id, write=True)
    return key


def key_owner(*, user: User, scope: KeyScope, project_id: uuid.UUID | None) -> KeyOwner:
    """Whose key it becomes. Raises InvalidInput, NotFound or PermissionDenied."""
    if (scope == KeyScope.PROJECT) != (project_id is not None):
        raise InvalidInput(
            "a key of scope project needs the project, and no other key has one",
            next_step="send scope project together with the project's id",
        )
    if scope == KeyScope.SERVER and not user.is_staff:
        raise PermissionDenied(
            "Only administrators may store keys for the whole server.",
            next_step="store it for yourself (scope user) or for a project",
        )
    if project_id is not None:
        return KeyOwner(scope, project=project_get_for_user(user=user, project_id=project_id, write=True))
    return KeyOwner(scope, user=user if scope == KeyScope.USER else None)


def provider_key_store(
    *, user: User, owner: KeyOwner, vendor: str, secret: str, base_url: str = ""
) -> tuple[ProviderKey, bool]:
    """Store the key, in the place of one for the same address if there is one; and whether it is new."""
    secret = secret.strip()
    if not secret or len(secret) > SECRET_LENGTH or not all("!" <= character <= "~" for character in secret):
        raise InvalidInput(
            "that is no key: keys are of printable ASCII characters without blanks",
            next_step="copy the key from the provider's page once more",
        )
    known = vendor_find(vendor)
    if known is None or known not in VENDORS:
        # Without what was sent: whoever mixes up the members must not find a key in a log of errors.
        raise InvalidInput(
            "there is no provider of that name that takes a key",
            next_step=f"providers are {', '.join(one.name for one in VENDORS)}",
        )
    family = _family(known)
    own, address = _address(family, base_url)
    values = {
        "address": address,
        "secret": secret_encrypt(secret),
        "hint": secret[-4:] if len(secret) >= _HINTED_LENGTH else "",
        "created_by": user,
        "test_state": KeyTest.UNTESTED,
        "test_requested_at": None,
        "tested_at": None,
        "test_message": "",
        "test_next_step": "",
    }
    return ProviderKey.objects.update_or_create(
        scope=owner.scope,
        project=owner.project,
        user=owner.user,
        vendor=family.name,
        base_url="" if own else address,
        defaults=values,
    )


def provider_key_delete(*, user: User, key_id: uuid.UUID) -> None:
    """Forget the key. Sessions that run have it until they are taken up the next time."""
    provider_key_get(user=user, key_id=key_id, write=True).delete()


@transaction.atomic
def provider_key_test(*, user: User, key_id: uuid.UUID, model: str = "") -> ProviderKey:
    """Have a worker try the key, from where sessions call models; the row says what came of it.

    A test costs nothing: the provider is asked which models there are. ``model`` is looked for among them.
    """
    key = provider_key_get(user=user, key_id=key_id, write=True)
    rate_limit_take(name="key-test", subject=str(user.id), limit=_TESTS, seconds=_TESTS_SECONDS)
    key.test_state, key.test_requested_at = KeyTest.PENDING, timezone.now()
    key.tested_at, key.test_message, key.test_next_step = None, "", ""
    key.save(
        update_fields=[
            "test_state",
            "test_requested_at",
            "tested_at",
            "test_message",
            "test_next_step",
            "updated_at",
        ]
    )
    enqueue_on_commit(
        TEST_TASK, key_id=str(key.id), requested_at=key.test_requested_at.isoformat(), model=model.strip()
    )
    return key


def key_test_state(key: ProviderKey) -> KeyTest:
    """What came of the last test; one that no worker took up in time came to nothing."""
    late = key.test_requested_at is not None and timezone.now() - key.test_requested_at > TEST_PATIENCE
    return KeyTest.BAD if key.test_state == KeyTest.PENDING and late else KeyTest(key.test_state)


def stored_keys(*, user_id: uuid.UUID | None, project_id: uuid.UUID | None) -> tuple[StoredKey, ...]:
    """The keys that a session has, the one to prefer first: its project's, its user's, the server's.

    One that can't be decrypted any more is among them, empty: where it would be used, another must not take its place
    unnoticed (see ``choices``).
    """
    wanted = Q(scope=KeyScope.SERVER)
    if user_id is not None:
        wanted |= Q(scope=KeyScope.USER, user_id=user_id)
    if project_id is not None:
        wanted |= Q(scope=KeyScope.PROJECT, project_id=project_id)
    order = Case(
        When(scope=KeyScope.PROJECT, then=Value(0)),
        When(scope=KeyScope.USER, then=Value(1)),
        default=Value(2),
        output_field=IntegerField(),
    )
    rows = ProviderKey.objects.filter(wanted).order_by(order, "vendor", "base_url", "id")
    return tuple(key for row in rows for key in _usable(row))


def spec_of(key: ProviderKey, *, model: str = "") -> ModelSpec:
    """A model that is called with this key. Raises SecretUnreadable, ModelNotAvailable or ModelRefused."""
    vendor = vendor_find(key.vendor)
    assert vendor is not None, key.vendor
    usable = [one for one in _stored(key, secret_decrypt(key.secret, what=_source(key))) if one.vendor == vendor.name]
    name = model.partition(":")[2] or model or vendor.default_model or "any"
    try:
        if not usable:
            raise ModelNotConfigured(
                f"the key was stored for {key.address}, and {vendor.name} models are elsewhere now",
                next_step="Store the key again, for the address that it belongs to.",
            )
        return credentials.model_resolve(f"{vendor.name}:{name}", key.base_url, stored=usable)
    except ProviderError as error:
        raise provider_error_translate(error) from error


def _is_known(key: ProviderKey, user: User) -> bool:
    if key.scope == KeyScope.SERVER:
        return user.is_staff
    if key.scope == KeyScope.USER:
        return key.user_id == user.id
    assert key.project is not None
    return key.project.memberships.filter(user=user).exists()


def _usable(row: ProviderKey) -> Sequence[StoredKey]:
    try:
        return _stored(row, secret_decrypt(row.secret, what=_source(row)))
    except SecretUnreadable:
        return _stored(row, "")


def _stored(row: ProviderKey, secret: str) -> Sequence[StoredKey]:
    """The key for each vendor that it is good for; none once the vendor's address is another than it was stored for."""
    found = []
    for vendor in VENDORS:
        if _family(vendor).name != row.vendor:
            continue
        if not row.base_url and _own_address(vendor) != row.address:
            continue
        found.append(StoredKey(vendor=vendor.name, base_url=row.base_url, secret=Secret(secret), source=_source(row)))
    return found


def _source(row: ProviderKey) -> str:
    """Which key it is, for messages."""
    whose = {KeyScope.PROJECT: "the project's", KeyScope.USER: "the user's", KeyScope.SERVER: "the server's"}
    return f"{whose[KeyScope(row.scope)]} stored {row.vendor} key" + (f" (…{row.hint})" if row.hint else "")


def _family(vendor: Vendor) -> Vendor:
    """The first of the vendors that share a key, as OpenAI's two protocols do."""
    if not vendor.key_setting:
        return vendor
    return next(other for other in VENDORS if other.key_setting == vendor.key_setting)


def _address(vendor: Vendor, base_url: str) -> tuple[bool, str]:
    """Whether it is the vendor's own address, and the address; one that the operator has not allowed is refused."""
    probe = StoredKey(vendor=vendor.name, base_url="", secret=Secret("x"), source="x")
    try:
        spec = credentials.model_resolve(f"{vendor.name}:any", base_url, stored=[probe])
    except ProviderError as error:
        raise provider_error_translate(error) from error
    return spec.base_url == _own_address(vendor), spec.base_url


def _own_address(vendor: Vendor) -> str:
    """Where the vendor's models are, as the operator set it; empty where that can't be read."""
    try:
        return credentials.vendor_endpoint(vendor).url
    except ProviderError:
        return ""

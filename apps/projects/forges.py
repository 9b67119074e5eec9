"""Where a project's pull requests are opened: told from its source's address, or said; and the token for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from apps.core.encryption import secret_decrypt, secret_encrypt
from apps.core.errors import ApplicationError, Conflict, InvalidInput, NotFound
from apps.core.outbound import host_is_listed
from apps.core.outbound_client import guarded_client
from apps.projects.models import Project, RepositorySource
from apps.projects.remote_address import RemoteAddress, remote_address_parse
from apps.projects.selectors import source_get
from apps.projects.sources import token_clean
from integrations.forges import forge_open
from integrations.forges.addresses import (
    ForgeAddress,
    api_url_default,
    kind_guess,
    origin_of,
    repository_name,
    same_host,
)
from integrations.forges.types import Forge, Kind

KINDS: tuple[Kind, ...] = ("github", "gitlab", "gitea")
#: Seconds that one request to a forge may take, whatever part of it.
REQUEST_SECONDS = 20.0
_URL_LENGTH = 2000
_USUAL_PORTS = (80, 443)


@dataclass(frozen=True)
class ForgeChanges:
    """What the settings are to be; ``token``: None leaves it, empty text takes it away."""

    kind: str = ""
    api_url: str = ""
    token: str | None = None


@dataclass(frozen=True)
class ForgeState:
    """The settings as they are, and what follows from them; ``problem`` says why no pull request can be opened."""

    kind: str
    api_url: str
    has_token: bool
    #: What is used.
    effective_kind: str = ""
    effective_api_url: str = ""
    repository: str = ""
    #: `project`, `source` or empty: whose token opens it.
    token_from: str = ""
    problem: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class ForgeAccess:
    """A repository on a forge, and what opens it. Never printed."""

    address: ForgeAddress
    token: str = field(repr=False)
    token_from: str = ""


def forge_update(*, project: Project, changes: ForgeChanges) -> Project:
    """Set where the project's pull requests are opened. A token goes to no other place than it was given for."""
    if changes.kind and changes.kind not in KINDS:
        raise InvalidInput(
            f"{changes.kind[:50]!r} is no forge", next_step=f"write one of {', '.join(KINDS)}, or nothing"
        )
    api_url = api_url_clean(changes.api_url)
    with transaction.atomic():
        locked = Project.objects.select_for_update().filter(id=project.id).first()
        if locked is None:
            raise NotFound("The project was deleted meanwhile.")
        locked.forge_kind, locked.forge_api_url = changes.kind, api_url
        origin = _origin(locked)
        if changes.token is not None:
            locked.forge_token = secret_encrypt(token_clean(changes.token)) if changes.token.strip() else ""
            if locked.forge_token and not origin:
                raise InvalidInput(
                    "It can't be told yet which host the token is for",
                    next_step="send api_url, or give the project the source that its repository comes from",
                )
            locked.forge_token_origin = origin if locked.forge_token else ""
        elif locked.forge_token_origin != origin:
            locked.forge_token = locked.forge_token_origin = ""
        locked.save(update_fields=["forge_kind", "forge_api_url", "forge_token", "forge_token_origin", "updated_at"])
    return locked


def forge_state(project: Project) -> ForgeState:
    """How it stands, for whoever may see the project."""
    told = ForgeState(project.forge_kind, project.forge_api_url, has_token=_has_token(project))
    try:
        access = forge_access(project)
    except ApplicationError as error:
        return ForgeState(
            told.kind, told.api_url, told.has_token, problem=error.message, next_step=error.next_step
        )  # fmt: skip
    address = access.address
    return ForgeState(
        told.kind,
        told.api_url,
        told.has_token,
        effective_kind=address.kind,
        effective_api_url=address.api_url,
        repository=address.repository,
        token_from=access.token_from,
    )


def forge_access(project: Project) -> ForgeAccess:
    """Raises Conflict: ``no_source``, ``no_forge`` (it can't be told which, or where in it), ``no_forge_token``."""
    source = source_get(project)
    if source is None:
        raise Conflict(
            "The project's repository was not fetched from anywhere, so there is nowhere to open a pull request",
            next_step="Give it a source (PATCH …/repository/source/).",
            state="no_source",
        )
    address = _address(project, remote_address_parse(source.url))
    token, token_from = _token(project, source, address)
    if not token:
        raise Conflict(
            f"There is no token for {address.api_url}",
            next_step="Set one that may open pull requests: archon forge PROJECT --token-file FILE, or PUT …/forge/ "
            "with token.",
            state="no_forge_token",
        )
    return ForgeAccess(address, token, token_from)


@contextmanager
def forge_opened(access: ForgeAccess, *, before_request: Callable[[], None]) -> Iterator[Forge]:
    """The forge, reached at its own host alone, whose addresses have to be public unless the operator lists it.

    What ``before_request`` raises stops whatever is being done.
    """
    parts = urlsplit(access.address.api_url)
    own = (parts.hostname or "", parts.port or {"https": 443, "http": 80}[parts.scheme])
    with guarded_client(
        allowed=lambda host, port: (host, port) == own,
        private_hosts=settings.ARCHON_PRIVATE_HOSTS,
        ca_file=settings.ARCHON_GIT_CA_FILE,
        timeout_s=REQUEST_SECONDS,
    ) as client:
        client.event_hooks = {"request": [lambda request: before_request()]}
        yield forge_open(access.address, token=access.token, client=client)


def api_url_clean(text: str) -> str:
    """An API's address without a slash at its end; empty for none. InvalidInput for what can't be one."""
    text = text.strip().rstrip("/")
    if not text:
        return ""
    wrong = InvalidInput(
        f"{text[:200]!r} is not the address of a forge's API",
        next_step="Write https://HOST/api/v3 (GitHub Enterprise), /api/v4 (GitLab) or /api/v1 (Gitea), without "
        "credentials.",
    )
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("https", "http") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise wrong from None
    strange = any(ord(character) < 33 or ord(character) > 126 for character in text)
    if not fits or parts.username or parts.password or parts.query or parts.fragment or strange:
        # Without what may be a password.
        raise wrong if "@" not in text else InvalidInput("The address holds credentials", next_step=wrong.next_step)
    if len(text) > _URL_LENGTH:
        raise wrong
    port = parts.port or {"https": 443, "http": 80}[parts.scheme]
    if parts.scheme == "http" and not host_is_listed(
        parts.hostname or "", port, listed=settings.ARCHON_PRIVATE_HOSTS
    ):  # fmt: skip
        raise InvalidInput(
            "http:// is not encrypted, so no token is sent over it",
            next_step="Write https://, or have the operator list the host in ARCHON_PRIVATE_HOSTS.",
        )
    return text


def _address(project: Project, source: RemoteAddress) -> ForgeAddress:
    kind = project.forge_kind or kind_guess(source.host)
    if not kind:
        raise Conflict(
            f"It can't be told what kind of forge {source.host} is",
            next_step=f"Say so: archon forge PROJECT --kind {'|'.join(KINDS)}, or PUT …/forge/.",
            state="no_forge",
        )
    api_url = project.forge_api_url or _api_url(kind, source)  # type: ignore[arg-type]  # one of KINDS
    over_ssh = source.scheme == "ssh"
    repository = repository_name(kind, path=source.path, api_url=api_url, over_ssh=over_ssh)  # type: ignore[arg-type]
    if repository is None:
        raise Conflict(
            f"{source.url} is not where a {kind} forge has repositories",
            next_step="Check the source's address, and the kind of the forge.",
            state="no_forge",
        )
    return ForgeAddress(kind, api_url, repository)  # type: ignore[arg-type]


def _api_url(kind: Kind, source: RemoteAddress) -> str:
    scheme = "http" if source.scheme == "http" else "https"
    # The port of an ssh address says nothing of the API's.
    port = source.port if source.scheme != "ssh" and source.port not in _USUAL_PORTS else None
    return api_url_default(kind, scheme=scheme, host=source.host, port=port)


def _origin(project: Project) -> str:
    """Where requests would go; empty while that can't be told."""
    if project.forge_api_url:
        return origin_of(project.forge_api_url)
    source = RepositorySource.objects.filter(project=project).first()
    if source is None:
        return ""
    try:
        return _address(project, remote_address_parse(source.url)).origin
    except (Conflict, InvalidInput):
        return ""


def _has_token(project: Project) -> bool:
    return bool(project.forge_token) and project.forge_token_origin == _origin(project)


def _token(project: Project, source: RepositorySource, address: ForgeAddress) -> tuple[str, str]:
    if project.forge_token and project.forge_token_origin == address.origin:
        return secret_decrypt(project.forge_token, what="the forge's token"), "project"
    # The source's own, where it is of the same host: it is known there already.
    if source.token and same_host(address.api_url, remote_address_parse(source.url).host):
        return secret_decrypt(source.token, what="the repository's token"), "source"
    return "", ""

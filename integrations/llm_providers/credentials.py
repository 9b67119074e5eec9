"""Which model, at which address, with which key.

A key belongs to a host. ``OPENAI_API_KEY`` goes to OpenAI, or to the ``OPENAI_BASE_URL`` that the operator set, and
nowhere else; so do the other vendors' keys. Another address has to be covered by ``ARCHON_MODEL_BASE_URLS`` and gets
the key that ``ARCHON_MODEL_KEYS`` has for it, or none. A key that a user or a project stored belongs to the address
that it was stored for. Addresses are read by a strict grammar and written anew from their parts, so that no other
parser further down can understand them differently.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from django.conf import settings

from .errors import BaseUrlNotAllowed, ModelNameInvalid, ModelNotConfigured
from .limits import output_limit
from .types import ModelSpec, Secret, parse_model_name
from .vendors import VENDORS, Vendor, vendor_find, vendor_names

OPENAI_URL = "https://api.openai.com/v1"
#: Sent where there is no key: the client library insists on one, and servers without keys ignore it.
NO_KEY = "none"

# No user information, query, fragment, escape, backslash, blank or non-ASCII character can get through this.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::(?P<port>[0-9]{1,5}|\*))?"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?",
    re.ASCII,
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Endpoint:
    """The parts of an address that decide where a request goes. ``port`` None: any (in an operator's list alone)."""

    scheme: str
    host: str
    port: int | None
    path: str

    @property
    def url(self) -> str:
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"

    def covers(self, other: Endpoint) -> bool:
        """Whether the other is the same host and port, at this path or below it."""
        return (
            (self.scheme, self.host) == (other.scheme, other.host)
            and self.port in (None, other.port)
            and (other.path + "/").startswith(self.path + "/")
        )

    @property
    def is_loopback(self) -> bool:
        host = self.host.strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def endpoint_parse(url: str, *, wildcard: bool = False) -> Endpoint | None:
    """The endpoint that the address names, or None for anything that is not a plain http(s) address.

    ``wildcard`` admits a port of ``*``, which only an operator's list may have.
    """
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    match = _URL.fullmatch(scheme.lower() + separator + authority.lower() + slash + path)
    if match is None:
        return None
    if any(segment in (".", "..") for segment in match["path"].split("/")):
        return None
    host = match["host"]
    if host.startswith("["):
        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            return None
    if match["port"] == "*":
        if not wildcard:
            return None
        port = None
    else:
        port = int(match["port"] or _DEFAULT_PORTS[match["scheme"]])
        if not 0 < port < 65536:
            return None
    return Endpoint(scheme=match["scheme"], host=host, port=port, path=match["path"])


def key_for(endpoint: Endpoint) -> tuple[Secret, str]:
    """The operator's key for an endpoint of ``ARCHON_MODEL_KEYS`` (the longest prefix wins), or none."""
    best: tuple[int, str] | None = None
    for prefix, key in settings.ARCHON_MODEL_KEYS.items():
        known = endpoint_parse(prefix.strip(), wildcard=True)
        if known is not None and known.covers(endpoint) and (best is None or len(known.path) > best[0]):
            best = (len(known.path), key.strip())
    if best is None or not best[1]:
        return Secret(NO_KEY), ""
    return Secret(best[1]), "ARCHON_MODEL_KEYS"


@dataclass(frozen=True)
class StoredKey:
    """A key that somebody stored with the server, for one vendor at one address."""

    vendor: str
    #: Canonical; empty: the vendor's address as the operator set it.
    base_url: str
    secret: Secret
    #: Whose it is, for messages, as ``the project's key``.
    source: str


def model_resolve(name: str = "", base_url: str = "", *, stored: Sequence[StoredKey] = ()) -> ModelSpec:
    """What to call for a model's name (empty: ``ARCHON_MODEL``, or the first vendor with a key) and address.

    ``stored``: keys beside the operator's, the one to prefer first. Cheap and free of any vendor's library, so that an
    API process can refuse at once. Raises :class:`ModelNotConfigured`, :class:`ModelNameInvalid`,
    :class:`BaseUrlNotAllowed` or :class:`RecordingInvalid`.
    """
    name = name.strip() or settings.ARCHON_MODEL.strip()
    base_url = base_url.strip()
    if not name and base_url:
        raise ModelNotConfigured(
            f"no model is named for {base_url}", next_step="Name it with --model openai:MODEL, or set ARCHON_MODEL."
        )
    provider, model = parse_model_name(name or _default_model(stored))
    vendor = vendor_find(provider)
    if vendor is None:
        raise ModelNameInvalid(
            f"there is no provider '{provider}' here",
            next_step=f"Providers are {vendor_names()}. Any endpoint that speaks the OpenAI chat protocol works as "
            "openai:MODEL with --base-url.",
        )
    if vendor.protocol == "scripted":
        if base_url:
            raise BaseUrlNotAllowed("a recorded dialogue has no base URL", next_step="Leave --base-url out.")
        from .recording import recording_path

        recording_path(model)
        return ModelSpec(provider=vendor.name, model=model, context_tokens=_context_configured(vendor, model))
    return _spec(vendor, model, base_url, stored)


def vendor_endpoint(vendor: Vendor) -> Endpoint:
    """The vendor's address, as the operator set it or its own. Raises :class:`ModelNotConfigured`."""
    own = endpoint_parse(_setting(vendor.base_url_setting) or vendor.base_url)
    if own is None:
        raise ModelNotConfigured(
            f"{vendor.base_url_setting} '{_setting(vendor.base_url_setting)}' is not an http(s) address",
            next_step=f"Set it to something like {vendor.base_url}, without user name, query or fragment.",
        )
    return own


def vendor_key(vendor: Vendor, stored: Sequence[StoredKey] = ()) -> tuple[Secret, str]:
    """The key for the vendor's address and where it is from; without a source there is none."""
    for key in stored:
        if key.vendor == vendor.name and not key.base_url:
            return key.secret, key.source
    if key_value := _setting(vendor.key_setting):
        return Secret(key_value), vendor.key_setting
    return key_for(vendor_endpoint(vendor))


def _spec(vendor: Vendor, model: str, base_url: str, stored: Sequence[StoredKey]) -> ModelSpec:
    own = vendor_endpoint(vendor)
    wanted = own if not base_url else endpoint_parse(base_url)
    if wanted is None:
        raise BaseUrlNotAllowed(
            f"'{base_url}' is not an address that can be used",
            next_step="Write http(s)://HOST[:PORT][/PATH], without user name, query, fragment or escapes.",
        )
    named_by_operator = wanted == own and (not vendor.is_local or bool(_setting(vendor.base_url_setting)))
    if not named_by_operator and not _is_allowed(wanted):
        raise BaseUrlNotAllowed(
            f"the operator of this server has not allowed models at {wanted.url}",
            next_step="The operator allows it by adding the address to ARCHON_MODEL_BASE_URLS.",
        )
    if wanted == own:
        key, source = vendor_key(vendor, stored)
        if not source and vendor.needs_key and not _setting(vendor.base_url_setting):
            raise _no_key(f"there is no key for {vendor.name}:{model}", vendor)
    else:
        listed = (key for key in stored if key.vendor == vendor.name and key.base_url == wanted.url)
        found = next(listed, None)
        key, source = (found.secret, found.source) if found is not None else key_for(wanted)
    return ModelSpec(
        provider=vendor.name,
        model=model,
        base_url=wanted.url,
        api_key=key,
        key_source=source,
        max_output_tokens=output_limit(model),
        stream=settings.ARCHON_MODEL_STREAM,
        idle_timeout_s=settings.ARCHON_MODEL_IDLE_SECONDS,
        context_tokens=_context_configured(vendor, model),
    )


def _context_configured(vendor: Vendor, model: str) -> int | None:
    """What the operator says of the model's context window."""
    name = f"{vendor.name}:{model}".lower()
    return next(
        (size for pattern, size in settings.ARCHON_MODEL_CONTEXTS.items() if fnmatchcase(name, pattern.lower())), None
    )


def _is_allowed(wanted: Endpoint) -> bool:
    listed = (endpoint_parse(prefix.strip(), wildcard=True) for prefix in settings.ARCHON_MODEL_BASE_URLS)
    return any(known is not None and known.covers(wanted) for known in listed)


def _default_model(stored: Sequence[StoredKey]) -> str:
    """The default of the first vendor that there is a key for: the stored ones come first."""
    named = [key.vendor for key in stored if not key.base_url]
    keyed = [vendor.name for vendor in VENDORS if _setting(vendor.key_setting)]
    for name in (*named, *keyed):
        vendor = vendor_find(name)
        if vendor is not None and vendor.default_model:
            return f"{vendor.name}:{vendor.default_model}"
    raise _no_key("no model is configured: there is no key of a provider")


def _setting(name: str) -> str:
    return str(getattr(settings, name)).strip() if name else ""


def _no_key(message: str, vendor: Vendor | None = None) -> ModelNotConfigured:
    names = [vendor.key_setting] if vendor is not None else [v.key_setting for v in VENDORS if v.default_model]
    whose = vendor.name if vendor is not None else "VENDOR"
    return ModelNotConfigured(
        message,
        next_step=f"Set {' or '.join(names)} (and ARCHON_MODEL to choose the model), store a key with "
        f"./archon keys set {whose} (POST /api/agents/keys/), or name a local model with "
        "--model openai:MODEL --base-url URL. To see everything work without a key: ./archon demo",
    )

"""Which model, at which address, with which key.

A key belongs to a host. ``OPENAI_API_KEY`` goes to OpenAI, or to the ``OPENAI_BASE_URL`` that the operator set, and
nowhere else. Another address has to be covered by ``ARCHON_MODEL_BASE_URLS`` and gets the key that
``ARCHON_MODEL_KEYS`` has for it, or none. Addresses are read by a strict grammar and written anew from their parts, so
that no other parser further down can understand them differently.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from django.conf import settings

from .errors import BaseUrlNotAllowed, ModelNameInvalid, ModelNotConfigured
from .limits import output_limit
from .types import ModelSpec, Secret, parse_model_name

SUPPORTED_PROVIDERS = ("openai", "scripted")
DEFAULT_MODEL = "openai:gpt-5-mini"
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


def model_resolve(name: str = "", base_url: str = "") -> ModelSpec:
    """What to call for a model's name (empty: ``ARCHON_MODEL``, or the first provider with a key) and address.

    Cheap and free of any vendor's library, so that an API process can refuse at once. Raises
    :class:`ModelNotConfigured`, :class:`ModelNameInvalid`, :class:`BaseUrlNotAllowed` or :class:`RecordingInvalid`.
    """
    name = name.strip() or settings.ARCHON_MODEL.strip()
    base_url = base_url.strip()
    if not name and base_url:
        raise ModelNotConfigured(
            f"no model is named for {base_url}", next_step="Name it with --model openai:MODEL, or set ARCHON_MODEL."
        )
    if not name and not settings.OPENAI_API_KEY:
        raise _no_key("no model is configured: there is no key of a provider")
    provider, model = parse_model_name(name or DEFAULT_MODEL)
    if provider == "scripted":
        if base_url:
            raise BaseUrlNotAllowed("a recorded dialogue has no base URL", next_step="Leave --base-url out.")
        from .recording import recording_path

        recording_path(model)
        return ModelSpec(provider=provider, model=model)
    if provider == "openai":
        return _openai_spec(model, base_url)
    raise ModelNameInvalid(
        f"there is no provider '{provider}' here",
        next_step=f"Supported are {' and '.join(SUPPORTED_PROVIDERS)}. Any endpoint that speaks the OpenAI chat "
        "protocol works as openai:MODEL with --base-url.",
    )


def _openai_spec(model: str, base_url: str) -> ModelSpec:
    own = endpoint_parse(settings.OPENAI_BASE_URL.strip() or OPENAI_URL)
    if own is None:
        raise ModelNotConfigured(
            f"OPENAI_BASE_URL '{settings.OPENAI_BASE_URL}' is not an http(s) address",
            next_step="Set it to something like https://api.openai.com/v1, without user name, query or fragment.",
        )
    wanted = own if not base_url else endpoint_parse(base_url)
    if wanted is None:
        raise BaseUrlNotAllowed(
            f"'{base_url}' is not an address that can be used",
            next_step="Write http(s)://HOST[:PORT][/PATH], without user name, query, fragment or escapes.",
        )
    if wanted == own:
        key, source = Secret(settings.OPENAI_API_KEY), "OPENAI_API_KEY"
        if not key.reveal():
            key, source = key_for(own)
        if not source and not settings.OPENAI_BASE_URL:
            raise _no_key(f"there is no key for openai:{model}")
    else:
        allowed = (endpoint_parse(prefix.strip(), wildcard=True) for prefix in settings.ARCHON_MODEL_BASE_URLS)
        if not any(known is not None and known.covers(wanted) for known in allowed):
            raise BaseUrlNotAllowed(
                f"the operator of this server has not allowed models at {wanted.url}",
                next_step="The operator allows it by adding the address to ARCHON_MODEL_BASE_URLS.",
            )
        key, source = key_for(wanted)
    return ModelSpec(
        provider="openai",
        model=model,
        base_url=wanted.url,
        api_key=key,
        key_source=source,
        max_output_tokens=output_limit(model),
    )


def _no_key(message: str) -> ModelNotConfigured:
    return ModelNotConfigured(
        message,
        next_step="Set OPENAI_API_KEY (and ARCHON_MODEL to choose the model), or name a local model with "
        "--model openai:MODEL --base-url URL. To see everything work without a key: ./archon demo",
    )

"""Requests to addresses that a user or a model named: checked, so that the server is no way into its own network.

A name is resolved once, every address that it has is checked, and the connection goes to one of those. Only public
addresses count, unless the operator lists the host in ``ARCHON_PRIVATE_HOSTS``. A redirect is a new request.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx

from apps.core.errors import InvalidInput, Unavailable

_PORTS = {"https": 443, "http": 80}
_REDIRECTS = 5
_USER_AGENT = "Archon"
#: Networks whose addresses carry another one, which is what counts.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Whether the one who asks may reach a host and port at all; the addresses are checked besides.
HostAllowed = Callable[[str, int], bool]


class AddressRefused(InvalidInput):
    """The address leads, or may lead, somewhere that requests from here must not go."""

    code = "address_refused"


class FetchFailed(Unavailable):
    """The address did not answer, or not with what was asked for."""

    code = "fetch_failed"


@dataclass(frozen=True)
class Fetched:
    """An answer. ``url`` is where it came from after redirects; ``truncated``: the body was longer than asked for."""

    url: str
    status: int
    content_type: str
    body: bytes
    truncated: bool


def address_is_public(address: str) -> bool:
    """Whether an IP address is one of the internet at large, also when it is wrapped in an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return address_is_public(str(inner))
        if int(ip) < 1 << 32:  # the deprecated form of an IPv4 address in an IPv6 one
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_loopback or ip.is_link_local)


def host_is_listed(host: str, port: int, *, listed: Collection[str]) -> bool:
    """Whether a list names the host: as ``HOST``, ``HOST:PORT``, ``*.DOMAIN`` (with or without port)."""
    host = host.lower().rstrip(".").strip("[]")
    for entry in listed:
        parts = urlsplit(f"//{entry.strip().lower()}")
        try:
            name, wanted = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            continue
        if wanted is not None and wanted != port:
            continue
        if name == host or (name.startswith("*.") and host.endswith(name[1:]) and host != name[2:]):
            return True
    return False


async def address_resolve(host: str, port: int, *, private_hosts: Collection[str] = ()) -> tuple[str, ...]:
    """The host's addresses, all of them checked; the caller connects to one of these and resolves nothing again.

    Raises :class:`AddressRefused` if any of them isn't public and the host is not one of ``private_hosts``, and
    :class:`FetchFailed` if the name has none.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchFailed(
            f"the host {host} has no address: {error}", next_step="Check the spelling of the address."
        ) from error
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    if host_is_listed(host, port, listed=private_hosts):
        return addresses
    private = [address for address in addresses if not address_is_public(address)]
    if private:
        raise AddressRefused(
            f"{host} leads to {private[0]}, an address that is not public",
            next_step="The operator can allow the host by adding it to ARCHON_PRIVATE_HOSTS.",
        )
    return addresses


async def outbound_fetch(
    url: str,
    *,
    allowed: HostAllowed,
    private_hosts: Collection[str] = (),
    max_bytes: int = 2_000_000,
    timeout_s: float = 30.0,
    accept: str = "*/*",
) -> Fetched:
    """GET an http(s) address and follow at most five redirects, each checked as the first one was.

    ``allowed`` decides by host and port. No cookie, credential or proxy of this machine goes along. An answer with an
    error status is an answer. Raises :class:`AddressRefused` or :class:`FetchFailed`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(_REDIRECTS + 1):
                parts = _parse(url)
                answer = await _get(parts, allowed=allowed, private_hosts=private_hosts, limit=max_bytes, accept=accept)
                if isinstance(answer, Fetched):
                    return answer
                url = urljoin(url, answer)
    except TimeoutError as error:
        raise FetchFailed(f"{url} did not answer within {timeout_s:.0f} s", next_step="Try again later.") from error
    raise FetchFailed(f"{url} is behind more than {_REDIRECTS} redirects", next_step="Name the final address.")


async def _get(
    parts: SplitResult, *, allowed: HostAllowed, private_hosts: Collection[str], limit: int, accept: str
) -> Fetched | str:
    """The answer, or the address of a redirect."""
    assert parts.hostname is not None
    host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
    if not allowed(host, port):
        raise AddressRefused(f"{host}:{port} is not a host that may be reached from here")
    addresses = await address_resolve(host, port, private_hosts=private_hosts)
    where = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    target = parts._replace(netloc=f"{where}:{port}", fragment="").geturl()
    headers = {"Host": parts.netloc, "User-Agent": _USER_AGENT, "Accept": accept}
    try:
        async with (
            httpx.AsyncClient(trust_env=False, follow_redirects=False, verify=_certificates()) as client,
            # The name that the certificate has to be for is the one that was asked for, not the address.
            client.stream("GET", target, headers=headers, extensions={"sni_hostname": host}) as response,
        ):
            if response.is_redirect and "location" in response.headers:
                return response.headers["location"]
            body = bytearray()
            async for chunk in response.aiter_bytes(65_536):
                body += chunk
                if len(body) > limit:
                    break
            return Fetched(
                url=parts.geturl(),
                status=response.status_code,
                content_type=response.headers.get("content-type", ""),
                body=bytes(body[:limit]),
                truncated=len(body) > limit,
            )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FetchFailed(
            f"{parts.geturl()} can't be read: {str(error) or type(error).__name__}", next_step="Check the address."
        ) from error


def _parse(url: str) -> SplitResult:
    refused = AddressRefused(
        f"{url[:200]!r} is not an address that can be fetched",
        next_step="Write http(s)://HOST[:PORT]/PATH, without user name and password.",
    )
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in _PORTS and bool(parts.hostname) and (parts.port is None or 0 < parts.port < 65536)
    except ValueError:
        raise refused from None
    if not valid or parts.username or parts.password or any(ord(character) < 33 for character in url.strip()):
        raise refused
    return parts


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    # Those of the system: the ones that an operator adds for an own authority are there.
    return ssl.create_default_context()

"""An HTTP client for addresses that a user named, as guarded as ``outbound`` is, for vendors' clients that take one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import httpx

from apps.core.outbound import AddressRefused, HostAllowed, address_resolve

_PORTS = {"https": 443, "http": 80}


class GuardedTransport(httpx.BaseTransport):
    """Resolves a host once for each request, checks every address that it has, and connects to one of those."""

    def __init__(self, *, allowed: HostAllowed, private_hosts: Collection[str], certificates: ssl.SSLContext) -> None:
        self._allowed = allowed
        self._private_hosts = private_hosts
        self._inner = httpx.HTTPTransport(verify=certificates, trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        host, port = url.host, url.port or _PORTS.get(url.scheme, 0)
        if not self._allowed(host, port):
            raise AddressRefused(f"{host}:{port} is not a host that may be reached from here")
        addresses = asyncio.run(address_resolve(host, port, private_hosts=self._private_hosts))
        # The certificate has to be for the name; the Host header has been set from it already.
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = url.copy_with(host=addresses[0], port=port)
        try:
            return self._inner.handle_request(request)
        finally:
            request.url = url

    def close(self) -> None:
        self._inner.close()


@contextmanager
def guarded_client(
    *, allowed: HostAllowed, private_hosts: Collection[str] = (), ca_file: str = "", timeout_s: float = 20.0
) -> Iterator[httpx.Client]:
    """A client without cookies, proxies or credentials of this machine, which follows no redirect.

    Its requests raise :class:`AddressRefused` or :class:`FetchFailed` where ``outbound`` would. For threads that run no
    event loop. ``ca_file`` takes the place of the system's certificates.
    """
    certificates = ssl.create_default_context(cafile=ca_file or None)
    transport = GuardedTransport(allowed=allowed, private_hosts=private_hosts, certificates=certificates)
    with httpx.Client(transport=transport, trust_env=False, follow_redirects=False, timeout=timeout_s) as client:
        yield client

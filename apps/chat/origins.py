"""Which web pages may open a socket here."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host


def origin_allowed(scope: dict[str, Any]) -> bool:
    """Whether the connection's ``Origin`` is one of ours, listed in CORS_ALLOWED_ORIGINS, or absent (no browser)."""
    headers = {name.lower(): value for name, value in scope.get("headers", ())}
    if b"origin" not in headers:
        return True
    origin = headers[b"origin"].decode("latin-1").lower()
    if origin in {allowed.lower().rstrip("/") for allowed in settings.CORS_ALLOWED_ORIGINS}:
        return True
    host = headers.get(b"host", b"").decode("latin-1").lower()
    # The host must be one of ours too: otherwise any page would pass that had its own name point here.
    domain, _ = split_domain_port(host)
    return bool(domain) and urlsplit(origin).netloc == host and validate_host(domain, settings.ALLOWED_HOSTS)

"""What users may say about a project: one form for each fact, or a reason why it isn't one."""

from __future__ import annotations

import ipaddress
import re

from apps.core.errors import InvalidInput

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_SUBFOLDER_LENGTH = 1000


def host_pattern_clean(text: str) -> str:
    """``HOST``, ``HOST:PORT`` or ``*.DOMAIN`` (with or without a port) in lower case; anything else: InvalidInput."""
    pattern = text.strip().lower()
    host, port = _host_and_port(pattern)
    name = host.removeprefix("*.").rstrip(".")
    wildcard = host.startswith("*.")
    # `*.com` would be a whole registry of names.
    if not _is_host(name, wildcard=wildcard) or (wildcard and "." not in name) or (port is not None and not port):
        raise InvalidInput(
            f"{text[:200]!r} is not a host that can be allowed",
            next_step="Write HOST, HOST:PORT or *.DOMAIN, such as docs.python.org or *.readthedocs.io.",
        )
    shown = f"[{name}]" if ":" in name else name
    return ("*." if wildcard else "") + shown + (f":{port}" if port else "")


def subfolder_clean(text: str) -> str:
    """A folder below the repository's top, as ``a/b``; empty for the top itself. What may lead out: InvalidInput."""
    parts = [part for part in text.strip().split("/") if part not in ("", ".")]
    wrong = (
        text.strip().startswith("/")
        or any(part == ".." or part.lower() == ".git" for part in parts)
        or any(ord(character) < 32 or character == "\\" for character in text)
        or len(text) > _SUBFOLDER_LENGTH
    )
    if wrong:
        raise InvalidInput(
            f"{text[:200]!r} is not a folder of the repository",
            next_step="Name a folder below the repository's top, such as services/api, without `..`.",
        )
    return "/".join(parts)


def _host_and_port(pattern: str) -> tuple[str, int | None]:
    """The port is 0 when it is none."""
    if pattern.startswith("["):
        host, _, rest = pattern[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else None if not rest else "x"
    elif pattern.count(":") > 1:
        return pattern, None
    else:
        host, colon, text = pattern.partition(":")
        port = text if colon else None
    if port is None:
        return host, None
    valid = port.isascii() and port.isdigit() and 0 < int(port) < 65536
    return host, int(port) if valid else 0


def _is_host(name: str, *, wildcard: bool) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return 0 < len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))
    return not wildcard

"""The address of a repository elsewhere: which forms are taken, and what each names."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from django.conf import settings

from apps.core.errors import InvalidInput
from apps.core.outbound import host_is_listed

_PORTS = {"https": 443, "http": 80, "ssh": 22}
_LENGTH = 2000
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
#: `git@host:path`, as git itself and every forge write it.
_SHORT = re.compile(r"(?:(?P<user>[^@/:]+)@)?(?P<host>\[[0-9a-fA-F:.]+\]|[^@/:\[\]]+):(?P<path>[^:].*)")
_FORMS = "Write https://HOST/PATH, ssh://git@HOST/PATH or git@HOST:PATH."


class RemoteRefused(InvalidInput):
    """The address is not one that a repository is fetched from."""

    code = "remote_refused"


@dataclass(frozen=True)
class RemoteAddress:
    """Where a repository is. ``url`` says all of it and holds no secret."""

    scheme: Literal["https", "http", "ssh"]
    host: str
    port: int
    #: Of ssh alone.
    user: str
    path: str

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        if not self.path.startswith("/"):
            # Relative to the user's home there: only the short form can say that.
            return f"{user}{host}:{self.path}"
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{user}{host}{port}{self.path}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials belong to: they go nowhere else."""
        return (self.scheme, self.host, self.port)


def remote_address_parse(text: str) -> RemoteAddress:
    """Raises :class:`RemoteRefused`, whose message repeats nothing of what may be a password."""
    text = text.strip()
    if not text or len(text) > _LENGTH or any(ord(character) < 33 or ord(character) == 127 for character in text):
        raise RemoteRefused("This is not the address of a repository", next_step=_FORMS)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return _short_parse(text)
    scheme = scheme.lower()
    if scheme not in _PORTS:
        raise RemoteRefused(
            f"Repositories are not fetched over {scheme[:20]}://",
            next_step=f"{_FORMS} A folder on the server is imported with repository_path.",
        )
    try:
        parts = urlsplit(text)
        host, port = _host_clean(parts.hostname or ""), parts.port or _PORTS[scheme]
    except ValueError:
        raise RemoteRefused("This is not the address of a repository", next_step=_FORMS) from None
    if parts.password is not None or (parts.username and scheme != "ssh"):
        raise RemoteRefused(
            "The address holds a user name or a password",
            next_step="Leave them out of the address; give the token, and the user name if it matters, by themselves.",
        )
    if parts.query or parts.fragment:
        raise RemoteRefused("The address has a ? or a # in it", next_step=_FORMS)
    if scheme == "http" and not host_is_listed(host, port, listed=settings.ARCHON_PRIVATE_HOSTS):
        raise RemoteRefused(
            f"http:// is not encrypted, so nothing is fetched from {host} over it",
            next_step="Write https://, or have the operator list the host in ARCHON_PRIVATE_HOSTS.",
        )
    user = ""
    if scheme == "ssh":
        user = _user_check(parts.username or "git")
    if parts.path.strip("/") == "":
        raise RemoteRefused("The address names no repository on the host", next_step=_FORMS)
    return RemoteAddress(scheme, host, port, user, parts.path)  # type: ignore[arg-type]  # one of _PORTS


def remote_address_relative(base: RemoteAddress, text: str) -> RemoteAddress:
    """What a submodule's address means in a repository at ``base``, which one with ``./`` or ``../`` builds on."""
    if not text.startswith(("./", "../")):
        return remote_address_parse(text)
    parts = [part for part in base.path.split("/") if part]
    for step in text.split("/"):
        if step == ".." and parts:
            parts.pop()
        elif step == "..":
            parts = []
            break
        elif step not in ("", "."):
            parts.append(step)
    path = ("/" if base.path.startswith("/") else "") + "/".join(parts)
    if not parts:
        raise RemoteRefused(f"{text[:200]!r} leads above the host that the repository is on")
    return RemoteAddress(base.scheme, base.host, base.port, base.user, path)


def _short_parse(text: str) -> RemoteAddress:
    found = _SHORT.fullmatch(text)
    if found is None:
        raise RemoteRefused("This is not the address of a repository", next_step=_FORMS)
    try:
        host = _host_clean(found["host"])
    except ValueError:
        raise RemoteRefused("This is not the address of a repository", next_step=_FORMS) from None
    return RemoteAddress("ssh", host, _PORTS["ssh"], _user_check(found["user"] or "git"), found["path"])


def _user_check(user: str) -> str:
    if not _USER.fullmatch(user):
        raise RemoteRefused("The address holds a user name that is none", next_step=_FORMS)
    return user


def _host_clean(host: str) -> str:
    """In the one form that lists, certificates and keys are compared by; ValueError for what is no host."""
    host = host.strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
    if not 0 < len(host) <= 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError(host)
    return host

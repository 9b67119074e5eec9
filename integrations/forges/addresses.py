"""Which forge a host is, where its API is, and what a repository is called there."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from .types import Kind

_HOSTS: dict[str, Kind] = {
    "github.com": "github",
    "gitlab.com": "gitlab",
    "codeberg.org": "gitea",
    "gitea.com": "gitea",
}
#: By how hosts of people's own are commonly called.
_LABELS: dict[str, Kind] = {"github": "github", "gitlab": "gitlab", "gitea": "gitea", "forgejo": "gitea"}
_PATHS: dict[Kind, str] = {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1"}
#: Hosts whose ssh or API has a name of its own.
_APIS = {"github.com": "https://api.github.com"}
_SSH_HOSTS = {"ssh.github.com": "github.com", "altssh.gitlab.com": "gitlab.com"}


@dataclass(frozen=True)
class ForgeAddress:
    """A repository on a forge. ``repository`` is ``OWNER/NAME``, on GitLab with as many groups as there are."""

    kind: Kind
    #: Without a slash at its end.
    api_url: str
    repository: str

    @property
    def origin(self) -> str:
        return origin_of(self.api_url)


def kind_guess(host: str) -> Kind | None:
    """The forge that a host is, by its name; None: it doesn't tell."""
    host = _SSH_HOSTS.get(host, host)
    return _HOSTS.get(host) or next((kind for label, kind in _LABELS.items() if label in host.split(".")[:-1]), None)


def api_url_default(kind: Kind, *, scheme: str, host: str, port: int | None) -> str:
    """Where the API of a forge at this host is, unless somebody says otherwise. ``port``: None for the usual one."""
    host = _SSH_HOSTS.get(host, host)
    if host in _APIS and kind == "github":
        return _APIS[host]
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}{f':{port}' if port else ''}{_PATHS[kind]}"


def repository_name(kind: Kind, *, path: str, api_url: str, over_ssh: bool = False) -> str | None:
    """What the repository at this path of the host is called; None: it can't be one of the forge's.

    ``over_ssh``: the path begins with the owner, wherever in its host the forge is.
    """
    parts = [part for part in path.strip("/").removesuffix("/.git").removesuffix(".git").split("/") if part]
    # A forge in a folder of its host has the same folder before its API and before its repositories.
    prefix = [part for part in urlsplit(api_url).path.removesuffix(_PATHS[kind]).split("/") if part]
    if prefix and not over_ssh and parts[: len(prefix)] == prefix:
        parts = parts[len(prefix) :]
    fits = len(parts) >= 2 if kind == "gitlab" else len(parts) == 2
    return "/".join(parts) if fits else None


def same_host(api_url: str, host: str) -> bool:
    """Whether an API belongs to the host that a repository is fetched from, so that one's token is the other's."""
    host = _SSH_HOSTS.get(host, host)
    return origin_of(api_url) == _APIS.get(host, "") or (urlsplit(api_url).hostname or "") == host


def origin_of(url: str) -> str:
    """Scheme, host and port: what a token belongs to."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname or ''}:{port}"

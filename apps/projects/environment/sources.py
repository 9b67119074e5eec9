"""Where packages come from on this host, so that a set-up gets them from there and from nowhere else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from apps.core.errors import Unavailable
from apps.projects.sandbox import Bind

#: Where the set-up sandbox has what it is lent.
TOOLS = "/opt/archon"
_QUERY_SECONDS = 30
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class PackageSources:
    """The registries and folders that this host is configured for."""

    #: Hosts and ports that a set-up may reach.
    hosts: frozenset[tuple[str, int]]
    #: What makes uv, pip and npm use them inside the set-up sandbox.
    environment: Mapping[str, str]
    #: Folders of packages and the certificates, bound read-only.
    binds: tuple[Bind, ...] = ()
    #: The host's own proxy, through which registries are reached; empty: directly.
    upstream_proxy: str = ""
    #: What to know when a set-up fails.
    notes: tuple[str, ...] = field(default=())


def package_sources_read(*, with_npm: bool = False) -> PackageSources:
    """Ask the host's own tools. Credentials in an index address stay here: a set-up runs code from repositories."""
    told = _pip_ask()
    pip, variables = told["pip"], told["environment"]
    notes: list[str] = []
    hosts: set[tuple[str, int]] = set()
    folders: dict[str, Path] = {}

    def clean(location: str) -> str:
        """A location as the sandbox may know it; its host or folder is let through."""
        if "://" not in location:
            path = Path(location).expanduser()
            if path.exists():
                folders[str(path)] = path
            return str(path)
        parts = urlsplit(location)
        if parts.scheme == "file":
            path = Path(unquote(parts.path))
            # An index links to its files by relative addresses, which usually lead next to it.
            bound = path.parent if path.name == "simple" and len(path.parts) > 3 else path
            if bound.exists():
                folders[str(bound)] = bound
            return location
        if parts.username or parts.password:
            notes.append(f"The credentials for {parts.hostname} are not handed to the set-up.")
        if parts.hostname and parts.scheme in _PORTS:
            hosts.add((parts.hostname.lower(), parts.port or _PORTS[parts.scheme]))
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    environment: dict[str, str] = {}
    no_index = pip["no-index"].lower() in ("1", "true", "yes", "on")
    index = variables["UV_DEFAULT_INDEX"] or variables["UV_INDEX_URL"] or pip["index-url"]
    extra = f"{variables['UV_INDEX']} {variables['UV_EXTRA_INDEX_URL']}".strip() or pip["extra-index-url"]
    if no_index:
        # uv has no variable for this: an index without packages is as good as none.
        environment |= {"UV_DEFAULT_INDEX": "file:///nonexistent", "PIP_NO_INDEX": "1"}
    else:
        if index:
            environment["UV_DEFAULT_INDEX"] = environment["PIP_INDEX_URL"] = clean(index)
        if not index or _host(index) == _host(told["default_index"]):
            clean(told["default_index"])
            hosts.add((told["default_file_host"].lower(), 443))
        if extra:
            cleaned = " ".join(clean(location.rpartition("=")[2]) for location in extra.split())
            environment["UV_INDEX"] = environment["PIP_EXTRA_INDEX_URL"] = cleaned
    if links := (variables["UV_FIND_LINKS"].replace(",", " ") or pip["find-links"]):
        cleaned_links = [clean(location) for location in links.split()]
        environment["UV_FIND_LINKS"] = ",".join(cleaned_links)
        environment["PIP_FIND_LINKS"] = " ".join(cleaned_links)
    # pip takes the best version over all indexes; uv would stop at the first index that has the name.
    environment["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if trusted := pip["trusted-host"]:
        environment["UV_INSECURE_HOST"] = environment["PIP_TRUSTED_HOST"] = " ".join(trusted.split())
    binds = [Bind(source=path, target=str(path)) for path in folders.values()]
    certificates = pip["cert"] or variables["SSL_CERT_FILE"] or variables["REQUESTS_CA_BUNDLE"]
    if certificates and Path(certificates).is_file():
        target = f"{TOOLS}/certificates.pem"
        binds.append(Bind(source=Path(certificates).resolve(), target=target))
        names = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
        environment |= dict.fromkeys(names, target)
    if with_npm and (registry := _npm_registry()):
        environment["npm_config_registry"] = clean(registry)
    proxy = pip["proxy"] or variables["HTTPS_PROXY"] or variables["HTTP_PROXY"]
    return PackageSources(frozenset(hosts), environment, tuple(binds), proxy, tuple(notes))


def _pip_ask() -> dict[str, Any]:
    script = Path(__file__).with_name("host_sources.py")
    try:
        answer = subprocess.run(
            # -P: our modules are not for it to import, some bear names of the standard library's.
            [sys.executable, "-P", str(script)],
            capture_output=True,
            timeout=_QUERY_SECONDS,
            check=True,
            cwd="/",
        )
        told: dict[str, Any] = json.loads(answer.stdout)
        return told
    except (subprocess.SubprocessError, ValueError) as error:
        raise Unavailable(
            "pip's configuration could not be read", next_step="Run `python -m pip config list` and mend what it says."
        ) from error


def _npm_registry() -> str:
    npm = shutil.which("npm")
    if npm is None:
        return ""
    try:
        answer = subprocess.run(
            [npm, "config", "get", "registry"],
            capture_output=True,
            text=True,
            timeout=_QUERY_SECONDS,
            check=True,
            cwd="/",
        )
    except subprocess.SubprocessError:
        return ""
    return answer.stdout.strip()


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""

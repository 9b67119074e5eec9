"""Where packages come from on this host, so that a set-up gets them from there and from nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from apps.core.errors import Unavailable
from apps.projects.ecosystems.registry import ECOSYSTEMS
from apps.projects.ecosystems.sources import SourceCollector
from apps.projects.sandbox import Bind

#: Where the set-up sandbox has what it is lent.
TOOLS = "/opt/archon"
_QUERY_SECONDS = 30


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


def package_sources_read(*, ecosystem: str) -> PackageSources:
    """Ask the host's own tools. Credentials in an index address stay here: a set-up runs code from repositories.

    ``ecosystem``: that of an :class:`EnvironmentSpec`; a given command may need any, so it gets all.
    """
    collector = SourceCollector()
    # Always: uv makes the environment, and builds of other ecosystems call Python.
    _pip_sources(collector)
    names = ecosystem.split("+")
    for known in ECOSYSTEMS:
        if known.sources is not None and (known.name in names or "command" in names):
            known.sources(collector)
    return PackageSources(
        frozenset(collector.hosts), collector.environment, collector.binds(), collector.proxy, tuple(collector.notes)
    )


def _pip_sources(collector: SourceCollector) -> None:
    told = _pip_ask()
    pip, variables = told["pip"], told["environment"]
    clean, environment = collector.location, collector.environment
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
            collector.host(told["default_file_host"])
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
    certificates = pip["cert"] or variables["SSL_CERT_FILE"] or variables["REQUESTS_CA_BUNDLE"]
    if certificates and Path(certificates).is_file():
        target = f"{TOOLS}/certificates.pem"
        collector.lend(Path(certificates).resolve(), target)
        names = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
        environment |= dict.fromkeys(names, target)
    collector.proxy = pip["proxy"] or variables["HTTPS_PROXY"] or variables["HTTP_PROXY"]


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


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""

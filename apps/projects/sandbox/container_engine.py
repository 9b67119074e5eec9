"""The container engine: where it is, and what Archon asks of it through Docker's API (Podman speaks it as well)."""

from __future__ import annotations

import ipaddress
import json
import ssl
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiodocker
import aiohttp
from aiodocker.exceptions import DockerError
from aiodocker.stream import Stream

from apps.projects.sandbox.container_errors import (
    EngineUnreachable,
    EngineUnsuitable,
    ImageUnsuitable,
    engine_errors,
    engine_spoken,
    image_missing,
)
from apps.projects.workspace import SandboxUnavailable

#: The image that this repository's Dockerfile makes.
OWN_IMAGE = "archon-sandbox:latest"
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class ContainerSettings:
    """What the ``ARCHON_CONTAINER_*`` settings say."""

    engine: str
    image: str
    runtime: str = ""
    tls: Path | None = None
    #: Where the engine finds what is here (see ``container_paths``).
    paths: Mapping[str, str] = field(default_factory=dict)
    cpus: float = 2.0

    @classmethod
    def read(cls) -> ContainerSettings:
        from django.conf import settings

        return cls(
            engine=settings.ARCHON_CONTAINER_ENGINE,
            image=settings.ARCHON_CONTAINER_IMAGE,
            runtime=settings.ARCHON_CONTAINER_RUNTIME,
            tls=Path(settings.ARCHON_CONTAINER_TLS) if settings.ARCHON_CONTAINER_TLS else None,
            paths=settings.ARCHON_CONTAINER_PATHS,
            cpus=settings.ARCHON_CONTAINER_CPUS,
        )


@dataclass(frozen=True)
class Image:
    """An image that the engine has; containers are made from its id, so that a name that moves changes nothing."""

    image_id: str
    machine: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class EngineFacts:
    """What decides how a container has to be asked for."""

    podman: bool
    rootless: bool
    remapped_users: bool
    seccomp: bool
    api_version: tuple[int, ...]


class Engine:
    """A client of the engine. Belongs to the event loop that made it; close it."""

    def __init__(self, settings: ContainerSettings) -> None:
        self.settings = settings
        self.address = settings.engine
        url, connector = _connector(settings)
        self._docker = aiodocker.Docker(
            url=url,
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS, sock_connect=_CONNECT_SECONDS),
        )
        self._connector = connector

    async def close(self) -> None:
        await self._docker.close()
        await self._connector.close()

    async def image_get(self, name: str) -> Image:
        """ImageMissing when the engine doesn't have it: nothing is fetched here."""
        with self._errors(), engine_spoken(self.address):
            try:
                found = await self._docker.images.inspect(name)
            except DockerError as error:
                if error.status == 404:
                    raise image_missing(name, own_image=OWN_IMAGE) from error
                raise
            system = str(found["Os"])
            lines = found.get("Config", {}).get("Env") or []
            image = Image(
                image_id=str(found["Id"]),
                machine=str(found["Architecture"]),
                environment=dict(line.split("=", 1) for line in lines if "=" in line),
            )
        if system != "linux":
            raise ImageUnsuitable(
                f"The image {name} is one for {system}", next_step="Set ARCHON_CONTAINER_IMAGE to a Linux image."
            )
        return image

    async def facts_get(self) -> EngineFacts:
        with self._errors(), engine_spoken(self.address):
            version = await self._docker.version()
            info = await self._docker.system.info()
            options = [str(option) for option in info.get("SecurityOptions") or []]
            names = {part.removeprefix("name=") for option in options for part in option.split(",")}
            components = [str(component.get("Name", "")) for component in version.get("Components") or []]
            return EngineFacts(
                podman=any("podman" in name.lower() for name in components),
                rootless="rootless" in names,
                remapped_users="userns" in names,
                seccomp="seccomp" in names,
                api_version=tuple(int(part) for part in str(version["ApiVersion"]).split(".")),
            )

    async def container_create(self, body: Mapping[str, Any], *, name: str) -> None:
        with self._errors():
            await self._docker.containers.create(dict(body), name=name)

    def container_attach(self, name: str) -> Stream:
        return self._docker.containers.container(name).attach(stdin=True, stdout=True, stderr=True)

    async def container_start(self, name: str) -> None:
        with self._errors():
            await self._docker.containers.container(name).start()

    async def container_wait(self, name: str) -> int:
        """Until it has ended; the exit code is the engine's word."""
        with self._errors():
            answer = await self._docker.containers.container(name).wait()
            return int(answer["StatusCode"])

    async def container_state(self, name: str) -> dict[str, Any] | None:
        """None when there is no such container."""
        with self._errors():
            try:
                found = await self._docker.containers.container(name).show()
            except DockerError as error:
                if error.status == 404:
                    return None
                raise
            state: dict[str, Any] = found["State"]
            return state

    async def container_kill(self, name: str) -> None:
        """One that has ended already, or is gone, is as good as killed."""
        with self._errors():
            try:
                await self._docker.containers.container(name).kill(signal="SIGKILL")
            except DockerError as error:
                if error.status not in (404, 409):
                    raise

    async def container_remove(self, name: str) -> None:
        """Whether it runs or not; one that is gone already, or about to be, is as good as removed."""
        with self._errors():
            try:
                await self._docker.containers.container(name).delete(force=True, v=True)
            except DockerError as error:
                if error.status not in (404, 409):
                    raise

    async def containers_labelled(self, label: str) -> list[tuple[str, dict[str, str]]]:
        """Names and labels of all containers with a label, ended ones too."""
        with self._errors():
            found = await self._docker._query_json(
                "containers/json", params={"all": "true", "filters": json.dumps({"label": [label]})}
            )
            return [(str(entry["Id"]), dict(entry.get("Labels") or {})) for entry in found]

    def _errors(self) -> AbstractContextManager[None]:
        return engine_errors(self.address, runtime=self.settings.runtime, image=self.settings.image)


def _connector(settings: ContainerSettings) -> tuple[str, aiohttp.BaseConnector]:
    """The address as the client wants it, and what connects: without a limit, for each sandbox has two connections."""
    parts = urlsplit(settings.engine)
    if parts.scheme == "unix" and parts.path:
        return "http://engine", aiohttp.UnixConnector(path=parts.path, limit=0)
    if parts.scheme in ("tcp", "http", "https") and parts.hostname:
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        if settings.tls is not None:
            return f"https://{host}:{parts.port or 2376}", aiohttp.TCPConnector(ssl=_tls(settings.tls), limit=0)
        if parts.scheme == "https" or not _is_loopback(parts.hostname):
            raise EngineUnsuitable(
                f"The container engine at {settings.engine} would be used without a certificate of ours",
                next_step="Set ARCHON_CONTAINER_TLS to the folder with ca.pem, cert.pem and key.pem. Whoever may use "
                "an engine can become root on its machine.",
            )
        return f"http://{host}:{parts.port or 2375}", aiohttp.TCPConnector(limit=0)
    raise SandboxUnavailable(
        f"ARCHON_CONTAINER_ENGINE is {settings.engine!r}, which is no engine's address",
        next_step="Set it to unix:///var/run/docker.sock, or tcp://host:2376 with ARCHON_CONTAINER_TLS.",
    )


def _tls(folder: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except (OSError, ssl.SSLError) as error:
        raise EngineUnreachable(
            f"The certificates in {folder} can't be used: {error}",
            next_step="ARCHON_CONTAINER_TLS has to hold ca.pem, cert.pem and key.pem, as DOCKER_CERT_PATH does.",
        ) from error
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

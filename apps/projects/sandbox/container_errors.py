"""What goes wrong between Archon and a container engine, each with what to do about it."""

from __future__ import annotations

import errno
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from aiodocker.exceptions import DockerError

from apps.core.errors import DiskFull
from apps.projects.workspace import SandboxUnavailable

#: aiodocker's status for "no connection".
_NO_CONNECTION = 900
_MESSAGE_LENGTH = 500


class EngineUnreachable(SandboxUnavailable):
    """The container engine doesn't answer at its address."""


class EngineForbidden(SandboxUnavailable):
    """This process's user may not use the engine's socket."""


class ImageMissing(SandboxUnavailable):
    """The engine doesn't have the image; it is never fetched without being asked for."""


class ImageUnsuitable(SandboxUnavailable):
    """The image is there, and can't hold a sandbox."""


class RuntimeUnknown(SandboxUnavailable):
    """The engine has no runtime of that name."""


class EngineRefused(SandboxUnavailable):
    """The engine answered with an error of its own."""


class EngineUnsuitable(SandboxUnavailable):
    """The engine can't keep what a sandbox promises, as it is set up."""


class PathUnknown(SandboxUnavailable):
    """A folder has to be shown in a container, and the engine doesn't know it under any name."""


def image_missing(image: str, *, own_image: str) -> ImageMissing:
    """The error for an image that isn't there; ``own_image``: the one that this repository's Dockerfile makes."""
    how = (
        f"On the engine's machine, in Archon's checkout: docker build --target sandbox -t {image} ."
        if image == own_image
        else f"On the engine's machine: docker pull {image}"
    )
    return ImageMissing(f"The container engine has no image {image}", next_step=how)


@contextmanager
def engine_errors(address: str, *, runtime: str = "", image: str = "") -> Iterator[None]:
    """Turn what the client raises into the errors of this module."""
    try:
        yield
    except DockerError as error:
        raise _translated(error, address=address, runtime=runtime, image=image) from error
    except TimeoutError as error:
        raise EngineUnreachable(
            f"The container engine at {address} accepts connections and doesn't answer",
            next_step="See what keeps it busy (docker info), restart it if need be, then try again.",
        ) from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise EngineUnreachable(
            f"The connection to the container engine at {address} broke off: {str(error)[:_MESSAGE_LENGTH]}",
            next_step="See whether the engine runs (docker info), then try again.",
        ) from error


@contextmanager
def engine_spoken(address: str) -> Iterator[None]:
    """For the first questions: what answers them with something else is no engine."""
    try:
        yield
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise EngineUnreachable(
            f"What answers at {address} does not speak a container engine's protocol",
            next_step="Set ARCHON_CONTAINER_ENGINE to the socket of Docker or Podman.",
        ) from error


def _translated(error: DockerError, *, address: str, runtime: str, image: str) -> SandboxUnavailable | DiskFull:
    message = str(error.message)[:_MESSAGE_LENGTH].strip()
    low = message.lower()
    if error.status == _NO_CONNECTION:
        return _no_connection(error, address)
    if "no space left on device" in low:
        return DiskFull(f"the container engine says: {message}")
    if runtime and "runtime" in low and ("unknown" in low or "not found" in low or "invalid" in low):
        return RuntimeUnknown(
            f"The container engine has no runtime {runtime}: {message}",
            next_step="Register it with the engine (docker info lists them), or unset ARCHON_CONTAINER_RUNTIME.",
        )
    if re.search(
        r"executable file .*not found|no such file or directory|exec format error|permission denied", low
    ) and (error.status in (400, 404, 500) and ("exec" in low or "oci runtime" in low)):
        return ImageUnsuitable(
            f"The image {image} can't run the sandbox's server: {message}",
            next_step="It has to be a Linux image of the engine's architecture, with python3 (3.9 or newer) and bash.",
        )
    return EngineRefused(
        f"The container engine refused ({error.status}): {message or 'without saying why'}",
        next_step="Read what it says; docs/how-to/containers.md lists what Archon asks of an engine.",
    )


def _no_connection(error: DockerError, address: str) -> SandboxUnavailable:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return EngineUnreachable(
                f"The container engine at {address} and Archon don't trust each other's certificates: {cause}",
                next_step="See to ca.pem, cert.pem and key.pem in ARCHON_CONTAINER_TLS.",
            )
        number = getattr(cause, "errno", None)
        if number in (errno.EACCES, errno.EPERM):
            return EngineForbidden(
                f"This process's user may not use the container engine's socket at {address}",
                next_step="Let the server's user use it (usually by its group: usermod -aG docker USER, then start "
                "Archon again). Who may use it can become root on that machine: docs/how-to/containers.md.",
            )
        cause = cause.__cause__ or cause.__context__
    return EngineUnreachable(
        f"No container engine answers at {address}",
        next_step="Start it (systemctl start docker, or systemctl --user start podman.socket), or set "
        "ARCHON_CONTAINER_ENGINE to where it listens.",
    )

"""The way to another host for one run of git: a checked address behind a proxy of ours, and the credentials for it.

A host is resolved once and every address that it has is checked; git and ssh reach the proxy alone, which connects to
those addresses and to no others. git verifies the certificate of the host itself, ssh its key. Credentials are in the
environment of the process or in a private file, and never on a command line, in a repository or in a message.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shlex
import shutil
import sys
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from django.conf import settings

from apps.core.errors import Unavailable
from apps.core.outbound import address_resolve
from apps.projects import ssh_tunnel
from apps.projects.egress import Egress, egress_open
from apps.projects.remote_address import RemoteAddress

T = TypeVar("T")

_SILENCE_SECONDS = 60
#: What a token's user is called where nobody said: most forges look at the token alone.
_TOKEN_USERS = {"bitbucket.org": "x-token-auth"}
_TOKEN_USER = "x-access-token"


@dataclass(frozen=True)
class RemoteCredentials:
    """What opens a repository. Never printed."""

    username: str = ""
    token: str = field(default="", repr=False)
    #: A private key in one of the forms that ssh reads, without a passphrase.
    deploy_key: str = field(default="", repr=False)
    #: Keys of the host in the form of ``known_hosts``; empty: the first one seen is believed.
    known_hosts: str = ""


@dataclass
class RemoteAccess:
    """What :func:`git_run` needs to reach the repository."""

    url: str
    protocol: str
    environment: Mapping[str, str]
    #: Texts that must not be repeated from what git or the host said.
    secrets: tuple[str, ...]
    _known_hosts: Path | None = None

    def known_hosts(self) -> str:
        """The keys of the host as they are believed after the run."""
        return self._known_hosts.read_text("utf-8", "replace") if self._known_hosts is not None else ""


@contextlib.contextmanager
def remote_access_open(address: RemoteAddress, credentials: RemoteCredentials) -> Iterator[RemoteAccess]:
    """Raises AddressRefused or FetchFailed for a host that has no address which may be reached."""
    host = (address.host, address.port)
    with _loop_running() as run:
        checked = run(address_resolve(*host, private_hosts=settings.ARCHON_PRIVATE_HOSTS))
        proxy = egress_open(hosts=frozenset([host]), addresses={host: checked}, with_port=address.scheme != "ssh")
        egress = run(_entered(proxy))
        try:
            if address.scheme == "ssh":
                with _ssh_environment(address, credentials, egress.socket) as (environment, known_hosts):
                    yield RemoteAccess(
                        address.url, "ssh", environment, _secrets(address, credentials), _known_hosts=known_hosts
                    )
            else:
                environment = _http_environment(address, credentials, egress.port)
                yield RemoteAccess(address.url, address.scheme, environment, _secrets(address, credentials))
        finally:
            run(_left(proxy))


def host_key_name(address: RemoteAddress) -> str:
    """What the host is called in ``known_hosts``."""
    return address.host if address.port == 22 else f"[{address.host}]:{address.port}"


# --- http -------------------------------------------------------------------------------------------------------------


def _http_environment(address: RemoteAddress, credentials: RemoteCredentials, port: int) -> dict[str, str]:
    host = f"[{address.host}]" if ":" in address.host else address.host
    origin = f"{address.scheme}://{host}:{address.port}/"
    configuration = [
        ("http.proxy", f"http://127.0.0.1:{port}"),
        # Only ever on the same host, since the proxy reaches no other, and never from https to http.
        ("http.followRedirects", "initial"),
        ("http.lowSpeedLimit", "1"),
        ("http.lowSpeedTime", str(_SILENCE_SECONDS)),
        ("http.sslVerify", "true"),
        ("http.cookieFile", ""),
        ("http.emptyAuth", "false"),
        ("http.delegation", "none"),
    ]
    if settings.ARCHON_GIT_CA_FILE:
        configuration.append(("http.sslCAInfo", settings.ARCHON_GIT_CA_FILE))
    if credentials.token:
        header = f"Authorization: Basic {_basic_pair(address, credentials)}"
        configuration.append((f"http.{origin}.extraHeader", header))
    return _configuration_environment(configuration)


def _basic_pair(address: RemoteAddress, credentials: RemoteCredentials) -> str:
    user = credentials.username or _TOKEN_USERS.get(address.host, _TOKEN_USER)
    return base64.b64encode(f"{user}:{credentials.token}".encode()).decode("ascii")


def _configuration_environment(configuration: list[tuple[str, str]]) -> dict[str, str]:
    environment = {"GIT_CONFIG_COUNT": str(len(configuration))}
    for number, (name, value) in enumerate(configuration):
        environment[f"GIT_CONFIG_KEY_{number}"] = name
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


# --- ssh --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ssh_environment(
    address: RemoteAddress, credentials: RemoteCredentials, socket: Path
) -> Iterator[tuple[dict[str, str], Path]]:
    ssh = shutil.which("ssh")
    if ssh is None:
        raise Unavailable(
            "ssh is not installed on the server", next_step="Install an OpenSSH client there, or use an https address."
        )
    with tempfile.TemporaryDirectory(prefix="archon-ssh-") as folder:
        known_hosts = Path(folder) / "known_hosts"
        known_hosts.write_text(credentials.known_hosts, "utf-8")
        key = Path(folder) / "key"
        descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(credentials.deploy_key)
        # ssh replaces %h and %p itself; they are the host and port of the address, which was checked.
        tunnel = [sys.executable, "-I", ssh_tunnel.__file__, str(socket), "%h", "%p"]
        options = {
            "ProxyCommand": shlex.join(tunnel),
            "HostKeyAlias": host_key_name(address),
            "UserKnownHostsFile": str(known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            # A key that has changed is refused by either.
            "StrictHostKeyChecking": "yes" if credentials.known_hosts.strip() else "accept-new",
            "CheckHostIP": "no",
            "UpdateHostKeys": "no",
            "HashKnownHosts": "no",
            "IdentityFile": str(key) if credentials.deploy_key else "none",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "GSSAPIAuthentication": "no",
            "HostbasedAuthentication": "no",
            "BatchMode": "yes",
            "ForwardAgent": "no",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "ControlMaster": "no",
            "ControlPath": "none",
            "ConnectTimeout": "30",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
            "LogLevel": "ERROR",
        }
        command = [ssh, "-F", "/dev/null", "-T", "-a", "-x"]
        for name, value in options.items():
            command += ["-o", f"{name}={value}"]
        yield {"GIT_SSH_COMMAND": shlex.join(command), "GIT_SSH_VARIANT": "ssh"}, known_hosts


# --- What both need ---------------------------------------------------------------------------------------------------


def _secrets(address: RemoteAddress, credentials: RemoteCredentials) -> tuple[str, ...]:
    if not credentials.token:
        return ()
    token = credentials.token
    return tuple(dict.fromkeys((token, quote(token, safe=""), _basic_pair(address, credentials))))


async def _entered(proxy: AbstractAsyncContextManager[Egress]) -> Egress:
    return await proxy.__aenter__()


async def _left(proxy: AbstractAsyncContextManager[Egress]) -> None:
    await proxy.__aexit__(None, None, None)


class _Run:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __call__(self, awaitable: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(awaitable, self._loop).result()


@contextlib.contextmanager
def _loop_running() -> Iterator[_Run]:
    """An event loop in a thread of its own, for the proxy that serves while this thread waits for git."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="git-egress", daemon=True)
    thread.start()
    try:
        yield _Run(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

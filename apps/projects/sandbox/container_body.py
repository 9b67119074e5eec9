"""What Archon asks an engine for: the description of one hardened container, and nothing that loosens it.

The read-only root is the image's; the worktree is the one writable place besides ``/tmp``. There is no network, no
capability, no way to gain any, no host's namespace, no restart. The exec-server is process 1 itself rather than below
an init of the engine's: process 1 can't be signalled from within, and it collects orphans and kills what is left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.projects.sandbox.bubblewrap import OUTPUT_KILL, PROXY_PORT, temporary_mb
from apps.projects.sandbox.container_paths import Mount
from apps.projects.sandbox.rootfs import SANDBOX_PROGRAMS
from apps.projects.workspace import SandboxLimits

_SHARED_MEMORY_MB = 64
#: For the exec-server itself, and what it forks to measure.
_SERVER_MEMORY_MB = 96
#: Threads of what leads to the proxy.
_FORWARDER_PROCESSES = 132
#: More than any kernel allows: the limit is the container's, since one per user would count other containers in.
_NO_LIMIT_OF_PROCESSES = 1 << 22
EXEC_SERVER = f"{SANDBOX_PROGRAMS}/exec_server.py"
FORWARDER = f"{SANDBOX_PROGRAMS}/forwarder.py"
PROXY_SOCKET = f"{SANDBOX_PROGRAMS}/proxy.sock"


@dataclass(frozen=True)
class ContainerSpec:
    """All that makes one container."""

    image_id: str
    user: str
    mounts: Sequence[Mount]
    limits: SandboxLimits
    labels: Mapping[str, str]
    watched: Sequence[str]
    once: bool = False
    proxied: bool = False
    runtime: str = ""
    cpus: float = 2.0
    #: How user ids of the container's are those of the host: empty where they are anyway.
    user_namespace: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def container_body(spec: ContainerSpec) -> dict[str, Any]:
    """The body of ``POST /containers/create``."""
    config = {
        "channel": 0,
        "memory": spec.limits.memory_mb << 20,
        "disk": spec.limits.disk_mb << 20,
        "processes": _NO_LIMIT_OF_PROCESSES,
        "output": OUTPUT_KILL,
        "watched": list(spec.watched),
        "once": spec.once,
        "proxy_socket": PROXY_SOCKET if spec.proxied else "",
        "proxy_port": PROXY_PORT,
    }
    return {
        "Image": spec.image_id,
        # -I and -S: neither the environment, nor the current folder, nor site-packages have a say in what it imports.
        "Entrypoint": ["python3", "-I", "-S", EXEC_SERVER],
        "Cmd": [json.dumps(config)],
        "User": spec.user,
        "WorkingDir": "/",
        "Hostname": "sandbox",
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "Labels": dict(spec.labels),
        "Healthcheck": {"Test": ["NONE"]},
        "Tty": False,
        # The channel. Its loss is the end of standard input, and that is the end of the exec-server: whatever becomes
        # of this process, the container doesn't outlive it.
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "NetworkDisabled": True,
        "HostConfig": _host_config(spec),
    }


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    memory = (spec.limits.memory_mb + temporary_mb(spec.limits) + _SHARED_MEMORY_MB + _SERVER_MEMORY_MB) << 20
    config: dict[str, Any] = {
        "ReadonlyRootfs": True,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": [],
        "SecurityOpt": ["no-new-privileges:true"],
        "NetworkMode": "none",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Init": False,
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
        "PidsLimit": spec.limits.processes + (_FORWARDER_PROCESSES if spec.proxied else 0),
        # As much again as swap: none.
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": int(spec.cpus * 1e9),
        "ShmSize": _SHARED_MEMORY_MB << 20,
        "Tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={temporary_mb(spec.limits)}m"},
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": 4096, "Hard": 4096},
        ],
        "Mounts": [mount.body() for mount in spec.mounts],
        # Standard output is the channel: the engine would write all of it to its disk, without end.
        "LogConfig": {"Type": "none", "Config": {}},
    }
    if spec.runtime:
        config["Runtime"] = spec.runtime
    if spec.user_namespace:
        config["UsernsMode"] = spec.user_namespace
    return config

"""What the loopback engine demands of a container's description: everything that keeps it from the host."""

from __future__ import annotations

import re
from typing import Any

_KEYS = {
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Cmd",
    "Entrypoint",
    "Env",
    "Healthcheck",
    "HostConfig",
    "Hostname",
    "Image",
    "Labels",
    "NetworkDisabled",
    "OpenStdin",
    "StdinOnce",
    "Tty",
    "User",
    "WorkingDir",
}
_HOST_KEYS = {
    "AutoRemove",
    "CapAdd",
    "CapDrop",
    "CgroupnsMode",
    "Init",
    "IpcMode",
    "LogConfig",
    "Memory",
    "MemorySwap",
    "Mounts",
    "NanoCpus",
    "NetworkMode",
    "PidsLimit",
    "Privileged",
    "ReadonlyRootfs",
    "RestartPolicy",
    "Runtime",
    "SecurityOpt",
    "ShmSize",
    "Tmpfs",
    "Ulimits",
    "UsernsMode",
}
_MOUNT_KEYS = {"Type", "Source", "Target", "ReadOnly", "BindOptions", "VolumeOptions"}
_SECRETS = re.compile(r"(?i)(secret|password|api_key|token)[A-Z_]*=")
_NEVER_MOUNTED = ("/", "/etc", "/root", "/proc", "/sys", "/dev", "/var/run/docker.sock", "/run/docker.sock")


def hardening_problems(body: dict[str, Any]) -> list[str]:
    """What is wrong with the body of a ``POST /containers/create``; nothing, for one that is hardened."""
    host = body.get("HostConfig", {})
    problems = [f"unknown key {key}" for key in sorted(set(body) - _KEYS)]
    problems += [f"unknown key HostConfig.{key}" for key in sorted(set(host) - _HOST_KEYS)]
    exact: dict[str, tuple[Any, Any]] = {
        "ReadonlyRootfs": (host.get("ReadonlyRootfs"), True),
        "Privileged": (host.get("Privileged"), False),
        "CapDrop": (host.get("CapDrop"), ["ALL"]),
        "CapAdd": (host.get("CapAdd"), []),
        "NetworkMode": (host.get("NetworkMode"), "none"),
        "NetworkDisabled": (body.get("NetworkDisabled"), True),
        "IpcMode": (host.get("IpcMode"), "private"),
        "CgroupnsMode": (host.get("CgroupnsMode"), "private"),
        "SecurityOpt": (host.get("SecurityOpt"), ["no-new-privileges:true"]),
        "RestartPolicy": (host.get("RestartPolicy"), {"Name": "no"}),
        "LogConfig": (host.get("LogConfig"), {"Type": "none", "Config": {}}),
        "StdinOnce": (body.get("StdinOnce"), True),
        "OpenStdin": (body.get("OpenStdin"), True),
        "Tty": (body.get("Tty"), False),
        # The one process that may be first is our own.
        "Init": (host.get("Init"), False),
    }
    problems += [f"{name} is {found!r}" for name, (found, wanted) in exact.items() if found != wanted]
    user = re.fullmatch(r"(\d+):(\d+)", str(body.get("User")))
    if user is None or "0" in user.groups():
        problems.append(f"User is {body.get('User')!r}")
    for name in ("PidsLimit", "Memory", "NanoCpus", "ShmSize"):
        if not isinstance(host.get(name), int) or host[name] <= 0:
            problems.append(f"{name} is {host.get(name)!r}")
    if host.get("MemorySwap") != host.get("Memory"):
        problems.append("swap is not off")
    options = str(host.get("Tmpfs", {}).get("/tmp", "")).split(",")
    if set(host.get("Tmpfs", {})) != {"/tmp"} or not {"nosuid", "nodev"} <= set(options):
        problems.append(f"Tmpfs is {host.get('Tmpfs')!r}")
    if not any(re.fullmatch(r"size=\d+m", option) for option in options):
        problems.append("/tmp has no size")
    if host.get("UsernsMode", "") not in ("", "host", "keep-id"):
        problems.append(f"UsernsMode is {host['UsernsMode']!r}")
    if not {"archon.installation", "archon.worker", "archon.purpose"} <= set(body.get("Labels", {})):
        problems.append(f"Labels are {body.get('Labels')!r}")
    problems += [f"a secret in Env: {line}" for line in body.get("Env", []) if _SECRETS.search(line)]
    return problems + _mount_problems(host.get("Mounts", []))


def _mount_problems(mounts: list[dict[str, Any]]) -> list[str]:
    problems: list[str] = []
    for mount in mounts:
        problems += [f"unknown key of a mount: {key}" for key in sorted(set(mount) - _MOUNT_KEYS)]
        if mount.get("Type") not in ("bind", "volume"):
            problems.append(f"a mount of type {mount.get('Type')!r}")
        if mount.get("Type") == "bind" and mount.get("BindOptions") != {"Propagation": "rprivate"}:
            problems.append(f"BindOptions are {mount.get('BindOptions')!r}")
        if not isinstance(mount.get("ReadOnly"), bool) or not str(mount.get("Target")).startswith("/"):
            problems.append(f"a mount without ReadOnly or Target: {mount!r}")
        if mount.get("Source") in _NEVER_MOUNTED:
            problems.append(f"{mount['Source']} is mounted")
    targets = [mount.get("Target") for mount in mounts]
    if len(set(targets)) != len(targets):
        problems.append(f"a target twice: {targets}")
    return problems

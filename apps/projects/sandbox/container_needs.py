"""What bubblewrap needs inside a container and a default one doesn't give it, each found by trying.

A container engine's default profiles keep programs from making namespaces, from mounting, and from seeing all of
``/proc``, for it relies on that itself. What to take away is said in the engine's own words, ``--security-opt``.

The standard library only, so that it can be tried wherever there is a Python.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

_CAP_SYS_ADMIN = 21
_NEWNS, _NEWUSER, _NEWPID = 0x00020000, 0x10000000, 0x20000000


@dataclass(frozen=True)
class Need:
    """One thing that bubblewrap needs; ``problem`` is empty when it is there."""

    name: str
    problem: str = ""
    #: What has to be changed outside of the container.
    option: str = ""


@dataclass(frozen=True)
class Signs:
    """What a process in a container can see of it. Errors are numbers of the system's; 0: it worked."""

    #: How it was noticed that this is a container; empty: it is none.
    container: str
    #: Making a user namespace, mounting in it, and mounting a fresh /proc in it.
    user_namespace: int
    mounting: int
    proc: int
    #: Whether system calls are filtered, by which AppArmor profile this is confined, what of /proc is covered.
    filtered: bool = False
    apparmor: str = ""
    covered: tuple[str, ...] = ()
    #: Root without the right to mount, as default containers have it: bubblewrap then tries without a user namespace.
    powerless_root: bool = False
    #: Settings of the kernel's that keep ordinary users from namespaces, as `name=value`.
    kernel: tuple[str, ...] = ()


def container_detect() -> str:
    """By what this is seen to be a container, or nothing."""
    for path in ("/.dockerenv", "/run/.containerenv"):
        if os.path.exists(path):
            return path
    with suppress(OSError), open("/proc/1/environ", "rb") as file:
        for entry in file.read().split(b"\0"):
            if entry.startswith(b"container="):
                return entry.decode(errors="replace")
    with suppress(OSError), open("/proc/1/cgroup") as file:
        text = file.read()
        for word in ("docker", "libpod", "kubepods", "containerd"):
            if word in text:
                return f"the control group of process 1 ({word})"
    return "KUBERNETES_SERVICE_HOST" if os.environ.get("KUBERNETES_SERVICE_HOST") else ""


def signs_read() -> Signs:
    """Look, and try each step in a process of its own."""
    status = _pairs("/proc/self/status")
    return Signs(
        container=container_detect(),
        user_namespace=_attempt(lambda: _unshare(_NEWUSER)),
        mounting=_attempt(_mount_in_namespace),
        proc=_attempt(_proc_in_namespace),
        filtered=status.get("Seccomp", "0") not in ("", "0"),
        apparmor=_apparmor(),
        covered=_covered(),
        powerless_root=os.geteuid() == 0 and not int(status.get("CapEff", "0"), 16) >> _CAP_SYS_ADMIN & 1,
        kernel=tuple(f"{name.replace('/', '.')}={value}" for name, value in _kernel_settings()),
    )


def needs_judge(signs: Signs) -> tuple[Need, ...]:
    """What is missing, and which option brings it."""
    seccomp = "--security-opt seccomp=deploy/seccomp.json (or seccomp=unconfined)"
    apparmor = "--security-opt apparmor=unconfined"
    reason = f"the kernel says {', '.join(signs.kernel)}" if signs.kernel else ""
    needs = []
    if signs.user_namespace == 0:
        needs.append(Need("user namespaces"))
    elif signs.kernel:
        needs.append(Need("user namespaces", reason, f"on the host: {_sysctl(signs.kernel)}"))
    else:
        what = "the seccomp profile refuses them" if signs.filtered else "they are refused"
        needs.append(Need("user namespaces", f"{what} ({os.strerror(signs.user_namespace)})", seccomp))
    if signs.mounting == 0:
        needs.append(Need("mounting"))
    elif signs.user_namespace != 0:
        needs.append(Need("mounting", "not tried without a user namespace", seccomp))
    elif signs.kernel:
        needs.append(Need("mounting", reason, f"on the host: {_sysctl(signs.kernel)}"))
    elif signs.mounting == errno.EACCES or (signs.apparmor and not signs.filtered):
        what = f"AppArmor's profile {signs.apparmor or 'of this container'} refuses it"
        needs.append(Need("mounting", what, apparmor))
    else:
        needs.append(Need("mounting", f"refused ({os.strerror(signs.mounting)})", f"{seccomp}, {apparmor}"))
    if signs.proc == 0:
        needs.append(Need("an unmasked /proc"))
    else:
        covered = ", ".join(signs.covered[:6]) + (" …" if len(signs.covered) > 6 else "")
        problem = f"covered: {covered}" if covered else f"a fresh one is refused ({os.strerror(signs.proc)})"
        needs.append(Need("an unmasked /proc", problem, "--security-opt systempaths=unconfined"))
    if signs.powerless_root:
        needs.append(Need("an ordinary user", "Archon runs as root without CAP_SYS_ADMIN", "--user 10001:10001"))
    return tuple(needs)


def _sysctl(settings: tuple[str, ...]) -> str:
    wanted = {
        "kernel.unprivileged_userns_clone": "1",
        "user.max_user_namespaces": "15000",
        "kernel.apparmor_restrict_unprivileged_userns": "0",
    }
    names = [setting.partition("=")[0] for setting in settings]
    return "sysctl -w " + " ".join(f"{name}={wanted[name]}" for name in names)


def _kernel_settings() -> list[tuple[str, str]]:
    found = []
    for name, bad in (
        ("kernel/unprivileged_userns_clone", "0"),
        ("user/max_user_namespaces", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ):
        with suppress(OSError), open(f"/proc/sys/{name}") as file:
            value = file.read().strip()
            if value == bad and os.geteuid() != 0:
                found.append((name, value))
    return found


def _attempt(action: Callable[[], int]) -> int:
    """The error of an action, tried in a child."""
    child = os.fork()
    if child == 0:
        code = errno.EINVAL
        try:
            code = action()
        finally:
            os._exit(min(code, 255))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else errno.EPERM


def _unshare(flags: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.unshare(flags) == 0 else ctypes.get_errno()


def _mount(kind: bytes, target: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.mount(kind, target, kind, 0, None) == 0 else ctypes.get_errno()


def _mount_in_namespace() -> int:
    return _unshare(_NEWUSER | _NEWNS) or _mount(b"tmpfs", b"/tmp")


def _proc_in_namespace() -> int:
    error = _unshare(_NEWUSER | _NEWNS | _NEWPID)
    if error:
        return error
    # The namespace of processes is that of children.
    return _attempt(lambda: _mount(b"proc", b"/proc"))


def _apparmor() -> str:
    with suppress(OSError), open("/proc/self/attr/current") as file:
        profile = file.read().strip("\0\n ")
        return "" if profile.startswith("unconfined") else profile
    return ""


def _covered() -> tuple[str, ...]:
    found = []
    with suppress(OSError), open("/proc/self/mountinfo") as file:
        for line in file:
            target = line.split()[4]
            if target.startswith("/proc/"):
                found.append(target)
    return tuple(found)


def _pairs(path: str) -> dict[str, str]:
    with suppress(OSError), open(path) as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {}

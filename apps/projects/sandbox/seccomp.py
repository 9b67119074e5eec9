"""The system calls that a sandbox may not make, as a BPF program for ``bwrap --seccomp``.

A list of refusals rather than of permissions: what agents run is anything at all, and the namespaces already take away
every privilege. What is refused is what reaches into the kernel beyond what building and testing code needs, what would
make new namespaces, and what would escape the watch on memory. A foreign architecture's calls (32-bit, x32) would get
round the list, so they kill the process.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass
from typing import Any

# Offsets in struct seccomp_data: nr, arch, instruction pointer, six 64-bit arguments (little-endian on both machines).
_NR, _ARCH, _ARGS = 0, 4, 16
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_X32_BIT = 0x40000000
#: Every CLONE_NEW* flag that clone(2) takes.
_NEW_NAMESPACES = 0x7E020000
#: Unix, IPv4, IPv6 and netlink: what a program in an empty network namespace can use.
_FAMILIES = (1, 2, 10, 16)
#: Terminal ioctls that put words into a terminal's input: TIOCSTI, TIOCLINUX.
_IOCTLS = (0x5412, 0x541C)
#: Linux as it is, 32-bit addresses, no address randomisation (debuggers), and the question what it is now.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF)

# name: (x86_64, aarch64); None where the machine has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # file systems and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "fanotify_init": (300, 262),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # the kernel itself
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "perf_event_open": (298, 241),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18),
}
# "There is no such call", so that libraries fall back on an older one: clone3's flags are in memory, where a filter
# can't look; memory files belong to no process's resident size.
_MISSING: dict[str, tuple[int | None, int | None]] = {
    "clone3": (435, 435),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
}
#: What bubblewrap itself has to do before it refuses it to what it starts.
_MAKES_SANDBOXES = frozenset({"mount", "umount2", "pivot_root", "chroot", "unshare", "move_mount", "mount_setattr"})
_CLONE, _SOCKET, _SOCKETPAIR, _IOCTL, _PERSONALITY = (56, 220), (41, 198), (53, 199), (16, 29), (135, 92)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


@dataclass(frozen=True)
class _Instruction:
    code: int
    value: int
    if_true: int = 0
    if_false: int = 0

    def packed(self) -> bytes:
        return struct.pack("<HBBI", self.code, self.if_true, self.if_false, self.value)


def _refusal(number: int) -> _Instruction:
    return _Instruction(_RETURN, _ERRNO | number)


def _when_argument_in(
    call: int, argument: int, values: tuple[int, ...], *, allowed: bool, error: int
) -> list[_Instruction]:
    """One call, allowed or refused for these values of the lower half of an argument (the kernel looks at no more)."""
    hit, miss = (
        (_Instruction(_RETURN, _ALLOW), _refusal(error))
        if allowed
        else (_refusal(error), _Instruction(_RETURN, _ALLOW))
    )
    body = [_Instruction(_LOAD, _ARGS + 8 * argument)]
    body += [_Instruction(_JUMP_EQUAL, value, len(values) - index) for index, value in enumerate(values)]
    body += [miss, hit]
    return [_Instruction(_JUMP_EQUAL, call, 0, len(body)), *body]


def seccomp_program(machine: str = "") -> bytes:
    """The filter for this machine, as the kernel takes it; a machine that it isn't written for: ValueError."""
    try:
        column, architecture = _MACHINES[machine or platform.machine()]
    except KeyError as error:
        raise ValueError(f"no system call filter for {error}") from None
    program = [
        _Instruction(_LOAD, _ARCH),
        _Instruction(_JUMP_EQUAL, architecture, 1),
        _Instruction(_RETURN, _KILL_PROCESS),
        _Instruction(_LOAD, _NR),
    ]
    if column == 0:
        # -1 stands for "skip this call" and is no x32 call.
        program += [
            _Instruction(_JUMP_AT_LEAST, _X32_BIT, 0, 2),
            _Instruction(_JUMP_EQUAL, 0xFFFFFFFF, 1),
            _Instruction(_RETURN, _KILL_PROCESS),
        ]
    program += [
        _Instruction(_JUMP_EQUAL, _CLONE[column], 0, 4),
        _Instruction(_LOAD, _ARGS),
        _Instruction(_JUMP_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        _refusal(errno.EPERM),
        _Instruction(_RETURN, _ALLOW),
    ]
    for call in (_SOCKET[column], _SOCKETPAIR[column]):
        program += _when_argument_in(call, 0, _FAMILIES, allowed=True, error=errno.EAFNOSUPPORT)
    program += _when_argument_in(_IOCTL[column], 1, _IOCTLS, allowed=False, error=errno.EPERM)
    program += _when_argument_in(_PERSONALITY[column], 0, _PERSONALITIES, allowed=True, error=errno.EPERM)
    for table, error_number in ((_REFUSED, errno.EPERM), (_MISSING, errno.ENOSYS)):
        for numbers in table.values():
            number = numbers[column]
            if number is not None:
                program += [_Instruction(_JUMP_EQUAL, number, 0, 1), _refusal(error_number)]
    program.append(_Instruction(_RETURN, _ALLOW))
    return b"".join(instruction.packed() for instruction in program)


def container_profile() -> dict[str, Any]:
    """The profile for a container in which bubblewrap has to work: what an engine's own refuses, but for that.

    It is ``deploy/seccomp.json``, which ``python -m scripts.seccomp_profile`` writes.
    """
    refused = sorted({*_REFUSED, "memfd_secret"} - _MAKES_SANDBOXES)
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM},
        ],
    }

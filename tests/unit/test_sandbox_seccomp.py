"""The system call filter says what it should, for both machines, without a kernel to ask."""

from __future__ import annotations

import errno
import struct

import pytest

from apps.projects.sandbox.seccomp import seccomp_program

ALLOW, KILL = 0x7FFF0000, 0x80000000
X86, ARM = 0xC000003E, 0xC00000B7


def refused(number: int) -> int:
    return 0x00050000 | number


def verdict(program: bytes, *, architecture: int, call: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel's interpreter would return: the few instructions that the filter uses."""
    padded = (*arguments, *([0] * (6 - len(arguments))))
    data = struct.pack("<IIQ6Q", call & 0xFFFFFFFF, architecture, 0, *padded)
    instructions = list(struct.iter_unpack("<HBBI", program))
    accumulator = position = 0
    while True:
        code, if_true, if_false, value = instructions[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            position += if_true if holds else if_false


#: Call: (x86_64, aarch64).
CALLS = {
    "clone": (56, 220),
    "socket": (41, 198),
    "ioctl": (16, 29),
    "personality": (135, 92),
    "read": (0, 63),
    "mount": (165, 40),
    "unshare": (272, 97),
    "ptrace": (101, 117),
    "io_uring": (425, 425),
    "keyctl": (250, 219),
    "clone3": (435, 435),
}
MACHINES = [("x86_64", X86, 0), ("aarch64", ARM, 1)]


@pytest.mark.parametrize(("machine", "architecture", "column"), MACHINES)
def test_the_filter_refuses_what_reaches_beyond_and_allows_the_rest(
    machine: str, architecture: int, column: int
) -> None:
    program = seccomp_program(machine)

    def ask(name: str, *arguments: int) -> int:
        return verdict(program, architecture=architecture, call=CALLS[name][column], arguments=arguments)

    assert ask("read") == ALLOW
    for name in ("mount", "unshare", "ptrace", "io_uring", "keyctl"):
        assert ask(name) == refused(errno.EPERM), name
    assert ask("clone3") == refused(errno.ENOSYS)
    # A thread, a fork, and a new user namespace among other flags.
    assert ask("clone", 0x3D0F00) == ALLOW
    assert ask("clone", 17) == ALLOW
    assert ask("clone", 17 | 0x10000000) == refused(errno.EPERM)
    assert [ask("socket", family) for family in (1, 2, 10, 16)] == [ALLOW] * 4
    assert ask("socket", 40) == refused(errno.EAFNOSUPPORT)
    # The kernel looks at the lower half of the argument alone, so the filter must not be fooled by the upper one.
    assert ask("socket", 40 | 1 << 32) == refused(errno.EAFNOSUPPORT)
    assert ask("ioctl", 0, 0x5412) == refused(errno.EPERM)
    assert ask("ioctl", 0, 0x5412 | 1 << 40) == refused(errno.EPERM)
    assert ask("ioctl", 0, 0x5401) == ALLOW
    assert ask("personality", 0xFFFFFFFF) == ALLOW
    assert ask("personality", 0x0400000) == refused(errno.EPERM)


def test_a_foreign_architecture_kills_the_process() -> None:
    program = seccomp_program("x86_64")
    i386 = 0x40000003
    assert verdict(program, architecture=i386, call=3) == KILL
    assert verdict(program, architecture=X86, call=0x40000000 | 101) == KILL
    assert verdict(program, architecture=X86, call=-1) == ALLOW
    assert verdict(seccomp_program("aarch64"), architecture=X86, call=0) == KILL


def test_a_machine_without_a_filter_is_an_error() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        seccomp_program("riscv64")

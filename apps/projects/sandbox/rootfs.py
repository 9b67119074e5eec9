"""What a sandbox sees as its file system: a list of entries, and its spelling as bubblewrap arguments.

The root is built from nothing: the system's programs and libraries read-only, toolchains from where they are, a handful
of files below ``/etc`` (the host's accounts, host names and keys aren't among them), private ``/tmp`` and ``/dev/shm``
of a bounded size, and what is worked on. Whatever isn't listed isn't there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apps.projects.sandbox.toolchains import ripgrep_program, toolchain_list
from apps.projects.workspace import SANDBOX_ENVIRONMENT, SANDBOX_WORKSPACE

#: Ours, in the sandbox.
SANDBOX_PROGRAMS = "/run/archon"
SANDBOX_HOME = "/tmp/home"
#: The user inside, whoever it is outside.
SANDBOX_UID = 1000

_MERGED_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = (
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates",
    "pki/tls/certs",
    "pki/ca-trust",
    "localtime",
    "timezone",
    "protocols",
    "services",
    "mime.types",
    "java-17-openjdk",
    "java-21-openjdk",
    "java-25-openjdk",
    "maven/m2.conf",
    "maven/logging",
)
#: Which extensions PHP loads.
_ETC_PATTERNS = ("php/*/cli", "php/*/mods-available")


def account_files(user: int, group: int) -> dict[str, str]:
    """What programs in a sandbox look accounts up in."""
    return {
        "/etc/passwd": "root:x:0:0:root:/nonexistent:/bin/false\n"
        f"agent:x:{user}:{group}:agent:{SANDBOX_HOME}:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
        "/etc/group": f"root:x:0:\nagent:x:{group}:\nnogroup:x:65534:\n",
    }


_FILES = {
    **account_files(SANDBOX_UID, SANDBOX_UID),
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "/etc/resolv.conf": "# There is no network here.\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True)
class Bind:
    """A file or folder of the host shown in a sandbox."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Link:
    """A symbolic link in a sandbox."""

    points_to: str
    target: str


@dataclass(frozen=True)
class Data:
    """A read-only file in a sandbox, readable for all, with this content."""

    content: bytes
    target: str


@dataclass(frozen=True)
class Hidden:
    """A folder in a sandbox that is empty whatever the binds before it showed there."""

    target: str


Entry = Bind | Link | Data | Hidden


def system_entries(*, hidden: Sequence[Path]) -> list[Entry]:
    """The root without what is worked on. ``hidden``: folders of the host never to be seen, whatever contains them."""
    entries: list[Entry] = [Bind(Path("/usr"), "/usr")]
    for name in _MERGED_FOLDERS:
        path = Path("/", name)
        if path.is_symlink():
            entries.append(Link(str(path.readlink()), str(path)))
        elif path.is_dir():
            entries.append(Bind(path, str(path)))
    configured = [path for pattern in _ETC_PATTERNS for path in sorted(Path("/etc").glob(pattern))]
    for path in (*(Path("/etc", name) for name in _ETC), *configured):
        if path.exists():
            # The target of a link may be anywhere: show the thing itself.
            entries.append(Bind(path.resolve(), str(path)))
    entries += [Data(content.encode(), target) for target, content in _FILES.items()]
    for toolchain in toolchain_list():
        if toolchain.root is not None:
            entries.append(Bind(toolchain.root, str(toolchain.root)))
    ripgrep = ripgrep_program()
    if ripgrep is not None:
        entries.append(Bind(ripgrep, f"{SANDBOX_PROGRAMS}/bin/rg"))
    shown = [Path(entry.target) for entry in entries if isinstance(entry, Bind)]
    for path in hidden:
        if any(path != root and path.is_relative_to(root) for root in shown) and path.is_dir():
            entries.append(Hidden(str(path)))
    return entries


def program_path(*, environment: bool) -> str:
    """The PATH of a sandbox."""
    folders = [f"{SANDBOX_ENVIRONMENT}/bin"] if environment else []
    folders.append(f"{SANDBOX_PROGRAMS}/bin")
    # One of each kind: a toolchain that isn't the first of its kind is called by its full path.
    preferred = {toolchain.name: toolchain for toolchain in reversed(toolchain_list())}
    folders += [str(toolchain.root / "bin") for toolchain in preferred.values() if toolchain.root is not None]
    folders += ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    if Path("/usr/local/go/bin").is_dir():
        folders.insert(-6, "/usr/local/go/bin")
    return ":".join(dict.fromkeys(folders))


def entry_arguments(entries: Sequence[Entry], *, data_descriptors: Sequence[int]) -> list[str]:
    """The entries as bubblewrap's arguments. ``data_descriptors``: where it reads each :class:`Data` from, in order."""
    arguments: list[str] = []
    descriptors = iter(data_descriptors)
    made = {"/"}

    def folder(path: str) -> None:
        if path not in made:
            folder(path.rpartition("/")[0] or "/")
            made.add(path)
            # Bubblewrap's own would be closed to all but its user.
            arguments.extend(("--perms", "0755", "--dir", path))

    for entry in entries:
        folder(entry.target.rpartition("/")[0] or "/")
        match entry:
            case Bind(source, target, writable):
                arguments += ["--bind" if writable else "--ro-bind", str(source), target]
                made.add(target)
            case Link(points_to, target):
                arguments += ["--symlink", points_to, target]
                made.add(target)
            case Data(_, target):
                arguments += ["--perms", "0444", "--file", str(next(descriptors)), target]
            case Hidden(target):
                arguments += ["--perms", "0755", "--tmpfs", target, "--remount-ro", target]
    return arguments


def relocated(entries: Sequence[Entry]) -> list[Entry]:
    """The same entries where the sources already stand at their targets: for a sandbox within this root."""
    moved: list[Entry] = []
    for entry in entries:
        match entry:
            case Bind(_, target, writable):
                moved.append(Bind(Path(target), target, writable))
            case Data(_, target):
                moved.append(Bind(Path(target), target))
            case Link() | Hidden():
                moved.append(entry)
    return moved


def workspace_entries(
    workspace: Path, *, writable: bool, environment: Path | None, binds: Sequence[Bind]
) -> list[Entry]:
    """What is worked on: the worktree, the project's environment, and whatever else was asked for."""
    entries: list[Entry] = [Bind(workspace, SANDBOX_WORKSPACE, writable)]
    if environment is not None:
        entries.append(Bind(environment, SANDBOX_ENVIRONMENT))
    return [*entries, *binds]

"""A folder without git, packed for the server: what belongs to the project, and nothing that looks like a secret."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cli.errors import CliError

FILE_BYTES = 20 * 1024 * 1024
FOLDER_BYTES = 500 * 1024 * 1024
#: Everything is below this in the archive: the server takes one top folder off.
_TOP = "files"
_SECRETS = (
    ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.keystore", "*.jks", "*.kdbx", "id_rsa*", "id_dsa*",
    "id_ecdsa*", "id_ed25519*", ".netrc", ".npmrc", ".pypirc", ".git-credentials", ".htpasswd", "credentials.json",
    "service-account*.json",
)  # fmt: skip
_NO_SECRETS = (".env.example", ".env.sample", ".env.template", ".env.dist", "*.pub")
_SECRET_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".azure", ".kube", ".docker"})
#: Made from the project, by its tools; left out where no .gitignore says so.
_MADE = frozenset(
    {
        "node_modules", ".venv", "venv", "__pycache__", ".tox", ".nox", ".pytest_cache", ".mypy_cache", ".ruff_cache",
        ".gradle", ".git", ".hg", ".svn",
    }
)  # fmt: skip


@dataclass
class Packed:
    """What went into the archive and what was left out, by reason."""

    files: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave(self, reason: str, path: str) -> None:
        self.left_out.setdefault(reason, []).append(path)

    def told(self) -> str:
        """In words; empty when everything went in."""
        parts = []
        for reason, paths in self.left_out.items():
            more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
            parts.append(f"{reason}: {', '.join(paths[:5])}{more}")
        return f"Left out: {'; '.join(parts)}." if parts else ""


def folder_pack(folder: Path, *, target: Path, apart: Path) -> Packed:
    """Write the folder's files to ``target`` (a tar.gz), by its .gitignore files; ``apart`` is a scratch folder.

    The folder is only read. CliError for one that is empty or too large.
    """
    packed = Packed()
    total = 0
    with tarfile.open(target, "w:gz", compresslevel=6) as archive:
        for path in _files(folder, apart, packed):
            full = folder / path
            entry = full.lstat()
            total += entry.st_size
            if total > FOLDER_BYTES:
                raise CliError(
                    f"{folder} holds more than {FOLDER_BYTES >> 20} MiB",
                    next_step="name what isn't source in a .gitignore file there",
                    code="too_large",
                )
            info = archive.gettarinfo(str(full), arcname=f"{_TOP}/{path}")
            # A hard link is a file like any other; who owns it here is nobody's business.
            if info.islnk():
                info.type, info.size = tarfile.REGTYPE, entry.st_size
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            if info.isreg():
                with full.open("rb") as content:
                    archive.addfile(info, content)
            else:
                archive.addfile(info)
            packed.files += 1
    if packed.files == 0:
        raise CliError(
            f"there is no file in {folder} to work on", next_step="name another folder with --repo", code="folder_empty"
        )
    return packed


def _files(folder: Path, apart: Path, packed: Packed) -> Iterator[str]:
    for path in sorted(_listed(folder, apart)):
        parts = path.split("/")
        full = folder / path
        if path.endswith("/"):
            packed.leave("repositories within the folder", path)
        elif made := next((part for part in parts[:-1] if part in _MADE), None):
            _once(packed, "made by tools", path[: path.index(made) + len(made)] + "/")
        elif _is_secret(parts):
            packed.leave("may hold secrets", path)
        elif full.is_symlink():
            if _leads_out(folder, full):
                packed.leave("links that lead out", path)
            else:
                yield path
        elif not full.is_file():
            packed.leave("no regular files", path)
        elif not os.access(full, os.R_OK):
            packed.leave("not readable", path)
        elif full.stat().st_size > FILE_BYTES:
            packed.leave(f"larger than {FILE_BYTES >> 20} MiB", path)
        else:
            yield path


def _listed(folder: Path, apart: Path) -> list[str]:
    """Every file that no .gitignore names, as git lists it; with a git dir of our own, far from the folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_DIR": str(apart / "list.git"), "GIT_WORK_TREE": str(folder), "GIT_OPTIONAL_LOCKS": "0"}
    _git(folder, environment, "init", "--quiet", "--template=")
    listing = _git(folder, environment, "ls-files", "-z", "--others", "--exclude-standard")
    return [os.fsdecode(path) for path in listing.split(b"\0") if path]


def _git(folder: Path, environment: dict[str, str], *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise CliError("git is not installed", next_step="install git", code="git_missing") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise CliError(f"the folder's files can't be listed: {said}", code="git_failed")
    return done.stdout


def _is_secret(parts: list[str]) -> bool:
    name = parts[-1].lower()
    if any(part.lower() in _SECRET_FOLDERS for part in parts[:-1]):
        return True
    return any(fnmatch.fnmatch(name, pattern) for pattern in _SECRETS) and not any(
        fnmatch.fnmatch(name, pattern) for pattern in _NO_SECRETS
    )


def _leads_out(folder: Path, link: Path) -> bool:
    target = os.readlink(link)
    place = os.path.normpath(os.path.join(link.parent, target))
    return os.path.isabs(target) or not Path(place).is_relative_to(folder)


def _once(packed: Packed, reason: str, path: str) -> None:
    if path not in packed.left_out.get(reason, ()):
        packed.leave(reason, path)

"""The repositories of ``archon bench plan``: given as files, as folders or as git repositories, each as one commit."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from apps.planning.paths import path_clean, path_fault
from apps.projects.git import git_run, upload_pack_command
from apps.projects.repository_store import repository_path

Source = Mapping[str, str] | Path
_SECONDS = 600


class UnusableRepository(ValueError):
    """A case's repository can't be made."""


def repositories_make(sources: Sequence[Source]) -> tuple[uuid.UUID, list[str]]:
    """A project's repository in which each source is a commit, in their order. Raises UnusableRepository."""
    project_id = uuid.uuid4()
    git_dir = repository_path(project_id=project_id)
    git_dir.parent.mkdir(parents=True, exist_ok=True)
    git_run("init", "--quiet", "--bare", str(git_dir))
    commits: dict[int, str] = {}
    written: dict[int, Mapping[str, bytes]] = {}
    fetched: dict[Path, str] = {}
    for number, source in enumerate(sources):
        if isinstance(source, Path) and _is_repository(source):
            if source not in fetched:
                fetched[source] = _fetch(git_dir, source, number)
            commits[number] = fetched[source]
        else:
            written[number] = _folder_read(source) if isinstance(source, Path) else _checked(source)
    commits |= _import(git_dir, written)
    return project_id, [commits[number] for number in range(len(sources))]


def _is_repository(folder: Path) -> bool:
    return (folder / ".git").exists() or ((folder / "HEAD").is_file() and (folder / "objects").is_dir())


def _fetch(git_dir: Path, source: Path, number: int) -> str:
    ref = f"refs/heads/case-{number}"
    git_run(
        "fetch", "--quiet", "--no-tags", "--depth=1", "--upload-pack", upload_pack_command(),
        f"file://{source.resolve()}", f"HEAD:{ref}", git_dir=git_dir, protocol="file", timeout=_SECONDS,
    )  # fmt: skip
    return git_run("rev-parse", ref, git_dir=git_dir).text


def _checked(files: Mapping[str, str]) -> dict[str, bytes]:
    for path in files:
        if (fault := path_fault(path)) is not None or path_clean(path) != path:
            raise UnusableRepository(f"the path {path!r} {fault[0] if fault else 'is written in an odd way'}")
    return {path: text.encode("utf-8", "surrogatepass") for path, text in files.items()}


def _folder_read(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise UnusableRepository(f"{folder} is no folder")
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - {".git"})
        for name in sorted(names):
            path = Path(place) / name
            if path.is_file() and not path.is_symlink():
                mode = b"#!" if os.access(path, os.X_OK) else b""
                content = path.read_bytes()
                # What is executable there is so here, whatever it holds.
                found[str(path.relative_to(folder))] = mode if mode and not content.startswith(mode) else content
    return found


def _import(git_dir: Path, written: Mapping[int, Mapping[str, bytes]]) -> dict[int, str]:
    if not written:
        return {}
    stream = b"".join(part for number, files in written.items() for part in _commit(number, files))
    git_run("fast-import", "--quiet", "--force", git_dir=git_dir, stdin=stream, timeout=_SECONDS)
    listed = git_run("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", git_dir=git_dir).text
    heads = dict(line.split(" ") for line in listed.splitlines())
    return {number: heads[f"refs/heads/case-{number}"] for number in written}


def _commit(number: int, files: Mapping[str, bytes]) -> Iterator[bytes]:
    yield f"commit refs/heads/case-{number}\ncommitter Bench <bench@localhost> 0 +0000\ndata 0\n".encode()
    for path, content in files.items():
        # As a checkout of a repository whose authors could run it.
        runs = content.startswith(b"#!") or path.endswith((".sh", "gradlew", "mvnw"))
        quoted = path.replace("\\", "\\\\").replace('"', '\\"')
        yield f'M {"100755" if runs else "100644"} inline "{quoted}"\ndata {len(content)}\n'.encode()
        yield content + b"\n"
    yield b"\n"

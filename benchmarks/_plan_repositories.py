"""The repositories of ``archon bench plan``: given as files, as folders or as git repositories, each as one commit."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from apps.planning.paths import folders_above, path_clean, path_fault
from apps.projects.git import GitError, git_run, upload_pack_command
from apps.projects.repository_store import repository_path

Source = Mapping[str, str] | Path
_SECONDS = 600
#: How git writes down what a path is.
_FILE, _RUNS, _LINK = "100644", "100755", "120000"
#: Mode and content by path.
_Files = Mapping[str, tuple[str, bytes]]


class UnusableRepository(ValueError):
    """A case's repository can't be made; ``number`` says whose."""

    def __init__(self, message: str, *, number: int = 0) -> None:
        super().__init__(message)
        self.number = number


def repositories_make(sources: Sequence[Source]) -> tuple[uuid.UUID, list[str]]:
    """A project's repository in which each source is a commit, in their order. Raises UnusableRepository."""
    project_id = uuid.uuid4()
    git_dir = repository_path(project_id=project_id)
    git_dir.parent.mkdir(parents=True, exist_ok=True)
    git_run("init", "--quiet", "--bare", str(git_dir))
    commits: dict[int, str] = {}
    written: dict[int, _Files] = {}
    fetched: dict[Path, str] = {}
    for number, source in enumerate(sources):
        try:
            if isinstance(source, Path) and _is_repository(source):
                if source not in fetched:
                    fetched[source] = _fetch(git_dir, source, number)
                commits[number] = fetched[source]
            else:
                written[number] = _folder_read(source) if isinstance(source, Path) else _checked(source)
        except (UnusableRepository, GitError, OSError) as error:
            raise UnusableRepository(str(error), number=number) from None
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


def _checked(files: Mapping[str, str]) -> dict[str, tuple[str, bytes]]:
    found = {}
    for path, text in files.items():
        if (fault := path_fault(path)) is not None or path_clean(path) != path or path == ".":
            raise UnusableRepository(f"the path {path!r} {fault[0] if fault else 'is written in an odd way'}")
        if (above := next((each for each in folders_above(path) if each in files), None)) is not None:
            raise UnusableRepository(f"the path {path!r} is below {above!r}, which is a file")
        # As a checkout of a repository whose authors could run it.
        runs = text.startswith("#!") or path.endswith((".sh", "gradlew", "mvnw"))
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UnusableRepository(f"the path {path!r} has half a character in it") from None
        found[path] = (_RUNS if runs else _FILE, text.encode("utf-8", "surrogatepass"))
    return found


def _folder_read(folder: Path) -> dict[str, tuple[str, bytes]]:
    if not folder.is_dir():
        raise UnusableRepository(f"{folder} is no folder" if folder.exists() else f"there is no folder {folder}")
    found = {}
    for place, folders, names in os.walk(folder):
        links = {name for name in folders if (Path(place) / name).is_symlink()}
        folders[:] = sorted(set(folders) - {".git"} - links)
        for name in sorted({*names, *links}):
            path = Path(place) / name
            if path.is_symlink():
                entry = _LINK, os.fsencode(path.readlink())
            elif path.is_file():
                entry = _RUNS if os.access(path, os.X_OK) else _FILE, path.read_bytes()
            else:
                continue
            found[str(path.relative_to(folder))] = entry
    return found


def _import(git_dir: Path, written: Mapping[int, _Files]) -> dict[int, str]:
    if not written:
        return {}
    stream = b"".join(part for number, files in written.items() for part in _commit(number, files))
    git_run("fast-import", "--quiet", "--force", git_dir=git_dir, stdin=stream, timeout=_SECONDS)
    listed = git_run("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", git_dir=git_dir).text
    heads = dict(line.split(" ") for line in listed.splitlines())
    return {number: heads[f"refs/heads/case-{number}"] for number in written}


def _commit(number: int, files: _Files) -> Iterator[bytes]:
    yield f"commit refs/heads/case-{number}\ncommitter Bench <bench@localhost> 0 +0000\ndata 0\n".encode()
    for path, (mode, content) in files.items():
        quoted = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        yield f'M {mode} inline "{quoted}"\ndata {len(content)}\n'.encode("utf-8", "surrogateescape")
        yield content + b"\n"
    yield b"\n"

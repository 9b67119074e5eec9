"""Bringing in what changes in a folder: a commit as a commit, a saved file as a file that is put into the context.

A saved file stands for the committed one, and a deleted one is hidden, until that is committed or the watching ends:
then everything is as the branch has it again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rich.console import Console

from cli.client import Api
from cli.command import command_print
from cli.errors import ApiError, CliError
from cli.text import text_clean

_FILE_BYTES = 1 << 20
_DEBOUNCE_MS = 150
#: Of one question to git.
_PATHS = 500
_GIT_FILES = ("HEAD", "ORIG_HEAD", "packed-refs")


def folder_watch(api: Api, *, project_id: str, folder: Path, bring: Callable[[], object], console: Console) -> None:
    """Until it is interrupted. ``bring`` brings the project up to date with the commits here."""
    from watchfiles import DefaultFilter, watch

    watched = _WatchedFolder(api, project_id=project_id, folder=folder, bring=bring, console=console)
    told = False

    class Filter(DefaultFilter):
        """Sources, and of git's own files those that say where branches are."""

        ignore_dirs = tuple(name for name in DefaultFilter.ignore_dirs if name != ".git")

        def __call__(self, change: object, path: str) -> bool:
            parts = Path(path).relative_to(folder).parts if Path(path).is_relative_to(folder) else ()
            if ".git" in parts:
                return parts[-1] in _GIT_FILES or "heads" in parts
            return super().__call__(change, path)  # type: ignore[arg-type]

    # Told to end, or interrupted: either way what was put in is taken out.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        # It yields at its first timeout too: only then is the folder watched for sure.
        for changes in watch(
            folder,
            watch_filter=Filter(),
            debounce=_DEBOUNCE_MS,
            rust_timeout=500,
            yield_on_timeout=True,
            raise_interrupt=True,
        ):
            if not told:
                told = True
                command_print(console, text_clean(f"Watching {folder}; Ctrl-C ends it."))
            watched.apply(Path(path) for _, path in changes)
    except KeyboardInterrupt:
        command_print(console, "Ended.")
    finally:
        watched.close()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


class _WatchedFolder:
    def __init__(
        self, api: Api, *, project_id: str, folder: Path, bring: Callable[[], object], console: Console
    ) -> None:
        self._api = api
        self._project_id = project_id
        self._folder = folder
        self._bring = bring
        self._console = console
        #: Paths that were put into the context, or hidden in it.
        self._held: set[str] = set()

    def apply(self, paths: Iterable[Path]) -> None:
        """Bring in what these paths are now; what a server refuses is told, and the watching goes on."""
        relative = {path.relative_to(self._folder).as_posix() for path in paths if path.is_relative_to(self._folder)}
        names = {name for name in relative if not name.startswith(".git/")} - {".git", "."}
        if not relative:
            return
        with self._told():
            if any(name.startswith(".git/") for name in relative):
                self._bring()
                self._api.index_start(self._project_id)
        uncommitted = self._uncommitted(names | self._held)
        for name in sorted(uncommitted):
            if not names.intersection((name, *(parent.as_posix() for parent in Path(name).parents))):
                # Brought in before, and as it was then.
                continue
            with self._told():
                self._file_bring(name, is_saved=uncommitted[name])
        # Committed as it was saved, made undone, or gone before it was committed.
        for name in sorted(self._held - set(uncommitted)):
            with self._told():
                self._file_restore(name)

    def close(self) -> None:
        """Have everything be as it is committed."""
        for name in sorted(self._held):
            try:
                self._file_restore(name)
            except ApiError as error:
                command_print(
                    self._console, text_clean(f"{name} stays in the context: {error.message}"), style="yellow"
                )
        self._held.clear()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (ApiError, CliError) as error:
            command_print(self._console, text_clean(f"not brought in: {error.message}"), style="yellow")

    def _file_bring(self, name: str, *, is_saved: bool) -> None:
        path = self._folder / name
        if not is_saved:
            self._api.context_file_hide(self._project_id, path=name)
            self._held.add(name)
            command_print(self._console, text_clean(f"hidden: {name}"), style="dim")
            return
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size > _FILE_BYTES:
                return
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            # Gone by now, or no text: the commit has its say later.
            return
        if "\0" in text:
            return
        self._api.context_file_add(self._project_id, path=name, content=text)
        self._held.add(name)
        command_print(self._console, text_clean(f"brought in: {name}"), style="dim")

    def _file_restore(self, name: str) -> None:
        self._api.context_file_restore(self._project_id, name)
        self._held.discard(name)

    def _uncommitted(self, names: set[str]) -> dict[str, bool]:
        """Those of these paths, and of what lies below them, that are otherwise than committed: whether they are there.

        Without a repository here: all that are there.
        """
        if not (self._folder / ".git").exists():
            return {name: True for name in names if (self._folder / name).is_file()}
        found: dict[str, bool] = {}
        ordered = sorted(names)
        for start in range(0, len(ordered), _PATHS):
            part = ordered[start : start + _PATHS]
            told = self._git("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--", *part)
            for line in told.split("\0"):
                name, is_there = line[3:], os.path.lexists(self._folder / line[3:])
                # What was never committed is nowhere once it is gone.
                if name and (is_there or line[0] != "A"):
                    found[name] = is_there
            # What is put in is in whatever the rules say: so those of Archon's own files are looked at here.
            ignored = self._git(
                "ls-files", "--cached", "--others", "--ignored", "-z",
                "--exclude-per-directory=.archonignore", "--", *part,
            )  # fmt: skip
            for name in ignored.split("\0"):
                found.pop(name, None)
        return found

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "--literal-pathspecs", *arguments], cwd=self._folder, capture_output=True, text=True,
            errors="surrogateescape", check=False, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
        return done.stdout

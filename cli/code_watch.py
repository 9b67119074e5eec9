"""Bringing in what changes in a folder: a commit as a commit, a saved file as a file that is put into the context.

A saved file stands for the committed one until it is committed, or until the watching ends: then what was put into the
context is taken out again, so that a search finds what the branch has.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console

from cli.client import Api
from cli.command import command_print
from cli.errors import ApiError, CliError
from cli.text import text_clean

_FILE_BYTES = 1 << 20
_DEBOUNCE_MS = 150
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
        #: What was put into the context.
        self._added: set[str] = set()

    def apply(self, paths: Iterable[Path]) -> None:
        """Bring in what these paths are now; what a server refuses is told, and the watching goes on."""
        relative = {path.relative_to(self._folder).as_posix() for path in paths if path.is_relative_to(self._folder)}
        try:
            if any(name.startswith(".git/") for name in relative):
                self._bring()
                self._api.index_start(self._project_id)
                self._committed_drop()
            names = sorted(name for name in relative if not name.startswith(".git/"))
            for name in self._not_ignored(names):
                self._file_send(name)
        except (ApiError, CliError) as error:
            command_print(self._console, text_clean(f"not brought in: {error.message}"), style="yellow")

    def close(self) -> None:
        """Take out what was put in."""
        for name in sorted(self._added):
            try:
                self._api.context_file_remove(self._project_id, name)
            except ApiError as error:
                command_print(
                    self._console, text_clean(f"{name} stays in the context: {error.message}"), style="yellow"
                )
        self._added.clear()

    def _file_send(self, name: str) -> None:
        path = self._folder / name
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
        self._added.add(name)
        command_print(self._console, text_clean(f"brought in: {name}"), style="dim")

    def _committed_drop(self) -> None:
        """What is committed as it was saved needs nothing put in its place."""
        changed = set(self._git("diff", "--name-only", "-z", "HEAD").split("\0"))
        for name in sorted(self._added - changed):
            self._api.context_file_remove(self._project_id, name)
            self._added.discard(name)

    def _not_ignored(self, names: list[str]) -> list[str]:
        if not names or not (self._folder / ".git").exists():
            return names
        ignored = set(self._git("check-ignore", "-z", "--stdin", text="\0".join(names)).split("\0"))
        # What is put in is in whatever the rules say: so those of Archon's own files are looked at here.
        ignored |= set(
            self._git(
                "--literal-pathspecs", "ls-files", "--cached", "--others", "--ignored", "-z",
                "--exclude-per-directory=.archonignore", "--", *names,
            ).split("\0")
        )  # fmt: skip
        return [name for name in names if name not in ignored]

    def _git(self, *arguments: str, text: str = "") -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self._folder, input=text, capture_output=True, text=True, errors="surrogateescape",
            check=False,
        )  # fmt: skip
        return done.stdout

"""``files_locate``: the one way from a goal, an issue or a failure to the files that will likely change.

What it needs of a project (terms of all files, words of all commits) is held in memory for the views that were asked
for last, and follows the index.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from apps.context.commit_history import (
    SECONDS_ASKED,
    SECONDS_BEHIND,
    history_count,
    history_grow,
    history_load,
)
from apps.context.locating.document import FileTerms
from apps.context.locating.files_index import FilesIndex
from apps.context.locating.locate import Located, locate
from apps.context.locating.memory import CommitMemory, MemoryTerms, MemoryView
from apps.context.searching.search import index_view
from apps.context.tree_terms import FILES_MOST, Key, terms_load, tree_fingerprint
from apps.context.types import IndexState, View, WorkFiles
from apps.core.errors import InvalidInput, Unavailable
from apps.projects.models import Project

TEXT_CHARACTERS = 200_000
_HELD = 4
#: Files of all views together that are held at most, but for the last one asked for.
_HELD_FILES = 60_000
#: How many files are worked out while somebody waits; a worker works out all.
_FILES_ASKED, _FILES_BEHIND = 2_000, 10_000_000
#: After so many seconds a history that took too long is tried again.
_RETRY_SECONDS = 30.0
_HISTORY_NOTE = "The repository's history is still being read: what its commits remember is not in yet."


@dataclass(frozen=True)
class LocateResult:
    """``located`` come with reasons, the likeliest first."""

    located: tuple[Located, ...]
    index: IndexState
    notes: tuple[str, ...] = ()


@dataclass
class _Held:
    """What is held of one view."""

    files: FilesIndex
    memory: MemoryView | None
    keys: dict[Key, FileTerms]
    history_known: bool
    #: Files that there was no time for, and no room.
    missing: int
    left_out: int


@dataclass
class _Words:
    """The commits of one index."""

    memory: CommitMemory
    terms: MemoryTerms
    lock: threading.Lock = field(default_factory=threading.Lock)
    tried_at: float = float("-inf")


_held: OrderedDict[tuple[int, str, str], _Held] = OrderedDict()
_words: OrderedDict[int, _Words] = OrderedDict()
_lock = threading.Lock()
#: One view is put together at a time: that takes memory.
_building = threading.Lock()


def files_locate(*, project: Project, text: str, files: WorkFiles | None = None, limit: int = 10) -> LocateResult:
    """The files of a project (or those of these) that the text leads to.

    Who may read the project is for the caller to see to. Raises IndexMissing where nothing was indexed yet.
    """
    if not text.strip():
        raise InvalidInput(
            "There is no text to go by.", next_step="say what is wanted, or paste the failing test's output"
        )
    if len(text) > TEXT_CHARACTERS:
        raise InvalidInput(
            f"The text has {len(text)} characters; at most {TEXT_CHARACTERS} are read.",
            next_step="leave some of it out",
        )
    view, state = index_view(project=project, files=files)
    held = _hold(project, view, state, is_asked=True)
    notes = []
    if held.missing:
        notes.append(f"{held.missing} files are still being worked out.")
    if held.left_out:
        notes.append(f"{held.left_out} files that lie deepest are left out: there are more than {FILES_MOST}.")
    if not held.history_known:
        notes.append(_HISTORY_NOTE)
    if state.lagging:
        notes.append("The index lags behind the files.")
    located = locate(files=held.files, memory=held.memory, text=text, limit=limit)
    return LocateResult(tuple(located), state, tuple(notes))


def locating_prepare(*, project: Project) -> None:
    """Work out ahead of time what locating needs of the project's default branch; Unavailable: another one's turn."""
    view, state = index_view(project=project)
    _hold(project, view, state, is_asked=False)


def locating_forget() -> None:
    """Let go of what is held in memory."""
    with _lock:
        _held.clear()
        _words.clear()


def _hold(project: Project, view: View, state: IndexState, *, is_asked: bool) -> _Held:
    key = (view.index_id, tree_fingerprint(view), state.commit)
    with _lock:
        held = _held.get(key)
        if held is not None:
            _held.move_to_end(key)
    if held is not None and held.missing == 0 and (held.history_known or not state.commit):
        return held
    # Another project's history may be on its way, for many minutes: whoever asks is answered before.
    if not _building.acquire(timeout=SECONDS_ASKED if is_asked else 0):
        if held is not None and is_asked:
            return held
        raise Unavailable(
            "What locating goes by is still being put together.",
            next_step="Try again in a minute; search works meanwhile.",
        )
    try:
        with _lock:
            before = held or next(
                (other for known, other in reversed(_held.items()) if known[0] == view.index_id), None
            )
        if held is None or held.missing:
            loaded = terms_load(
                view=view,
                known=before.keys if before is not None else {},
                most=_FILES_ASKED if is_asked else _FILES_BEHIND,
            )
            files = FilesIndex({path: terms for path, (_, terms) in loaded.files.items()})
            keys, missing, left_out = dict(loaded.files.values()), loaded.missing, loaded.left_out
        else:
            files, keys, missing, left_out = held.files, held.keys, 0, held.left_out
        memory, known = _memory(project, view, state, files, is_asked=is_asked)
        made = _Held(files, memory, keys, known, missing, left_out)
        with _lock:
            _held[key] = made
            _held.move_to_end(key)
            while len(_held) > _HELD or (
                len(_held) > 1 and sum(len(one.files) for one in _held.values()) > _HELD_FILES
            ):
                _held.popitem(last=False)
        return made
    finally:
        _building.release()


def _memory(
    project: Project, view: View, state: IndexState, files: FilesIndex, *, is_asked: bool
) -> tuple[MemoryView | None, bool]:
    if not state.commit:
        return None, False
    with _lock:
        words = _words.get(view.index_id)
    if words is None or (
        words.tried_at > float("-inf") and history_count(index_id=view.index_id) > len(words.memory.commits)
    ):
        # Another process may have read it.
        memory = history_load(index_id=view.index_id)
        words = _Words(memory, MemoryTerms(memory))
    with words.lock:
        known = words.terms.has(state.commit)
        if not known and time.monotonic() - words.tried_at > _RETRY_SECONDS:
            known = history_grow(
                memory=words.memory,
                index_id=view.index_id,
                project_id=project.id,
                head=state.commit,
                seconds=SECONDS_ASKED if is_asked else SECONDS_BEHIND,
            )
            words.terms.follow(words.memory)
            words.tried_at = float("-inf") if known else time.monotonic()
    with _lock:
        _words[view.index_id] = words
        _words.move_to_end(view.index_id)
        while len(_words) > _HELD:
            _words.popitem(last=False)
    return (MemoryView(words.terms, head=state.commit, files=files) if known else None), known

"""A plan's ground: the files of a commit in the server's repository, and the programs of the session's sandbox."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property

from apps.agents.tools.check_files import CheckFiles, IgnoredPaths, no_such, path_inside
from apps.agents.tools.check_reading import BUILTINS, Need, command_read
from apps.agents.tools.shell_syntax import syntax_problem
from apps.planning.document import PlanDoc
from apps.planning.paths import path_clean
from apps.projects.commit_paths import CommitPaths
from apps.projects.workspace import SANDBOX_ENVIRONMENT, SANDBOX_WORKSPACE, Workspace, WorkspaceError

#: Paths that are offered in place of one that isn't there.
_LIKE = 3
#: Names that are compared letter by letter.
_COMPARED = 4_000
#: Programs that are asked for at once, and how long that may take.
_ASKED, _ASK_SECONDS = 400, 30.0


class RepositoryGrounding:
    """The :class:`apps.planning.problems.Grounding` of one commit. Blocking: use it in a thread. Raises GitError.

    Paths are relative to the repository's root, checks run in ``subfolder``. ``program_exists`` says whether a program
    is there that is no part of the shell or the repository (:func:`programs_look_up`); None: nobody looks.
    """

    def __init__(
        self,
        *,
        project_id: object,
        commit: str,
        subfolder: str = "",
        program_exists: Callable[[str], bool] | None = None,
    ) -> None:
        self._paths = CommitPaths(project_id=project_id, commit=commit)
        self._ignored = IgnoredPaths(self._paths)
        self._subfolder = subfolder.strip("/")
        self._program_exists = program_exists
        self._syntax: dict[str, str] = {}

    def file_exists(self, path: str) -> bool:
        entry = self._paths.entry(path_clean(path))
        return entry is not None and not (entry.kind == "file" and path.endswith("/"))

    def files_like(self, path: str) -> Sequence[str]:
        wanted = path_clean(path.replace("\\", "/"))
        found = [*self._moved(wanted), *self._named(wanted)]
        return list(dict.fromkeys(found))[:_LIKE] or list(self._spelt(wanted))[:_LIKE]

    def check_problem(self, command: str, made: Collection[str]) -> str:
        if command not in self._syntax:
            self._syntax[command] = syntax_problem(command)
        if why := self._syntax[command]:
            return f"bash can't read it ({why})"
        reading = command_read(command, folder=self._subfolder)
        for script in reading.scripts:
            if why := syntax_problem(script):
                return f"bash can't read {script!r} ({why})"
        there = CheckFiles(self._paths, self._ignored, frozenset(map(path_clean, made)), reading.written)
        return next((why for need in reading.needs if (why := self._lack(need, there))), "")

    # --- What a command lacks -----------------------------------------------------------------------------------------
    def _lack(self, need: Need, there: CheckFiles) -> str:
        wanted = need.wanted
        if wanted.kind == "program" and "/" not in wanted.name:
            return self._program_lack(need, there)
        if need.may_be_brought or need.folders is None:
            return ""
        if wanted.kind == "program":
            return self._file_program_lack(need, need.folders, there)
        if wanted.kind == "pattern":
            return "" if there.fits(wanted.name) else f"no file fits {wanted.name}, and the plan makes none before"
        if wanted.kind == "module":
            may_be = all(there.module_may_be(folder, wanted.name) for folder in need.folders)
            return "" if may_be else no_such("module", wanted.name)
        if wanted.kind == "manifest":
            found = any(there.has_above(folder, wanted.endings) for folder in need.folders)
            return "" if found else f"{wanted.name} needs {' or '.join(wanted.endings)}, and there is none"
        if wanted.kind == "script":
            return there.script_lack(need.folders, wanted.name)
        if wanted.kind == "lone script":
            return there.lone_script_lack(need.folders, wanted.name)
        if wanted.kind == "cargo target":
            return there.cargo_lack(wanted.endings[0], wanted.name)
        if wanted.kind == "target":
            return there.target_lack(need.folders, wanted.name)
        if any(character in wanted.name for character in "*?[{"):
            # The program may look for what fits by itself.
            return ""
        candidates = [path_inside(folder, wanted.name + ending) for folder in need.folders for ending in wanted.endings]
        if any(path is None or there.has(path) for path in candidates):
            return ""
        return no_such("folder" if wanted.kind == "folder" else "file", wanted.name)

    def _program_lack(self, need: Need, there: CheckFiles) -> str:
        name = need.wanted.name
        if name in BUILTINS or need.may_be_brought or self._program_exists is None or there.installs_change:
            return ""
        return "" if self._program_exists(name) else f"there is no program {name} in the sandbox"

    def _file_program_lack(self, need: Need, folders: Sequence[str], there: CheckFiles) -> str:
        name = need.wanted.name
        if name.startswith("/") and not name.startswith(f"{SANDBOX_WORKSPACE}/"):
            known = self._program_exists is None or name.startswith(f"{SANDBOX_ENVIRONMENT}/")
            return "" if known or there.installs_change or self._program_exists(name) else f"there is no program {name}"  # type: ignore[misc]
        paths = [path_inside(folder, name) for folder in folders]
        if any(path is None or path in there.made or there.may_appear(path) for path in paths):
            return ""
        entries = [entry for path in paths if path is not None and (entry := self._paths.entry(path)) is not None]
        if any(entry.kind == "elsewhere" or entry.is_executable for entry in entries) or (
            any(there.has(path) for path in paths if path is not None) and not entries
        ):
            return ""
        if not entries:
            return no_such("file", name)
        if entries[0].kind == "folder":
            return f"{name} is a folder"
        return f"{name} is not executable: run it by its interpreter, or let a task make it executable"

    # --- What may have been meant -------------------------------------------------------------------------------------
    def _moved(self, path: str) -> Iterator[str]:
        """The path from the subfolder, or without the names in front of it."""
        if self._subfolder and self.file_exists(f"{self._subfolder}/{path}"):
            yield f"{self._subfolder}/{path}"
        rest = path.partition("/")[2]
        while rest:
            if self.file_exists(rest):
                yield rest
            rest = rest.partition("/")[2]

    def _named(self, path: str) -> list[str]:
        """Files and folders of the same name, those first whose other parts are the most alike."""
        name = posixpath.basename(path).lower()
        if not name:
            return []
        same = [each for each in self._all if posixpath.basename(each).lower() == name]
        return sorted(same, key=lambda each: (-_shared(each, path), len(each), each))

    def _spelt(self, path: str) -> Iterator[str]:
        """Those whose name is written in nearly the same way."""
        name, folder = posixpath.basename(path).lower(), posixpath.dirname(path)
        stem = name.partition(".")[0]
        near: dict[str, list[str]] = {}
        for each in self._all:
            other = posixpath.basename(each).lower()
            if abs(len(other) - len(name)) <= 4 and (other[:1] == name[:1] or posixpath.dirname(each) == folder):
                near.setdefault(other, []).append(each)
                if len(near) >= _COMPARED:
                    break
        stems = [other for other in near if stem and other.partition(".")[0] == stem]
        close = difflib.get_close_matches(name, list(near), n=_LIKE, cutoff=0.75)
        for other in dict.fromkeys([*stems, *close]):
            yield from sorted(near[other], key=lambda each: (-_shared(each, path), len(each), each))

    @cached_property
    def _all(self) -> list[str]:
        return [*self._paths.files, *sorted(self._paths.folders)]


def _shared(first: str, second: str) -> int:
    """Parts that two paths have in common."""
    return len(set(first.lower().split("/")) & set(second.lower().split("/")))


# --- Programs ---------------------------------------------------------------------------------------------------------
def programs_named(document: PlanDoc) -> frozenset[str]:
    """The programs that a plan's checks call by name, so that it can be looked up whether they are there."""
    commands = {check.command for placed in document.placed_tasks for check in placed.task.checks}
    needs = [need for command in commands for need in command_read(command).needs]
    names = {need.wanted.name for need in needs if need.wanted.kind == "program"}
    return frozenset(name for name in names if ("/" not in name or name.startswith("/")) and name not in BUILTINS)


async def programs_look_up(workspace: Workspace, names: Collection[str]) -> dict[str, bool]:
    """Which of these programs the sandbox has, asked at once. One that it doesn't answer for is left out."""
    asked = sorted(name for name in names if name and "\0" not in name)[:_ASKED]
    if not asked:
        return {}
    script = 'for name; do if command -v -- "$name" >/dev/null 2>&1; then echo 1; else echo 0; fi; done'
    try:
        told = await workspace.command_run(["/bin/bash", "-c", script, "bash", *asked], timeout=_ASK_SECONDS)
    except WorkspaceError:
        return {}
    lines = told.output.split()
    if told.exit_code != 0 or len(lines) != len(asked) or not set(lines) <= {"0", "1"}:
        return {}
    return {name: line == "1" for name, line in zip(asked, lines, strict=True)}

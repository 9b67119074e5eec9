"""A plan's ground: the files of a commit in the server's repository, and the programs of the session's sandbox."""

from __future__ import annotations

import difflib
import json
import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property

from apps.agents.tools.check_reading import BUILTINS, Need, command_read
from apps.agents.tools.shell_parse_words import words_set
from apps.agents.tools.shell_syntax import syntax_problem
from apps.planning.document import PlanDoc
from apps.planning.paths import path_clean, path_fault
from apps.projects.commit_paths import CommitPaths
from apps.projects.sandbox.gitignore import IgnoreRules
from apps.projects.workspace import SANDBOX_ENVIRONMENT, SANDBOX_WORKSPACE, Workspace, WorkspaceError

#: Paths that are offered in place of one that isn't there.
_LIKE = 3
#: Names that are compared letter by letter.
_COMPARED = 4_000
#: Programs that are asked for at once, and how long that may take.
_ASKED, _ASK_SECONDS = 400, 30.0
_READ_BYTES = 1_000_000
#: Folders that builds, installers and test runs make.
_MADE_FOLDERS = words_set(
    "node_modules .venv venv .tox .nox target build dist out bin obj _build cmake-build-debug .gradle vendor coverage"
    " .pytest_cache __pycache__ .next .svelte-kit .yarn deps"
)
#: Files that decide what is installed: where one of them changes, another program may be there.
_DECIDES = re.compile(
    r"(?:^|/)(?:pyproject\.toml|setup\.(?:py|cfg)|[\w.-]*requirements[\w.-]*(?:\.txt|\.in)?|Pipfile(?:\.lock)?"
    r"|(?:poetry|uv|pdm|pixi)\.lock|environment\.ya?ml|tox\.ini|noxfile\.py|package(?:-lock)?\.json|yarn\.lock"
    r"|pnpm-(?:lock|workspace)\.yaml|bun\.lockb?|Gemfile(?:\.lock)?|[\w.-]+\.gemspec|Cargo\.(?:toml|lock)|go\.(?:mod|sum)"
    r"|composer\.(?:json|lock)|pom\.xml|(?:build|settings)\.gradle(?:\.kts)?|CMakeLists\.txt|Makefile|[\w.-]+\.csproj"
    r"|mise\.toml|\.tool-versions|Dockerfile)$"
)
_MAKEFILES = ("Makefile", "makefile", "GNUmakefile")


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
        self._subfolder = subfolder.strip("/")
        self._program_exists = program_exists
        self._syntax: dict[str, str] = {}

    def file_exists(self, path: str) -> bool:
        return self._paths.entry(path_clean(path)) is not None

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
        there = _There(self._paths, frozenset(map(path_clean, made)), reading.written)
        return next((why for need in reading.needs if (why := self._lack(need, there))), "")

    # --- What a command lacks -----------------------------------------------------------------------------------------
    def _lack(self, need: Need, there: _There) -> str:
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
            return "" if all(there.module_may_be(f, wanted.name) for f in need.folders) else _no("module", wanted.name)
        if wanted.kind == "manifest":
            found = any(there.has_above(folder, wanted.endings) for folder in need.folders)
            return "" if found else f"{wanted.name} needs {' or '.join(wanted.endings)}, and there is none"
        if wanted.kind == "script":
            return there.script_lack(need.folders, wanted.name)
        if wanted.kind == "target":
            return there.target_lack(need.folders, wanted.name)
        if any(character in wanted.name for character in "*?[{"):
            # The program may look for what fits by itself.
            return ""
        candidates = [_inside(folder, wanted.name + ending) for folder in need.folders for ending in wanted.endings]
        if any(path is None or there.has(path) for path in candidates):
            return ""
        return _no("folder" if wanted.kind == "folder" else "file", wanted.name)

    def _program_lack(self, need: Need, there: _There) -> str:
        name = need.wanted.name
        if name in BUILTINS or need.may_be_brought or self._program_exists is None or there.installs_change:
            return ""
        return "" if self._program_exists(name) else f"there is no program {name} in the sandbox"

    def _file_program_lack(self, need: Need, folders: Sequence[str], there: _There) -> str:
        name = need.wanted.name
        if name.startswith("/") and not name.startswith(f"{SANDBOX_WORKSPACE}/"):
            known = self._program_exists is None or name.startswith(f"{SANDBOX_ENVIRONMENT}/")
            return "" if known or there.installs_change or self._program_exists(name) else f"there is no program {name}"  # type: ignore[misc]
        paths = [_inside(folder, name) for folder in folders]
        if any(path is None or path in there.made or there.may_appear(path) for path in paths):
            return ""
        entries = [entry for path in paths if path is not None and (entry := self._paths.entry(path)) is not None]
        if any(entry.kind == "elsewhere" or entry.is_executable for entry in entries) or (
            any(there.has(path) for path in paths if path is not None) and not entries
        ):
            return ""
        if not entries:
            return _no("file", name)
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


class _There:
    """The files that are there when a check runs: the commit's, those that are made, those that may appear."""

    def __init__(self, paths: CommitPaths, made: frozenset[str], written: Iterable[str]) -> None:
        self._paths = paths
        self.made = made | frozenset(path_clean(path) for path in written)
        #: What is installed may be otherwise by then.
        self.installs_change = any(_DECIDES.search(path) for path in made)

    def has(self, path: str) -> bool:
        return self._paths.entry(path) is not None or self._is_made(path) or self.may_appear(path)

    def _is_made(self, path: str) -> bool:
        above = [path]
        while "/" in above[-1]:
            above.append(above[-1].rpartition("/")[0])
        return any(each in self.made for each in above) or any(each.startswith(f"{path}/") for each in self.made)

    def may_appear(self, path: str) -> bool:
        """It is where builds and installers put things, or git is told to ignore it."""
        parts = path.split("/")
        if not _MADE_FOLDERS.isdisjoint(parts):
            return True
        rules = self._ignored
        return any(
            rules.ignores("/".join(parts[: number + 1]), is_folder=number + 1 < len(parts))
            for number in range(len(parts))
        )

    @cached_property
    def _ignored(self) -> IgnoreRules:
        rules = IgnoreRules()
        for path in sorted((path for path in self._paths.files if posixpath.basename(path) == ".gitignore"), key=len):
            folder = posixpath.dirname(path)
            text = self._paths.read(path, limit=100_000)
            rules = rules.with_file(f"{folder}/" if folder else "", text or "")
        return rules

    def fits(self, pattern: str) -> bool:
        """Whether a path holds the pattern, or may."""
        if self.may_appear(pattern):
            return True
        try:
            fitting = re.compile(pattern)
        except re.error:
            return True
        return any(pattern in path or fitting.search(path) for path in (*self._paths.files, *self.made))

    def has_above(self, folder: str, names: Sequence[str]) -> bool:
        """Whether one of these is in the folder, or in one around it."""
        return bool(self._above(folder, names))

    def _above(self, folder: str, names: Sequence[str]) -> str:
        place = path_clean(folder or ".")
        while True:
            for name in names:
                path = _inside(place, name)
                if path is None or self.has(path):
                    return path or name
            if place in ("", "."):
                return ""
            place = posixpath.dirname(place)

    def module_may_be(self, folder: str, name: str) -> bool:
        """Whether a dotted name may lead to a module of Python; it can be told only below folders of the repository."""
        parts = name.split(".")
        place = path_clean(folder or ".")
        for number, part in enumerate(parts):
            inside = posixpath.normpath(posixpath.join(place, part))
            if self.has(f"{inside}.py"):
                return True
            entry = self._paths.entry(inside)
            if self._is_made(inside) and entry is None:
                return True
            if entry is None:
                # Of the first it can't be told: it may be installed. Nor where a package's file may define the name.
                return number == 0 or not part.startswith("test") or bool(self._package_text(place))
            if entry.kind != "folder":
                return True
            place = inside
        return True

    def _package_text(self, folder: str) -> str:
        path = f"{folder}/__init__.py"
        if self._is_made(path):
            return path
        return (self._paths.read(path, limit=10_000) or "").strip()

    def script_lack(self, folders: Sequence[str], name: str) -> str:
        """Why npm can't run a script; where package.json may change, nobody can tell."""
        for folder in folders:
            path = self._above(folder, ("package.json",))
            if not path:
                continue
            if self._is_made(path) or self.may_appear(path):
                return ""
            try:
                declared = json.loads(self._paths.read(path, limit=_READ_BYTES) or "")
            except ValueError:
                return ""
            scripts = declared.get("scripts") if isinstance(declared, dict) else None
            if not isinstance(scripts, dict) or name in scripts:
                if isinstance(declared, dict) and scripts is None:
                    continue
                return ""
        return f"package.json has no script {name}"

    def target_lack(self, folders: Sequence[str], name: str) -> str:
        """Why make can't make something: there is no makefile, nor a file that it could be made of."""
        for folder in folders:
            place = path_clean(folder or ".")
            if any(self.has(path) for each in _MAKEFILES if (path := _inside(place, each)) is not None):
                return ""
            start = "" if place in ("", ".") else f"{place}/"
            if name and any(path.startswith(f"{start}{name}") for path in (*self._paths.files, *self.made)):
                return ""
        return "there is no Makefile"


def _no(kind: str, name: str) -> str:
    return f"there is no {kind} {name}, and the plan makes none before"


def _inside(folder: str, path: str) -> str | None:
    """The path from the repository's root; None for what is outside of it."""
    if path.startswith(f"{SANDBOX_WORKSPACE}/"):
        path, folder = path.removeprefix(f"{SANDBOX_WORKSPACE}/"), ""
    joined = posixpath.normpath(posixpath.join(folder or ".", path))
    if path.startswith(("/", "~")) or joined == ".." or joined.startswith("../") or path_fault(joined) is not None:
        return None
    return joined


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

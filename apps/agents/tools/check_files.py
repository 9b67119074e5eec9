"""The files that are there when a check runs: the commit's, those that a plan makes by then, those that may appear."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Sequence

from apps.core.shell_parse_words import words_set
from apps.planning.paths import path_clean, path_fault
from apps.projects.commit_paths import CommitPaths
from apps.projects.ecosystems.make import MAKEFILES
from apps.projects.sandbox.gitignore import IgnoreRules
from apps.projects.workspace import SANDBOX_WORKSPACE

_READ_BYTES, _IGNORE_BYTES = 1_000_000, 100_000
#: Manifests that are read for one check.
_MANIFESTS = 50
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
#: Rules of a makefile: what stands in front of the colon at the beginning of a line.
_RULE = re.compile(r"^ *([^\s#:=][^#:=\n]*?) *::?(?!=)", re.MULTILINE)
#: What needs no rule to count as made.
_PHONY = re.compile(r"^ *\.PHONY *:([^#\n]*)", re.MULTILINE)
#: What may give a makefile targets that no line names.
_WORKED_OUT = re.compile(
    r"^ *(?:-?include|sinclude|load|define|vpath|VPATH|export +[^\n]*MAKEFILES|\.DEFAULT|\.RECIPEPREFIX)\b"
    r"|^ *\$|^ *(?=[^\s#=])[^#=\n]*[%$*?\[][^#=\n]*:|\$[({]eval\b",
    re.MULTILINE,
)


class IgnoredPaths:
    """Which paths git is told to ignore by the commit's files; each of these is read once."""

    def __init__(self, paths: CommitPaths) -> None:
        self._paths = paths
        self._rules: dict[str, IgnoreRules] = {}

    def has(self, path: str) -> bool:
        parts = path.split("/")
        rules = self._at(posixpath.dirname(path))
        return any(
            rules.ignores("/".join(parts[: number + 1]), is_folder=number + 1 < len(parts))
            for number in range(len(parts))
        )

    def _at(self, folder: str) -> IgnoreRules:
        if folder not in self._rules:
            above = self._at(posixpath.dirname(folder)) if folder else IgnoreRules()
            prefix = f"{folder}/" if folder else ""
            text = self._paths.read(f"{prefix}.gitignore", limit=_IGNORE_BYTES)
            self._rules[folder] = above.with_file(prefix, text) if text else above
        return self._rules[folder]


class CheckFiles:
    """The files that are there when a check runs: the commit's, those that are made, those that may appear."""

    def __init__(self, paths: CommitPaths, ignored: IgnoredPaths, made: frozenset[str], written: Iterable[str]) -> None:
        self._paths, self._ignored = paths, ignored
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
        return self._ignored.has(path)

    def fits(self, pattern: str) -> bool:
        """Whether a path holds the pattern, or may."""
        if self.may_appear(pattern):
            return True
        if re.search(r"[^\w./ -]", pattern):
            # It has more of a regular expression than the dots of a name.
            return True
        fitting = re.compile(re.escape(pattern).replace(r"\.", "."))
        return any(fitting.search(path) for path in (*self._paths.files, *self.made))

    def has_above(self, folder: str, names: Sequence[str]) -> bool:
        """Whether one of these is in the folder, or in one around it."""
        return bool(self._above(folder, names))

    def _above(self, folder: str, names: Sequence[str]) -> str:
        place = path_clean(folder or ".")
        while True:
            for name in names:
                path = path_inside(place, name)
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

    def lone_script_lack(self, folders: Sequence[str], name: str) -> str:
        """Why a manager that looks into all packages can't run a script; told where there is one package alone."""
        known = (*self._paths.files, *self.made)
        packages = [path for path in known if posixpath.basename(path) == "package.json"]
        return self.script_lack(folders, name) if len(packages) == 1 and not self._has_modules() else ""

    def cargo_lack(self, kind: str, name: str) -> str:
        """Why cargo has no test or example of a name: none lies where it looks, and no manifest names any."""
        known = (*self._paths.files, *self.made)
        ends = (f"{kind}s/{name}.rs", f"{kind}s/{name}/main.rs")
        if self._has_modules() or any(f"/{path}".endswith(f"/{end}") for path in known for end in ends):
            return ""
        if any(self._is_made(f"{kind}s/{name}") or posixpath.basename(path) == "Cargo.toml" for path in self.made):
            return ""
        manifests = [path for path in self._paths.files if posixpath.basename(path) == "Cargo.toml"]
        if len(manifests) > _MANIFESTS or any(path.endswith(f"{kind}s") for path in self.made):
            return ""
        if any(kind in (self._paths.read(path, limit=_READ_BYTES) or kind) for path in manifests):
            return ""
        return f"cargo has no {kind} {name}"

    def _has_modules(self) -> bool:
        """Whether some of the files are in another repository."""
        return self._paths.entry(".gitmodules") is not None

    def target_lack(self, folders: Sequence[str], name: str) -> str:
        """Why make can't make something: there is no makefile with it, nor a file that it could be made of."""
        lack = "there is no Makefile"
        for folder in folders:
            place = path_clean(folder or ".")
            start = "" if place in ("", ".") else f"{place}/"
            if name and self._may_be_made_of(f"{start}{name}", f"{start}{name.partition('.')[0]}."):
                return ""
            for each in reversed(MAKEFILES):
                path = path_inside(place, each)
                if path is None or self.has(path):
                    if path is None or self._is_made(path) or not self._lacks_target(path, name):
                        return ""
                    lack = f"{path} has no target {name}"
        return lack

    def _may_be_made_of(self, path: str, stem: str) -> bool:
        """Whether make takes the name for what is there, or has something that its own rules may make it of."""
        known = (*self._paths.files, *self.made)
        return self.has(path) or any(each.startswith((f"{path}/", stem)) for each in known)

    def _lacks_target(self, path: str, name: str) -> bool:
        """Whether a makefile says for sure that it has no such target: nothing in it is worked out or read in."""
        text = (self._paths.read(path, limit=_READ_BYTES) or "").replace("\\\n", " ")
        if not name or not text.strip() or _WORKED_OUT.search(text):
            return False
        named = [*_RULE.findall(text), *_PHONY.findall(text)]
        return name not in {target for line in named for target in line.split()}


def no_such(kind: str, name: str) -> str:
    return f"there is no {kind} {name}, and the plan makes none before"


def path_inside(folder: str, path: str) -> str | None:
    """The path from the repository's root; None for what is outside of it."""
    if path.startswith(f"{SANDBOX_WORKSPACE}/"):
        path, folder = path.removeprefix(f"{SANDBOX_WORKSPACE}/"), ""
    joined = posixpath.normpath(posixpath.join(folder or ".", path))
    if path.startswith(("/", "~")) or joined == ".." or joined.startswith("../") or path_fault(joined) is not None:
        return None
    return joined

"""What a session may read of a repository's history: from the server's own repository, never from a worktree's."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from apps.projects.git import GitError, GitResult, git_run
from apps.projects.repository import repository_path
from apps.projects.repository_source import is_session_branch
from apps.projects.workspace import WorkspaceError

#: Longest that one look at a history may take.
SECONDS = 30.0
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*(?:[~^][0-9]*)*")
_HEAD = re.compile(r"(?:HEAD|@)(?![A-Za-z0-9._/-])")
_NO_PROGRAMS = ("--no-ext-diff", "--no-textconv", "--no-color")


@dataclass(frozen=True)
class RepositoryHistory:
    """The history up to a session's last commit. Blocking: call it in a thread. Refusals are WorkspaceErrors."""

    project_id: uuid.UUID
    branch: str
    base_commit: str

    def log(self, *, revision: str, path: str, contains: str, skip: int, limit: int, max_bytes: int) -> GitResult:
        """Commits, newest first, each as id, date, author and subject."""
        arguments = ["log", *_NO_PROGRAMS, f"--max-count={limit}", f"--skip={skip}", "--date=short"]
        arguments.append("--format=%h %ad %an: %s")
        if contains:
            arguments.append(f"-S{contains}")
        return self._git(*arguments, self._commit(revision), "--", *self._paths(path), max_bytes=max_bytes)

    def show(self, *, revision: str, path: str, max_bytes: int) -> GitResult:
        """One commit: its message, and what it changed (in the path)."""
        return self._git(
            "show", *_NO_PROGRAMS, "--date=iso", "--format=fuller", "--stat", "--patch", "-M",
            self._commit(revision), "--", *self._paths(path), max_bytes=max_bytes,
        )  # fmt: skip

    def file(self, *, revision: str, path: str, max_bytes: int) -> GitResult:
        """A file as it was in a commit."""
        checked = _path_checked(path)
        return self._git("cat-file", "blob", f"{self._commit(revision)}:{checked}", max_bytes=max_bytes)

    def blame(self, *, revision: str, path: str, first: int, last: int, max_bytes: int) -> GitResult:
        """Each line with the commit that it came with."""
        return self._git(
            "blame", "--date=short", f"-L{first},{last}", self._commit(revision), "--", _path_checked(path),
            max_bytes=max_bytes,
        )  # fmt: skip

    @property
    def _git_dir(self) -> Path:
        return repository_path(project_id=self.project_id)

    def _commit(self, revision: str) -> str:
        """The full id of a revision; what is another session's work alone has no name here."""
        asked = _HEAD.sub("HEAD", revision.strip(), count=1) if revision.strip() else "HEAD"
        if len(asked) > 300 or ".." in asked or _REVISION.fullmatch(asked) is None:
            raise WorkspaceError(
                f"{revision[:100]!r} names no commit: use an id, a branch, a tag, or HEAD~3 and the like"
            )
        name, ending = re.fullmatch(r"([^~^]*)(.*)", asked).groups()  # type: ignore[union-attr]
        if is_session_branch(name) and name != self.branch:
            raise WorkspaceError(f"{name} is another session's branch")
        if name == "HEAD":
            name = self._tip()
        candidates = [f"refs/heads/{name}", f"refs/tags/{name}"]
        if re.fullmatch(r"[0-9a-f]{4,40}", name):
            candidates.append(name)
        for candidate in candidates:
            found = git_run(
                "rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}{ending}^{{commit}}",
                git_dir=self._git_dir, accepted=(0, 1, 128), timeout=SECONDS,
            )  # fmt: skip
            if found.returncode == 0 and (candidate.startswith("refs/") or self._is_open(found.text)):
                return found.text
        raise WorkspaceError(f"there is no commit {revision[:100]!r} in this repository")

    def _is_open(self, commit: str) -> bool:
        """Whether a commit that was named by its id belongs to the project or to this session, not to another one."""
        refs = self._git(
            "for-each-ref", f"--contains={commit}", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags",
            max_bytes=1_000_000,
        )  # fmt: skip
        return any(name == self.branch or not is_session_branch(name) for name in refs.text.split("\n") if name)

    def _tip(self) -> str:
        found = git_run(
            "rev-parse", "--verify", "--quiet", f"refs/heads/{self.branch}", git_dir=self._git_dir, accepted=(0, 1)
        )
        return found.text or self.base_commit

    def _paths(self, path: str) -> list[str]:
        return [_path_checked(path)] if path.strip() not in ("", ".") else []

    def _git(self, *arguments: str, max_bytes: int) -> GitResult:
        try:
            return git_run(
                *arguments,
                git_dir=self._git_dir,
                # A path is a path: `:(attr)` and the like, and *, mean nothing.
                environment={"GIT_LITERAL_PATHSPECS": "1"},
                max_output=max_bytes,
                cut_output=True,
                timeout=SECONDS,
            )
        except GitError as error:
            said = error.stderr.removeprefix("fatal: ") or "git failed"
            raise WorkspaceError(f"git {arguments[0]}: {said[:1000]}") from error


def _path_checked(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or "\0" in path or ".." in parts or path.startswith("/"):
        raise WorkspaceError(f"{path!r} is no path relative to the repository's root")
    return "/".join(parts)

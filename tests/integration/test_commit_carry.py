"""What two tasks' commits come to as one: where they don't fit, both versions of every file are there to be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apps.projects.git import NO_DATE, git_identity, git_run
from apps.projects.repository import repository_path
from apps.projects.repository_rebase import Carried, commit_carry, marks_left
from tests.builders import git

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Place:
    """A checkout whose commits the server's repository has."""

    folder: Path
    base: str

    def commit(self, change: Change) -> str:
        git(self.folder, "checkout", "-q", "--detach", self.base)
        change(self.folder)
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-q", "-m", "a task")
        head = git(self.folder, "rev-parse", "HEAD")
        self.fetch(head)
        return head

    def fetch(self, commit: str) -> None:
        git(self.folder, "push", "-q", str(repository_path(project_id="p")), f"{commit}:refs/heads/{commit}")

    def carried(self, theirs: Change, onto: Change) -> Carried:
        return commit_carry(project_id="p", commit=self.commit(theirs), base=self.base, onto=self.commit(onto))

    def content(self, tree: str, path: str) -> bytes:
        return git_run("cat-file", "blob", f"{tree}:{path}", git_dir=repository_path(project_id="p")).stdout

    def left(self, carried: Carried, tree: str) -> tuple[str, ...]:
        """What is left of the conflict in a commit with these files."""
        git_dir = repository_path(project_id="p")
        identity = git_identity(date=NO_DATE)
        made = git_run("commit-tree", tree, "-m", "mended", git_dir=git_dir, environment=identity).text
        return marks_left(project_id="p", commit=made, marks=carried.marks, files=carried.files)


@pytest.fixture
def place(tmp_path: Path, settings: Any) -> Place:
    settings.ARCHON_HOME = tmp_path / "home"
    git_dir = repository_path(project_id="p")
    git_dir.parent.mkdir(parents=True)
    git(tmp_path, "init", "-q", "--bare", str(git_dir))
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "logo.png").write_bytes(b"\0base")
    (folder / "text.txt").write_text("one\ntwo\nthree\n")
    (folder / "link").symlink_to("text.txt")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "base")
    place = Place(folder, git(folder, "rev-parse", "HEAD"))
    place.fetch(place.base)
    return place


def relink(target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / "link").unlink()
        (folder / "link").symlink_to(target)

    return change


def in_folder(folder: Path) -> None:
    (folder / "config").mkdir()
    (folder / "config" / "main.ini").write_text("ours\n")


@pytest.mark.parametrize(
    ("path", "theirs", "onto", "versions"),
    [
        (
            "logo.png",
            lambda folder: (folder / "logo.png").write_bytes(b"\0theirs"),
            lambda folder: (folder / "logo.png").write_bytes(b"\0ours"),
            (b"\0ours", b"\0theirs"),
        ),
        ("link", relink("theirs"), relink("ours"), (b"ours", b"theirs")),
        ("config", lambda folder: (folder / "config").write_text("theirs\n"), in_folder, (None, b"theirs\n")),
    ],
    ids=["binary", "link", "file and folder"],
)
def test_what_can_have_no_marks_lies_beside(
    place: Place, path: str, theirs: Change, onto: Change, versions: tuple[bytes | None, bytes]
) -> None:
    carried = place.carried(theirs, onto)
    assert carried.commit is None
    beside = f"{path}~{carried.marks[1]}"
    if versions[0] is not None:
        assert place.content(carried.tree, path) == versions[0]
    assert place.content(carried.tree, beside) == versions[1]
    # Whoever says at once that all is well has not looked.
    assert place.left(carried, carried.tree) == (beside,)


def test_marks_in_text_are_as_git_makes_them(place: Place) -> None:
    carried = place.carried(
        lambda folder: (folder / "text.txt").write_text("one\ntheirs\nthree\n"),
        lambda folder: (folder / "text.txt").write_text("one\nours\nthree\n"),
    )
    ours, theirs = carried.marks
    merged = f"one\n<<<<<<< {ours}\nours\n=======\ntheirs\n>>>>>>> {theirs}\nthree\n"
    assert place.content(carried.tree, "text.txt").decode() == merged
    listing = git_run("ls-tree", "-r", "--name-only", carried.tree, git_dir=repository_path(project_id="p")).text
    assert listing.split() == ["link", "logo.png", "text.txt"]
    assert place.left(carried, carried.tree) == ("text.txt",)
    assert place.left(carried, f"{place.base}^{{tree}}") == ()


def test_one_that_removed_what_another_changed_leaves_the_change(place: Place) -> None:
    carried = place.carried(
        lambda folder: (folder / "logo.png").unlink(),
        lambda folder: (folder / "logo.png").write_bytes(b"\0ours"),
    )
    assert (carried.commit, carried.files) == (None, ("logo.png",))
    assert place.content(carried.tree, "logo.png") == b"\0ours"
    assert place.left(carried, carried.tree) == ()

"""The server reads and writes an agent's files, and nothing else, whatever the agent does meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from pathlib import Path

import pytest

from apps.projects.sandbox import files, sandbox_owner
from apps.projects.sandbox.beneath import open_by_steps
from apps.projects.workspace import WorkspaceError
from tests.sandboxing import names, opened

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("each_sandbox", "each_way_of_opening")]


@pytest.fixture(params=["kernel", "steps"])
def each_way_of_opening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Linux's kernel, and as on systems that have no such call."""
    if request.param == "steps":
        monkeypatch.setattr(files, "open_beneath", open_by_steps)


async def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10
    async with opened(tmp_path) as workspace:
        await workspace.file_write("made/for/it.bin", content)
        assert await workspace.file_read("made/for/it.bin") == content
        # The agent's commands see it and may change it.
        result = await workspace.command_run(
            "cat made/for/it.bin | sha256sum; echo more >> made/for/it.bin", timeout=20
        )
    assert result.exit_code == 0
    path = tmp_path / "worktree/made/for/it.bin"
    assert path.read_bytes() == content + b"more\n"
    assert path.stat().st_uid == path.parent.stat().st_uid == (sandbox_owner(tmp_path / "worktree") or os.geteuid())
    assert names(path.parent) == ["it.bin"]


async def test_writing_keeps_permissions_but_no_set_user_id(tmp_path: Path) -> None:
    async with opened(tmp_path) as workspace:
        for mode in (0o755, 0o4755):
            script = tmp_path / "worktree/script"
            script.write_text("old")
            script.chmod(mode)
            await workspace.file_write("script", b"new")
            assert script.stat().st_mode & 0o7777 == 0o755
        await workspace.file_write("plain", b"new")
        assert (tmp_path / "worktree/plain").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../outside", "leaves the workspace"),
        ("sub/../../outside", "leaves the workspace"),
        ("/etc/passwd", "leaves the workspace"),
        ("absolute-link", "leaves the workspace"),
        ("relative-link", "leaves the workspace"),
        ("folder-link/outside", "leaves the workspace"),
        ("process-link/environ", "leaves the workspace"),
        ("loop", "link"),
        ("missing", "no such file: missing"),
        ("sub", "sub is a folder"),
        ("fifo", "not a regular file"),
        ("socket", "not a regular file"),
        ("file/below", "is not a folder"),
        ("large", "large is 2.0 MB, over the limit of 1.0 MB"),
        ("", "a path is needed"),
        ("nul\0byte", "a path is needed"),
        ("x" * 5000, "too long"),
        ("\ud800", "UTF-8"),
    ],
)
async def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "outside").write_text("secret")
    root = tmp_path / "worktree"
    (root / "sub").mkdir(parents=True)
    (root / "absolute-link").symlink_to(tmp_path / "outside")
    (root / "relative-link").symlink_to("../outside")
    (root / "folder-link").symlink_to("..")
    (root / "process-link").symlink_to("/proc/self")
    (root / "loop").symlink_to("loop")
    (root / "file").write_text("x")
    (root / "large").write_bytes(bytes(2_000_000))
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # a socket's path may be no longer than 108 bytes
        server.bind("socket")
        os.chdir(here)
    async with opened(tmp_path) as workspace:
        with pytest.raises(WorkspaceError, match=message):
            async with asyncio.timeout(10):
                await workspace.file_read(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../outside", "leaves the workspace"),
        ("link", "is a link to"),
        ("folder-link/new", "leaves the workspace"),
        ("folder-link/new/deeper", "leaves the workspace"),
        ("sub", "is a folder"),
        ("fifo", "not a regular file"),
        ("file/below", "is not a folder"),
        (".", "is a folder"),
        (".git/config", "belongs to git"),
    ],
)
async def test_what_cannot_be_written_is_refused_and_nothing_changes(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "outside").write_text("untouched")
    root = tmp_path / "worktree"
    (root / "sub").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "folder-link").symlink_to("..")
    (root / "file").write_text("x")
    os.mkfifo(root / "fifo")
    before = names(tmp_path)
    async with opened(tmp_path) as workspace:
        with pytest.raises(WorkspaceError, match=message):
            await workspace.file_write(path, b"changed")
    assert (tmp_path / "outside").read_text() == "untouched"
    assert names(tmp_path) == before
    assert names(root) == ["fifo", "file", "folder-link", "link", "sub"]


async def test_links_within_the_worktree_are_followed_for_reading(tmp_path: Path) -> None:
    root = tmp_path / "worktree"
    (root / "sub").mkdir(parents=True)
    (root / "sub/file").write_text("here")
    (root / "link").symlink_to("sub/file")
    (root / "folder").symlink_to("sub")
    async with opened(tmp_path) as workspace:
        assert await workspace.file_read("link") == b"here"
        assert await workspace.file_read("folder/file") == b"here"
        await workspace.file_write("folder/other", b"there")
    assert (root / "sub/other").read_text() == "there"


async def test_a_link_that_is_swapped_all_the_time_never_leads_out(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("secret")
    inside, outside = tmp_path / "worktree", tmp_path / "outside"
    inside.mkdir()
    swap = (
        "import os, sys\n"
        "os.makedirs('a', exist_ok=True); open('a/file', 'w').write('fine'); open('plain', 'w').write('fine')\n"
        "while True:\n"
        "    for target in (sys.argv[1], 'a', '..', '/proc/self/root' + sys.argv[1]):\n"
        "        os.symlink(target, 'new'); os.rename('new', 'swapped')\n"
        "        os.symlink(target + '/file', 'new'); os.rename('new', 'file')\n"
    )
    seen: set[bytes] = set()
    refused = 0
    async with opened(tmp_path) as workspace:
        swapping = asyncio.create_task(workspace.command_run(["python3", "-c", swap, str(outside)], timeout=60))
        while not os.path.lexists(inside / "file"):
            await asyncio.sleep(0.01)
        for _ in range(3000):
            for path in ("swapped/file", "file"):
                try:
                    seen.add(await workspace.file_read(path))
                except WorkspaceError:
                    refused += 1
            try:
                await workspace.file_write("swapped/file", b"fine")
            except WorkspaceError:
                refused += 1
            if _ % 100 == 0:
                await asyncio.sleep(0)
        swapping.cancel()
        await asyncio.gather(swapping, return_exceptions=True)
    assert seen == {b"fine"}
    assert refused
    assert names(outside) == ["file"]
    assert (outside / "file").read_text() == "secret"


async def test_a_listing_leaves_out_what_git_ignores(tmp_path: Path) -> None:
    """Git itself is asked what it ignores."""
    root = tmp_path / "worktree"
    rules = (
        "# a comment\n*.log\n!keep.log\n/anchored\nfolder-only/\ndeep/**/leaf\nsome/where/*.txt\n"
        "**/everywhere\nspaced\\ name   \n\\#hash\n[ab]?.c\n[!z]x.d\n***.many\nend/**\n!end/kept\n"
    )
    files = [
        "a.log", "keep.log", "sub/b.log", "anchored", "sub/anchored", "folder-only/x", "sub/folder-only", "deep/leaf",
        "deep/1/2/leaf", "some/where/x.txt", "some/where/1/x.txt", "sub/everywhere/x", "spaced name", "#hash", "a1.c",
        "c1.c", "yx.d", "zx.d", "q.many", "end/lost", "end/kept", "nested/x.tmp", "nested/keep.tmp", "other/x.tmp",
    ]  # fmt: skip
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / ".gitignore").write_text(rules)
    (root / "nested/.gitignore").write_text("*.tmp\n!keep.tmp\n")
    subprocess.run(["git", "init", "-q", root], check=True)
    git = subprocess.run(
        ["git", "-c", f"safe.directory={root}", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"],
        check=True,
        stdout=subprocess.PIPE,
    )
    async with opened(tmp_path) as workspace:
        listing = await workspace.file_list(depth=9)
        below = await workspace.file_list("nested", depth=9)
        top = await workspace.file_list()
        few = await workspace.file_list(depth=9, limit=3)
        with pytest.raises(WorkspaceError, match="leaves the workspace"):
            await workspace.file_list("..")
        with pytest.raises(WorkspaceError, match="no such file"):
            await workspace.file_list("missing")
    listed = [entry.path for entry in listing.entries if entry.kind == "file"]
    assert listed == sorted(path for path in git.stdout.decode().split("\0") if path)
    assert not listing.truncated
    assert [entry.path for entry in below.entries] == ["nested/.gitignore", "nested/keep.tmp"]
    assert all("/" not in entry.path for entry in top.entries)
    assert len(few.entries) == 3 and few.truncated


async def test_files_are_found_by_pattern(tmp_path: Path) -> None:
    work = tmp_path / "worktree"
    for at, path in enumerate(["a.py", "src/b.py", "src/deep/c.py", "out/d.py", "node_modules/e.py", "src/f.js"]):
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text("x")
        os.utime(work / path, (1000 + at, 1000 + at))
    (work / ".gitignore").write_text("out/\n")
    async with opened(tmp_path) as workspace:
        found = await workspace.file_find("*.py")
        assert [entry.path for entry in found.entries] == ["a.py", "src/b.py", "src/deep/c.py"]
        found = await workspace.file_find("**/*.{py,js}", path="src", newest_first=True, limit=2)
        assert [entry.path for entry in found.entries] == ["src/f.js", "src/deep/c.py"] and found.truncated
        with pytest.raises(WorkspaceError, match="leaves the workspace"):
            await workspace.file_find("*", path="../")


async def test_files_and_folders_are_moved_and_nothing_is_replaced(tmp_path: Path) -> None:
    work = tmp_path / "worktree"
    (work / "src").mkdir(parents=True)
    (work / "src/run").write_text("1")
    (work / "src/run").chmod(0o755)
    (work / "there").write_text("2")
    (work / "link").symlink_to("/etc/passwd")
    async with opened(tmp_path) as workspace:
        await workspace.file_move("src/run", "bin/deep/run")
        assert (work / "bin/deep/run").read_text() == "1" and (work / "bin/deep/run").stat().st_mode & 0o777 == 0o755
        await workspace.file_move("link", "bin/link")
        assert (work / "bin/link").is_symlink()
        await workspace.file_move("bin", "tools")
        assert names(work) == ["src", "there", "tools"]
        for source, target, message in [
            ("there", "tools/deep/run", "is there already"),
            ("tools", "tools/in", "into itself"),
            ("missing", "new", "no such file: missing"),
            ("there", "../out", "leaves the workspace"),
            ("there", ".git/config", "belongs to git"),
            ("there", "tools/link/x", "leaves the workspace|not a folder"),
        ]:
            with pytest.raises(WorkspaceError, match=message):
                await workspace.file_move(source, target)
    assert names(work) == ["src", "there", "tools"] and (work / "there").read_text() == "2"


async def test_deleting_follows_no_link_and_takes_a_folder_only_when_told(tmp_path: Path) -> None:
    work, outside = tmp_path / "worktree", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (work / "folder/deep").mkdir(parents=True)
    (work / "folder/deep/file").write_text("x")
    (work / "folder/link").symlink_to(outside)
    (work / "link").symlink_to(outside)
    (work / ".git").mkdir()
    async with opened(tmp_path) as workspace:
        with pytest.raises(WorkspaceError, match="is a folder"):
            await workspace.file_delete("folder")
        for path in ("link/kept", "../outside/kept"):
            with pytest.raises(WorkspaceError, match="leaves the workspace"):
                await workspace.file_delete(path)
        for path in (".", ".git", "folder/.."):
            with pytest.raises(WorkspaceError):
                await workspace.file_delete(path, folder=True)
        await workspace.file_delete("folder", folder=True)
        await workspace.file_delete("link")
        assert (await workspace.file_entry(".git")).kind == "directory"
        with pytest.raises(WorkspaceError, match="no such file"):
            await workspace.file_entry("link")
    assert names(work) == [".git"] and names(outside) == ["kept"]

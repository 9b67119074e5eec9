"""An archive's files become a commit; what climbs out of it, explodes or pretends does not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from apps.core.errors import ApplicationError, TooLarge
from apps.projects import archive_reading
from apps.projects.archive_reading import ArchiveCount, ArchiveRefused, archive_entries, damage_told
from apps.projects.repository import commit_files, commit_paths, repository_path
from apps.projects.repository_archive import repository_import_archive
from tests.api import client_for, project_make, user_make

FILES = {"top/a.txt": b"a\n", "top/src/run.sh": b"#!/bin/sh\n", "top/src/b.bin": bytes(range(256)) * 1000}


@pytest.fixture(autouse=True)
def home(settings: Any, tmp_path: Path) -> Path:
    settings.ARCHON_HOME = tmp_path / "home"
    settings.ARCHON_REPOSITORY_LIMIT_MB = 64
    (tmp_path / "uploads").mkdir()
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path / "uploads")
    return tmp_path


def tar_make(members: list[tarfile.TarInfo | tuple[str, bytes]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                info.mode = 0o755 if member[0].endswith(".sh") else 0o644
                archive.addfile(info, io.BytesIO(member[1]))
            else:
                archive.addfile(member)
    return buffer.getvalue()


def zip_make(files: dict[str, bytes], *, modes: dict[str, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def take(tmp_path: Path, content: bytes, project: uuid.UUID | None = None) -> tuple[uuid.UUID, str]:
    path = tmp_path / "archive"
    path.write_bytes(content)
    project = project or uuid.uuid4()
    return project, repository_import_archive(project_id=project, archive_path=path).head_commit


def plain_tar() -> bytes:
    return tar_make(list(FILES.items()))


@pytest.mark.parametrize(
    "pack",
    [
        plain_tar,
        lambda: gzip.compress(plain_tar()),
        lambda: bz2.compress(plain_tar()),
        lambda: lzma.compress(plain_tar()),
        lambda: zip_make(FILES, modes={"top/src/run.sh": 0o100755}),
    ],
    ids=["tar", "gz", "bz2", "xz", "zip"],
)
def test_every_kind_becomes_a_commit_without_its_top_folder(pack: Callable[[], bytes], tmp_path: Path) -> None:
    project, commit = take(tmp_path, pack())
    assert set(commit_paths(project_id=project, commit=commit)) == {"a.txt", "src/b.bin", "src/run.sh"}
    content = commit_files(project_id=project, commit=commit, paths=["src/b.bin"])
    assert content == {"src/b.bin": FILES["top/src/b.bin"]}
    listing = subprocess.run(
        ["git", "ls-tree", "-r", commit], cwd=repository_path(project_id=project), capture_output=True, text=True
    ).stdout
    assert "100755 blob" in next(line for line in listing.splitlines() if line.endswith("run.sh"))


def test_the_same_files_again_change_nothing_and_others_come_on_top(tmp_path: Path) -> None:
    project, first = take(tmp_path, plain_tar())
    assert take(tmp_path, zip_make(FILES, modes={"top/src/run.sh": 0o100755}), project)[1] == first
    second = take(tmp_path, tar_make([("b.txt", b"b")]), project)[1]
    parents = subprocess.run(
        ["git", "rev-list", "--parents", "-1", second],
        cwd=repository_path(project_id=project), capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert parents == [second, first]
    assert commit_paths(project_id=project, commit=second) == ("b.txt",)


def test_git_folders_are_left_out_and_links_within_are_kept(tmp_path: Path) -> None:
    members: list[tarfile.TarInfo | tuple[str, bytes]] = [
        (".git/hooks/post-checkout", b"#!/bin/sh\ntouch /tmp/run\n"),
        ("vendor/.git/config", b"[core]\n"),
        ("src/a.py", b"a"),
        special("link", tarfile.SYMTYPE, "src/../src/a.py"),
    ]
    project, commit = take(tmp_path, tar_make(members))
    assert commit_paths(project_id=project, commit=commit) == ("link", "src/a.py")


REFUSED: dict[str, list[tarfile.TarInfo | tuple[str, bytes]]] = {
    "climbing": [("a/../../x", b"x")],
    "absolute": [("/etc/x", b"x")],
    "backslash": [("..\\x", b"x")],
    "drive": [("C:x", b"x")],
    "link out": [special("l", tarfile.SYMTYPE, "../x")],
    "link to absolute": [special("l", tarfile.SYMTYPE, "/etc/passwd")],
    "link into git": [special("l", tarfile.SYMTYPE, ".git/hooks")],
    "hard link": [("a", b"a"), special("b", tarfile.LNKTYPE, "a")],
    "device": [special("d", tarfile.CHRTYPE)],
    "pipe": [special("p", tarfile.FIFOTYPE)],
    "twice": [("a", b"1"), ("a", b"2")],
    "twice, said otherwise": [("a", b"1"), ("./a", b"2")],
    "file below a link": [special("l", tarfile.SYMTYPE, "d"), ("d/x", b"x"), ("l/x", b"x")],
    "file below a file": [("a", b"a"), ("a/b", b"b")],
    "file over a folder": [("a/b", b"b"), ("a", b"a")],
    "git in capitals": [(".GIT/config", b"x")],
    "git, short name": [("GIT~1/config", b"x")],
    "git with a dot": [(".git./config", b"x")],
    "git with a stream": [(".git::$INDEX_ALLOCATION/config", b"x")],
    "git, unseen letter": [(".g\u200cit/config", b"x")],
    "git, full width": [("\uff0e\uff47\uff49\uff54/config", b"x")],
    "deep": [("/".join(["d"] * 200), b"x")],
    "nothing": [(".git/config", b"x")],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused) as refused:
        take(tmp_path, gzip.compress(tar_make(REFUSED[name])))
    assert refused.value.next_step
    assert not list((tmp_path / "home").glob("repositories/*.git"))
    assert not list((tmp_path / "home" / "temporary").iterdir())


def test_zips_that_lie(tmp_path: Path) -> None:
    for files, modes in (
        ({"../x": b"x"}, {}),
        ({"l": b"../x"}, {"l": 0o120777}),
        ({"d": b""}, {"d": 0o020666}),
        ({"a\\b": b"x"}, {}),
    ):
        with pytest.raises(ArchiveRefused):
            take(tmp_path, zip_make(files, modes=modes))
    whole = zip_make(FILES)
    for broken in (whole[:-30], whole[: len(whole) // 2], b"PK\x03\x04", whole.replace(b"a.txt", b"b.txt", 1)):
        with pytest.raises(ApplicationError):
            take(tmp_path, broken)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_bombs_are_stopped(compress: Callable[[bytes], bytes], tmp_path: Path, settings: Any) -> None:
    settings.ARCHON_REPOSITORY_LIMIT_MB = 10_000
    bomb = compress(tar_make([("zeros", bytes(90 * 1024 * 1024))]))
    assert len(bomb) < 200_000
    with pytest.raises(ArchiveRefused, match="times its size"):
        take(tmp_path, bomb)
    settings.ARCHON_REPOSITORY_LIMIT_MB = 8
    with pytest.raises(TooLarge):
        take(tmp_path, bomb)


def test_zip_bombs_and_lying_sizes(tmp_path: Path, settings: Any) -> None:
    settings.ARCHON_REPOSITORY_LIMIT_MB = 8
    with pytest.raises(TooLarge):
        take(tmp_path, zip_make({"zeros": bytes(20 * 1024 * 1024)}))
    content = zip_make({"zeros": bytes(20 * 1024 * 1024)})
    said = (20 * 1024 * 1024).to_bytes(4, "little")
    with pytest.raises(ApplicationError):
        take(tmp_path, content.replace(said, (1000).to_bytes(4, "little")))


def test_entries_and_headers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_reading, "ENTRIES", 10)
    many: list[tarfile.TarInfo | tuple[str, bytes]] = [(f"f{number}", b"") for number in range(11)]
    with pytest.raises(TooLarge):
        take(tmp_path, tar_make(many))
    with pytest.raises(TooLarge):
        take(tmp_path, zip_make({f"f{number}": b"" for number in range(11)}))
    longname = special("x", tarfile.GNUTYPE_LONGNAME)
    longname.size = 1 << 33
    with pytest.raises(ArchiveRefused, match="header"):
        take(tmp_path, longname.tobuf())


@given(content=st.binary(max_size=3000))
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_is_read_or_refused(content: bytes, tmp_path: Path) -> None:
    for head in (b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00"):
        (tmp_path / "any").write_bytes(head + content)
        try:
            with damage_told():
                for entry in archive_entries(tmp_path / "any", limit_bytes=1 << 20, count=ArchiveCount()):
                    assert not entry.path.startswith("/") and ".." not in entry.path.split("/")
        except ApplicationError:
            continue


@pytest.mark.django_db(transaction=True)
def test_upload_over_the_api(tmp_path: Path) -> None:
    user = user_make()
    client = client_for(user)
    address = f"/api/projects/{project_make(owner=user).id}/repository/archive/"

    def post(body: bytes, media_type: str = "application/octet-stream") -> Any:
        return client.generic("POST", address, body, content_type=media_type)  # type: ignore[arg-type]

    done = post(zip_make(FILES), "application/zip")
    assert (done.status_code, done.json()["repository_state"], done.json()["default_branch"]) == (200, "ready", "main")
    refused = post(tar_make(REFUSED["climbing"]))
    assert (refused.status_code, refused.json()["code"]) == (400, "archive_refused")
    assert post(b"").status_code == 400
    assert post(b"no archive at all").status_code == 400
    assert post(b"x", "text/html").status_code == 415
    assert list((tmp_path / "uploads").iterdir()) == []

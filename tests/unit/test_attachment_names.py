"""What attached files are called, and what they are taken for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.services.attachments import content_sniff, name_clean, name_free, text_read
from apps.agents.services.images import ImageRefused
from apps.agents.types import AttachmentKind
from tests.unit.test_images import picture


@given(st.text())
def test_a_name_is_one_plain_part_of_a_path(name: str) -> None:
    cleaned = name_clean(name)
    assert cleaned and "/" not in cleaned and "\\" not in cleaned and "\0" not in cleaned
    assert not cleaned.startswith((".", "-")) and cleaned == cleaned.strip()
    assert len(cleaned) <= 130
    assert name_clean(cleaned) == cleaned


@given(st.lists(st.sampled_from(["a.txt", "A.TXT", "a", "b.tar.gz", "a-2.txt"]), max_size=12))
def test_names_in_a_session_differ(names: list[str]) -> None:
    taken: set[str] = set()
    for name in names:
        free = name_free(name, taken=taken)
        assert free.casefold() not in {other.casefold() for other in taken}
        taken.add(free)


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\shot 1.png", "shot 1.png"),
        (".bashrc", "bashrc"),
        ("a\nb\x00c.txt", "a_b_c.txt"),
        ("", "file"),
        ("x" * 300 + ".log", "x" * 116 + ".log"),
        ("Größe.txt", "Größe.txt"),
    ],
)
def test_names(given_name: str, kept: str) -> None:
    assert name_clean(given_name) == kept


@pytest.mark.parametrize(
    ("name", "content", "kind", "media_type"),
    [
        ("a.txt", b"plain", AttachmentKind.TEXT, "text/plain"),
        ("a.bin", "Gr\u00f6\u00dfe".encode(), AttachmentKind.TEXT, "text/plain"),
        ("a.txt", "\ufeffGr\u00f6\u00dfe".encode("utf-16"), AttachmentKind.TEXT, "text/plain"),
        ("a.txt", b"\xff\x00\x01", AttachmentKind.BINARY, "application/octet-stream"),
        ("a.pdf", b"%PDF-1.7\n\xff\xfe", AttachmentKind.BINARY, "application/pdf"),
        ("a.svg", b"<svg/>", AttachmentKind.TEXT, "text/plain"),
        ("a.txt", picture(), AttachmentKind.IMAGE, "image/png"),
        ("BMW.txt", b"BMW is a maker of cars", AttachmentKind.TEXT, "text/plain"),
    ],
)
def test_bytes_say_what_a_file_is(
    tmp_path: Path, name: str, content: bytes, kind: AttachmentKind, media_type: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert content_sniff(path, name=name) == (kind, media_type)


@pytest.mark.parametrize(("name", "declared"), [("shot.png", ""), ("shot", "image/png"), ("SHOT.JPEG", "text/plain")])
def test_what_claims_to_be_an_image_has_to_be_one(tmp_path: Path, name: str, declared: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"just text")
    with pytest.raises(ImageRefused):
        content_sniff(path, name=name, declared_type=declared)


def test_text_is_decoded_and_may_be_cut_within_a_character(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("aß".encode())
    assert text_read(path, limit=2) == "a"
    path.write_bytes("hello".encode("utf-16"))
    assert text_read(path, limit=None) == "hello"

"""Images on their way to a model: made small, never a bomb, and text where nobody can see them."""

from __future__ import annotations

import base64
import io
import random
import struct
import uuid
import zlib
from pathlib import Path

import pytest
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from PIL import Image as PillowImage

from apps.agents.services.images import (
    MAX_BYTES,
    MAX_SIDE,
    ImageRefused,
    image_normalise,
    messages_resolve,
    session_image_put,
)


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    PillowImage.new(mode, size, 1).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    data = random.Random(1).randbytes(size[0] * size[1] * 3)
    PillowImage.frombytes("RGB", size, data).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_cameras_and_screens_make_is_taken(kind: str, mode: str) -> None:
    image = image_normalise(picture(kind, mode=mode), name="a")
    assert (image.width, image.height) == (40, 30)
    assert image.mime_type in ("image/png", "image/jpeg")


def test_a_large_one_is_made_small() -> None:
    image = image_normalise(noise((3000, 1000)), name="a.png")
    assert max(image.width, image.height) <= MAX_SIDE
    assert len(image.content) <= MAX_BYTES
    assert image.mime_type == "image/jpeg"


def test_a_photograph_is_turned_upright_and_says_nothing_of_where_it_was_made() -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "at home"
    image = image_normalise(picture("JPEG", size=(40, 20), exif=exif), name="a.jpg")
    assert (image.width, image.height) == (20, 40)
    assert b"at home" not in image.content


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    with pytest.raises(ImageRefused) as refused:
        image_normalise(bomb, name="bomb.png")
    assert refused.value.message == "bomb.png is too large an image: 10000000000 pixels"
    assert refused.value.next_step == "Send at most 40000000 pixels."


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"%PDF-1.7", picture()[:60], b"\x89PNG\r\n\x1a\n", b"GIF89a"]
)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(ImageRefused) as refused:
        image_normalise(content, name="shot.png")
    assert "shot.png" in refused.value.message
    assert refused.value.next_step


@settings(max_examples=200, deadline=None)
@given(
    st.integers(min_value=0, max_value=400),
    st.binary(min_size=1, max_size=8),
    st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]),
)
def test_broken_bytes_end_in_an_image_or_a_refusal(at: int, junk: bytes, kind: str) -> None:
    whole = picture(kind)
    broken = whole[:at] + junk + whole[at + len(junk) :]
    try:
        assert image_normalise(broken, name="x").content
    except ImageRefused:
        pass


def test_a_conversation_names_images_and_a_model_that_sees_gets_them(tmp_path: Path) -> None:
    session_id = uuid.uuid4()
    with override_settings(ARCHON_HOME=tmp_path):
        image = image_normalise(picture(), name="shot.png")
        block = session_image_put(session_id=session_id, image=image, name="shot.png")
        assert session_image_put(session_id=session_id, image=image, name="shot.png") == block
        call = {"name": "read_file", "args": {}, "id": "1"}
        conversation = [
            HumanMessage([{"type": "text", "text": "look"}, block]),
            AIMessage("", tool_calls=[call, {**call, "id": "2"}]),
            ToolMessage([{"type": "text", "text": "an image"}, block], tool_call_id="1"),
            ToolMessage("plain", tool_call_id="2"),
            AIMessage("seen"),
        ]
        seeing = messages_resolve(conversation, session_id=session_id, vision=True)
        blind = messages_resolve(conversation, session_id=session_id, vision=False)
    shown = {"type": "image", "base64": base64.b64encode(image.content).decode(), "mime_type": "image/png"}
    assert seeing[0].content == [{"type": "text", "text": "look"}, shown]
    # A tool's result is text; what it showed comes after the last result of its reply.
    assert [message.type for message in seeing] == ["human", "ai", "tool", "tool", "human", "ai"]
    assert seeing[2].content == "an image"
    assert shown in seeing[4].content
    assert [message.type for message in blind] == ["human", "ai", "tool", "tool", "ai"]
    assert "shot.png" in str(blind[0].content) and "can't see images" in str(blind[0].content)
    assert "can't see images" in str(blind[2].content)
    assert conversation[0].content[1] == block, "the stored conversation stays as it is"

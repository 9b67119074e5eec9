"""Images in conversations: checked, made small, stored once, and turned into what a model takes when they are sent.

A stored message names an image by a block ``{"type": "image_ref", "sha256", "mime_type", "name", "width", "height",
"bytes"}``; its bytes are in ``ARCHON_HOME/images/SESSION/SHA256``. So rows stay small, and an image is kept once
however often it is shown.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from apps.core.errors import InvalidInput

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

REFERENCE = "image_ref"
#: Every vendor scales down what is larger, and some charge for it first.
MAX_SIDE = 1568
MAX_BYTES = 1024 * 1024
#: More than any screen or camera has; an image of this many takes 160 MB while it is read.
MAX_PIXELS = 40_000_000
#: The decoders that strangers' bytes get to; Pillow has many more.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
_QUALITIES = (85, 70, 50, 30)


class ImageRefused(InvalidInput):
    """The bytes are no image that can be shown to a model."""

    code = "image_refused"


@dataclass(frozen=True)
class Image:
    """An image as a model gets it."""

    content: bytes
    mime_type: str
    width: int
    height: int


def image_normalise(content: bytes, *, name: str) -> Image:
    """The image upright, without metadata, at most 1568 pixels a side and 1 MiB; raises :class:`ImageRefused`.

    Size is looked at before anything is unpacked. It takes CPU: call it in a thread.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PillowImage.DecompressionBombWarning)
            with PillowImage.open(io.BytesIO(content), formats=_FORMATS) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise _bomb(name, f"{opened.width}×{opened.height} pixels")
                # JPEG can be read smaller than it is, for a fraction of the work.
                opened.draft("RGB", (MAX_SIDE, MAX_SIDE))
                picture = ImageOps.exif_transpose(opened)
                picture.thumbnail((MAX_SIDE, MAX_SIDE))
    except ImageRefused:
        raise
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        # Pillow's own words name its own limit.
        pixels = re.search(r"\d+ pixels", str(error))
        raise _bomb(name, pixels.group() if pixels else f"more than {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageRefused(
            f"{name} is not an image", next_step="Send a PNG, JPEG, GIF, WebP or BMP file, whole and unchanged."
        ) from error
    # What a decoder makes of broken bytes: Pillow promises no smaller list.
    except (OSError, ValueError, SyntaxError, TypeError, IndexError, EOFError, OverflowError, MemoryError) as error:
        raise ImageRefused(
            f"{name} is an image that is broken: {error}", next_step="Save it anew, as PNG for example."
        ) from error
    return _encoded(picture)


def _bomb(name: str, what: str) -> ImageRefused:
    return ImageRefused(f"{name} is too large an image: {what}", next_step=f"Send at most {MAX_PIXELS} pixels.")


def _encoded(picture: PillowImage.Image) -> Image:
    """PNG where that is small, since text in screenshots stays sharp; else JPEG, as good as fits."""
    if picture.mode not in ("RGB", "RGBA", "L"):
        transparent = "transparency" in picture.info or picture.mode in ("LA", "PA")
        picture = picture.convert("RGBA" if transparent else "RGB")
    content, mime_type = _saved(picture, "PNG", optimize=False), "image/png"
    if len(content) > MAX_BYTES:
        opaque = PillowImage.new("RGB", picture.size, "white")
        opaque.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
        mime_type = "image/jpeg"
        for quality in _QUALITIES:
            content = _saved(opaque, "JPEG", quality=quality)
            if len(content) <= MAX_BYTES:
                break
    return Image(content, mime_type, picture.width, picture.height)


def _saved(picture: PillowImage.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


# --- Stored -----------------------------------------------------------------------------------------------------------
def session_images_path(session_id: object) -> Path:
    return Path(settings.ARCHON_HOME) / "images" / str(session_id)


def session_image_put(*, session_id: uuid.UUID, image: Image, name: str) -> dict[str, Any]:
    """Keep the image with the session, once; the block that stands for it in a stored message."""
    digest = hashlib.sha256(image.content).hexdigest()
    path = session_images_path(session_id) / digest
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(image.content)
        os.replace(temporary, path)
    return {
        "type": REFERENCE,
        "sha256": digest,
        "mime_type": image.mime_type,
        "name": name[:200],
        "width": image.width,
        "height": image.height,
        "bytes": len(image.content),
    }


# --- Sent -------------------------------------------------------------------------------------------------------------
def messages_resolve(messages: Sequence[BaseMessage], *, session_id: uuid.UUID, vision: bool) -> list[BaseMessage]:
    """The conversation as it goes to a model: images as their bytes, or named where the model can't see them.

    Most protocols take nothing but text from a tool: images out of results follow the last result of their reply, as a
    message of the user's. Reads files only where there are references; call it in a thread then.
    """
    if not any(_references(message) for message in messages):
        return list(messages)
    from langchain_core.messages import HumanMessage, ToolMessage  # the API process doesn't load LangChain

    sent: list[BaseMessage] = []
    held: list[dict[str, Any]] = []
    for message in messages:
        if held and not isinstance(message, ToolMessage):
            sent.append(HumanMessage(held))  # type: ignore[arg-type]
            held = []
        if not _references(message):
            sent.append(message)
            continue
        blocks = list(_resolved(message.content, session_id=session_id, vision=vision))
        if isinstance(message, ToolMessage):
            pictures = [block for block in blocks if block["type"] == "image"]
            text = "\n".join(block["text"] for block in blocks if block["type"] == "text")
            names = ", ".join(reference["name"] for reference in _references(message))
            if pictures:
                held += [{"type": "text", "text": f"The image that the tool read ({names}):"}, *pictures]
            sent.append(message.model_copy(update={"content": text}))
        elif all(block["type"] == "text" for block in blocks):
            # Not every endpoint takes text in parts.
            sent.append(message.model_copy(update={"content": "\n\n".join(block["text"] for block in blocks)}))
        else:
            sent.append(message.model_copy(update={"content": blocks}))
    if held:
        sent.append(HumanMessage(held))  # type: ignore[arg-type]
    return sent


def has_references(messages: Sequence[BaseMessage]) -> bool:
    return any(_references(message) for message in messages)


def _references(message: BaseMessage) -> list[Mapping[str, Any]]:
    if isinstance(message.content, str):
        return []
    return [block for block in message.content if isinstance(block, dict) and block.get("type") == REFERENCE]


def _resolved(content: Any, *, session_id: uuid.UUID, vision: bool) -> Iterator[dict[str, Any]]:
    for block in content:
        if isinstance(block, str):
            yield {"type": "text", "text": block}
        elif block.get("type") != REFERENCE:
            yield block
        elif not vision:
            yield {"type": "text", "text": f"[{_named(block)}: this model can't see images.]"}
        else:
            try:
                stored = (session_images_path(session_id) / block["sha256"]).read_bytes()
            except FileNotFoundError:
                yield {"type": "text", "text": f"[{_named(block)}: it is no longer stored.]"}
                continue
            yield {"type": "image", "base64": base64.b64encode(stored).decode(), "mime_type": block["mime_type"]}


def _named(block: Mapping[str, Any]) -> str:
    size = f"{block['bytes'] / 1024:.0f} KiB"
    return f"Image {block['name']}, {block['width']}×{block['height']} pixels, {block['mime_type']}, {size}"

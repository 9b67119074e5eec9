"""Images for models that can see, and words about them for those that can't."""

from __future__ import annotations

import io

from PIL import Image as PillowImage

from apps.agents.services.images import ImageRefused, image_normalise
from apps.agents.tools.base import NamedImage, Observation
from apps.projects.workspace import WorkspaceError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")


def is_image_name(path: str) -> bool:
    return path.lower().endswith(_SUFFIXES)


def picture_observe(content: bytes, *, path: str, vision: bool) -> Observation:
    """The image itself where it can be seen, and its format and size; WorkspaceError when it isn't one."""
    try:
        image = image_normalise(content, name=path)
    except ImageRefused as error:
        raise WorkspaceError(error.message) from error
    # It was read in full just now, so its head is sound.
    with PillowImage.open(io.BytesIO(content)) as head:
        described = f"{head.format} image, {head.width}x{head.height} pixels, {len(content)} bytes"
    if not vision:
        return Observation(f"{path}: {described}. It can't be shown to you.", summary=described)
    scaled = f", shown at {image.width}x{image.height}" if (image.width, image.height) != head.size else ""
    return Observation(f"{path}: {described}{scaled}.", summary=described, images=(NamedImage(image, path),))

"""Sources and archives of packages as they are learnt from, small enough to be looked at."""

from __future__ import annotations

import zipfile
from pathlib import Path

PYTHON = '''class Basket(Base):
    """What a customer has chosen so far."""

    limit = 3

    def add(self, item):
        """Put one more item into it.

        Longer words follow here, that say a good deal more of what it does and for whom it does so.

        Args:
            item: what to add
        """
        self.items.append(item)
        return len(self.items)

    def short(self):
        """Say nothing of any interest here."""
        return 1
'''
TYPESCRIPT = """import { a } from "b";

/** Draws the whole scene once. */
export class Renderer {
  /**
   * Uploads a texture to the card, if it changed.
   * @param texture which one
   */
  upload(texture: Texture) {
    // not a doc comment
    this.gl.bind(texture);
    return texture.id;
  }
}
"""
GO = """package store

// Open returns a store that keeps its rows in the
// folder. It fails where there is none.
func Open(folder string) (*Store, error) {
    rows := load(folder)
    return &Store{rows}, nil
}
"""


def wheel(folder: Path, name: str, files: dict[str, str], licence: str = "MIT") -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(
            f"{name}-1.0.dist-info/METADATA", f"Name: {name}\nVersion: 1.0\nLicense-Expression: {licence}\n\n"
        )
    return path

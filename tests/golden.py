"""Golden files: what a text was when somebody last looked at it and found it right.

A test that holds a text against one fails with the difference. After a change that is meant, write them anew and look
at the difference that git shows:

    ./archon test tests/unit/test_prompts.py tests/integration/test_prompt_briefs.py --golden-update
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "unit" / "golden"
_COMMAND = "./archon test {test} --golden-update"


@dataclass(frozen=True)
class Golden:
    """Holds texts against their files; with ``update`` it writes them instead."""

    update: bool
    #: Of the test that asks, for what is said about a difference.
    test: str

    def check(self, name: str, text: str) -> None:
        """The text is the file's, to the last letter."""
        self.check_file(FOLDER / name, text)

    def check_file(self, path: Path, text: str) -> None:
        former = path.read_text("utf-8") if path.exists() else ""
        if text == former:
            return
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            return
        lines = difflib.unified_diff(
            former.splitlines(), text.splitlines(), f"{path.name} (golden)", f"{path.name} (now)", lineterm="", n=2
        )
        pytest.fail(
            "\n".join([*lines, "", f"If that is meant, write it anew: {_COMMAND.format(test=self.test)}"]),
            pytrace=False,
        )

    def check_folder(self, name: str, texts: Mapping[str, str]) -> None:
        """The folder has these files, with these texts, and no other."""
        folder = FOLDER / name
        for file, text in texts.items():
            self.check(f"{name}/{file}", text)
        stale = sorted({path.name for path in folder.iterdir()} - set(texts))
        if self.update:
            for file in stale:
                (folder / file).unlink()
        elif stale:
            pytest.fail(f"{folder.name} has files that nothing makes any more: {', '.join(stale)}", pytrace=False)

"""``./archon train questions ARCHIVE FOLDER``: a package without its doc comments, and the questions that they are.

Writes ``FOLDER/NAME/`` (the sources, less the comments that describe functions and classes) and ``FOLDER/NAME.jsonl``
(each comment's first line or sentence, and what it described), as ``archon bench search`` and ``archon train evaluate``
read them.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from apps.context.parsing.languages import language_of
from training.archives import UnreadableArchive, archive_about, archive_files
from training.grammar_pairs import file_undocumented
from training.mining import LANGUAGES
from training.pairs import SKIPPED_PATH, query_key


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon train questions", description=__doc__)
    parser.add_argument("archives", nargs="+", type=Path)
    parser.add_argument("--to", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--under", default="", help="only what is under this path of the archive")
    options = parser.parse_args(argv)
    for archive in options.archives:
        name = archive_about(archive).name.replace("/", "+")
        count = questions_write(archive, options.to, name=name, under=options.under)
        print(f"{name}: {count} questions")
    return 0


def questions_write(archive: Path, folder: Path, *, name: str, under: str = "") -> int:
    """How many questions were written. One that stands at several places is none."""
    if name in ("", ".", ".."):
        raise UnreadableArchive(f"{archive.name} is called {name!r}, which is no name of a folder")
    root = folder / name
    asked: list[tuple[str, str]] = []
    for path, content in archive_files(archive):
        if not path.startswith(under) or language_of(path, content[:200]) not in LANGUAGES:
            continue
        target = root / path
        # An archive's members may have any name, an absolute one too.
        if SKIPPED_PATH.search(path) or not target.resolve().is_relative_to(root.resolve()):
            continue
        made = file_undocumented(path=path, content=content)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(made.content, "utf-8")
        asked.extend((query, f"{path}::{symbol}") for query, symbol in made.questions)
    uses = Counter(query_key(query) for query, _ in asked)
    lines = [
        json.dumps({"query": query, "relevant_symbols": [symbol]}) + "\n"
        for query, symbol in asked
        if uses[query_key(query)] == 1
    ]
    (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    return len(lines)

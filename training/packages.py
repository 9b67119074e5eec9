"""``./archon train packages ARCHIVE…``: put archives on the list, with version, hash and the licence that they state.

Fetch them first, each as its registry's client does: ``pip download --no-deps NAME``, ``npm pack NAME``,
``apt-get download NAME``. What states no licence, or one that asks too much, is told and left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.archives import UnreadableArchive, archive_about, archive_sha256
from training.licences import is_permitted
from training.manifest import LIST, Package, packages_read, packages_write


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon train packages", description=__doc__)
    parser.add_argument("archives", nargs="+", type=Path)
    parser.add_argument("--use", choices=("train", "evaluate"), default="train")
    parser.add_argument("--list", type=Path, default=LIST, help="the list to write")
    options = parser.parse_args(argv)
    known = {(each.registry, each.name): each for each in packages_read(options.list)} if options.list.exists() else {}
    left_out = 0
    for archive in options.archives:
        try:
            about = archive_about(archive)
        except UnreadableArchive as error:
            print(f"left out: {error}")
            left_out += 1
            continue
        if not is_permitted(about.licence):
            print(f"left out: {about.name} {about.version} is under {about.licence or 'no licence that it states'}")
            left_out += 1
            continue
        known[about.registry, about.name] = Package(
            about.registry,
            about.name,
            about.version,
            archive.name,
            archive_sha256(archive),
            about.licence,
            options.use,
        )
    packages_write(known.values(), options.list)
    print(f"{len(known)} packages are on the list, {left_out} were left out")
    return 0

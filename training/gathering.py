"""From the list of packages to files of pairs in the cache, for all that learns from them. What is there is kept."""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from training.archives import UnreadableArchive
from training.licences import is_permitted
from training.manifest import LIST, FetchFailed, Package, package_fetch
from training.mining import LicenceDiffers, package_mine, pairs_file, pairs_read
from training.pairs import Pair
from training.resembling import Evaluated

_FETCHERS = 2
_began = time.monotonic()


class GatheringFailed(Exception):
    """There are not all pairs, and why."""


def arguments_add(parser: argparse.ArgumentParser) -> None:
    """Where pairs are gathered from, and kept: the same for all that learns from them."""
    parser.add_argument(
        "--cache", type=Path, default=cache_folder(), help="where archives and what is made of them are kept"
    )
    parser.add_argument("--list", type=Path, default=LIST, help="the list of packages")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes that read archives")


def list_told(path: Path, packages: list[Package]) -> dict[str, Any]:
    """What a model says of the list that it was made from."""
    return {
        "packages": sum(each.use == "train" for each in packages),
        "list_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def packages_refuse(packages: list[Package]) -> None:
    """Raise :class:`GatheringFailed` where one may not be learnt from."""
    refused = [each.name for each in packages if not is_permitted(each.licence)]
    if refused:
        raise GatheringFailed(f"these may not be learnt from, by their licence: {', '.join(refused)}")


def pairs_gather(packages: list[Package], cache: Path, *, processes: int) -> None:
    """Have every package's archive and pairs in the cache. Raises :class:`GatheringFailed`."""
    cache.mkdir(parents=True, exist_ok=True)
    try:
        _mined(_fetched(packages, cache / "archives"), pairs_folder(cache), processes=processes)
    except LicenceDiffers as error:
        raise GatheringFailed(str(error)) from error
    except (FetchFailed, UnreadableArchive) as error:
        raise GatheringFailed(
            f"{error}\nRun it again: what is there is kept. A package that is gone is taken off the list."
        ) from error


def pairs_folder(cache: Path) -> Path:
    return cache / "pairs"


def evaluated_read(packages: list[Package], pairs: Path) -> Evaluated:
    """What is evaluated on, and nothing like it learnt."""
    evaluated = Evaluated()
    for package in packages:
        if package.use == "evaluate":
            for pair in pairs_read(pairs_file(package, pairs)):
                evaluated.add(pair)
    return evaluated


def files_learnt(packages: list[Package], pairs: Path) -> Iterator[tuple[Package, Iterator[Pair]]]:
    """The packages to learn from, each with its pairs."""
    return ((each, pairs_read(pairs_file(each, pairs))) for each in packages if each.use == "train")


def cache_folder() -> Path:
    """Where archives and what is made of them are kept when nobody says otherwise."""
    home = os.environ.get("ARCHON_HOME")
    root = Path(home) if home else Path(__file__).resolve().parent.parent / ".archon"
    return root / "training"


def tell(message: str) -> None:
    print(f"{time.monotonic() - _began:7.0f} s  {message}", flush=True)


def _fetched(packages: list[Package], folder: Path) -> list[tuple[Package, Path]]:
    """The archives; all that can be had are fetched before it fails for one that cannot."""
    made: dict[str, Path] = {}
    failed: list[str] = []
    with ThreadPoolExecutor(_FETCHERS) as pool:
        waiting = {pool.submit(package_fetch, package, folder): package for package in packages}
        for number, done in enumerate(as_completed(waiting), 1):
            try:
                made[waiting[done].slug] = done.result()
            except FetchFailed as error:
                failed.append(str(error))
            if number % 25 == 0:
                tell(f"{number} of {len(packages)} archives are here")
    if failed:
        raise FetchFailed("\n".join(failed))
    return [(package, made[package.slug]) for package in packages]


def _mined(archives: list[tuple[Package, Path]], folder: Path, *, processes: int) -> None:
    left = [each for each in archives if not pairs_file(each[0], folder).exists()]
    if not left:
        return
    with ProcessPoolExecutor(processes) as pool:
        waiting = {pool.submit(package_mine, package, archive, folder): package for package, archive in left}
        for number, done in enumerate(as_completed(waiting), 1):
            tell(f"{number} of {len(left)}: {done.result()} pairs of {waiting[done].name}")

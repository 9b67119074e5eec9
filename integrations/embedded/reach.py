"""Where to put what an unprivileged user has to reach.

Postgres refuses to run as root, and a sandbox must not: started by root, both get an unprivileged account. A checkout
under a home of mode 0700 is out of that account's reach, so data, copies of executables and worktrees then live in a
folder of their own under ``/var/lib/archon``.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from integrations.embedded.errors import ServicesUnavailable
from integrations.posix import pwd

SHARED_STATE = Path("/var/lib/archon")
_ACCOUNTS = ("nobody", "daemon", "www-data", "bin")
_RECORD = "runtime-root"
_BACK_REFERENCE = "home"


def unprivileged_uid() -> tuple[int, int] | None:
    """User and group id for what must not run as root; none when we aren't root, for then nothing has to change.

    The account exists in passwd: Postgres fails without an entry. Raises ``ServicesUnavailable`` when there is none.
    """
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        if account.pw_uid != 0:
            return account.pw_uid, account.pw_gid
    raise ServicesUnavailable(
        "there is no unprivileged account to run the services and sandboxes as",
        next_step=f"add one of {', '.join(_ACCOUNTS)} to /etc/passwd, or start Archon as an ordinary user",
    )


def home_create(home: Path) -> None:
    """Make the folder if it isn't there, open for passing through; the files in it guard themselves."""
    if not home.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)


def is_reachable(path: Path, *, uid: int, gid: int) -> bool:
    """Whether the account may pass through every folder down to ``path`` and read (and enter) it, by mode bits."""
    for place in (path, *path.parents):
        try:
            status = place.stat()
        except OSError:
            return False
        bits = _bits_for(status, uid=uid, gid=gid)
        needed = 0o5 if place == path and stat.S_ISDIR(status.st_mode) else 0o4 if place == path else 0o1
        if bits & needed != needed:
            return False
    return True


def runtime_root(home: Path) -> Path:
    """The folder, made if need be, where the services' data and the sandboxes' worktrees and environments go.

    ``home`` itself, unless root started us and the unprivileged account can't reach it; then a folder under
    ``/var/lib/archon`` that ``home`` remembers. Raises ``ServicesUnavailable`` when a home that was in reach no longer
    is.
    """
    home_create(home)
    account = unprivileged_uid()
    if account is None:
        return home
    home = home.resolve()
    record = home / _RECORD
    recorded = record.read_text().strip() if record.exists() else ""
    reachable = is_reachable(home, uid=account[0], gid=account[1])
    if recorded == "." or (not recorded and reachable):
        if not reachable:
            raise ServicesUnavailable(
                f"{home} holds the data of the services, and the account that runs them can't reach it any more",
                next_step="allow others to pass through its parent folders (chmod o+x), as before",
            )
        _write(record, ".")
        return home
    if recorded and _adopt(Path(recorded), home=home):
        return Path(recorded)
    root = SHARED_STATE / hashlib.sha256(str(home).encode()).hexdigest()[:16]
    for folder in (SHARED_STATE, root):
        home_create(folder)
    _write(root / _BACK_REFERENCE, str(home))
    _write(record, str(root))
    return root


def _adopt(root: Path, *, home: Path) -> bool:
    """Whether ``root`` belongs to this home: a home that was moved keeps its data, a copy of one gets its own."""
    try:
        owner = Path((root / _BACK_REFERENCE).read_text().strip())
    except OSError:
        return False
    if owner == home:
        return True
    if (owner / _RECORD).exists():
        return False
    _write(root / _BACK_REFERENCE, str(home))
    return True


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _bits_for(status: os.stat_result, *, uid: int, gid: int) -> int:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == uid:
        return mode >> 6 & 0o7
    if status.st_gid == gid:
        return mode >> 3 & 0o7
    return mode & 0o7

"""What opens a repository elsewhere, read from files and the environment: command lines are seen by others."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cli.errors import CliError
from cli.origins import RemoteOptions

_BYTES = 20_000
TOKEN_VARIABLE = "ARCHON_GIT_TOKEN"


def remote_options(
    *,
    url: str,
    token_file: Path | None = None,
    username: str = "",
    deploy_key: Path | None = None,
    known_hosts: Path | None = None,
    branch: str = "",
    subfolder: str = "",
    sync_minutes: int | None = None,
) -> RemoteOptions:
    """Credentials for the address ``url``; CliError for a file that can't be read."""
    # The variable may be set for other repositories: ssh has no use for it.
    token = os.environ.get(TOKEN_VARIABLE, "").strip() if url.startswith(("https://", "http://")) else ""
    return RemoteOptions(
        username=username,
        token=_read(token_file).strip() if token_file is not None else token,
        deploy_key=_read(deploy_key) if deploy_key is not None else "",
        known_hosts=_read(known_hosts) if known_hosts is not None else "",
        branch=branch,
        subfolder=subfolder,
        sync_minutes=sync_minutes,
    )


def token_read(path: Path) -> str:
    """A token from a file, or from standard input for ``-``. CliError for none."""
    token = (sys.stdin.read(_BYTES) if str(path) == "-" else _read(path)).strip()
    if not token:
        raise CliError(f"there is no token in {path}", next_step="put it there", code="invalid_input")
    return token


def _read(path: Path) -> str:
    try:
        with path.expanduser().open("rb") as file:
            content = file.read(_BYTES + 1)
        if len(content) > _BYTES:
            raise CliError(f"{path} is too large to be a key or a token", code="invalid_input")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path} can't be read: {error}", next_step="check the path", code="invalid_input") from None

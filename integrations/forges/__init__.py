"""Forges: what GitHub, GitLab and Gitea (Forgejo) have in common, a module each for what they don't.

addresses.py   which forge a host is, and where its API and its repositories are
http.py        requests, pages of lists, and what a refusal means
putting.py     a pull request for a branch: the one that is there, or a new one
"""

from __future__ import annotations

from collections.abc import Callable

import httpx

from .addresses import ForgeAddress
from .gitea import GiteaForge
from .github import GitHubForge
from .gitlab import GitLabForge
from .types import Forge, Kind

__all__ = ["forge_open"]

_FORGES: dict[Kind, Callable[..., Forge]] = {"github": GitHubForge, "gitlab": GitLabForge, "gitea": GiteaForge}


def forge_open(address: ForgeAddress, *, token: str, client: httpx.Client) -> Forge:
    """The forge at the address. ``client`` decides where requests may go; it keeps no cookie and follows nothing."""
    return _FORGES[address.kind](client=client, address=address, token=token)

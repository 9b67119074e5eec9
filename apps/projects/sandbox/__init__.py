"""The sandbox: a workspace to hold open, and single commands in a fresh one, kept by bubblewrap or by containers.

``workspace_open`` and ``sandbox_run`` are the ways in; ``sandbox_probe`` tells whether there is a sandbox at all.
Nothing here ever runs a command outside of one.
"""

from apps.projects.sandbox.adapter import (
    sandbox_identity,
    sandbox_path,
    sandbox_python,
    sandbox_run,
    sandbox_shows_programs,
    workspace_open,
)
from apps.projects.sandbox.held import SandboxWorkspace
from apps.projects.sandbox.owners import folder_own, sandbox_owner
from apps.projects.sandbox.rootfs import Bind

__all__ = [
    "Bind",
    "SandboxWorkspace",
    "folder_own",
    "sandbox_identity",
    "sandbox_owner",
    "sandbox_path",
    "sandbox_python",
    "sandbox_run",
    "sandbox_shows_programs",
    "workspace_open",
]

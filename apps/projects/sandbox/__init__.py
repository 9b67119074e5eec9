"""The bubblewrap sandbox: a workspace to hold open, and single commands in a fresh one.

``workspace_open`` and ``sandbox_run`` are the ways in; ``sandbox_probe`` tells whether there is a sandbox at all.
Nothing here ever runs a command outside of one.
"""

from apps.projects.sandbox.adapter import BubblewrapWorkspace, sandbox_run, workspace_open
from apps.projects.sandbox.owners import folder_own, sandbox_owner
from apps.projects.sandbox.rootfs import Bind

__all__ = ["Bind", "BubblewrapWorkspace", "folder_own", "sandbox_owner", "sandbox_run", "workspace_open"]

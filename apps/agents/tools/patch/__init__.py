"""Patches of several files: unified diffs, and V4A (``*** Begin Patch``)."""

from apps.agents.tools.patch.parsing import patch_format, patch_parse
from apps.agents.tools.patch.placing import hunks_apply
from apps.agents.tools.patch.types import FileChange, Hunk, PatchError

__all__ = ["FileChange", "Hunk", "PatchError", "hunks_apply", "patch_format", "patch_parse"]

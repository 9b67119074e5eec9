"""How much agents may do by themselves."""

from __future__ import annotations

from django.db import models


class Autonomy(models.TextChoices):
    """What agents may do without asking."""

    #: They look, and have no tool that changes anything.
    OBSERVE = "observe"
    #: Everything but reading asks.
    ASK = "ask"
    #: Edits in the worktree and the checks run; other commands than plain reads ask.
    AUTO_EDIT = "auto-edit"
    #: Everything in the sandbox runs, but for what rules say.
    AUTO = "auto"

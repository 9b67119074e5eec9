"""What a project's commands need and nobody may read: tokens, passwords. Stored encrypted, never shown again.

A session gets those that it names, and each only where it is said to go. Whatever prints one prints its name.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db.models import QuerySet

from apps.authentication.models import User
from apps.core.encryption import secret_decrypt, secret_encrypt
from apps.core.errors import ApplicationError, InvalidInput
from apps.core.redaction import NOTHING_SECRET, SHORTEST, Redactor
from apps.projects.models import Project, ProjectSecret
from apps.projects.selectors import project_get_for_user

#: Where a secret may go: to the agent's commands, to the set-up, to the checks.
PLACES = ("commands", "setup", "checks")
VALUE_LENGTH = 32_768
SECRETS_OF_A_PROJECT = 100
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
#: Variables by which programs are found and started, and the way out of the sandbox.
_RESERVED = re.compile(
    r"PATH|HOME|PWD|USER|LOGNAME|SHELL|TERM|LANG|TMPDIR|IFS|ENV|BASH_ENV|LD_.*|PYTHON.*|NODE_OPTIONS|.*_PROXY",
    re.IGNORECASE,
)


class SecretMissing(ApplicationError):
    """A secret that the session was started with is not stored any more."""

    code = "secret_missing"


@dataclass(frozen=True)
class SecretUse:
    """A secret by name, and where it goes."""

    name: str
    places: tuple[str, ...] = ("commands",)

    def __str__(self) -> str:
        return self.name if self.places == ("commands",) else f"{self.name}:{','.join(self.places)}"


@dataclass(frozen=True)
class SessionSecrets:
    """A session's secrets, by where they go: variables and their values."""

    commands: Mapping[str, str] = field(default_factory=dict)
    setup: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def redactor(self) -> Redactor:
        """Takes all of them out of whatever is written down."""
        known = {**self.commands, **self.setup, **self.checks}
        return Redactor(known) if known else NOTHING_SECRET

    def __repr__(self) -> str:
        return f"SessionSecrets({sorted({*self.commands, *self.setup, *self.checks})})"


def secret_list(*, user: User, project_id: uuid.UUID) -> QuerySet[ProjectSecret]:
    """The project's secrets by name; their values are nobody's to read."""
    project = project_get_for_user(user=user, project_id=project_id)
    return ProjectSecret.objects.filter(project=project).order_by("name")


def secret_store(*, user: User, project_id: uuid.UUID, name: str, value: str) -> tuple[ProjectSecret, bool]:
    """Store a secret, in the place of the one of that name if there is one; and whether it is new."""
    project = project_get_for_user(user=user, project_id=project_id, write=True)
    if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
        raise InvalidInput(
            "that is no name for a secret",
            next_step="name it as a variable (DEPLOY_TOKEN, say), and not as one that programs are started by",
        )
    if not SHORTEST <= len(value) <= VALUE_LENGTH or "\0" in value:
        # Without what was sent: it must not be found in a log of errors.
        raise InvalidInput(
            f"a secret has {SHORTEST} to {VALUE_LENGTH} characters, none of them NUL",
            next_step="a shorter one couldn't be told from ordinary words, and so not be kept out of what is shown",
        )
    others = ProjectSecret.objects.filter(project=project).exclude(name=name).count()
    if others >= SECRETS_OF_A_PROJECT:
        raise InvalidInput(f"the project has {others} secrets already", next_step="delete those that nobody needs")
    return ProjectSecret.objects.update_or_create(
        project=project, name=name, defaults={"value": secret_encrypt(value), "created_by": user}
    )


def secret_delete(*, user: User, project_id: uuid.UUID, name: str) -> None:
    """Forget a secret; one that isn't there is fine. Sessions that run have it until they are taken up again."""
    project = project_get_for_user(user=user, project_id=project_id, write=True)
    ProjectSecret.objects.filter(project=project, name=name).delete()


def secret_uses_read(asked: Sequence[str], *, project: Project) -> tuple[SecretUse, ...]:
    """``NAME`` or ``NAME:PLACE,PLACE`` each, all of them stored; else InvalidInput."""
    uses: dict[str, SecretUse] = {}
    for text in asked:
        name, separator, listed = text.strip().partition(":")
        places = tuple(dict.fromkeys(part.strip() for part in listed.split(","))) if separator else ("commands",)
        unknown = [place for place in places if place not in PLACES]
        if unknown:
            raise InvalidInput(
                f"a secret doesn't go to {unknown[0][:50]!r}", next_step=f"places are {', '.join(PLACES)}"
            )
        former = uses[name].places if name in uses else ()
        uses[name] = SecretUse(name, tuple(place for place in PLACES if place in (*former, *places)))
    stored = set(ProjectSecret.objects.filter(project=project, name__in=uses).values_list("name", flat=True))
    if missing := [name for name in uses if name not in stored]:
        raise InvalidInput(
            f"the project has no secret {missing[0][:100]!r}",
            next_step=f"store it first: POST /api/projects/{project.id}/secrets/, or archon secrets set",
        )
    return tuple(uses.values())


def session_secrets_load(*, project_id: uuid.UUID, uses: Sequence[Mapping[str, Any]]) -> SessionSecrets:
    """The values of what a session named (``{name, places}`` each). Raises SecretMissing and SecretUnreadable."""
    if not uses:
        return SessionSecrets()
    rows = ProjectSecret.objects.filter(project_id=project_id, name__in=[use["name"] for use in uses])
    values = {row.name: secret_decrypt(row.value, what=f"the secret {row.name}") for row in rows}
    found: dict[str, dict[str, str]] = {place: {} for place in PLACES}
    for use in uses:
        if use["name"] not in values:
            raise SecretMissing(
                f"the project's secret {use['name']} was deleted, and the session was started with it",
                next_step="store it again and resume the session",
            )
        for place in use["places"]:
            found[place][use["name"]] = values[use["name"]]
    return SessionSecrets(**found)


def project_redactor(*, project_id: uuid.UUID) -> Redactor:
    """Takes every secret of the project out of what leaves it. Raises SecretUnreadable rather than let one pass."""
    rows = ProjectSecret.objects.filter(project_id=project_id)
    values = {row.name: secret_decrypt(row.value, what=f"the secret {row.name}") for row in rows}
    return Redactor(values) if values else NOTHING_SECRET

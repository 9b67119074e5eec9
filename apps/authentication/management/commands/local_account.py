"""``manage.py local_account``: the account with which the command line works on its own machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.authentication.models import User
from apps.authentication.services.accounts import local_user_get_or_create
from apps.authentication.services.api_keys import api_key_create, api_key_credentials_get
from apps.core.errors import NotAuthenticated

_NAME = "cli-token"


class Command(BaseCommand):
    help = f"Get or make the local account and leave an API key of it in $ARCHON_HOME/{_NAME}; print the file's path."

    def handle(self, *args: Any, **options: Any) -> None:
        user = local_user_get_or_create()
        path = Path(settings.ARCHON_HOME) / _NAME
        if not _key_is_good(path, user):
            _write_private(path, api_key_create(user=user, name="command line").value)
        self.stdout.write(str(path))


def _key_is_good(path: Path, user: User) -> bool:
    try:
        return api_key_credentials_get(value=path.read_text().strip()).user == user
    except (FileNotFoundError, UnicodeDecodeError, NotAuthenticated):
        return False


def _write_private(path: Path, value: str) -> None:
    """Put the file in place whole, readable by its owner alone from its first moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{_NAME}-")
    with os.fdopen(descriptor, "w") as file:
        file.write(value + "\n")
    os.replace(temporary, path)

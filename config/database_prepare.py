"""Bring the database up to date and make the local account: ``python -m config.database_prepare``.

Two management commands in one process, since Django's start is most of what either takes.
"""

from __future__ import annotations

import sys

import django
import psycopg
from django.conf import settings
from django.core.management import call_command

from config.bootstrap import prepare

_CONNECT_SECONDS = 10


def main() -> None:
    prepare()
    _database_reach()
    django.setup()
    call_command("migrate", interactive=False)
    call_command("local_account")


def _database_reach() -> None:
    """End with the reason when the database can't be reached; Django's pool would try for half a minute first."""
    address = settings.DATABASES["default"]
    try:
        psycopg.connect(
            host=address["HOST"],
            port=address["PORT"],
            user=address["USER"],
            password=address["PASSWORD"],
            dbname=address["NAME"],
            connect_timeout=_CONNECT_SECONDS,
        ).close()
    except psycopg.OperationalError as error:
        sys.exit(f"the database at {address['HOST']}:{address['PORT']} can't be used: {error}")


if __name__ == "__main__":
    main()

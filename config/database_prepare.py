"""Bring the database up to date and make the local account: ``python -m config.database_prepare``.

Two management commands in one process, since Django's start is most of what either takes.
"""

from __future__ import annotations

import django
from django.core.management import call_command

from config.bootstrap import prepare
from config.database_migrate import database_migrate
from config.database_reach import database_reach


def main() -> None:
    prepare()
    database_reach()
    django.setup()
    database_migrate()
    call_command("local_account")


if __name__ == "__main__":
    main()

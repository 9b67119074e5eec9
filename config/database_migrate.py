"""Bring the database up to date: ``python -m config.database_migrate``. One process at a time, however many try.

Containers of several replicas may all do this when they start: the first one migrates, the others wait for it and find
nothing left to do.
"""

from __future__ import annotations

import sys
import time

import django
import psycopg
from django.conf import settings
from django.core.management import call_command

from config.bootstrap import prepare
from config.database_reach import database_reach

#: PostgreSQL's number for "who migrates"; it means nothing by itself.
LOCK = 0x6172_6368_6F6E
_ASK_AGAIN = 0.5


def database_migrate() -> None:
    """Apply what is missing, under a lock that the database lets go of with the connection that has it."""
    address = settings.DATABASES["default"]
    with psycopg.connect(
        host=address["HOST"],
        port=address["PORT"],
        user=address["USER"],
        password=address["PASSWORD"],
        dbname=address["NAME"],
        autocommit=True,
    ) as connection:
        told = False
        # Asked again and again rather than waited for within the database: a statement that waits holds a snapshot,
        # and making an index concurrently waits for all of those to be gone.
        while connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone() != (True,):
            if not told:
                sys.stderr.write("another process brings the database up to date; waiting for it …\n")
                sys.stderr.flush()
            told = True
            time.sleep(_ASK_AGAIN)
        call_command("migrate", interactive=False)


def main() -> None:
    prepare()
    database_reach()
    django.setup()
    database_migrate()


if __name__ == "__main__":
    main()

"""Whether the database can be used, asked once and at once."""

from __future__ import annotations

import sys

import psycopg
from django.conf import settings

_CONNECT_SECONDS = 10


def database_reach() -> None:
    """End the process with the reason when the database can't be reached.

    Django's pool would try again and again, and then not say what had been wrong.
    """
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
        sys.exit(
            f"the database at {address['HOST']}:{address['PORT']} can't be used: {error}\n"
            "Look at DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD; without DB_HOST an embedded one is started."
        )

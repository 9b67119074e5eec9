#!/usr/bin/env python
"""Django's command line, with the embedded services behind it where none are configured."""

from __future__ import annotations

import sys

from config.bootstrap import COMMANDS_WITHOUT_SERVICES, prepare


def main() -> None:
    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    prepare(command=command)
    if command not in COMMANDS_WITHOUT_SERVICES:
        from config.database_reach import database_reach

        database_reach()
    from django.core.management import execute_from_command_line

    import config.celery  # noqa: F401  (what a command sends goes to this queue)

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()

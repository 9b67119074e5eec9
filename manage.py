#!/usr/bin/env python
"""Django's command line, with the embedded services behind it where none are configured."""

from __future__ import annotations

import sys

from config.bootstrap import prepare


def main() -> None:
    prepare(command=sys.argv[1] if len(sys.argv) > 1 else "help")
    from django.core.management import execute_from_command_line

    import config.celery  # noqa: F401  (what a command sends goes to this queue)

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()

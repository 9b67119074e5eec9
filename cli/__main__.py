"""``python -m cli``, which is what ``./archon`` runs."""

from __future__ import annotations

import os
import sys

from config.bootstrap import BASE_DIR, variables_read
from integrations.embedded.errors import ServicesUnavailable


def main() -> None:
    # The launcher's way of finding us; what we start has its own.
    if os.environ.get("PYTHONPATH") == str(BASE_DIR):
        del os.environ["PYTHONPATH"]
    try:
        variables_read()
    except ServicesUnavailable as error:
        sys.exit(str(error))
    from cli.main import run

    run(sys.argv[1:])


if __name__ == "__main__":
    main()

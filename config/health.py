"""Whether the API beside this process answers: ``python -m config.health``, for a container's health check.

Exit code 0: it does. A name under which the API may be addressed is used, since it refuses others.
"""

from __future__ import annotations

import http.client
import os
import sys

_SECONDS = 4


def main() -> None:
    port = os.environ.get("ARCHON_BIND", ":8000").rpartition(":")[2]
    names = os.environ.get("DJANGO_ALLOWED_HOSTS") or "localhost"
    name = names.split(",")[0].strip().removeprefix(".").replace("*", "localhost")
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=_SECONDS)
    try:
        connection.request("GET", "/api/health/", headers={"Host": name})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"the API on port {port} doesn't answer: {error}")
    if answer.status != 200:
        sys.exit(f"the API on port {port} answers {answer.status}")


if __name__ == "__main__":
    main()

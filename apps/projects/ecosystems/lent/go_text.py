"""Keep the events of ``go test -json`` in a file, and print what they say. Standard library only.

go test -json ./... 2>&1 | go_text.py FILE
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    with open(sys.argv[1], "wb") as kept:
        for line in sys.stdin.buffer:
            kept.write(line)
            text = line.decode("utf-8", "replace")
            try:
                event = json.loads(text)
                text = event.get("Output", "")
            except (ValueError, AttributeError, RecursionError):
                # The compiler's own words.
                pass
            # What a quiet run would say of each test that it starts is left out.
            if isinstance(text, str) and not text.lstrip().startswith(("=== RUN", "=== PAUSE", "=== CONT")):
                sys.stdout.write(text)
                sys.stdout.flush()


main()

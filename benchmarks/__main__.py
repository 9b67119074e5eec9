"""``./archon bench NAME``: every module here is a benchmark with ``main(argv) -> exit code``; ``_`` reads ``-``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    stems = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    modules = {stem.replace("_", "-"): stem for stem in stems}
    if not arguments or arguments[0] not in modules:
        unknown = f"no benchmark is called {arguments[0]}; " if arguments and not arguments[0].startswith("-") else ""
        print(f"{unknown}archon bench NAME [--json], with NAME one of: {', '.join(modules)}", file=sys.stderr)
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    code: int = importlib.import_module(f"benchmarks.{modules[arguments[0]]}").main(arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``./archon train NAME``: every module that is named here has ``main(argv) -> exit code``."""

from __future__ import annotations

import importlib
import os
import sys

COMMANDS = {
    "embedder": "fetch, read and train: from the list of packages to the model",
    "kinds": "which words of a question ask for a class, and which for a function",
    "packages": "put archives on the list of packages, with version, hash and licence",
    "questions": "a package without its doc comments, and the questions that they are",
    "evaluate": "how well a model answers questions, beside BM25 and fused with it",
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        lines = [f"  {name:10} {what}" for name, what in COMMANDS.items()]
        print("\n".join(["archon train NAME, with NAME one of:", *lines]), file=sys.stderr)
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    # One thread for sums, before anything loads numpy: the same order of additions each time.
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    code: int = importlib.import_module(f"training.{arguments[0]}").main(arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

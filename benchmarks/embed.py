"""How fast the embedders of this machine are: functions of installed packages a CPU-second, from raw text.

CPU time is that of all processes that took part, so that neither a busy machine nor the number of processes counts.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from integrations.embedders import minilm, static
from integrations.embedders.processes import REQUEST_TEXTS, ProcessPool

#: What is embedded: what any installation has, in an order that stays.
_PACKAGE = "django"
_FUNCTION_LINES = 3


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench embed")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--documents", type=int, default=4_000, help="functions to embed")
    parser.add_argument("--minilm-documents", type=int, default=256, help="of these, as many by minilm, which is slow")
    parser.add_argument("--processes", type=int, default=1, help="processes that embed")
    arguments = parser.parse_args(argv)
    if min(arguments.documents, arguments.minilm_documents, arguments.processes) < 1:
        parser.error("--documents, --minilm-documents and --processes are 1 at least")
    documents = _documents(arguments.documents)
    embedders = {
        "archon-static": _static(documents),
        "minilm": _minilm(documents[: arguments.minilm_documents], arguments.processes),
    }
    ratio = embedders["archon-static"]["docs_per_cpu_s"] / embedders["minilm"]["docs_per_cpu_s"]
    result = {
        "documents": len(documents),
        "minilm_documents": min(len(documents), arguments.minilm_documents),
        "characters": sum(map(len, documents)),
        "embedders": embedders,
        "ratio": round(ratio, 1),
        "processes": arguments.processes,
        "cpus": os.cpu_count(),
    }
    print(
        json.dumps(result, indent=2)
        if arguments.json
        else "\n".join(f"{key}: {value}" for key, value in result.items())
    )
    return 0


def _static(documents: list[str]) -> dict[str, float]:
    """In this process, whatever ``--processes`` says, and from the first text on: nothing is warmed up."""
    before = psutil.Process().memory_info().rss
    began = time.monotonic()
    engine = static.engine("document")
    asking = static.engine("query")
    load_s = time.monotonic() - began
    cpu_before, began = time.process_time(), time.monotonic()
    engine.embed(documents)
    wall_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_before
    rss = psutil.Process().memory_info().rss - before
    queries = [document[:80] for document in documents[:200]]
    asking.embed(queries)
    began = time.process_time()
    for query in queries:
        asking.embed([query])
    query_ms = (time.process_time() - began) / len(queries) * 1000
    return {
        "docs_per_cpu_s": round(len(documents) / cpu_s, 1),
        "docs_per_s": round(len(documents) / wall_s, 1),
        "query_ms": round(query_ms, 3),
        "load_s": round(load_s, 2),
        "rss_mb": round(rss / 1024 / 1024, 1),
        "dimension": static.DIMENSION,
    }


def _minilm(documents: list[str], processes: int) -> dict[str, float]:
    pool = minilm.pool(size=processes, idle_s=600.0, niceness=0)
    try:
        # Loading the model is counted apart.
        began = time.monotonic()
        pool.embed(documents[:1])
        load_s = time.monotonic() - began
        # All of them are started by as much as keeps all of them at it.
        pool.embed((documents * processes)[: 4 * REQUEST_TEXTS * processes])
        cpu_before, began = _cpu(pool), time.monotonic()
        pool.embed(documents)
        wall_s = time.monotonic() - began
        cpu_s = _cpu(pool) - cpu_before
        rss = sum(psutil.Process(pid).memory_info().rss for pid in pool.pids())
        queries = documents[:20]
        began = time.monotonic()
        for query in queries:
            pool.embed([query[:80]])
        query_ms = (time.monotonic() - began) / len(queries) * 1000
    finally:
        pool.close()
    return {
        "docs_per_cpu_s": round(len(documents) / cpu_s, 1),
        "docs_per_s": round(len(documents) / wall_s, 1),
        "query_ms": round(query_ms, 2),
        "load_s": round(load_s, 2),
        "rss_mb": round(rss / 1024 / 1024, 1),
        "dimension": minilm.DIMENSION,
    }


def _cpu(pool: ProcessPool) -> float:
    """CPU seconds of this process and those of the pool."""
    own = time.process_time()
    return own + sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pool.pids())


def _documents(count: int) -> list[str]:
    """Functions of the package, with path and name in front, as an index embeds them."""
    found = list(_functions(count))
    if len(found) < count:
        print(f"only {len(found)} functions to embed here", file=sys.stderr)
    return found


def _functions(count: int) -> Iterator[str]:
    root = Path(sys.modules[_PACKAGE].__path__[0]) if _PACKAGE in sys.modules else _root()
    made = 0
    for path in sorted(root.rglob("*.py")):
        source = path.read_text(errors="replace")
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= _FUNCTION_LINES - 1:
                body = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                yield f"{path.relative_to(root.parent)} {node.name}\n{body}"
                made += 1
                if made == count:
                    return


def _root() -> Path:
    import importlib.util

    spec = importlib.util.find_spec(_PACKAGE)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent

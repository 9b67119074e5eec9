"""``archon bench search``: how well and how fast code is found, for queries whose answers are known.

Each line of the queries is ``{"query", "relevant": [PATH, …]}`` or ``{"query", "relevant_symbols": [NAME, …]}``: a
qualified name, or one with its file in front (``PATH::NAME``). All of the way is measured, from the query's text to
hits that were held against their files.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._code_stack import project_of, repository_copy, stack_alone

_MODES = ("hybrid", "text", "vector", "symbol", "regex")
_DEPTH = 10


@dataclass(frozen=True)
class Question:
    query: str
    relevant: frozenset[str]
    by_symbol: bool


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench search", description=__doc__)
    parser.add_argument("--repo", type=Path, required=True, help="a folder, or a repository (its last commit)")
    parser.add_argument("--queries", type=Path, required=True, help="JSON lines")
    parser.add_argument("--mode", choices=_MODES, default="hybrid")
    parser.add_argument("--limit", type=int, default=0, help="so many queries, evenly chosen (0: all)")
    parser.add_argument("--second", default="", metavar="EMBEDDER", help="a third signal, such as minilm")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_args(argv)
    questions = questions_read(options.queries)
    if options.limit and len(questions) > options.limit:
        step = len(questions) / options.limit
        questions = [questions[int(number * step)] for number in range(options.limit)]
    with stack_alone(second=options.second) as folder:
        report = _measure(folder, repository_copy(options.repo, folder / "repository"), questions, options.mode)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:16} {value}")
    return 0


def questions_read(path: Path) -> list[Question]:
    """The questions of a file; what can't be understood ends the benchmark, with the line."""
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
            by_symbol = "relevant_symbols" in told
            relevant = frozenset(told["relevant_symbols" if by_symbol else "relevant"])
            found.append(Question(told["query"], relevant, by_symbol))
        except (ValueError, KeyError, TypeError) as error:
            sys.exit(f"{path}, line {number}: {error!r}; write {{query, relevant}} or {{query, relevant_symbols}}")
    if not found:
        sys.exit(f"{path} has no queries")
    return found


def ranks(questions: Sequence[Question], answers: Iterable[Sequence[Any]]) -> list[int]:
    """The place of the first right hit for each question; 0: none of them is."""
    found = []
    for question, hits in zip(questions, answers, strict=True):
        places: dict[str, int] = {}
        for hit in hits:
            # Several hits in one file are one file.
            name = hit.path if not question.by_symbol else f"{hit.path}::{hit.symbol}"
            if name not in places:
                places[name] = len(places) + 1
        right = [place for name, place in places.items() if _is_right(name, question)]
        found.append(min(right, default=0))
    return found


def _is_right(name: str, question: Question) -> bool:
    if not question.by_symbol:
        return name in question.relevant
    path, _, symbol = name.partition("::")
    module = path.rsplit(".", 1)[0].replace("/", ".").removesuffix(".__init__")
    spellings = {name, symbol, f"{path}:{symbol}", f"{path}#{symbol}", f"{module}.{symbol}"}
    return any(
        each in spellings or ("." not in each and each == symbol.rpartition(".")[2]) for each in question.relevant
    )


def _measure(folder: Path, repository: Path, questions: Sequence[Question], mode: str) -> dict[str, Any]:
    from apps.context.indexing import index_run
    from apps.context.jobs import job_want
    from apps.context.models import CodeChunk
    from apps.context.searching.search import code_search
    from apps.context.types import SearchRequest

    project, _ = project_of(folder, repository)
    started = time.monotonic()
    job = job_want(project=project)
    index_run(index_id=job.index_id)
    job.refresh_from_db()
    if job.state != "completed":
        sys.exit(f"the repository could not be indexed: {job.reason}")
    print(f"indexed in {time.monotonic() - started:.1f} s", file=sys.stderr)
    vectors = "not asked for"
    if mode in ("vector", "hybrid"):
        from apps.context.vectors import vectors_fill
        from apps.vector_store.spaces import statuses

        started = time.monotonic()
        vectors_fill(project_id=project.id)
        told = statuses(project.id)
        vectors = ", ".join(f"{each.embedder_key} {each.state}" for each in told if each.state != "off")
        print(f"vectors: {vectors} after {time.monotonic() - started:.1f} s", file=sys.stderr)
        if any(each.state not in ("ready", "off") for each in told):
            sys.exit("a search by meaning can't be measured before all vectors are there")
    answers, seconds = [], []
    # The first one loads what all need.
    code_search(project=project, request=SearchRequest(query="first", mode=mode))  # type: ignore[arg-type]
    for question in questions:
        began = time.perf_counter()
        result = code_search(
            project=project,
            request=SearchRequest(query=question.query, mode=mode, limit=_DEPTH * 2),  # type: ignore[arg-type]
        )
        seconds.append(time.perf_counter() - began)
        answers.append(result.hits)
    places = ranks(questions, answers)
    ordered = sorted(seconds)
    return {
        "mode": mode,
        "queries": len(questions),
        "recall_at_1": _share(places, 1),
        "recall_at_5": _share(places, 5),
        "recall_at_10": _share(places, 10),
        "mrr_at_10": round(statistics.mean(1 / place if 0 < place <= _DEPTH else 0.0 for place in places), 4),
        "p50_ms": round(1000 * ordered[len(ordered) // 2], 1),
        "p95_ms": round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 1),
        "chunks": CodeChunk.objects.count(),
        "vectors": vectors,
    }


def _share(places: Sequence[int], k: int) -> float:
    return round(sum(1 for place in places if 0 < place <= k) / len(places), 4)

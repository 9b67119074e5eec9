"""``./archon train evaluate --corpus FOLDER QUESTIONS …``: how well a model answers questions about code.

The questions are those of ``archon bench search`` (``{"query", "relevant_symbols": ["PATH::NAME"]}``), the documents
are the folder's chunks as an index makes them, and count by their kinds as in search. Vectors alone, BM25 alone, and
both fused; questions about functions and about classes by themselves, and those apart that share no word with the name
of what answers them, since those are what vectors are for.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from apps.context.parsing.parse import file_parse
from apps.context.searching.fusion import STATIC_TEXT_WEIGHT, TEXT_WEIGHT, kind_weights
from integrations.embedders import minilm, static
from integrations.embedders.static.model import StaticModel
from integrations.embedders.static.stems import text_stems
from training.ranking import Bm25, figures, fused, ranks, scaled

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Task(NamedTuple):
    documents: list[str]
    kinds: list[str]
    queries: list[str]
    #: The documents that answer each query.
    answers: list[list[int]]
    names: list[str]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon train evaluate", description=__doc__)
    parser.add_argument("--corpus", nargs=2, type=Path, action="append", required=True, metavar=("FOLDER", "QUESTIONS"))
    parser.add_argument("--model", type=Path, default=static.FOLDER)
    parser.add_argument("--minilm", action="store_true", help="MiniLM beside it: minutes for each thousand functions")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_args(argv)
    model = StaticModel(options.model)
    report: dict[str, Any] = {}
    for folder, questions in options.corpus:
        task = task_read(folder, questions)
        report[folder.name] = task_measure(task, model, with_minilm=options.minilm)
        if not options.json:
            table_print(folder.name, report[folder.name])
    if options.json:
        print(json.dumps(report, indent=2))
    return 0


def task_read(folder: Path, questions: Path) -> Task:
    """The folder's chunks, and the questions of which at least one answer is among them."""
    documents: list[str] = []
    kinds: list[str] = []
    where: dict[str, list[int]] = {}
    for path, content in folder_files(folder):
        for chunk in file_parse(path=path, content=content).chunks:
            where.setdefault(f"{path}::{chunk.qualified_name}", []).append(len(documents))
            documents.append(f"{chunk.header}\n{chunk.text}")
            kinds.append(chunk.kind)
    queries, answers, names = [], [], []
    for line in questions.read_text("utf-8").splitlines():
        told = json.loads(line)
        found = [number for symbol in told["relevant_symbols"] for number in where.get(symbol, ())]
        if found:
            queries.append(told["query"])
            answers.append(found)
            names.append(told["relevant_symbols"][0].rpartition("::")[2].rpartition(".")[2])
    return Task(documents, kinds, queries, answers, names)


def folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size <= 1_000_000:
            yield str(path.relative_to(folder)), path.read_bytes()


def task_measure(task: Task, model: StaticModel, *, with_minilm: bool) -> dict[str, Any]:
    began = time.process_time()
    documents = model.embed(task.documents, kind="document")
    seconds = time.process_time() - began
    queries = model.embed(task.queries, kind="query")
    text = Bm25(task.documents)
    worded = np.stack([text.scores(query) for query in task.queries])
    vectors = queries @ documents.T
    by_way: dict[str, NDArray[Any]] = {
        "text": worded,
        # On their scale before kinds count: the best cosines differ by less than kinds do.
        "vector": scaled(vectors),
        "fused": fused(worded, vectors, text_share=STATIC_TEXT_WEIGHT),
    }
    if with_minilm:
        pool = minilm.pool(size=1, idle_s=60.0, niceness=0)
        try:
            other = pool.embed(task.queries) @ pool.embed(task.documents).T
        finally:
            pool.close()
        by_way["minilm"] = scaled(other)
        by_way["text+minilm"] = fused(worded, other, text_share=TEXT_WEIGHT)
        by_way["text+vector+minilm"] = (scaled(worded) + scaled(vectors) + scaled(other)) / 3
    weights = kinds_matrix(task)
    classes = np.array([task.kinds[answer[0]] == "class" for answer in task.answers])
    apart = np.array([not shares_a_stem(query, name) for query, name in zip(task.queries, task.names, strict=True)])
    report: dict[str, Any] = {
        "documents": len(task.documents),
        "questions": len(task.queries),
        "docs_per_cpu_s": round(len(task.documents) / max(seconds, 1e-9)),
    }
    for way, scores in by_way.items():
        places = ranks(scores * weights, task.answers)
        report[way] = asdict(figures(places)) | {
            "no_shared_word": asdict(figures(places[apart])),
            "functions": asdict(figures(places[~classes])),
            "classes": asdict(figures(places[classes])),
        }
    return report


def kinds_matrix(task: Task) -> NDArray[np.float32]:
    """What each document counts by its kind, by question."""
    kinds = sorted(set(task.kinds))
    column = np.array([kinds.index(kind) for kind in task.kinds])
    counted = [kind_weights(query) for query in task.queries]
    by_kind = np.array([[each.get(kind, 1.0) for kind in kinds] for each in counted], dtype=np.float32)
    made: NDArray[np.float32] = by_kind[:, column]
    return made


def shares_a_stem(query: str, name: str) -> bool:
    return bool(text_stems(query) & text_stems(name))


def table_print(name: str, report: dict[str, Any]) -> None:
    print(
        f"{name}: {report['documents']} documents, {report['questions']} questions,"
        f" {report['docs_per_cpu_s']} documents a CPU-second"
    )
    for way, told in report.items():
        if not isinstance(told, dict):
            continue
        apart, functions, classes = (told[part] for part in ("no_shared_word", "functions", "classes"))
        print(
            f"  {way:20} MRR@10 {told['mrr_at_10']:.3f}  R@1 {told['recall_at_1']:.3f}  R@10 {told['recall_at_10']:.3f}"
            f"   functions ({functions['questions']}): {functions['mrr_at_10']:.3f}"
            f"  classes ({classes['questions']}): {classes['mrr_at_10']:.3f}"
            f"   no shared word ({apart['questions']}): {apart['mrr_at_10']:.3f}"
        )

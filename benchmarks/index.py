"""``archon bench index``: how long a repository takes to be indexed, and how soon a change is found.

All in this process and its parsers, as a worker does it, with services of its own: the queue's milliseconds are not in.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks._code_stack import git, project_of, repository_copy, stack_alone

_CHANGES = 7
_SAMPLE_SECONDS = 0.1


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench index", description=__doc__)
    parser.add_argument("--repo", type=Path, required=True, help="a folder, or a repository (its last commit)")
    parser.add_argument("--vectors", action="store_true", help="has no effect: vectors are always waited for")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_args(argv)
    with stack_alone() as folder:
        report = _measure(folder, repository_copy(options.repo, folder / "repository"))
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:16} {value}")
    return 0


def _measure(folder: Path, repository: Path) -> dict[str, Any]:
    from django.db.models import Sum

    from apps.context.models import CodeChunk, CodeFile, CodeSymbol

    project, _ = project_of(folder, repository)
    with _watched() as peak:
        job, wall, cpu = _run(project)
        vectors, filled, embedded = _vectors_fill(project)
        files = CodeFile.objects.exclude(state="skipped")
        read, lines = files.count(), files.aggregate(lines=Sum("lines"))["lines"] or 0
        chunks, symbols = CodeChunk.objects.count(), CodeSymbol.objects.count()
        skipped = CodeFile.objects.filter(state="skipped").count()
        _, noop, _ = _run(project)
        changes = list(_changes(project, repository))
        catch_up, _, _ = _vectors_fill(project)
    return {
        "files": read,
        "lines": lines,
        "chunks": chunks,
        "symbols": symbols,
        "skipped": skipped,
        "text_ready_s": round((job.text_ready_at - job.started_at).total_seconds(), 2),
        # From the same beginning; a worker fills vectors once all files are read.
        "vectors_ready_s": round(wall + filled, 2) if vectors == catch_up == "ready" else None,
        "vectors": vectors if vectors != "ready" else catch_up,
        "embed_cpu_s": round(embedded, 2),
        "cpu_s": round(cpu, 2),
        "wall_s": round(wall, 2),
        "noop_s": round(noop, 3),
        "incremental_ms": round(1000 * statistics.median(changes), 1) if changes else None,
        "peak_rss_mb": round(peak[0] / 2**20),
        "load": round(os.getloadavg()[0], 2),
    }


def _run(project: Any) -> tuple[Any, float, float]:
    """The job, and the seconds and CPU seconds that it took, its parsers' and PostgreSQL's included."""
    from apps.context.indexing import index_run
    from apps.context.jobs import job_want

    job = job_want(project=project)
    began, cpu = time.monotonic(), _cpu_all()
    index_run(index_id=job.index_id)
    took = time.monotonic() - began
    used = _cpu_all() - cpu
    job.refresh_from_db()
    if job.state != "completed":
        sys.exit(f"the repository could not be indexed: {job.reason}")
    return job, took, used


def _changes(project: Any, repository: Path) -> Iterator[float]:
    """How long it takes from a commit that changes one file until what it says is found."""
    from apps.context.models import CodeFile
    from apps.context.searching.search import code_search
    from apps.context.types import SearchRequest
    from apps.projects.git import git_run
    from apps.projects.models import Project
    from apps.projects.repository import repository_path

    files = list(CodeFile.objects.exclude(state="skipped").exclude(symbol_count=0).order_by("lines"))
    # Of middling size, since most are.
    file = files[len(files) // 2] if files else CodeFile.objects.exclude(state="skipped").first()
    if file is None:
        return
    for number in range(_CHANGES):
        word = f"changed{time.time_ns()}word"
        target = repository / file.path
        target.write_text(f"{target.read_text('utf-8', 'replace')}\n# {word} {number}\n", "utf-8")
        git(repository, "commit", "--quiet", "--all", "--message", word)
        commit = git(repository, "rev-parse", "HEAD")
        git_run(
            "fetch", "-q", str(repository), "+HEAD:refs/heads/main",
            git_dir=repository_path(project_id=project.id), protocol="file",
        )  # fmt: skip
        Project.objects.filter(id=project.id).update(head_commit=commit)
        project.refresh_from_db()
        began = time.monotonic()
        _run(project)
        found = code_search(project=project, request=SearchRequest(query=word, mode="text"))
        took = time.monotonic() - began
        if not found.hits or found.hits[0].path != file.path:
            sys.exit(f"what was changed in {file.path} is not found")
        yield took


def _vectors_fill(project: Any) -> tuple[str, float, float]:
    """Give every chunk its vector: how far that came, and the seconds and CPU seconds that it took."""
    from apps.context.vectors import vectors_fill

    began, cpu = time.monotonic(), _cpu_all()
    state = vectors_fill(project_id=project.id)
    took, used = time.monotonic() - began, _cpu_all() - cpu
    if state != "ready":
        print(f"the vectors are {state}", file=sys.stderr)
    return state, took, used


def _cpu_all() -> float:
    """CPU seconds of this process, its children (alive and waited for) and PostgreSQL's processes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    waited = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = used.ru_utime + used.ru_stime + waited.ru_utime + waited.ru_stime
    for process in (*psutil.Process().children(recursive=True), *_postgres()):
        try:
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        except psutil.Error:
            continue
    return total


def _postgres() -> list[psutil.Process]:
    from integrations.embedded.layout import Layout
    from integrations.embedded.presence import owner_pid

    supervisor = owner_pid(Layout(Path(os.environ["ARCHON_HOME"])).lock)
    if supervisor is None:
        return []
    try:
        return list(psutil.Process(supervisor).children(recursive=True))
    except psutil.Error:
        return []


@contextmanager
def _watched() -> Iterator[list[float]]:
    """The most memory that this process and its children have at once, in bytes."""
    peak = [0.0]
    ended = threading.Event()

    def look() -> None:
        own = psutil.Process()
        while not ended.wait(_SAMPLE_SECONDS):
            total = 0.0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()

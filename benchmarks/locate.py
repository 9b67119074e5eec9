"""``archon bench locate``: do the files that a fix changed stand among the first that an issue's text leads to?

Each line of the instances is ``{"repo": path or URL, "commit", "text", "relevant": ["path", …]}``. The repository is
read at the commit, and of its history the ancestors alone. Works by itself: no database, no services.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.context.locating.document import FileTerms, file_terms
from apps.context.locating.files_index import FilesIndex
from apps.context.locating.locate import Located, locate
from apps.context.locating.memory import CommitMemory, MemoryTerms, MemoryView
from apps.context.locating.postings import Floats, over_maximum
from apps.context.parsing.languages import HEAD_BYTES, language_of
from apps.context.parsing.parse import PARSED_BYTES, file_parse
from apps.projects.git import GitError, git_run
from integrations.embedders.static import engine

if TYPE_CHECKING:
    from integrations.embedders.static.model import Vectors

_KINDS = (1, 5, 10, 20)
#: Among so many of the first, what the vectors say may change the order.
_REORDERED = 100
_OUTPUT = 4 << 30


@dataclass
class Repository:
    """A repository whose files and history are read once, whatever the commits asked for."""

    git_dir: Path
    terms: dict[tuple[str, str], FileTerms] = field(default_factory=dict)
    memory: CommitMemory = field(default_factory=CommitMemory.empty)
    words: MemoryTerms | None = None
    #: Whether contents are embedded as well, and the vectors of their pieces.
    embeds: bool = False
    vectors: dict[tuple[str, str], Vectors] = field(default_factory=dict)
    #: What each path held at the last commit that was asked for.
    contents: dict[str, tuple[str, str]] = field(default_factory=dict)

    def git(self, arguments: Sequence[str]) -> bytes:
        return git_run(*arguments, git_dir=self.git_dir, timeout=1_800, max_output=_OUTPUT).stdout

    def index(self, commit: str) -> FilesIndex:
        listed = self.git(["ls-tree", "-r", "-z", "-l", "--full-tree", commit]).split(b"\x00")
        entries: list[tuple[str, str, str]] = []
        for line in listed:
            head, _, raw = line.partition(b"\t")
            parts = head.split()
            if len(parts) != 4 or parts[0] == b"120000" or parts[1] != b"blob":
                continue
            path = raw.decode("utf-8", "replace")
            if int(parts[3]) <= PARSED_BYTES and (language := language_of(path, b"")) is not None:
                entries.append((path, parts[2].decode(), language))
        self._read([(path, sha, language) for path, sha, language in entries if (sha, language) not in self.terms])
        self.contents = {path: (sha, language) for path, sha, language in entries if (sha, language) in self.terms}
        return FilesIndex({path: self.terms[content] for path, content in self.contents.items()})

    def resemblance(self, title: str, files: FilesIndex) -> Floats:
        """The likeness of each file's likeliest piece to the title, from 0 to 1 as the other signals."""
        query = engine("query").embed([title])[0]
        likeliest = [np.max(self.vectors[self.contents[path]] @ query, initial=0.0) for path in files.paths]
        return over_maximum(np.array(likeliest, np.float32), files.is_code)

    def view(self, commit: str, files: FilesIndex) -> MemoryView:
        self.memory.grow(git=self.git, heads=[commit])
        if self.words is None:
            self.words = MemoryTerms(self.memory)
        self.words.follow(self.memory)
        return MemoryView(self.words, head=commit, files=files)

    def _read(self, entries: list[tuple[str, str, str]]) -> None:
        process = subprocess.Popen(
            ["git", "--git-dir", str(self.git_dir), "cat-file", "--batch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None and process.stdout is not None
        with process:
            for path, sha, language in entries:
                if (sha, language) in self.terms:
                    continue
                process.stdin.write(f"{sha}\n".encode())
                process.stdin.flush()
                head = process.stdout.readline().split()
                if len(head) != 3:
                    continue
                content = process.stdout.read(int(head[2]) + 1)[:-1]
                parsed = file_parse(path=path, content=content)
                if language_of(path, content[:HEAD_BYTES]) and not parsed.is_generated:
                    self.terms[sha, language] = file_terms(
                        language=parsed.language, chunks=parsed.chunks, symbols=parsed.symbols
                    )
                    if self.embeds:
                        texts = [f"{chunk.header}\n{chunk.text}" for chunk in parsed.chunks]
                        self.vectors[sha, language] = engine("document").embed(texts)
            process.stdin.close()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="archon bench locate", description=__doc__)
    parser.add_argument("--instances", type=Path, required=True, help="a file of one JSON document a line")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--limit", type=int, default=0, help="stop after so many instances")
    parser.add_argument("--details", type=Path, help="write a line for each instance there: what was ranked, and why")
    parser.add_argument(
        "--vectors",
        type=float,
        metavar="WEIGHT",
        help="measure besides how it would be with this weight on how like the title's vector a file's pieces are",
    )
    options = parser.parse_args(argv)
    try:
        instances = _instances(options.instances)
    except (OSError, ValueError) as error:
        print(f"The instances can't be read: {error}", file=sys.stderr)
        return 2
    instances.sort(key=lambda each: str(each["repo"]))
    with tempfile.TemporaryDirectory(prefix="archon-bench-") as folder:
        report, details = _measure(instances[: options.limit or None], Path(folder), vectors=options.vectors)
    if options.details:
        options.details.write_text("".join(json.dumps(each) + "\n" for each in details))
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:16} {value}")
    return 0 if report["instances"] else 1


def _instances(path: Path) -> list[dict[str, Any]]:
    made = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        each = json.loads(line)
        missing = {"repo", "commit", "text", "relevant"} - set(each if isinstance(each, dict) else ())
        if missing:
            raise ValueError(f"line {number} has no {', '.join(sorted(missing))}")
        made.append(each)
    return made


def _measure(
    instances: list[dict[str, Any]], folder: Path, *, vectors: float | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found: list[list[int]] = []
    reordered: list[list[int]] = []
    relevant: list[int] = []
    index_seconds: list[float] = []
    query_seconds: list[float] = []
    vectors_seconds: list[float] = []
    details: list[dict[str, Any]] = []
    failed: list[str] = []
    repository, opened = None, ""
    for number, instance in enumerate(instances):
        if repository is None or opened != instance["repo"]:
            try:
                repository = Repository(_git_dir(str(instance["repo"]), folder), embeds=vectors is not None)
                opened = instance["repo"]
            except (GitError, OSError, subprocess.SubprocessError) as error:
                failed.append(f"{instance['repo']}: {error}")
                repository = None
                continue
        started = time.perf_counter()
        try:
            commit = repository.git(["rev-parse", "--verify", f"{instance['commit']}^{{commit}}"]).decode().strip()
            files = repository.index(commit)
            view = repository.view(commit, files)
        except GitError as error:
            failed.append(f"{instance['repo']} {instance['commit']}: {error}")
            continue
        index_seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        located = locate(files=files, memory=view, text=str(instance["text"]), limit=max(_KINDS))
        query_seconds.append(time.perf_counter() - started)
        wanted = {str(path) for path in instance["relevant"]}
        found.append([rank for rank, each in enumerate(located, 1) if each.path in wanted])
        relevant.append(len(wanted))
        if vectors is not None:
            first = locate(files=files, memory=view, text=str(instance["text"]), limit=_REORDERED)
            started = time.perf_counter()
            alike = repository.resemblance(_title(str(instance["text"])), files)
            order = _reorder(first, files, np.float32(vectors) * alike)
            vectors_seconds.append(time.perf_counter() - started)
            reordered.append([rank for rank, path in enumerate(order[: max(_KINDS)], 1) if path in wanted])
        details.append(
            {
                "repo": instance["repo"],
                "commit": commit,
                "text": str(instance["text"])[:200],
                "relevant": sorted(wanted),
                "ranks": found[-1],
                "located": [[each.path, each.score, each.reasons, dict(each.signals)] for each in located[:10]],
            }
        )
        print(f"{number + 1} of {len(instances)}: {found[-1][:1] or 'not found'}", file=sys.stderr)
    with_vectors: dict[str, Any] | None = None
    if vectors is not None:
        firsts = [(_first(before), _first(after)) for before, after in zip(found, reordered, strict=True)]
        with_vectors = {
            "weight": vectors,
            **_recalls(reordered, relevant),
            "better": sum(after < before for before, after in firsts),
            "worse": sum(after > before for before, after in firsts),
            "better_at_1": sum(after == 1 < before for before, after in firsts),
            "worse_at_1": sum(before == 1 < after for before, after in firsts),
            "p95_ms": _quantile(vectors_seconds, 0.95),
        }
    shares = _recalls(found, relevant)
    report: dict[str, Any] = {
        "instances": len(found),
        "failed": failed,
        "recall_at_1": shares["recall_at_1"],
        "recall_at_5": shares["recall_at_5"],
        "recall_at_10": shares["recall_at_10"],
        "recall_at_20": shares["recall_at_20"],
        "all_at_1": shares["all_at_1"],
        "all_at_5": shares["all_at_5"],
        "all_at_10": shares["all_at_10"],
        "all_at_20": shares["all_at_20"],
        "mrr": shares["mrr"],
        "index_s": _mean(index_seconds),
        "p50_ms": _quantile(query_seconds, 0.5),
        "p95_ms": _quantile(query_seconds, 0.95),
        "with_vectors": with_vectors,
    }
    return report, details


def _recalls(found: list[list[int]], relevant: list[int]) -> dict[str, float]:
    """The shares for the ranks that each instance's relevant files have, and for how many there are."""
    any_at = [_mean([float(any(rank <= k for rank in ranks)) for ranks in found]) for k in _KINDS]
    all_at = [
        _mean([sum(rank <= k for rank in ranks) / max(1, count) for ranks, count in zip(found, relevant, strict=True)])
        for k in _KINDS
    ]
    return {
        **{f"recall_at_{k}": share for k, share in zip(_KINDS, any_at, strict=True)},
        **{f"all_at_{k}": share for k, share in zip(_KINDS, all_at, strict=True)},
        "mrr": _mean([1 / ranks[0] if ranks else 0.0 for ranks in found]),
    }


def _first(ranks: list[int]) -> int:
    return ranks[0] if ranks else max(_KINDS) + 1


def _title(text: str) -> str:
    return text.strip().partition("\n")[0].lstrip("# ")


def _reorder(located: Sequence[Located], files: FilesIndex, alike: Floats) -> list[str]:
    """The paths as they would be ordered if what is alike were one more signal of the sum."""
    gains = alike * files.worth
    return [each.path for each in sorted(located, key=lambda each: -each.score - gains[files.number[each.path]])]


def _git_dir(repo: str, folder: Path) -> Path:
    """The repository's git folder; one that is an address is cloned, with all of its history."""
    path = Path(repo).expanduser()
    if path.exists():
        found = path / ".git"
        if found.is_file():
            return Path(found.read_text().partition("gitdir:")[2].strip()).parent.parent
        return found if found.is_dir() else path
    target = folder / f"clone-{abs(hash(repo))}"
    if not target.exists():
        subprocess.run(["git", "clone", "--quiet", "--bare", "--", repo, str(target)], check=True, timeout=3_600)
    return target


def _mean(values: list[float]) -> float:
    return round(statistics.fmean(values), 4) if values else 0.0


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else 0.0

"""A project's code at large: languages, entry points, which folders import from which, where the history is hottest."""

from __future__ import annotations

import html
import json
import math
import posixpath
import tomllib
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection

from apps.context.dependencies import ImportResolver
from apps.context.searching.candidates import visible_condition
from apps.context.types import IndexState, View
from apps.context.walking import contents_read
from apps.projects.git import GitError, git_run, path_decode, path_display
from apps.projects.models import Project
from apps.projects.repository import repository_path

_COMMITS = 2_000
_HOT_SPOTS = 20
_NODES = 30
_EDGES = 120
_MANIFEST_BYTES = 512_000
_MANIFESTS = frozenset({"package.json", "pyproject.toml"})
#: Of a repository with very many packages those nearest to its top.
_MANIFESTS_READ = 200
_SECONDS = 30
_ARROW = (
    '<defs><marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#667"/></marker></defs>'
)
_ENTRY_NAMES = {
    "manage.py": "Django's commands",
    "__main__.py": "python -m",
    "main.py": "program",
    "app.py": "program",
    "wsgi.py": "WSGI",
    "asgi.py": "ASGI",
    "main.go": "program",
    "main.rs": "program",
    "Main.java": "program",
    "Program.cs": "program",
    "main.c": "program",
    "main.cpp": "program",
    "index.php": "web",
    "Dockerfile": "container",
    "Makefile": "make",
}


@dataclass(frozen=True)
class LanguageShare:
    language: str
    files: int
    lines: int
    share: float


@dataclass(frozen=True)
class EntryPoint:
    path: str
    kind: str
    name: str = ""


@dataclass(frozen=True)
class HotSpot:
    path: str
    commits: int
    complexity: int
    lines: int
    score: float


@dataclass(frozen=True)
class GraphNode:
    id: str
    files: int
    lines: int


@dataclass(frozen=True)
class GraphEdge:
    source: str
    target: str
    imports: int


@dataclass(frozen=True)
class Graph:
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]


@dataclass(frozen=True)
class Overview:
    project: uuid.UUID
    index: IndexState
    files: int
    lines: int
    symbols: int
    skipped: dict[str, int]
    languages: tuple[LanguageShare, ...]
    entry_points: tuple[EntryPoint, ...]
    hot_spots: tuple[HotSpot, ...]
    graph: Graph


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    blob: str
    state: str
    reason: str
    language: str
    lines: int
    symbols: int
    complexity: int
    size: int


def overview_make(*, project: Project, view: View, state: IndexState) -> Overview:
    """What is said of the project's code as the view has it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT file.path, file.blob, file.state, file.reason, file.language, file.lines, file.symbol_count,"
            " file.complexity, file.size FROM context_codefile AS file"
            f" WHERE {visible_condition(view)} ORDER BY file.path",
            view.parameters,
        )
        files = [_File(*row) for row in cursor.fetchall()]
    read = [file for file in files if file.state != "skipped"]
    skipped = Counter(_reason_kind(file.reason) for file in files if file.state == "skipped")
    git_dir = repository_path(project_id=project.id)
    return Overview(
        project=project.id,
        index=state,
        files=len(read),
        lines=sum(file.lines for file in read),
        symbols=sum(file.symbols for file in read),
        skipped=dict(skipped.most_common()),
        languages=_languages(read),
        entry_points=_entry_points(git_dir, read),
        hot_spots=_hot_spots(git_dir, state.commit, read),
        graph=_graph(view, read),
    )


def _reason_kind(reason: str) -> str:
    return "it is too large" if reason.startswith("it has ") else reason


def _languages(files: Sequence[_File]) -> tuple[LanguageShare, ...]:
    counts: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for file in files:
        counts[file.language or "unknown"] += 1
        lines[file.language or "unknown"] += file.lines
    total = max(1, sum(lines.values()))
    return tuple(
        LanguageShare(name, counts[name], number, round(number / total, 4)) for name, number in lines.most_common()
    )


def _entry_points(git_dir: Path, files: Sequence[_File]) -> tuple[EntryPoint, ...]:
    found: dict[str, list[EntryPoint]] = {}
    manifests: dict[str, _File] = {}
    for file in files:
        name = posixpath.basename(file.path)
        if name in _ENTRY_NAMES and file.path.count("/") <= 3 and not _is_test(file.path):
            found[file.path] = [EntryPoint(file.path, _ENTRY_NAMES[name])]
        if name in _MANIFESTS and file.path.count("/") <= 2 and file.size <= _MANIFEST_BYTES:
            manifests[file.path] = file
    chosen = sorted(manifests.values(), key=lambda file: (file.path.count("/"), file.path))[:_MANIFESTS_READ]
    try:
        contents = list(contents_read(git_dir=git_dir, blobs=[file.blob for file in chosen])) if chosen else []
    except (LookupError, GitError):
        contents = []
    for file, content in zip(chosen, contents, strict=False):
        told = content.decode("utf-8", "replace")
        found[file.path] = _manifest_entries(file.path, posixpath.basename(file.path), told)
    return tuple(entry for file in files for entry in found.get(file.path, ()))[:100]


def _manifest_entries(path: str, name: str, content: str) -> list[EntryPoint]:
    """What a manifest, which anybody may have written anything into, says of programs."""
    try:
        told: Any = json.loads(content) if name == "package.json" else tomllib.loads(content)
    except (ValueError, RecursionError):
        return []
    if not isinstance(told, dict):
        return []
    found = []
    if name == "package.json":
        if isinstance(told.get("main"), str):
            found.append(EntryPoint(path, "main", told["main"][:200]))
        programs = told.get("bin")
        if isinstance(programs, dict):
            found += [EntryPoint(path, "program", str(program)[:200]) for program in programs]
        scripts = told.get("scripts")
        if isinstance(scripts, dict):
            found += [EntryPoint(path, "script", str(script)[:200]) for script in scripts]
    else:
        project = told.get("project")
        scripts = project.get("scripts") if isinstance(project, dict) else None
        if isinstance(scripts, dict):
            found += [EntryPoint(path, "program", str(script)[:200]) for script in scripts]
    return found


def _hot_spots(git_dir: Path, commit: str, files: Sequence[_File]) -> tuple[HotSpot, ...]:
    """Files that are changed often and are complex: where the next fault is likely."""
    known = {file.path: file for file in files}
    try:
        log = git_run(
            "log", "-z", "--format=", "--name-only", "--no-renames", "--no-merges", f"--max-count={_COMMITS}", commit,
            git_dir=git_dir, timeout=_SECONDS, cut_output=True,
        ).stdout  # fmt: skip
    except GitError:
        # A history that is too slow to read says nothing; the rest stands.
        return ()
    commits = Counter(path_display(path_decode(name.strip(b"\n"))) for name in log.split(b"\0") if name.strip(b"\n"))
    found = [
        HotSpot(path, number, file.complexity, file.lines, round(number * math.log2(2 + file.complexity), 2))
        for path, number in commits.items()
        if (file := known.get(path)) is not None and file.symbols
    ]
    return tuple(sorted(found, key=lambda spot: (-spot.score, spot.path))[:_HOT_SPOTS])


def imports_resolved(view: View) -> dict[str, dict[str, int]]:
    """For each file the files that it imports, and how often."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT file.path, file.analysis::json -> 'imports' FROM context_codefile AS file"
            f" WHERE {visible_condition(view)} AND file.state <> 'skipped' AND file.analysis <> ''",
            view.parameters,
        )
        rows = [
            (path, json.loads(found) if isinstance(found, str) else found or []) for path, found in cursor.fetchall()
        ]
    resolver = ImportResolver(path for path, _ in rows)
    graph: dict[str, dict[str, int]] = {}
    for path, imports in rows:
        for module, names, _ in imports:
            for target in resolver.resolve(importer=path, module=module, names=names):
                of_file = graph.setdefault(path, {})
                of_file[target] = of_file.get(target, 0) + 1
    return graph


def _graph(view: View, files: Sequence[_File]) -> Graph:
    """The imports between folders, so deep that it can still be looked at."""
    lines = {file.path: file.lines for file in files if file.symbols}
    depth = 1
    for deeper in (1, 2, 3, 4):
        if len({_folder(path, deeper) for path in lines}) > _NODES:
            break
        depth = deeper
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for path, number in lines.items():
        sizes[_folder(path, depth)] += number
        counts[_folder(path, depth)] += 1
    kept = {name for name, _ in sizes.most_common(_NODES)}
    edges: Counter[tuple[str, str]] = Counter()
    for path, targets in imports_resolved(view).items():
        for target, times in targets.items():
            pair = (_folder(path, depth), _folder(target, depth))
            if pair[0] != pair[1] and pair[0] in kept and pair[1] in kept:
                edges[pair] += times
    return Graph(
        tuple(GraphNode(name, counts[name], sizes[name]) for name in sorted(kept)),
        tuple(GraphEdge(*pair, times) for pair, times in edges.most_common(_EDGES)),
    )


def _folder(path: str, depth: int) -> str:
    return "/".join(path.split("/")[:-1][:depth]) or "."


def _is_test(path: str) -> bool:
    return any(part in ("test", "tests", "__tests__", "spec") for part in path.split("/")[:-1])


def graph_svg(graph: Graph) -> str:
    """The graph as a picture: folders in a circle, imports as lines, thick where there are many."""
    size, radius = 900, 320
    places = {}
    for number, node in enumerate(graph.nodes):
        angle = 2 * math.pi * number / max(1, len(graph.nodes)) - math.pi / 2
        places[node.id] = (size / 2 + radius * math.cos(angle), size / 2 + radius * math.sin(angle), angle)
    most = max((edge.imports for edge in graph.edges), default=1)
    largest = max((node.lines for node in graph.nodes), default=1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" font-family="sans-serif" font-size="12">',
        _ARROW,
    ]
    for edge in graph.edges:
        (x1, y1, _), (x2, y2, _) = places[edge.source], places[edge.target]
        width = 0.6 + 3.4 * edge.imports / most
        parts.append(
            f'<path d="M{x1:.0f} {y1:.0f}Q{size // 2} {size // 2} {x2:.0f} {y2:.0f}" fill="none" stroke="#667" '
            f'stroke-opacity=".5" stroke-width="{width:.1f}" marker-end="url(#to)"><title>'
            f"{html.escape(edge.source)} imports {edge.imports} times from {html.escape(edge.target)}</title></path>"
        )
    for node in graph.nodes:
        x, y, angle = places[node.id]
        away = 10 + 16 * math.sqrt(node.lines / largest)
        anchor = "start" if math.cos(angle) > 0.1 else "end" if math.cos(angle) < -0.1 else "middle"
        parts.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{away - 6:.0f}" fill="#36c"><title>{node.files} files, '
            f"{node.lines} lines</title></circle>"
            f'<text x="{x + away * math.cos(angle):.0f}" y="{y + (away + 4) * math.sin(angle) + 4:.0f}" '
            f'text-anchor="{anchor}">{html.escape(node.id)}</text>'
        )
    return "".join([*parts, "</svg>"])

"""A project's map, and code packed for a prompt: what the index knows, ranked and fitted to a budget."""

from __future__ import annotations

import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from apps.context.locating.issue import issue_read
from apps.context.locating.kinds import is_test
from apps.context.locating.locate import Located
from apps.context.mapping.packing import Packed, Piece, PieceKind, pieces_pack
from apps.context.mapping.ranking import MapFile, MapSymbol, symbols_rank
from apps.context.mapping.repository_map import RepositoryMap, repository_map
from apps.context.places import files_locate
from apps.context.searching.candidates import visible_condition
from apps.context.searching.search import index_view
from apps.context.tree_terms import tree_fingerprint
from apps.context.types import IndexState, View, WorkFiles
from apps.projects.models import Project
from integrations.llm_providers.tokens import text_tokens

_ENCODING = "o200k_base"
_HELD = 4
#: Files of rules, wherever they stand, the nearest to the top first.
RULES = ("AGENTS.md", "CLAUDE.md", "README.md", "README.rst", "README", "README.txt", "CONTRIBUTING.md")
_LOCATED, _NEIGHBOURS, _RULE_FILES = 12, 6, 3
#: Names that so many files define lead nowhere.
_COMMON = 5
_held: OrderedDict[tuple[int, str], list[MapFile]] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class MapResult:
    map: RepositoryMap
    index: IndexState


@dataclass(frozen=True)
class PackResult:
    packed: Packed
    index: IndexState
    notes: tuple[str, ...]


def tokens_count(text: str) -> int:
    """The tokens of a text, as the common vocabulary has them; other models count a little otherwise."""
    return text_tokens(_ENCODING, text)


def repository_map_make(*, project: Project, budget: int, text: str = "", files: WorkFiles | None = None) -> MapResult:
    """The map of a project, drawn towards what a task's text mentions, in so many tokens."""
    view, state = index_view(project=project, files=files)
    located: Sequence[Located] = ()
    if text.strip():
        located = files_locate(project=project, text=text, files=files, limit=_LOCATED).located
    return MapResult(_map(view, text, located, budget), state)


def context_pack(*, project: Project, text: str, budget: int, files: WorkFiles | None = None) -> PackResult:
    """Code for a prompt about a task: the project's rules, what fits, its neighbours and tests, and a map, in so many
    tokens and each piece with its source."""
    found = files_locate(project=project, text=text, files=files, limit=_LOCATED)
    view, state = index_view(project=project, files=files)
    hits = _hits(view, found.located, state.commit)
    pieces = [*_rules(view, state.commit), *hits, *_neighbours(view, hits, state.commit)]
    drawn = _map(view, text, found.located, max(0, budget // 4))
    if drawn.text:
        pieces.append(Piece("map", "repository map", 0, 0, drawn.text))
    return PackResult(pieces_pack(pieces=pieces, budget=budget, count=tokens_count), state, found.notes)


def _map(view: View, text: str, located: Sequence[Located], budget: int) -> RepositoryMap:
    wanted = issue_read(text)
    highest = max((each.score for each in located), default=1.0)
    ranking = symbols_rank(
        files=_map_files(view),
        mentioned_names=wanted.names,
        mentioned_paths={each.path: each.score / highest for each in located},
    )
    return repository_map(ranking=ranking, budget=budget, count=tokens_count)


def _map_files(view: View) -> list[MapFile]:
    key = (view.index_id, tree_fingerprint(view))
    held = _held.get(key)
    if held is not None:
        return held
    symbols: dict[int, list[MapSymbol]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT symbol.file_id, symbol.name, symbol.qualified_name, symbol.kind, symbol.start_line,"
            " symbol.signature FROM context_codesymbol AS symbol JOIN context_codefile AS file"
            f" ON file.id = symbol.file_id WHERE symbol.index_id = %(index)s AND {visible_condition(view)}",
            view.parameters,
        )
        for file_id, *fields in cursor.fetchall():
            symbols.setdefault(file_id, []).append(MapSymbol(*fields))
        cursor.execute(
            "SELECT file.id, file.path, file.analysis FROM context_codefile AS file"
            f" WHERE {visible_condition(view)} AND file.state = 'parsed'",
            view.parameters,
        )
        files = []
        for file_id, path, analysis in cursor.fetchall():
            references = json.loads(analysis).get("references", ()) if analysis else ()
            uses = Counter(name for name, _, kind, _ in references if kind != "import")
            files.append(MapFile(path, symbols.get(file_id, ()), uses))
    with _lock:
        _held[key] = files
        while len(_held) > _HELD:
            _held.popitem(last=False)
    return files


_CHUNKS = """
SELECT file.path, chunk.start_line, chunk.end_line, chunk.qualified_name, chunk.text
FROM context_codechunk AS chunk JOIN context_codefile AS file ON file.id = chunk.file_id
WHERE {visible} AND {condition} ORDER BY file.path, chunk.start_line LIMIT {limit}
"""


@dataclass(frozen=True, slots=True)
class _Chunk:
    path: str
    start_line: int
    end_line: int
    qualified_name: str
    text: str


def _chunks(view: View, condition: str, limit: int, **parameters: str | int | list[str]) -> list[_Chunk]:
    with connection.cursor() as cursor:
        cursor.execute(
            _CHUNKS.format(visible=visible_condition(view), condition=condition, limit=limit),
            {**view.parameters, **parameters},
        )
        return [_Chunk(*row) for row in cursor.fetchall()]


def _piece(kind: PieceKind, chunk: _Chunk, score: float, commit: str) -> Piece:
    return Piece(kind, chunk.path, chunk.start_line, chunk.end_line, chunk.text, score, chunk.qualified_name, commit)


def _rules(view: View, commit: str) -> list[Piece]:
    """The first lines of the rules and of the readme that stand highest."""
    chunks = _chunks(view, "substring(file.path from '[^/]*$') = ANY(%(names)s)", 200, names=list(RULES))
    ordered = sorted(chunks, key=lambda chunk: (chunk.path.count("/"), _rule_rank(chunk.path), chunk.start_line))
    paths = list(dict.fromkeys(chunk.path for chunk in ordered))[:_RULE_FILES]
    return [
        _piece("rules", chunk, 1.0 - 0.1 * paths.index(chunk.path) - 0.001 * min(chunk.start_line, 99), commit)
        for chunk in ordered
        if chunk.path in paths
    ]


def _rule_rank(path: str) -> int:
    name = path.rsplit("/", 1)[-1]
    return RULES.index(name) if name in RULES else len(RULES)


def _hits(view: View, located: Sequence[Located], commit: str) -> list[Piece]:
    wanted = {
        (file.path, function.start_line): file.score * (1 - 0.1 * place)
        for file in located
        for place, function in enumerate(file.functions)
    }
    if not wanted:
        return []
    chunks = _chunks(view, "file.path = ANY(%(paths)s)", 5_000, paths=sorted({path for path, _ in wanted}))
    return [
        _piece("hit", chunk, wanted[chunk.path, chunk.start_line], commit)
        for chunk in chunks
        if (chunk.path, chunk.start_line) in wanted
    ]


def _neighbours(view: View, hits: Sequence[Piece], commit: str) -> list[Piece]:
    """What the best hits use, what uses them, and their tests."""
    best = sorted((hit for hit in hits if hit.symbol), key=lambda hit: -hit.score)[:_NEIGHBOURS]
    names = {hit.symbol.rsplit(".", 1)[-1] for hit in best}
    files = {file.path: file for file in _map_files(view)}
    defining: Counter[str] = Counter(
        name for file in files.values() for name in {symbol.name for symbol in file.symbols}
    )
    pieces: list[Piece] = []
    callers = references_find(view=view, names=sorted(name for name in names if defining[name] <= _COMMON), limit=60)
    for found in callers:
        if not found.within or any(hit.path == found.path and hit.symbol == found.within for hit in best):
            continue
        kind: PieceKind = "test" if is_test(found.path) else "caller"
        chunks = _chunks(
            view,
            "file.path = %(path)s AND chunk.start_line <= %(line)s AND chunk.end_line >= %(line)s",
            1,
            path=found.path,
            line=found.line,
        )
        if sum(piece.kind == kind for piece in pieces) < _NEIGHBOURS:
            pieces += [_piece(kind, chunk, 0.5, commit) for chunk in chunks]
    used = _used(view, best)
    wanted = [name for name in used if 0 < defining[name] <= _COMMON and name not in names][: 4 * _NEIGHBOURS]
    if wanted:
        chunks = _chunks(
            view,
            "chunk.kind IN ('function', 'method', 'class') AND"
            " substring(chunk.qualified_name from '[^.]*$') = ANY(%(names)s)",
            60,
            names=wanted,
        )
        near = {hit.path.rsplit("/", 1)[0] for hit in best}
        chunks.sort(key=lambda chunk: (is_test(chunk.path), chunk.path.rsplit("/", 1)[0] not in near))
        pieces += [
            _piece("callee", chunk, 1.0 - 0.01 * place, commit) for place, chunk in enumerate(chunks[:_NEIGHBOURS])
        ]
    return pieces


def _used(view: View, best: Sequence[Piece]) -> list[str]:
    """The names that these functions use, the most used first."""
    paths = sorted({hit.path for hit in best})
    within = {(hit.path, hit.symbol) for hit in best}
    uses: Counter[str] = Counter()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT file.path, file.analysis FROM context_codefile AS file"
            f" WHERE {visible_condition(view)} AND file.path = ANY(%(paths)s)",
            {**view.parameters, "paths": paths},
        )
        for path, analysis in cursor.fetchall():
            for name, _, kind, around in json.loads(analysis).get("references", ()) if analysis else ():
                if kind in ("call", "inherit", "type") and (path, around) in within:
                    uses[name] += 1
    return [name for name, _ in uses.most_common(60)]


@dataclass(frozen=True, slots=True)
class FoundReference:
    """A place that uses a name."""

    path: str
    line: int
    name: str
    kind: str
    within: str


def references_find(*, view: View, names: Sequence[str], limit: int = 200) -> list[FoundReference]:
    """Where these names are used, code before tests."""
    if not names:
        return []
    wanted = set(names)
    found: list[FoundReference] = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT file.path, file.analysis FROM context_codefile AS file"
            f" WHERE {visible_condition(view)} AND file.state = 'parsed'"
            " AND file.analysis LIKE ANY(%(patterns)s) ORDER BY file.path",
            {**view.parameters, "patterns": [f'%"{_like(json.dumps(name)[1:-1])}"%' for name in names]},
        )
        for path, analysis in cursor.fetchall():
            for name, line, kind, within in json.loads(analysis).get("references", ()):
                if name in wanted:
                    found.append(FoundReference(path, line, name, kind, within))
    found.sort(key=lambda each: (is_test(each.path), each.kind == "import", each.path, each.line))
    return found[:limit]


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

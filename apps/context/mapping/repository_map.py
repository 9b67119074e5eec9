"""The repository map: the definitions that matter, file by file, in as many tokens as there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apps.context.mapping.ranking import RankedSymbol, Ranking

#: Counts the tokens of a text.
Count = Callable[[str], int]
#: No map needs more definitions than these.
_SYMBOLS = 4_000
_LINE = 160
_SHOWN = frozenset(
    {"function", "method", "class", "interface", "struct", "enum", "trait", "type", "module", "namespace", "table"}
    | {"constant", "macro", "section"}
)


@dataclass(frozen=True, slots=True)
class RepositoryMap:
    text: str
    tokens: int
    files: int
    symbols: int
    #: Definitions that there was no room for.
    left_out: int


def repository_map(*, ranking: Ranking, budget: int, count: Count) -> RepositoryMap:
    """The map that fits into so many tokens: as many of the highest-ranking definitions as there is room for, under
    their files, and the names of further files where room is left."""
    candidates = [each for each in ranking.symbols if each.symbol.kind in _SHOWN][:_SYMBOLS]
    low, high = 0, len(candidates)
    best, best_tokens = "", 0
    while low < high:
        middle = (low + high + 1) // 2
        text = map_render(candidates[:middle])
        tokens = count(text)
        if tokens <= budget:
            low, best, best_tokens = middle, text, tokens
        else:
            high = middle - 1
    shown = {each.path for each in candidates[:low]}
    paths: list[str] = []
    for path, _ in ranking.files:
        if path in shown:
            continue
        cost = count(f"{path}\n")
        if best_tokens + cost > budget:
            break
        paths.append(path)
        best_tokens += cost
        if len(paths) >= 400:
            break
    text = best + ("\n" if best and paths else "") + "".join(f"{path}\n" for path in paths)
    tokens = count(text) if text else 0
    while paths and tokens > budget:
        paths.pop()
        text = best + ("\n" if best and paths else "") + "".join(f"{path}\n" for path in paths)
        tokens = count(text) if text else 0
    return RepositoryMap(text, tokens, len(shown) + len(paths), low, len(ranking.symbols) - low)


def map_render(symbols: Sequence[RankedSymbol]) -> str:
    """The definitions under their files, the file with the highest rank first, in the order of the lines."""
    by_file: dict[str, list[RankedSymbol]] = {}
    for each in symbols:
        by_file.setdefault(each.path, []).append(each)
    lines: list[str] = []
    for path, those in by_file.items():
        lines.append(f"{path}:")
        seen: set[int] = set()
        for each in sorted(those, key=lambda ranked: ranked.symbol.line):
            if each.symbol.line in seen:
                continue
            seen.add(each.symbol.line)
            depth = min(each.symbol.qualified_name.count("."), 4) if each.symbol.kind != "section" else 0
            said = each.symbol.signature or f"{each.symbol.kind} {each.symbol.name}"
            lines.append(f"{each.symbol.line:5}: {'  ' * depth}{said[:_LINE]}")
    return "\n".join(lines) + "\n" if lines else ""

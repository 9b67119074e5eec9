"""Put code into a prompt: what is most wanted first, nothing twice, within a budget, each piece with its source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Count = Callable[[str], int]
PieceKind = Literal["rules", "hit", "caller", "callee", "test", "map"]
#: The most of a budget that each kind takes as long as others want some; what is left over goes to whoever wants it.
SHARES: dict[PieceKind, float] = {
    "rules": 0.2, "hit": 0.5, "caller": 0.15, "callee": 0.15, "test": 0.15, "map": 0.25
}  # fmt: skip
_ORDER: tuple[PieceKind, ...] = ("rules", "hit", "callee", "caller", "test", "map")
#: A piece that is cut shows at least this many lines, or isn't shown.
_LEAST_LINES = 5
_TITLES: dict[PieceKind, str] = {
    "rules": "The project's rules",
    "hit": "Code that fits",
    "callee": "What it uses",
    "caller": "What uses it",
    "test": "Tests of it",
    "map": "The repository",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """Text from a file. ``start_line`` 0: the text is no part of a file (the map)."""

    kind: PieceKind
    path: str
    start_line: int
    end_line: int
    text: str
    score: float = 0.0
    symbol: str = ""
    commit: str = ""

    @property
    def source(self) -> str:
        """Where it is from, as people write it."""
        if not self.start_line:
            return self.path
        place = f"{self.path}:{self.start_line}-{self.end_line}"
        return f"{place} ({self.symbol})" if self.symbol else place


@dataclass(frozen=True, slots=True)
class Packed:
    """``pieces`` are those that are in ``text``, cut where they were cut."""

    text: str
    tokens: int
    pieces: tuple[Piece, ...]
    left_out: tuple[str, ...]


def pieces_pack(*, pieces: Sequence[Piece], budget: int, count: Count) -> Packed:
    """The pieces that fit, by kind and score. What another piece shows already is left out."""
    wanted = sorted(pieces, key=lambda piece: (_ORDER.index(piece.kind), -piece.score, piece.path, piece.start_line))
    taken: list[Piece] = []
    waiting: list[Piece] = []
    spent: dict[str, int] = {}
    left = budget - count(_frame(()))
    for piece in wanted:
        if _shown(piece, taken):
            continue
        allowed = min(left, int(budget * SHARES[piece.kind]) - spent.get(piece.kind, 0))
        cost = count(_render(piece))
        if cost <= allowed:
            taken.append(piece)
            spent[piece.kind] = spent.get(piece.kind, 0) + cost
            left -= cost
        else:
            waiting.append(piece)
    left_out: list[str] = []
    for piece in waiting:
        if _shown(piece, taken):
            continue
        fitting = _fitted(piece, left, count)
        if fitting is None:
            left_out.append(piece.source)
            continue
        taken.append(fitting)
        left -= count(_render(fitting))
    taken.sort(key=lambda piece: (_ORDER.index(piece.kind), -piece.score, piece.path, piece.start_line))
    text = _frame(taken)
    tokens = count(text)
    while taken and tokens > budget:
        # Tokens of the whole can be some more than of its parts.
        left_out.append(taken.pop().source)
        text = _frame(taken)
        tokens = count(text)
    return Packed(text, tokens, tuple(taken), tuple(left_out))


def _shown(piece: Piece, taken: Sequence[Piece]) -> bool:
    if not piece.start_line:
        return any(other.text == piece.text for other in taken)
    return any(
        other.path == piece.path and other.start_line <= piece.start_line and piece.end_line <= other.end_line
        for other in taken
    )


def _fitted(piece: Piece, left: int, count: Count) -> Piece | None:
    """The piece, or as many of its first lines as fit."""
    if count(_render(piece)) <= left:
        return piece
    lines = piece.text.split("\n")
    low, high = 0, len(lines)
    while low < high:
        middle = (low + high + 1) // 2
        if count(_render(_cut(piece, lines, middle))) <= left:
            low = middle
        else:
            high = middle - 1
    return _cut(piece, lines, low) if low >= _LEAST_LINES else None


def _cut(piece: Piece, lines: Sequence[str], kept: int) -> Piece:
    end = piece.start_line + kept - 1 if piece.start_line else 0
    text = "\n".join(lines[:kept])
    return Piece(piece.kind, piece.path, piece.start_line, end, text, piece.score, piece.symbol, piece.commit)


def _render(piece: Piece) -> str:
    return f"## {piece.source}\n{_fence(piece.text)}\n\n"


def _fence(text: str) -> str:
    """In a fence that the text can't close."""
    longest = max((len(run) for run in _runs(text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}\n{text.rstrip()}\n{marks}"


def _runs(text: str) -> list[str]:
    return [part for part in "".join(c if c == "`" else " " for c in text).split(" ") if part]


def _frame(pieces: Sequence[Piece]) -> str:
    parts: list[str] = []
    before = ""
    for piece in pieces:
        if piece.kind != before:
            parts.append(f"# {_TITLES[piece.kind]}\n\n")
            before = piece.kind
        parts.append(_render(piece))
    return "".join(parts).rstrip() + "\n" if parts else ""

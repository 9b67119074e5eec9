"""Pairs of Python's sources, by its own parser: several times as fast as a grammar, and there is much of it to read."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from training.pairs import Pair, first_line, lines_kept, prose_of, query_of

_Described = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def python_pairs(*, path: str, content: bytes) -> Iterator[Pair]:
    """The functions, methods and classes that a docstring describes, each without it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(content)
        lines = content.decode("utf-8", "replace").split("\n")
        yield from _within(tree, (), path, lines)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return


def _within(node: ast.AST, names: tuple[str, ...], path: str, lines: list[str]) -> Iterator[Pair]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Described):
            inner = (*names, child.name)
            pair = _pair(child, inner, path, lines)
            if pair is not None:
                yield pair
            # A function within another is part of it, as it is in an index.
            if isinstance(child, ast.ClassDef):
                yield from _within(child, inner, path, lines)
        elif isinstance(child, ast.If | ast.Try | ast.With):
            yield from _within(child, names, path, lines)


def _pair(node: _Described, names: tuple[str, ...], path: str, lines: list[str]) -> Pair | None:
    docstring = ast.get_docstring(node)
    query = query_of(first_line(docstring)) if docstring else ""
    if not docstring or not query:
        return None
    said = node.body[0]
    first = (node.decorator_list[0] if node.decorator_list else node).lineno - 1
    last = node.end_lineno or first
    gone = set(range(said.lineno - 1, said.end_lineno or 0))
    if isinstance(node, ast.ClassDef):
        # What is left of a class: its methods are pieces of their own, and only how they begin belongs to it.
        for child in node.body:
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                gone.update(range(child.lineno, child.end_lineno or 0))
    text = lines_kept([line for number, line in enumerate(lines[first:last], first) if number not in gone])
    if not text:
        return None
    return Pair("python", query, prose_of(docstring, query), path, ".".join(names), text)

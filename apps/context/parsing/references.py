"""Which names a file uses, and where: what the grammar tells apart, and besides each use of a name that it knows."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from tree_sitter import Node

from apps.context.parsing.outline import NAME_LIMIT, Definition
from apps.context.parsing.source import Source
from apps.context.parsing.types import Import, Reference, ReferenceKind, Zone

REFERENCE_LIMIT = 20_000
_CAPTURES: tuple[tuple[str, ReferenceKind], ...] = (("inherit", "inherit"), ("call", "call"), ("type", "type"))
_IDENTIFIER = re.compile(rb"[A-Za-z_\x80-\xff][\w\x80-\xff]*")
#: Shorter names mean too many things.
_SHORTEST = 3


def references_of(
    *,
    source: Source,
    owner_of: Callable[[int], Definition | None] | None,
    found: dict[str, list[Node]],
    imports: Sequence[Import],
    known: Iterable[str],
    zones: Sequence[Zone],
) -> tuple[Reference, ...]:
    """All references in the order of the file. ``known`` are names that the file defines for all of itself."""
    content = source.content
    made: dict[int, tuple[int, ReferenceKind]] = {}
    for capture, kind in _CAPTURES:
        for node in found.get(capture, ()):
            start = node.start_byte
            if start not in made and len(made) < REFERENCE_LIMIT:
                made[start] = (node.end_byte, kind)
    taken: list[tuple[int, Reference]] = []
    for each in imports:
        at = source.offset_of(each.line)
        for name in each.names or (each.module,):
            taken.append((at, Reference(name[:NAME_LIMIT], each.line, "import", "")))
    names = {name.encode() for name in known if len(name) >= _SHORTEST}
    names.update(
        name.encode()
        for each in imports
        for name in (each.names or (each.module.rsplit(".", 1)[-1],))
        if len(name) >= _SHORTEST
    )
    if names and owner_of is not None:
        _mentions(made, source, names, zones, {each.line for each in imports})
    if owner_of is None:
        for start in made:
            name = content[start : made[start][0]].decode("utf-8", "replace")
            taken.append((start, Reference(name[:NAME_LIMIT], source.line_of(start), made[start][1], "")))
    else:
        line_of = source.line_of
        for start, (end, kind) in made.items():
            if end - start > NAME_LIMIT:
                continue
            owner = owner_of(start)
            within = owner.qualified_name if owner is not None else ""
            name = content[start:end].decode("utf-8", "replace")
            taken.append((start, Reference(name, line_of(start), kind, within)))
    taken.sort(key=_offset)
    return tuple(reference for _, reference in taken[:REFERENCE_LIMIT])


def _offset(pair: tuple[int, Reference]) -> int:
    return pair[0]


def _mentions(
    made: dict[int, tuple[int, ReferenceKind]],
    source: Source,
    names: set[bytes],
    zones: Sequence[Zone],
    import_lines: set[int],
) -> None:
    """Each use of these names that the grammar gave no kind, outside of comments, strings and imports."""
    starts = [zone.start for zone in zones]
    ends = [zone.end for zone in zones]
    left = REFERENCE_LIMIT - len(made)
    for match in _IDENTIFIER.finditer(source.content):
        if match[0] not in names:
            continue
        start = match.start()
        if start in made:
            continue
        zone = bisect_right(starts, start) - 1
        if zone >= 0 and start < ends[zone]:
            continue
        if source.line_of(start) in import_lines:
            continue
        if left <= 0:
            return
        left -= 1
        made[start] = (match.end(), "other")

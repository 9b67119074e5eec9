"""Finding what waits for itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence


def cycles_find(
    needs: Mapping[str, Sequence[str]],
    *,
    most: int = 10,
    may_cut: Callable[[str, str], bool] = lambda key, needed: True,
) -> list[tuple[str, ...]]:
    """Cycles, each from its first key in the given order on, in the direction of what is needed; at most ``most``.

    Without the last step of each that ``may_cut`` lets be left out (there is one in each cycle) no cycle is left,
    unless there are more than ``most``. None: there is no cycle. What is needed and is no key is passed over.
    """
    edges = {key: [other for other in dict.fromkeys(needed) if other in needs] for key, needed in needs.items()}
    found: list[tuple[str, ...]] = []
    while len(found) < most:
        knot = _knot(edges)
        if not knot:
            break
        cycle = _shortest(edges, knot)
        found.append(cycle)
        steps = list(zip(cycle, (*cycle[1:], cycle[0]), strict=True))
        key, needed = next(step for step in reversed(steps) if may_cut(*step))
        edges[key].remove(needed)
    return found


def _knot(edges: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """The keys that wait for each other with the first one, in order, that waits for itself; none: there is none."""
    order = {key: place for place, key in enumerate(edges)}
    return min(_knots(edges), key=lambda knot: min(order[key] for key in knot), default=frozenset())


def _knots(edges: Mapping[str, Sequence[str]]) -> list[frozenset[str]]:
    """The strongly connected parts with a cycle in them (Tarjan's way, without recursion: a plan may be one chain)."""
    knots: list[frozenset[str]] = []
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_keys: list[str] = []
    is_open: set[str] = set()
    for start in edges:
        if start in number:
            continue
        stack = [(start, iter(edges[start]))]
        number[start] = lowest[start] = len(number)
        open_keys.append(start)
        is_open.add(start)
        while stack:
            key, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                if stack:
                    lowest[stack[-1][0]] = min(lowest[stack[-1][0]], lowest[key])
                if lowest[key] == number[key]:
                    members = [open_keys.pop()]
                    while members[-1] != key:
                        members.append(open_keys.pop())
                    part = frozenset(members)
                    is_open -= part
                    if len(part) > 1 or key in edges[key]:
                        knots.append(part)
            elif following not in number:
                number[following] = lowest[following] = len(number)
                open_keys.append(following)
                is_open.add(following)
                stack.append((following, iter(edges[following])))
            elif following in is_open:
                lowest[key] = min(lowest[key], number[following])
    return knots


def _shortest(edges: Mapping[str, Sequence[str]], knot: frozenset[str]) -> tuple[str, ...]:
    """The shortest cycle through the knot's first key."""
    start = next(key for key in edges if key in knot)
    came_from: dict[str, str] = {}
    waiting = deque([start])
    while waiting:
        key = waiting.popleft()
        for following in edges[key]:
            if following == start:
                path = [key]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return tuple(reversed(path))
            if following in knot and following not in came_from:
                came_from[following] = key
                waiting.append(following)
    raise AssertionError("each key of a knot leads back to it")

"""The first step of research, made without a model: where the index says that a text leads, with path and lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from apps.agents.nodes.context import RunContext
from apps.agents.types import Event
from apps.context.places import LocateResult
from apps.context.types import IndexState
from apps.core.errors import ApplicationError

#: Files that are named to an agent before it looks for itself.
_FILES = 8
#: A repository that was just imported is still being read; what a large one lacks by then is said.
_WAIT_SECONDS = 20.0
#: Whoever reads it may have died: one that has not moved for so long is not waited for.
_STILL_SECONDS = 4.0
_LOOK_SECONDS = 0.2
_HEAD = (
    "Where this likely leads, by the index of the code (path:lines, the likeliest first; made without a model, so"
    " look before you believe it):"
)


async def located_brief(context: RunContext, *, text: str, key: str) -> list[str]:
    """The files and functions that the text leads to, as a part of a brief; found, and told by an event, once."""
    found = await context.ledger.effect_find(key)
    if found is None:
        payload = await _locate(context, text)
        result = {"said": _said(payload)}
        found = dict(await context.ledger.effect_record(key, Event("CodeLocated", payload), result=result))
    said = str(found.get("said") or "")
    return [said] if said else []


async def _locate(context: RunContext, text: str) -> dict[str, Any]:
    """What the index finds, as the event tells it; what it can't do is a note, since sessions work without it."""
    try:
        await _index_wait(context)
        return _payload(await context.code.locate(text=text, limit=_FILES))
    except ApplicationError as error:
        return {"commit": "", "hits": [], "notes": [error.message]}


async def _index_wait(context: RunContext) -> None:
    now = moved = time.monotonic()
    until, last = now + _WAIT_SECONDS, await context.code.state()
    while _is_coming(last) and now < min(until, moved + _STILL_SECONDS):
        await asyncio.sleep(_LOOK_SECONDS)
        state, now = await context.code.state(), time.monotonic()
        if state != last:
            moved, last = now, state


def _is_coming(state: IndexState) -> bool:
    return state.state in ("indexing", "updating")


def _payload(found: LocateResult) -> dict[str, Any]:
    hits = [
        {
            "path": each.path,
            "score": round(each.score, 2),
            "reasons": list(each.reasons[:3]),
            "functions": [
                {"name": one.qualified_name, "kind": one.kind, "start_line": one.start_line, "end_line": one.end_line}
                for one in each.functions
            ],
        }
        for each in found.located
    ]
    return {"commit": found.index.commit, "hits": hits, "notes": list(found.notes)}


def _said(payload: Mapping[str, Any]) -> str:
    """For the agent; empty where nothing was found and nothing is to be said of that."""
    lines: list[str] = [_HEAD] if payload["hits"] else []
    for hit in payload["hits"]:
        lines.append(f"- {hit['path']} ({'; '.join(hit['reasons'])})")
        lines += _functions(hit["path"], hit["functions"])
    lines += [f"[the index: {note}]" for note in payload["notes"]]
    return "\n".join(lines)


def _functions(path: str, functions: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"    {path}:{one['start_line']}-{one['end_line']} {one['kind']} {one['name']}" for one in functions]

"""Tools that ask the index: where something likely has to change, what is defined and used where, what matters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TypeVar

from pydantic import Field

from apps.agents.tools.base import Arguments, Observation, Risk, Tool, ToolContext
from apps.context.types import Hit, IndexState, SearchFilters, SearchMode, SearchRequest
from apps.core.errors import ApplicationError

_A = TypeVar("_A", bound=Arguments)
_REFERENCES = 200
_READ_LINES = 400
_LAGGING = "[the index lags behind your last changes: what you just wrote may be missing]"


def _told(
    run: Callable[[ToolContext, _A], Awaitable[Observation]],
) -> Callable[[ToolContext, _A], Awaitable[Observation]]:
    """What the index can't do is for the model to know, with another way to it."""

    @wraps(run)
    async def told(context: ToolContext, arguments: _A) -> Observation:
        try:
            return await run(context, arguments)
        except ApplicationError as error:
            step = f" Next: {error.next_step}." if error.next_step else ""
            return Observation(
                f"{error.message}{step} `search`, `glob` and `read_file` look at the files themselves.",
                ok=False,
                summary=error.message,
            )

    return told


class LocateArguments(Arguments):
    text: str = Field(
        min_length=1,
        max_length=100_000,
        description="The goal, the issue (its title on the first line) or the failing test's output, as it stands.",
    )
    limit: int = Field(default=10, ge=1, le=50, description="Files to name.")


@_told
async def locate(context: ToolContext, arguments: LocateArguments) -> Observation:
    found = await context.code.locate(text=arguments.text, limit=arguments.limit)
    if not found.located:
        return Observation("nothing in the repository fits this text", summary="nothing found")
    lines = []
    for each in found.located:
        lines.append(f"{each.path} ({each.score:.1f}): {'; '.join(each.reasons)}")
        lines += [
            f"    {function.start_line}-{function.end_line}: {function.kind} {function.qualified_name}"
            for function in each.functions
        ]
    return Observation(
        "\n".join([*lines, *_notes(found.index, found.notes)]),
        summary=f"{len(found.located)} files, {found.located[0].path} first",
    )


class SearchCodeArguments(Arguments):
    query: str = Field(min_length=1, max_length=10_000, description="Words, a name, or a question, by the mode.")
    mode: SearchMode = Field(default="hybrid", description="hybrid: words and meaning; text: words; symbol: names.")
    path: str = Field(default="", description="Only files whose path matches this glob.")
    language: str = Field(default="", description="Only files in this language, as `python`.")
    limit: int = Field(default=10, ge=1, le=30, description="Hits to show.")


@_told
async def search_code(context: ToolContext, arguments: SearchCodeArguments) -> Observation:
    request = SearchRequest(
        query=arguments.query,
        mode=arguments.mode,
        limit=arguments.limit,
        filters=SearchFilters(
            (arguments.path,) if arguments.path else (), (arguments.language,) if arguments.language else ()
        ),
    )
    found = await context.code.search(request)
    if not found.hits:
        return Observation("\n".join(["nothing found", *_notes(found.index, found.notes)]), summary="nothing found")
    shown = [_hit(hit) for hit in found.hits]
    return Observation("\n\n".join([*shown, *_notes(found.index, found.notes)]), summary=f"{len(shown)} hits")


class RepoMapArguments(Arguments):
    text: str = Field(default="", max_length=100_000, description="The task, towards which the map is drawn.")
    tokens: int = Field(default=2_000, ge=200, le=8_000, description="How long the map may be.")


@_told
async def repo_map(context: ToolContext, arguments: RepoMapArguments) -> Observation:
    # Three characters a token: a longer map would lose its middle.
    budget = min(arguments.tokens, max(200, context.observation_limit // 4))
    made = await context.code.repository_map(text=arguments.text, budget=budget)
    if not made.map.text:
        return Observation("the index knows no definitions here", summary="empty")
    left = f"[{made.map.left_out} more definitions: ask for a longer map, or about something]"
    return Observation(
        "\n".join([made.map.text.rstrip(), left, *_notes(made.index, ())]),
        summary=f"{made.map.symbols} definitions in {made.map.files} files",
    )


class SymbolArguments(Arguments):
    name: str = Field(min_length=1, max_length=500, description="A name, or a part of it, as `Store.get` or `get`.")
    path: str = Field(default="", description="Only files whose path matches this glob.")
    limit: int = Field(default=20, ge=1, le=50, description="Definitions to show.")


@_told
async def find_symbol(context: ToolContext, arguments: SymbolArguments) -> Observation:
    filters = SearchFilters((arguments.path,) if arguments.path else ())
    request = SearchRequest(
        query=arguments.name, mode="symbol", limit=arguments.limit, filters=filters, context_lines=0, snippet_lines=1
    )
    found = await context.code.search(request)
    lines = [
        f"{hit.path}:{hit.start_line}-{hit.end_line}: {hit.kind} {hit.symbol}  {hit.signature}".rstrip()
        for hit in found.hits
    ]
    text = "\n".join([*(lines or ["no such definition"]), *_notes(found.index, found.notes)])
    return Observation(text, summary=f"{len(lines)} definitions" if lines else "none")


class ReferencesArguments(Arguments):
    name: str = Field(min_length=1, max_length=200, description="The name alone, as it is written where it is used.")
    limit: int = Field(default=60, ge=1, le=_REFERENCES, description="Places to show.")


@_told
async def find_references(context: ToolContext, arguments: ReferencesArguments) -> Observation:
    name = arguments.name.strip().removesuffix("()").replace("::", ".").rsplit(".", 1)[-1]
    found, state = await context.code.references(name=name, limit=arguments.limit)
    lines = [f"{each.path}:{each.line}: {each.kind}" + (f" in {each.within}" if each.within else "") for each in found]
    text = "\n".join([*(lines or [f"nothing uses {name}, as far as the index knows"]), *_notes(state, ())])
    return Observation(text, summary=f"{len(lines)} places" if lines else "none")


class ReadSymbolArguments(Arguments):
    name: str = Field(min_length=1, max_length=500, description="A definition's name, the more of it the better.")
    path: str = Field(default="", description="The file or a glob, where several are called so.")


@_told
async def read_symbol(context: ToolContext, arguments: ReadSymbolArguments) -> Observation:
    filters = SearchFilters((arguments.path,) if arguments.path else ())
    request = SearchRequest(
        query=arguments.name, mode="symbol", limit=6, filters=filters, context_lines=0, snippet_lines=_READ_LINES
    )
    found = await context.code.search(request)
    if not found.hits:
        return Observation("\n".join(["no such definition", *_notes(found.index, found.notes)]), ok=False)
    hit, others = found.hits[0], found.hits[1:]
    more = [f"[also {other.path}:{other.start_line}: {other.kind} {other.symbol}]" for other in others]
    return Observation(
        "\n".join([_hit(hit), *more, *_notes(found.index, found.notes)]), summary=f"{hit.path}:{hit.start_line}"
    )


def _hit(hit: Hit) -> str:
    head = f"{hit.path}:{hit.start_line}-{hit.end_line}"
    if hit.symbol:
        head = f"{head} {hit.kind} {hit.symbol}"
    numbered = [
        f"{hit.snippet.start_line + offset:6}\t{line}" for offset, line in enumerate(hit.snippet.text.split("\n"))
    ]
    return "\n".join([head, *numbered])


def _notes(state: IndexState, notes: tuple[str, ...]) -> list[str]:
    said = [f"[{note}]" for note in notes]
    if state.state == "indexing":
        said.append(f"[the code is still being read: {state.files_done} of {state.files_total} files]")
    elif state.lagging and not said:
        said.append(_LAGGING)
    return said


LOCATE = Tool(
    "locate",
    "Name the files and functions that most likely have to change for a goal, an issue or a failure, with the reasons. "
    "The first thing to ask.",
    LocateArguments,
    Risk.READ,
    locate,
)
SEARCH_CODE = Tool(
    "search_code",
    "Search the index of the code by words and meaning; each hit is a function, class or section as it is in the file.",
    SearchCodeArguments,
    Risk.READ,
    search_code,
)
REPO_MAP = Tool(
    "repo_map",
    "Show the definitions that matter most, file by file, drawn towards a task.",
    RepoMapArguments,
    Risk.READ,
    repo_map,
)
FIND_SYMBOL = Tool("find_symbol", "Find where something is defined.", SymbolArguments, Risk.READ, find_symbol)
FIND_REFERENCES = Tool(
    "find_references",
    "Find where a name is used: calls, types, base classes, imports.",
    ReferencesArguments,
    Risk.READ,
    find_references,
)
READ_SYMBOL = Tool(
    "read_symbol", "Read a function or class whole, by its name.", ReadSymbolArguments, Risk.READ, read_symbol
)

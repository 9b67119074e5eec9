"""``archon plan``: the commands that change a plan. Each makes a version of it, also while a session carries it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.command import command_line, command_print, console_make
from cli.connection import connection_open
from cli.errors import CliError, errors_reported
from cli.plan_api import PlanApi, feature_named, part_named, siblings, task_named
from cli.plan_common import PlanArgument, ReasonOption, changes_print, file_read
from cli.plan_resources import PlanFeature, PlanProgress, PlanTask
from cli.run import document_print
from cli.sessions import JsonOption, ServerOption

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="What the plan calls the task or feature, as T3.", show_default=False)
]
TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK", help="What the plan calls the task, as T3.", show_default=False)
]
TasksArgument = Annotated[
    list[str], typer.Argument(metavar="TASK", help="What the plan calls the tasks, as T3.", show_default=False)
]
InstructionsOption = Annotated[
    str | None, typer.Option("--instructions", metavar="TEXT|@FILE", help="What its agent is told.")
]
TypeOption = Annotated[
    str | None,
    typer.Option("--type", metavar="TYPE", help="code, test, refactor, docs, config, research or review."),
]
AgentOption = Annotated[
    str | None, typer.Option("--agent", metavar="AGENT", help="Who works on it: coder, researcher or reviewer.")
]
NeedsOption = Annotated[
    list[str] | None,
    typer.Option("--needs", metavar="KEY", help="What comes before it; repeatable, '' for nothing."),
]
FileOption = Annotated[
    list[str] | None,
    typer.Option("--file", metavar="PATH", help="A file that it is to touch; repeatable, '' for none."),
]
CreatesOption = Annotated[
    list[str] | None,
    typer.Option("--creates", metavar="PATH", help="A file that it makes; repeatable, '' for none."),
]
CheckOption = Annotated[
    list[str] | None,
    typer.Option("--check", metavar="CMD", help="A command that tells whether it is done; repeatable, '' for none."),
]
PriorityOption = Annotated[
    str | None, typer.Option("--priority", metavar="LEVEL", help="Of a feature: critical, high, normal or low.")
]
EffortOption = Annotated[
    str | None, typer.Option("--effort", metavar="SIZE", help="Of a feature: trivial, small, medium or large.")
]
AfterOption = Annotated[
    str | None, typer.Option("--after", metavar="KEY", help="Right after this one, and in the same feature.")
]
FirstOption = Annotated[bool, typer.Option("--first", help="Before all others of the same feature.")]

Operation = dict[str, Any]
_HELD = "a person holds it"


def add(
    plan: PlanArgument,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What is to be done.", show_default=False)],
    feature: Annotated[
        str | None, typer.Option("--feature", metavar="KEY", help="What it is a part of; default: the last feature.")
    ] = None,
    as_feature: Annotated[bool, typer.Option("--as-feature", help="Add a feature rather than a task.")] = False,
    key: Annotated[
        str, typer.Option("--key", metavar="KEY", help="What the plan calls it; default: the next that is free.")
    ] = "",
    after: AfterOption = None,
    first: FirstOption = False,
    instructions: InstructionsOption = None,
    task_type: TypeOption = None,
    agent: AgentOption = None,
    needs: NeedsOption = None,
    file: FileOption = None,
    creates: CreatesOption = None,
    check: CheckOption = None,
    priority: PriorityOption = None,
    effort: EffortOption = None,
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Add a task to a plan, or a feature."""

    def change(found: PlanProgress) -> list[Operation]:
        fields = _fields(
            is_task=not as_feature,
            instructions=instructions,
            type=task_type,
            agent_type=agent,
            depends_on=needs,
            files=file,
            creates=creates,
            checks=check,
            priority=priority,
            effort=effort,
        )
        parent = feature_named(found, feature).key if feature else ""
        place = _place(found, None, after=after, first=first, parent=parent, is_task=not as_feature)
        if as_feature:
            return [{"op": "add_feature", "title": title, "key": key, **fields, **place}]
        if not found.features:
            raise CliError("the plan has no feature", next_step="add one with --as-feature", code="invalid_input")
        if not place:
            place = {"feature": found.features[-1].key}
        return [{"op": "add_task", "title": title, "key": key, **fields, **place}]

    _change(plan, change, reason=reason, json_output=json_output, server=server)


def set_(
    plan: PlanArgument,
    key: KeyArgument,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="What it is called.")] = None,
    instructions: InstructionsOption = None,
    task_type: TypeOption = None,
    agent: AgentOption = None,
    needs: NeedsOption = None,
    file: FileOption = None,
    creates: CreatesOption = None,
    check: CheckOption = None,
    priority: PriorityOption = None,
    effort: EffortOption = None,
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Change what is given of a task or feature. The agent of a task that runs is told."""

    def change(found: PlanProgress) -> list[Operation]:
        part = part_named(found, key)
        is_task = isinstance(part, PlanTask)
        fields = _fields(
            is_task=is_task,
            title=title,
            instructions=instructions,
            type=task_type,
            agent_type=agent,
            depends_on=needs,
            files=file,
            creates=creates,
            checks=check,
            priority=priority,
            effort=effort,
        )
        if not fields:
            raise CliError("nothing is to be changed", next_step="name what is", code="invalid_input")
        return [{"op": "update_task" if is_task else "update_feature", "key": part.key, **fields}]

    _change(plan, change, reason=reason, json_output=json_output, server=server)


def skip(
    plan: PlanArgument,
    task: TasksArgument,
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Do without tasks. What needs them doesn't wait for them any more."""
    _each(plan, task, "skip_task", reason=reason, json_output=json_output, server=server)


def unskip(
    plan: PlanArgument,
    task: TasksArgument,
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Want tasks again that were done without."""
    _each(plan, task, "unskip_task", reason=reason, json_output=json_output, server=server)


def hold(
    plan: PlanArgument,
    key: KeyArgument,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Shown wherever the plan is.")] = _HELD,
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Keep a task, or all of a feature, from starting until it is released."""

    def change(found: PlanProgress) -> list[Operation]:
        return [{"op": "hold", "key": part_named(found, key).key, "reason": why.strip() or _HELD}]

    _change(plan, change, json_output=json_output, server=server)


def release(plan: PlanArgument, key: KeyArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """Let a task or feature that was held start."""

    def change(found: PlanProgress) -> list[Operation]:
        return [{"op": "release", "key": part_named(found, key).key}]

    _change(plan, change, json_output=json_output, server=server)


def move(
    plan: PlanArgument,
    key: KeyArgument,
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="FEATURE", help="Make it a part of this feature; '' of a feature: of none."),
    ] = None,
    after: AfterOption = None,
    first: FirstOption = False,
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Put a task or feature elsewhere: into another feature, or in another order."""

    def change(found: PlanProgress) -> list[Operation]:
        part = part_named(found, key)
        is_task = isinstance(part, PlanTask)
        if is_task and into is not None and not into.strip():
            raise CliError("a task is a part of some feature", next_step="name --into FEATURE", code="invalid_input")
        parent = feature_named(found, into).key if into and into.strip() else into
        place = _place(found, part, after=after, first=first, parent=parent, is_task=is_task)
        if not place:
            raise CliError("it is not said where to", next_step="name --into, --after or --first", code="invalid_input")
        return [{"op": "move_task" if is_task else "move_feature", "key": part.key, **place}]

    _change(plan, change, reason=reason, json_output=json_output, server=server)


def split(
    plan: PlanArgument,
    task: TaskArgument,
    title: Annotated[
        list[str], typer.Argument(metavar="TITLE", help="Of each part, in order: two at least.", show_default=False)
    ],
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Put several tasks in the place of one, each after the one before. What needs the one needs the last of them."""

    def change(found: PlanProgress) -> list[Operation]:
        if len(title) < 2:
            raise CliError("one part is no split", next_step="name two titles at least", code="invalid_input")
        parts = [{"title": each} for each in title]
        return [{"op": "split_task", "key": task_named(found, task).key, "parts": parts}]

    _change(plan, change, reason=reason, json_output=json_output, server=server)


def remove(
    plan: PlanArgument,
    key: KeyArgument,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="What depends on it ceases to, rather than keeping it there.")
    ] = False,
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Take a task, or a feature with all in it, out of a plan. What was begun stays."""

    def change(found: PlanProgress) -> list[Operation]:
        part = part_named(found, key)
        kind = "remove_task" if isinstance(part, PlanTask) else "remove_feature"
        return [{"op": kind, "key": part.key, "cascade": cascade}]

    _change(plan, change, reason=reason, json_output=json_output, server=server)


def restore(
    plan: PlanArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="See history.", show_default=False)],
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Put an earlier version of a plan back. What was begun since stays as it is."""
    with _changing(plan, json_output=json_output, server=server) as (api, found):
        api.restore(found.id, version=version, reason=reason)


# --- How --------------------------------------------------------------------------------------------------------------
def _fields(*, is_task: bool, **given: Any) -> dict[str, Any]:
    """What is given, as the API takes it. Refuses what the other kind alone has."""
    of_tasks = ("type", "agent_type", "files", "creates", "checks")
    of_features = ("priority", "effort")
    wrong = [name for name in (of_features if is_task else of_tasks) if given[name] is not None]
    if wrong:
        raise CliError(
            f"a {'task' if is_task else 'feature'} has no {wrong[0].removesuffix('_type')}",
            next_step="leave it out",
            code="invalid_input",
        )
    fields = {name: value for name, value in given.items() if value is not None}
    for name in ("depends_on", "files", "creates", "checks"):
        if name in fields:
            # An empty one stands for none at all.
            fields[name] = [value for value in fields[name] if value.strip()]
    if "checks" in fields:
        fields["checks"] = [{"command": command} for command in fields["checks"]]
    if (text := fields.pop("instructions", None)) is not None:
        fields["instructions" if is_task else "description"] = _text(text)
    return fields


def _text(given: str) -> str:
    return file_read(Path(given[1:])) if given.startswith("@") else given


def _place(
    plan: PlanProgress,
    part: PlanTask | PlanFeature | None,
    *,
    after: str | None,
    first: bool,
    parent: str | None,
    is_task: bool,
) -> dict[str, Any]:
    """Where a task or feature is put, as operations say it; empty: nothing is said of it."""
    if first and after is not None:
        raise CliError("it is first, or after another", next_step="name one of them", code="invalid_input")
    if after is not None:
        return {"after": (task_named if is_task else feature_named)(plan, after).key}
    place = {} if parent is None else {"feature" if is_task else "parent": parent}
    place = {} if is_task and not parent else place
    if first and (others := siblings(plan, part, parent=parent, is_task=is_task)):
        # Whatever comes first there says where that is.
        return {"before": others[0]}
    return place


def _each(plan: str, keys: list[str], operation: str, *, reason: str, json_output: bool, server: str | None) -> None:
    def change(found: PlanProgress) -> list[Operation]:
        return [{"op": operation, "key": task_named(found, key).key} for key in keys]

    _change(plan, change, reason=reason, json_output=json_output, server=server)


def _change(
    plan: str,
    change: Callable[[PlanProgress], list[Operation]],
    *,
    reason: str = "",
    json_output: bool,
    server: str | None,
) -> None:
    with _changing(plan, json_output=json_output, server=server) as (api, found):
        api.operate(found.id, change(found), reason=reason)


@contextmanager
def _changing(plan: str, *, json_output: bool, server: str | None) -> Iterator[tuple[PlanApi, PlanProgress]]:
    """The plan, to be changed inside; then what is different is told."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            api = PlanApi(connection.api)
            before = api.find(plan)
            yield api, before
            now = api.progress(before.id)
            told = "" if json_output else api.diff(now.id, first=before.version, last=now.version).text
        if json_output:
            document_print(now.model_dump(mode="json"))
            return
        changes_print(told, console=console)
        if now.version != before.version:
            command_print(console, f"Version {now.version}. To see it: {command_line('plan', 'show', now.id[:8])}")


def register(group: typer.Typer) -> None:
    """Add these commands to the group."""
    for command in (add, skip, unskip, hold, release, move, split, remove, restore):
        group.command(name=command.__name__)(command)
    group.command(name="set")(set_)

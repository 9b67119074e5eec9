"""``archon plan``: the commands that change a plan. Each makes a version of it, also while a session carries it out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.command import command_line, command_print, console_make
from cli.connection import connection_open
from cli.errors import CliError, errors_reported
from cli.plan_api import PlanApi, feature_named, part_named, part_path, task_named
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
    str | None, typer.Option("--after", metavar="KEY", help="Right after this one of the same feature.")
]


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

    def change(api: PlanApi, found: PlanProgress) -> None:
        fields: dict[str, Any] = {"title": title, "key": key, "after": after}
        fields |= _fields(
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
        body = {name: value for name, value in fields.items() if value is not None}
        parent = feature_named(found, feature) if feature else None
        if as_feature:
            plan_row = api.change("GET", f"plans/{found.id}/")
            within = {"project": plan_row["project"], "plan": found.id, "parent": parent.id if parent else None}
            api.change("POST", "features/", {**body, **within, "reason": reason})
            return
        if parent is None and not found.features:
            raise CliError("the plan has no feature", next_step="add one with --as-feature", code="invalid_input")
        within = {"feature": (parent or found.features[-1]).id}
        api.change("POST", "tasks/", {**body, **within, "reason": reason})

    _change(plan, change, json_output=json_output, server=server)


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

    def change(api: PlanApi, found: PlanProgress) -> None:
        part = part_named(found, key)
        fields = _fields(
            is_task=isinstance(part, PlanTask),
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
        fields["title"] = title
        body = {name: value for name, value in fields.items() if value is not None}
        if not body:
            raise CliError("nothing is to be changed", next_step="name what is", code="invalid_input")
        api.change("PATCH", part_path(part), {**body, "reason": reason})

    _change(plan, change, json_output=json_output, server=server)


def skip(
    plan: PlanArgument,
    task: TasksArgument,
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Do without tasks. What needs them doesn't wait for them any more."""
    _each(plan, task, "skip", reason=reason, json_output=json_output, server=server)


def unskip(
    plan: PlanArgument,
    task: TasksArgument,
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Want tasks again that were done without."""
    _each(plan, task, "unskip", reason=reason, json_output=json_output, server=server)


def hold(
    plan: PlanArgument,
    key: KeyArgument,
    why: Annotated[
        str, typer.Option("--why", metavar="TEXT", help="Shown wherever the plan is.")
    ] = "a person holds it",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Keep a task, or all of a feature, from starting until it is released."""
    if not why.strip():
        why = "a person holds it"
    _held(plan, key, why, json_output=json_output, server=server)


def release(plan: PlanArgument, key: KeyArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """Let a task or feature that was held start."""
    _held(plan, key, "", json_output=json_output, server=server)


def move(
    plan: PlanArgument,
    key: KeyArgument,
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="FEATURE", help="Make it a part of this feature; '' of a feature: of none."),
    ] = None,
    after: AfterOption = None,
    first: Annotated[bool, typer.Option("--first", help="Before all others of the same feature.")] = False,
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Put a task or feature elsewhere: into another feature, or in another order."""

    def change(api: PlanApi, found: PlanProgress) -> None:
        if first and after is not None:
            raise CliError("it is first, or after another", next_step="name one of them", code="invalid_input")
        part = part_named(found, key)
        body: dict[str, Any] = {"reason": reason}
        if into is not None:
            name = "feature" if isinstance(part, PlanTask) else "parent"
            body[name] = feature_named(found, into).id if into.strip() else None
        if first or after is not None:
            body["after"] = "" if first else part_named(found, str(after)).key
        if len(body) == 1:
            raise CliError("it is not said where to", next_step="name --into, --after or --first", code="invalid_input")
        api.change("PATCH", part_path(part), body)

    _change(plan, change, json_output=json_output, server=server)


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

    def change(api: PlanApi, found: PlanProgress) -> None:
        if len(title) < 2:
            raise CliError("one part is no split", next_step="name two titles at least", code="invalid_input")
        parts = [{"title": each} for each in title]
        api.change("POST", part_path(task_named(found, task), "split"), {"parts": parts, "reason": reason})

    _change(plan, change, json_output=json_output, server=server)


def remove(plan: PlanArgument, key: KeyArgument, json_output: JsonOption = False, server: ServerOption = None) -> None:
    """Take a task, or a feature with all in it, out of a plan. What was begun stays."""
    _change(
        plan,
        lambda api, found: api.remove(part_path(part_named(found, key))),
        json_output=json_output,
        server=server,
    )


def restore(
    plan: PlanArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="See history.", show_default=False)],
    reason: ReasonOption = "",
    json_output: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Put an earlier version of a plan back. What was begun since stays as it is."""
    _change(
        plan,
        lambda api, found: api.restore(found.id, version=version, reason=reason),
        json_output=json_output,
        server=server,
    )


def _fields(*, is_task: bool, **given: Any) -> dict[str, Any]:
    """What is given, as the API takes it; None: not given. Refuses what the other kind alone has."""
    of_tasks = ("type", "agent_type", "files", "creates", "checks")
    of_features = ("priority", "effort")
    wrong = [name for name in (of_features if is_task else of_tasks) if given[name] is not None]
    if wrong:
        raise CliError(
            f"a {'task' if is_task else 'feature'} has no {wrong[0].removesuffix('_type')}",
            next_step="leave it out",
            code="invalid_input",
        )
    lists = {name: _listed(given[name]) for name in ("depends_on", "files", "creates", "checks")}
    fields = {**given, **lists}
    if lists["checks"] is not None:
        fields["checks"] = [{"command": command} for command in lists["checks"]]
    text = fields.pop("instructions")
    fields["instructions" if is_task else "description"] = _text(text)
    return fields


def _listed(values: list[str] | None) -> list[str] | None:
    """None where the option wasn't named; `''` alone names nothing."""
    return [value for value in values if value.strip()] if values else None


def _text(given: str | None) -> str | None:
    return file_read(Path(given[1:])) if given is not None and given.startswith("@") else given


def _each(plan: str, keys: list[str], command: str, *, reason: str, json_output: bool, server: str | None) -> None:
    def change(api: PlanApi, found: PlanProgress) -> None:
        # All are looked for before any is changed.
        for task in [task_named(found, key) for key in keys]:
            api.change("POST", part_path(task, command), {"reason": reason})

    _change(plan, change, json_output=json_output, server=server)


def _held(plan: str, key: str, why: str, *, json_output: bool, server: str | None) -> None:
    def change(api: PlanApi, found: PlanProgress) -> None:
        part: PlanTask | PlanFeature = part_named(found, key)
        api.change("PATCH", part_path(part), {"blocked_reason": why})

    _change(plan, change, json_output=json_output, server=server)


def _change(
    plan: str, change: Callable[[PlanApi, PlanProgress], None], *, json_output: bool, server: str | None
) -> None:
    """Find the plan, change it, and tell what is different now."""
    with errors_reported(json_output=json_output):
        console = console_make(json_output=json_output)
        with connection_open(server, console=console) as connection:
            api = PlanApi(connection.api)
            before = api.find(plan)
            change(api, before)
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

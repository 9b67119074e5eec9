"""Reading a plan's Markdown: what :mod:`markdown` wrote, exactly, and what a person wrote, sensibly."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import ValidationError

from apps.core.errors import InvalidInput
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.markdown_text import NAME_MARK, NOTHING, code_read, line_read, names_read, title_read
from apps.planning.types import Effort, Intent, Priority, TaskAgent, TaskStatus, TaskType

#: Longer texts aren't read.
MAX_LENGTH = 5_000_000

_MADE_OF = re.compile(r"<!-- archon-plan: ([0-9a-fA-F-]{36}) version (\d{1,9}) -->")
_HEADING = re.compile(r" ?(#{1,6})(?:[ \t]+(.*))?$")
_BULLET = r"(?:[-*+]|\d{1,9}[.)])"
_TASK = re.compile(rf"( {{0,3}}){_BULLET}[ \t]+\[([ xX~-])\](?:[ \t]+(.*))?$")
_PLAIN_TASK = re.compile(rf"( {{0,3}}){_BULLET}[ \t]+(.*)$")
_NOTE = re.compile(r"[ \t]*[-*+][ \t]+([A-Za-z][A-Za-z_ ]{1,20}):(?:[ \t]+(.*))?$")
_FENCE = re.compile(r" ?(```+|~~~+)")
_KEYED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}) · (.*)$|([A-Z]{1,3}\d+(?:\.\d+)*):[ \t]+(.*)$")


@dataclass(frozen=True)
class MarkdownPlan:
    """What was read; ``plan_id`` and ``version`` are of the plan that the text was made from, where it says so."""

    document: PlanDoc
    plan_id: uuid.UUID | None = None
    version: int | None = None


def plan_from_markdown(text: str) -> MarkdownPlan:
    """The plan that a text says. Raises InvalidInput, which names the line."""
    if len(text) > MAX_LENGTH:
        raise InvalidInput(f"the text is longer than {MAX_LENGTH} characters")
    return _Reader(text.removeprefix("\ufeff").replace("\r\n", "\n")).read()


@dataclass
class _Draft:
    """A feature, a task or the plan itself as far as it was read."""

    line: int
    title: str
    key: str = ""
    level: int = 0
    members: dict[str, Any] = field(default_factory=dict)
    #: Pieces of its text: runs of lines.
    text: list[list[str]] = field(default_factory=list)
    #: What it says in quotes, in place of that.
    quoted: str | None = None
    tasks: list[_Draft] = field(default_factory=list)
    features: list[_Draft] = field(default_factory=list)

    def text_of(self) -> str:
        if self.quoted is not None:
            return self.quoted
        return "\n\n".join("\n".join(piece) for piece in self.text)


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._at = 0
        self._plan = _Draft(1, "")
        self._open: list[_Draft] = []
        self._plan_id: uuid.UUID | None = None
        self._version: int | None = None
        #: Whether the last line of text was a quotation, and where it stood: pieces are runs of one kind.
        self._run: tuple[bool, int, _Draft] | None = None
        lines = self._outside()
        firsts = [len(found[1]) for line in lines if (found := _HEADING.match(line))]
        #: One heading of the highest level, in front of all others, is the plan's own.
        self._has_title = firsts[:1] == [1] and firsts.count(1) == 1
        #: Without any checkbox, what is listed is what is to be done.
        self._listed = not any(_TASK.match(line) for line in lines)

    def read(self) -> MarkdownPlan:
        while self._at < len(self._lines):
            self._line(self._lines[self._at])
        return MarkdownPlan(_Builder(self._plan).build(), self._plan_id, self._version)

    # --- Lines --------------------------------------------------------------------------------------------------------
    def _outside(self) -> list[str]:
        """Lines that are in no fence."""
        found, fence = [], ""
        for line in self._lines:
            opened = _FENCE.match(line)
            if fence:
                fence = "" if opened and opened[1].startswith(fence) and not line.strip(" `~") else fence
            elif opened:
                fence = opened[1]
            else:
                found.append(line)
        return found

    def _line(self, line: str) -> None:
        if made := _MADE_OF.fullmatch(line.strip()):
            if self._plan_id is None:
                self._plan_id, self._version = self._uuid(made[1]), int(made[2])
            self._at += 1
        elif line.lstrip().startswith("<!--"):
            self._comment()
        elif heading := _HEADING.match(line):
            self._heading(len(heading[1]), heading[2] or "")
        elif task := _TASK.match(line):
            self._task(task[3] or "", len(task[1]), ticked=task[2] != " ")
        elif (note := _NOTE.match(line)) and not line.startswith((" ", "\t")) and self._takes(note[1]):
            self._note(self._now(), note[1], note[2] or "")
        elif self._listed and (plain := _PLAIN_TASK.match(line)):
            self._task(plain[2], len(plain[1]), ticked=False)
        elif _FENCE.match(line):
            self._fence()
        else:
            if line.strip() and not re.fullmatch(r" {0,3}([-*_])(?: *\1){2,} *", line):
                self._text(line)
            self._at += 1

    def _comment(self) -> None:
        while self._at < len(self._lines) and "-->" not in self._lines[self._at]:
            self._at += 1
        self._at += 1

    def _fence(self) -> None:
        opened = _FENCE.match(self._lines[self._at])
        marks = opened[1] if opened else "```"
        start = self._at
        self._at += 1
        while self._at < len(self._lines):
            line = self._lines[self._at].strip()
            self._at += 1
            if line.startswith(marks) and not line.strip("`~"):
                break
        for number in range(start, self._at):
            self._text(self._lines[number], number, verbatim=True)

    def _text(self, line: str, number: int | None = None, *, verbatim: bool = False) -> None:
        """A line that belongs to what the feature, or the plan, says of itself."""
        number = self._at if number is None else number
        draft = self._now()
        quotes = not verbatim and line.startswith(">")
        content = line[2:] if quotes and line.startswith("> ") else line[1:] if quotes else line
        run = self._run
        if run is not None and run[0] == quotes and run[2] is draft and draft.text:
            between = self._lines[run[1] + 1 : number]
            # Blank lines stay between lines of text, and end a quotation.
            if not any(each.strip() for each in between) and not (quotes and between):
                draft.text[-1] += [*("" for _ in between), content]
                self._run = quotes, number, draft
                return
        draft.text.append([content])
        self._run = quotes, number, draft

    # --- What there is ------------------------------------------------------------------------------------------------
    def _now(self) -> _Draft:
        return self._open[-1] if self._open else self._plan

    def _heading(self, level: int, text: str) -> None:
        line = self._at + 1
        self._at += 1
        if level == 1 and self._has_title:
            self._plan.line, self._plan.title = line, title_read(text)
            return
        key, title = self._keyed(text, line)
        draft = _Draft(line, title, key, level)
        self._level_take(draft)
        self._feature_put(draft)

    def _level_take(self, draft: _Draft) -> None:
        """A level beyond Markdown's, which has to be known before anything else of the feature."""
        at = self._at
        while at < len(self._lines) and not self._lines[at].strip():
            at += 1
        note = _NOTE.match(self._lines[at]) if at < len(self._lines) else None
        if note and note[1].strip().lower() == "level":
            self._at = at + 1
            if not re.fullmatch(r"\d{1,3}", (note[2] or "").strip()):
                self._refuse(at + 1, "level has to be a number")
            draft.level = int(note[2])

    def _feature_put(self, draft: _Draft) -> None:
        while self._open and self._open[-1].level >= draft.level:
            self._open.pop()
        (self._open[-1] if self._open else self._plan).features.append(draft)
        self._open.append(draft)

    def _task(self, text: str, indent: int, *, ticked: bool) -> None:
        if not self._open:
            # Under the plan's own heading: what the plan is about is its one feature.
            self._feature_put(_Draft(self._plan.line, self._plan.title or "Tasks", level=2))
        key, title = self._keyed(text, self._at + 1)
        draft = _Draft(self._at + 1, title, key)
        self._open[-1].tasks.append(draft)
        self._at += 1
        while self._at < len(self._lines) and _is_inside(self._lines[self._at], indent):
            note = _NOTE.match(self._lines[self._at])
            if note is None or note[1].strip().lower() not in _TASK_NOTES:
                break
            self._note(draft, note[1], note[2] or "", of_task=True)
        if ticked and "status" not in draft.members:
            # Ticked by hand: it is done already.
            draft.members["skipped"] = True
        draft.members.pop("status", None)
        self._instructions(draft, indent)

    def _instructions(self, draft: _Draft, outer: int) -> None:
        found: list[str] = []
        at = self._at
        while at < len(self._lines) and (_is_inside(self._lines[at], outer) or not self._lines[at].strip(" \t")):
            found.append(self._lines[at])
            at += 1
        while found and not found[-1].strip(" \t"):
            found.pop()
            at -= 1
        self._at = at
        while found and not found[0].strip(" \t"):
            found.pop(0)
        if not found:
            return
        indent = len(found[0]) - len(found[0].lstrip(" "))
        cut = re.compile(rf" {{0,{indent}}}" if indent else r"[ \t]?")
        draft.text.append([line[cut.match(line).end() :] for line in found])  # type: ignore[union-attr]

    def _keyed(self, text: str, line: int) -> tuple[str, str]:
        found = _KEYED.match(text.strip(" \t"))
        key, title = (found[1] or found[3], found[2] or found[4]) if found else ("", text)
        title = title_read(title or "")
        if not title:
            self._refuse(line, "a title is missing")
        return key or "", title

    # --- Notes --------------------------------------------------------------------------------------------------------
    def _takes(self, word: str) -> bool:
        """Whether a note of this name may stand here: in front of the text and the tasks of a feature or the plan."""
        draft = self._now()
        notes = _FEATURE_NOTES if self._open else _PLAN_NOTES
        return word.strip().lower() in notes and not draft.text and not draft.tasks

    def _note(self, draft: _Draft, word: str, value: str, *, of_task: bool = False) -> None:
        name, value, line = word.strip().lower(), value.strip(" \t"), self._at + 1
        self._at += 1
        notes = _TASK_NOTES if of_task else _FEATURE_NOTES if self._open else _PLAN_NOTES
        try:
            if name == "text":
                draft.quoted = line_read(value)
            else:
                notes[name](draft.members, value)
        except ValueError as error:
            self._refuse(line, f"{name}: {error}")

    def _uuid(self, text: str) -> uuid.UUID:
        try:
            return uuid.UUID(text)
        except ValueError:
            self._refuse(self._at + 1, "the plan's id is none")

    def _refuse(self, line: int, what: str) -> NoReturn:
        raise line_error(line, what)


def _is_inside(line: str, indent: int) -> bool:
    """Whether a line belongs to an item that is indented by so much."""
    return line.startswith((" " * (indent + 2), "\t")) or line.lstrip(" ").startswith("\t")


def line_error(line: int, what: str) -> InvalidInput:
    return InvalidInput(f"line {line}: {what}", next_step="see the Markdown of plans in docs/reference/plans.md")


# --- What notes say ---------------------------------------------------------------------------------------------------
_Take = Callable[[dict[str, Any], str], None]


def _choice(name: str, kind: type[Any]) -> _Take:
    def take(members: dict[str, Any], value: str) -> None:
        known = [each.value for each in kind]
        if value.lower() not in known:
            raise ValueError(f"there is no {value[:60]!r}; it is one of {', '.join(known)}")
        members[name] = value.lower()

    return take


def _names(name: str) -> _Take:
    def take(members: dict[str, Any], value: str) -> None:
        # A name that is in quotes is a name, whatever it says.
        found = [] if value.lower() in NOTHING else list(names_read(value))
        members[name] = [*members.get(name, []), *found]

    return take


def _check(members: dict[str, Any], value: str) -> None:
    literal = code_read(value)
    rest = literal[1].strip(" \t") if literal else ""
    mark = NAME_MARK.strip()
    if literal is None or (rest and not rest.startswith((mark, "-", ":", "#"))):
        check = {"command": value}
    else:
        check = {"command": literal[0], "name": line_read(rest[1:].strip(" \t")) if rest else ""}
    if not check["command"]:
        raise ValueError("a command is missing")
    members.setdefault("checks", []).append(check)


def _held(members: dict[str, Any], value: str) -> None:
    members["blocked_reason"] = line_read(value)


def _status(members: dict[str, Any], value: str) -> None:
    words = [word.strip(" \t").lower() for word in value.split(",")]
    unknown = [word for word in words if word not in TaskStatus.values]
    if unknown:
        raise ValueError(f"there is no {unknown[0][:60]!r}; it is one of {', '.join(TaskStatus.values)}")
    members["status"] = words
    members["skipped"] = TaskStatus.SKIPPED.value in words


def _nowhere(members: dict[str, Any], value: str) -> None:
    """Taken elsewhere."""


_PLAN_NOTES: dict[str, _Take] = {"intent": _choice("intent", Intent), "text": _nowhere}
_FEATURE_NOTES: dict[str, _Take] = {
    "priority": _choice("priority", Priority),
    "effort": _choice("effort", Effort),
    **dict.fromkeys(("needs", "depends on", "depends_on"), _names("depends_on")),
    "held": _held,
    "text": _nowhere,
}
_TASK_NOTES: dict[str, _Take] = {
    "type": _choice("type", TaskType),
    "agent": _choice("agent_type", TaskAgent),
    **dict.fromkeys(("needs", "depends on", "depends_on"), _names("depends_on")),
    "files": _names("files"),
    "creates": _names("creates"),
    **dict.fromkeys(("check", "checks"), _check),
    "held": _held,
    "status": _status,
    "text": _nowhere,
}


# --- Making the plan --------------------------------------------------------------------------------------------------
class _Builder:
    """Makes a document of drafts: keys for those that have none, and the task before as what such a one needs."""

    def __init__(self, plan: _Draft) -> None:
        self._plan = plan
        self._used = {draft.key for draft in _drafts(plan) if draft.key}
        self._numbers = {"F": 0, "T": 0}
        self._previous = ""

    def build(self) -> PlanDoc:
        text, title = self._plan.text_of(), self._plan.title
        if title.lower() == "plan" and text:
            title = ""
        features = tuple(self._feature(draft) for draft in self._plan.features)
        summary = "\n\n".join(part for part in (title, text) if part)
        if not summary:
            summary = "; ".join(feature.title for feature in features) or "Plan"
        return self._made(PlanDoc, self._plan, summary=summary, features=features, **self._plan.members)

    def _feature(self, draft: _Draft) -> FeatureDoc:
        key = draft.key or self._key("F")
        tasks = tuple(self._task(task) for task in draft.tasks)
        inner = tuple(self._feature(each) for each in draft.features)
        text = draft.text_of()
        return self._made(
            FeatureDoc,
            draft,
            key=key,
            title=draft.title,
            description=text,
            tasks=tasks,
            features=inner,
            **draft.members,
        )

    def _task(self, draft: _Draft) -> TaskDoc:
        members = dict(draft.members)
        if not draft.key and "depends_on" not in members:
            members["depends_on"] = [self._previous] if self._previous else []
        key = self._previous = draft.key or self._key("T")
        return self._made(TaskDoc, draft, key=key, title=draft.title, instructions=draft.text_of(), **members)

    def _key(self, prefix: str) -> str:
        self._numbers[prefix] += 1
        while f"{prefix}{self._numbers[prefix]}" in self._used:
            self._numbers[prefix] += 1
        return f"{prefix}{self._numbers[prefix]}"

    def _made(self, kind: type[Any], draft: _Draft, **members: Any) -> Any:
        try:
            return kind(**members)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise line_error(draft.line, f"{where}: {first['msg']}") from None


def _drafts(draft: _Draft) -> list[_Draft]:
    found = list(draft.tasks)
    for feature in draft.features:
        found += [feature, *_drafts(feature)]
    return found

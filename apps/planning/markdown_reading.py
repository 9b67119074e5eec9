"""Reading a plan's Markdown: what :mod:`markdown` wrote, exactly, and what a person wrote, sensibly."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn

from apps.core.errors import InvalidInput
from apps.planning.document import PlanDoc
from apps.planning.markdown_building import Builder, Draft, line_error
from apps.planning.markdown_notes import FEATURE_NOTES, NOTE, PLAN_NOTES, TASK_NOTES, note_known, note_like
from apps.planning.markdown_text import line_read, title_read

#: Longer texts aren't read.
MAX_LENGTH = 5_000_000
#: Nothing is nested deeper, and nothing longer is read to its end; what is too much for a plan its rules tell.
MAX_LEVEL, MAX_ITEMS = 40, 1_000

_MADE_OF = re.compile(r"<!-- archon-plan: ([0-9a-fA-F-]{36}) version (\d{1,9}) -->")
_HEADING = re.compile(r" ?(#{1,6})(?:[ \t]+(.*))?$")
_BULLET = r"(?:[-*+]|\d{1,9}[.)])"
_TASK = re.compile(rf"( {{0,3}}){_BULLET}[ \t]+\[([ xX~-])\](?:[ \t]+(.*))?$")
_PLAIN_TASK = re.compile(rf"( {{0,3}}){_BULLET}[ \t]+(.*)$")
_FENCE = re.compile(r" ?(```+|~~~+)")
_KEYED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}) · (.*)$|([A-Z]{1,3}\d+(?:\.\d+)*)(?::|[ \t][-–—])[ \t]+(.*)$")


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
    return _Reader(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._at = 0
        self._items = 0
        self._plan = Draft(1, "")
        self._open: list[Draft] = []
        self._plan_id: uuid.UUID | None = None
        self._version: int | None = None
        #: Whether the last line of text was a quotation, and where it stood: pieces are runs of one kind.
        self._run: tuple[bool, int, Draft] | None = None
        lines = self._outside()
        firsts = [len(found[1]) for line in lines if (found := _HEADING.match(line))]
        #: One heading of the highest level, in front of all others, is the plan's own.
        self._has_title = firsts[:1] == [1] and firsts.count(1) == 1
        #: Without any checkbox, what is listed is what is to be done.
        self._listed = not any(_TASK.match(line) for line in lines)

    def read(self) -> MarkdownPlan:
        while self._at < len(self._lines):
            self._line(self._lines[self._at])
        return MarkdownPlan(Builder(self._plan).build(), self._plan_id, self._version)

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
        elif (note := NOTE.match(line)) and not line.startswith((" ", "\t")) and self._takes(note[1]):
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
    def _now(self) -> Draft:
        return self._open[-1] if self._open else self._plan

    def _heading(self, level: int, text: str) -> None:
        line = self._at + 1
        self._at += 1
        if level == 1 and self._has_title:
            self._plan.line, self._plan.title = line, title_read(text)
            return
        key, title = self._keyed(text, line)
        draft = Draft(line, title, key, level)
        self._level_take(draft)
        self._feature_put(draft)

    def _level_take(self, draft: Draft) -> None:
        """A level beyond Markdown's, which has to be known before anything else of the feature."""
        at = self._at
        while at < len(self._lines) and not self._lines[at].strip():
            at += 1
        note = NOTE.match(self._lines[at]) if at < len(self._lines) else None
        if note and note[1].strip().lower() == "level":
            self._at = at + 1
            if not re.fullmatch(r"\d{1,2}", (note[2] or "").strip()) or int(note[2]) > MAX_LEVEL:
                self._refuse(at + 1, f"level has to be a number up to {MAX_LEVEL}")
            draft.level = int(note[2])

    def _feature_put(self, draft: Draft) -> None:
        while self._open and self._open[-1].level >= draft.level:
            self._open.pop()
        (self._open[-1] if self._open else self._plan).features.append(draft)
        self._open.append(draft)

    def _task(self, text: str, indent: int, *, ticked: bool) -> None:
        if not self._open:
            # Under the plan's own heading: what the plan is about is its one feature.
            self._feature_put(Draft(self._plan.line, self._plan.title or "Tasks", level=2))
        key, title = self._keyed(text, self._at + 1)
        draft = Draft(self._at + 1, title, key)
        self._open[-1].tasks.append(draft)
        self._at += 1
        others = self._task_notes(draft, indent)
        if ticked and "status" not in draft.members:
            # Ticked by hand: it is done already.
            draft.members["skipped"] = True
        draft.members.pop("status", None)
        self._instructions(draft, indent, others)

    def _task_notes(self, draft: Draft, indent: int) -> list[str]:
        """Takes the notes under a task. What stands among them and is none is returned: it is of its instructions."""
        others: list[str] = []
        while True:
            # Editors put blank lines between a task and its notes; other lines behind one are instructions.
            at = self._at
            while at < len(self._lines) and not self._lines[at].strip(" \t"):
                at += 1
            note = NOTE.match(self._lines[at]) if at < len(self._lines) else None
            if note is None or not _is_inside(self._lines[at], indent):
                return others
            if note_known(note[1], TASK_NOTES):
                self._at = at
                self._note(draft, note[1], note[2] or "", of_task=True)
            elif at > self._at:
                return others
            else:
                self._misspelt(note[1], TASK_NOTES)
                others.append(self._lines[at])
                self._at += 1

    def _misspelt(self, word: str, notes: Collection[str]) -> None:
        """Refuses a note that is nearly one of those that there are: else what it says would be lost."""
        if meant := note_like(word, notes):
            self._refuse(self._at + 1, f"there is no note {word.strip()!r}; was {meant!r} meant?")

    def _instructions(self, draft: Draft, outer: int, first: list[str]) -> None:
        """Takes what is indented under a task; ``first`` are lines of it that were read already."""
        found: list[str] = first
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
        self._items += 1
        if self._items > MAX_ITEMS:
            self._refuse(line, f"no plan has more than {MAX_ITEMS} features and tasks")
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
        notes = FEATURE_NOTES if self._open else PLAN_NOTES
        if draft.text or draft.tasks:
            return False
        if not self._listed and not note_known(word, notes):
            self._misspelt(word, notes)
        return note_known(word, notes)

    def _note(self, draft: Draft, word: str, value: str, *, of_task: bool = False) -> None:
        name, value, line = word.strip().lower(), value.strip(" \t"), self._at + 1
        self._at += 1
        notes = TASK_NOTES if of_task else FEATURE_NOTES if self._open else PLAN_NOTES
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

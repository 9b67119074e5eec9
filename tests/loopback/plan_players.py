"""The agents of plans that are drawn by lot: what each leaves can be counted, and they know nothing but what they see.

A task leaves a line in a file of its own, which is written once however often a worker dies (an agent that doesn't know
what came of its command looks first); the word that its instructions say, again where it is told another one; and, some
of them, a line in a file that others write into at the same place.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .agents import call, finishes, is_planner, runs, says, task_title
from .wire import Reply, Request, text_of

SHARED = "shared.txt"
#: Where all insert their line.
MIDDLE = "middle"
FILES = {SHARED: f"first\n{MIDDLE}\nlast\n", "README": "Plans.\n"}
#: What a task that fails leaves behind.
BROKEN = "broken"
CHECK = f"test ! -e {BROKEN} && ! grep -q '<<<<<<<' {SHARED}"
_MEND = "sed -i '/^<<<<<<< /d;/^=======$/d;/^>>>>>>> /d' " + SHARED
#: Shells work it out, so that no command reads as its own result.
_PROOF, _PROVED = "$((40 + 2))", "42"
#: How the task goes: ``asks`` a person first, ``blocked``, ``fails``, or ``works``.
KINDS = ("works", "works", "works", "works", "works", "asks", "blocked", "fails")
DECISIONS = ("replace", "replace", "drop", "keep", "keep", "less")


@dataclass(frozen=True)
class Drawn:
    """A plan: by task what it needs, how it goes, and the feature that it is in; what planners decide, in turn."""

    needs: tuple[tuple[int, ...], ...]
    kinds: tuple[str, ...]
    features: tuple[int, ...]
    decisions: tuple[str, ...]
    #: Whether the second feature waits for all of the first.
    waits: bool


def goal_of(number: int) -> str:
    return f"Carry out all of plan {number}."


def title_of(name: str, number: int) -> str:
    return f"{name} of plan {number}"


def slug_of(title: str) -> str:
    """What a task's file and lines are called: whatever its title says behind its name, it stays."""
    return re.sub(r"[^a-z0-9]+", "-", title.partition(" of plan ")[0].lower()).strip("-")


def is_shared(slug: str) -> bool:
    """Whether the task writes into the shared file as well."""
    return zlib.crc32(slug.encode()) % 3 == 0


def own_line(slug: str) -> str:
    return f"{slug}-made"


def word_line(slug: str, word: str) -> str:
    return f"{slug}-says-{word}"


def shared_line(slug: str) -> str:
    return f"{slug}-here"


def word_said(instructions: str) -> str:
    """The word that instructions say, if any."""
    found = re.findall(r"Say: (\w+)", instructions)
    return found[-1] if found else ""


@dataclass
class Players:
    """Everybody who is asked. ``plans`` are the drawn plans by number."""

    #: Seconds that a reply takes.
    latency: float = 0.1
    plans: dict[int, Drawn] = field(default_factory=dict)

    def __call__(self, request: Request) -> Reply:
        time.sleep(self.latency)
        found = re.search(r"of plan (\d+)", request.user)
        assert found is not None, request.user[:500]
        number = int(found[1])
        if is_planner(request):
            return self._plan(number)
        if "revise_plan" in request.tools:
            return self._look(request, number)
        if "submit_review" in request.tools:
            return says(call("submit_review", summary="It is as it should be."))
        return self._work(request, number)

    def _plan(self, number: int) -> Reply:
        drawn = self.plans[number]
        features: list[dict[str, Any]] = []
        for at in sorted(set(drawn.features)):
            tasks = [
                {
                    "key": f"T{task}",
                    "title": title_of(f"Task {task}", number),
                    "instructions": f"Say: first{task}",
                    "depends_on": [f"T{each}" for each in drawn.needs[task]],
                }
                for task, feature in enumerate(drawn.features)
                if feature == at
            ]
            needs = ["F0"] if drawn.waits and at and 0 in drawn.features else []
            features.append({"key": f"F{at}", "title": f"Feature {at}", "depends_on": needs, "tasks": tasks})
        return says(call("submit_plan", summary=f"All of plan {number}.", intent="feature", features=features))

    # --- Whoever looks at the plan again --------------------------------------------------------------------------
    def _look(self, request: Request, number: int) -> Reply:
        decisions = self.plans[number].decisions
        decision = decisions[zlib.crc32(request.user.encode()) % len(decisions)]
        if decision == "keep" or request.results("revise_plan"):
            return says(call("keep_plan", reason="it serves"))
        plan = request.user[request.user.index("The plan (version") :]
        tasks, feature = [], ""
        for line in plan.splitlines():
            if named := re.match(r" *(F\d+): ", line):
                feature = named[1]
            elif told := re.match(r" *- (\S+) \[(\w+)", line):
                tasks.append((feature, told[1], told[2]))
        failed = [(of, key) for of, key, status in tasks if status == "failed"]
        left = [(of, key) for of, key, status in tasks if status in ("pending", "blocked")]
        new: list[tuple[str, dict[str, Any]]] = [
            (of, {"title": title_of(f"Instead {key}", number), "replaces": key, "depends_on": []}) for of, key in failed
        ]
        kept: list[tuple[str, dict[str, Any]]] = [(of, {"key": key}) for of, key in left]
        if decision == "replace":
            return _revises([*new, *kept], [])
        if decision == "less" and left:
            return _revises([*new, *kept[1:]], [left[0][1]])
        return _revises([(of, {"key": key, "depends_on": []}) for of, key in left], [key for _, key in failed])

    # --- Whoever carries a task out -------------------------------------------------------------------------------
    def _work(self, request: Request, number: int) -> Reply:
        title = task_title(request)
        slug, kind = slug_of(title), self._kind(title, number)
        if kind == "asks" and not request.results("ask_user"):
            return says(call("ask_user", question=f"Shall {slug} be done?"))
        said = _written(request, own_line(slug), f"{slug}.txt", f"echo {own_line(slug)} >> {slug}.txt; sleep 0.1")
        if said is None and is_shared(slug):
            insert = f"sed -i '/^{MIDDLE}$/a {shared_line(slug)}' {SHARED}"
            said = _written(request, shared_line(slug), SHARED, insert)
        if said is None and _is_in_conflict(request):
            said = runs(f"{_MEND} && echo mended-{_PROOF}")
        if said is None and (word := _word(request)):
            line = word_line(slug, word)
            said = _written(request, line, f"{slug}.txt", f"echo {line} >> {slug}.txt")
        if said is not None:
            return said
        if kind == "blocked":
            return says(call("report_blocked", reason="something is missing", needs="that"))
        if kind == "fails":
            # What never passes is given up at once by an agent that says nothing more.
            done = any("broken-42" in said for _, said in _commands(request))
            return Reply(text="I don't know.") if done else runs(f"touch {BROKEN} && echo broken-{_PROOF}")
        return finishes(f"{slug} is done.")

    def _kind(self, title: str, number: int) -> str:
        """A planned task goes as it was drawn; one that takes a place or was added works."""
        planned = re.match(r"Task (\d+) of plan", title)
        return self.plans[number].kinds[int(planned[1])] if planned else "works"


def _revises(tasks: Sequence[tuple[str, Mapping[str, Any]]], drop: Sequence[str]) -> Reply:
    features = [{"key": of, "tasks": [task for at, task in tasks if at == of]} for of in dict(tasks)]
    return says(call("revise_plan", reason="as it turned out", features=features, drop=list(drop)))


def _word(request: Request) -> str:
    """The word that was told last."""
    told = [text_of(message) for message in request.messages if message["role"] == "user"]
    return next((word for text in reversed(told) if (word := word_said(text))), "")


def _is_in_conflict(request: Request) -> bool:
    """Whether marks that git left were not removed since."""
    for message in reversed(request.messages):
        text = text_of(message)
        if message["role"] == "user" and "together with that of other tasks" in text:
            return False
        if message["role"] == "tool" and f"mended-{_PROVED}" in text:
            return False
        if message["role"] == "user" and "can't be merged" in text:
            return True
    return False


def _written(request: Request, line: str, path: str, command: str) -> Reply | None:
    """The command that writes the line, or a look at the file where nobody knows what came of it; None: it is there."""
    wrote = f"echo wrote-{_PROOF} # {line}"
    told = list(_commands(request))
    made = [at for at, (asked, _) in enumerate(told) if asked.endswith(wrote)]
    if not made:
        return runs(f"{command} && {wrote}")
    if f"wrote-{_PROVED}" in told[made[-1]][1]:
        return None
    looked = f"cat {path}; echo looked-{_PROOF}"
    looks = [said for asked, said in told[made[-1] :] if asked == looked and f"looked-{_PROVED}" in said]
    if not looks:
        return runs(looked)
    return None if line in looks[-1].split() else runs(f"{command} && {wrote}")


def _commands(request: Request) -> Iterator[tuple[str, str]]:
    """Every command and what came of it, in order."""
    results = {m["tool_call_id"]: text_of(m) for m in request.messages if m["role"] == "tool"}
    for message in request.messages:
        for asked in message.get("tool_calls") or ():
            if asked["function"]["name"] == "run_command":
                command = json.loads(asked["function"]["arguments"])["command"]
                yield command, results.get(asked["id"], "")

"""Plans' documents for property tests: any shape, and such as hold."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.types import Effort, Intent, Priority, TaskAgent, TaskState, TaskStatus, TaskType

_WORDS = """
# ## - * + 1. 1) > >> ` ``` ~~~ --- === *b* __init__ <b> <!-- --> \\ \\* | · — : , " ' [ ] [x] ( ) { } #quot; ; %%
%%{init}%% end subgraph classDef style T1 F1 needs: files: check: text: level: 7 nothing & é 漢 a word
"""
#: Texts in which Markdown, Mermaid or a shell could see something.
_MARKED = st.lists(
    st.sampled_from(
        [*_WORDS.split(), " ", "\n", "  ", "\n  ", "\n\n", "\t", "\r", "\u2028", "\x85", "\x7f", "\x00", "\n- [ ] "]
    ),
    max_size=12,
).map("".join)
TEXTS = _MARKED | st.text(st.characters(codec="utf-8"), max_size=40)
_KEYS = ("T1", "F1", "nothing", "None", "a-b.c_d", "0", "T2", "x" * 64)


@st.composite
def documents(draw: st.DrawFn) -> PlanDoc:
    """Any shape of a plan, with any texts: whether it holds or not, keys used twice and dependencies on nothing."""
    texts = draw(st.lists(TEXTS, min_size=1, max_size=8))
    # The shape by a seed: drawing each of its parts takes a hundred times as long.
    random = Random(draw(st.integers(0, 2**32)))

    def text() -> str:
        return random.choice(texts)

    def title() -> str:
        return (text() or "-")[:300]

    def some(make, most: int = 2):  # type: ignore[no-untyped-def]
        return tuple(make() for _ in range(random.randint(0, most)))

    def key() -> str:
        return random.choice(_KEYS)

    def check() -> CheckDoc:
        return CheckDoc(command=title(), name=text())

    def task() -> TaskDoc:
        return TaskDoc(
            key=key(),
            title=title(),
            instructions=text(),
            type=random.choice(list(TaskType)),
            agent_type=random.choice(list(TaskAgent)),
            depends_on=some(key),
            files=some(title),
            creates=some(title),
            checks=some(check),
            skipped=random.random() < 0.3,
            blocked_reason=random.choice(["", text()]),
        )

    def feature(depth: int) -> FeatureDoc:
        return FeatureDoc(
            key=key(),
            title=title(),
            description=text(),
            priority=random.choice(list(Priority)),
            effort=random.choice(list(Effort)),
            depends_on=some(key),
            blocked_reason=random.choice(["", text()]),
            tasks=some(task),
            features=tuple(feature(depth + 1) for _ in range(random.randint(0, 2) if depth < 8 else 0)),
        )

    features = tuple(feature(random.randint(4, 8)) for _ in range(random.randint(0, 2)))
    deep = FeatureDoc(key=key(), title=title(), tasks=some(task))
    for _ in range(random.randint(0, 9)):
        deep = FeatureDoc(key=key(), title=title(), tasks=some(task, 1), features=(deep,))
    return PlanDoc(summary=title(), intent=random.choice(list(Intent)), features=(*features, deep))


@st.composite
def plans(draw: st.DrawFn, *, tasks: int = 12) -> PlanDoc:
    """A plan that holds: keys of its own for everything, and what is needed stands in front of what needs it."""
    random = Random(draw(st.integers(0, 2**32)))
    numbers = {"F": 0, "T": 0}
    left = random.randint(1, tasks)
    before: list[str] = []
    whole: list[str] = []

    def key(kind: str) -> str:
        numbers[kind] += 1
        return f"{kind}{numbers[kind]}"

    def chosen(known: list[str], most: int = 2) -> tuple[str, ...]:
        return tuple(dict.fromkeys(random.choices(known, k=random.randint(0, most)))) if known else ()

    def task() -> TaskDoc:
        nonlocal left
        left -= 1
        made = TaskDoc(
            key=key("T"),
            title=random.choice("abc"),
            depends_on=chosen(before),
            skipped=random.random() < 0.1,
            blocked_reason="held" if random.random() < 0.1 else "",
        )
        before.append(made.key)
        return made

    def feature(depth: int) -> FeatureDoc:
        own, needs = key("F"), chosen(whole, 1)
        tasks = tuple(task() for _ in range(min(left, random.randint(0, 3))))
        inner = tuple(feature(depth + 1) for _ in range(random.randint(0, 2) if depth < 3 and left else 0))
        # From here on others may need it: it is whole, and none of its own.
        whole.append(own)
        return FeatureDoc(key=own, title=own, depends_on=needs, tasks=tasks, features=inner)

    features = []
    while left:
        features.append(feature(0))
    return PlanDoc(summary="s", features=tuple(features))


def states_of(document: PlanDoc, random: Random) -> dict[str, TaskState]:
    """How far its tasks may be: whatever was begun, what it needs was done before or is done without."""
    states: dict[str, TaskState] = {}
    for placed in document.placed_tasks:
        task = placed.task
        held = task.skipped or task.blocked_reason or any(each.blocked_reason for each in placed.within)
        needs = document.needs[task.key]
        free = all(document.tasks[key].skipped or _done(states, key) for key in needs)
        if free and not held and random.random() < 0.7:
            status = random.choice([TaskStatus.DONE, TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.RUNNING])
            states[task.key] = TaskState(status, attempts=1)
    return states


def _done(states: dict[str, TaskState], key: str) -> bool:
    return key in states and states[key].status is TaskStatus.DONE

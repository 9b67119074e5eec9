"""Arbitrary plans' documents, for property tests."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from apps.planning.document import CheckDoc, FeatureDoc, PlanDoc, TaskDoc
from apps.planning.types import Effort, Intent, Priority, TaskAgent, TaskType

#: Texts in which Markdown, Mermaid or a shell could see something.
_WORDS = """
# ## - * + 1. 1) > >> ` ``` ~~~ --- === *b* __init__ <b> <!-- --> \\ \\* | · — : , " ' [ ] [x] ( ) { } #quot; ; %%
%%{init}%% end subgraph classDef style T1 F1 needs: files: check: text: level: 7 nothing & é 漢 a word
"""
MARKED = st.lists(
    st.sampled_from([*_WORDS.split(), " ", "\n", "  ", "\n  ", "\n\n", "\t", "\r", "\u2028", "\x85", "\x7f", "\x00"]),
    max_size=12,
).map("".join)
TEXTS = MARKED | st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
TITLES = TEXTS.filter(bool).map(lambda text: text[:300])
KEYS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,6}", fullmatch=True) | st.sampled_from(
    ["nothing", "None", "T1", "F1"]
)
PATHS = TEXTS.filter(bool)


def _keys(known: Sequence[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(known) if known else KEYS, max_size=3).map(tuple)


@st.composite
def tasks(draw: st.DrawFn) -> TaskDoc:
    return TaskDoc(
        key=draw(KEYS),
        title=draw(TITLES),
        instructions=draw(TEXTS),
        type=draw(st.sampled_from(TaskType)),
        agent_type=draw(st.sampled_from(TaskAgent)),
        depends_on=draw(st.lists(KEYS, max_size=2).map(tuple)),
        files=draw(st.lists(PATHS, max_size=2).map(tuple)),
        creates=draw(st.lists(PATHS, max_size=2).map(tuple)),
        checks=draw(st.lists(st.builds(CheckDoc, command=PATHS, name=TEXTS), max_size=2).map(tuple)),
        skipped=draw(st.booleans()),
        blocked_reason=draw(TEXTS),
    )


@st.composite
def features(draw: st.DrawFn, inner: st.SearchStrategy[FeatureDoc] | None = None) -> FeatureDoc:
    return FeatureDoc(
        key=draw(KEYS),
        title=draw(TITLES),
        description=draw(TEXTS),
        priority=draw(st.sampled_from(Priority)),
        effort=draw(st.sampled_from(Effort)),
        depends_on=draw(st.lists(KEYS, max_size=2).map(tuple)),
        blocked_reason=draw(TEXTS),
        tasks=draw(st.lists(tasks(), max_size=2).map(tuple)),
        features=draw(st.lists(inner, max_size=2).map(tuple)) if inner is not None else (),
    )


#: Any shape of a plan, whether it holds or not.
documents = st.builds(
    PlanDoc,
    summary=TITLES,
    intent=st.sampled_from(Intent),
    features=st.lists(st.recursive(features(), features, max_leaves=4), max_size=3).map(tuple),
)

"""Plans as Mermaid's flowcharts: no title gets out of its label, and no plan is too large to be drawn.

That Mermaid's own parser takes them was seen once, with some hundred of these documents; here it is held to the lines
that it was seen with.
"""

from __future__ import annotations

import re

from hypothesis import given, settings

from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.mermaid import MAX_EDGES, MAX_LENGTH, plan_to_mermaid
from apps.planning.types import TaskStatus
from tests.unit.plan_documents import documents

#: What a label may hold: nothing of Mermaid's, Markdown's or HTML's but entities, and a line break of our own.
LABEL = r"(?:[^\W_]|[ .,_/()\-+=!?'·…]|#\d+;)*(?:<br/>\([a-z]+\))?"
LINE = re.compile(
    rf"flowchart TD| *subgraph f\d+\[\"{LABEL}\"\]| *end| *t\d+\[\"{LABEL}\"\]|  [ft]\d+ --> [ft]\d+"
    r"|  classDef [a-z]+ [a-z0-9#:, \-]+|  class t\d+(,t\d+)* [a-z]+|  more\[\"\d+ more arrows are not drawn\"\]"
)


@settings(max_examples=100, deadline=None)
@given(documents())
def test_nothing_that_a_title_says_means_anything(plan: PlanDoc) -> None:
    statuses = dict(zip(plan.tasks, [*TaskStatus] * 50, strict=False))
    text = plan_to_mermaid(plan, statuses=statuses)
    assert text.endswith("\n") and len(text) <= MAX_LENGTH
    lines = text[:-1].split("\n")
    assert not [line for line in lines if not LINE.fullmatch(line)]
    assert sum(line.strip() == "end" for line in lines) == sum(line.lstrip().startswith("subgraph ") for line in lines)


def test_a_plan_is_drawn() -> None:
    plan = PlanDoc(
        summary="s",
        features=(
            FeatureDoc(
                key="end",
                title='Say "yes" & <b>no</b>',
                tasks=(TaskDoc(key="T1", title="a\nb; style x:#1;"), TaskDoc(key="T2", title="c", depends_on=("T1",))),
                features=(FeatureDoc(key="F2", title="Inner", tasks=(TaskDoc(key="T3", title="d", skipped=True),)),),
            ),
            FeatureDoc(key="F3", title="Last", depends_on=("end",)),
        ),
    )
    assert plan_to_mermaid(plan, statuses={"T1": TaskStatus.DONE}) == (
        "flowchart TD\n"
        '  subgraph f1["end · Say #34;yes#34; #38; #60;b#62;no#60;/b#62;"]\n'
        '    t1["T1 · a b#59; style x#58;#35;1#59;<br/>(done)"]\n'
        '    t2["T2 · c"]\n'
        '    subgraph f2["F2 · Inner"]\n'
        '      t3["T3 · d<br/>(skipped)"]\n'
        "    end\n"
        "  end\n"
        '  subgraph f3["F3 · Last"]\n'
        "  end\n"
        "  f1 --> f3\n"
        "  t1 --> t2\n"
        "  classDef pending fill:#f6f8fa,stroke:#8c959f,color:#1f2328\n"
        "  class t2 pending\n"
        "  classDef done fill:#dafbe1,stroke:#1a7f37,color:#1f2328\n"
        "  class t1 done\n"
        "  classDef skipped fill:#ffffff,stroke:#8c959f,color:#8c959f,stroke-dasharray:4 3\n"
        "  class t3 skipped\n"
    )


def _large(needs: int, title: str) -> PlanDoc:
    tasks = tuple(
        TaskDoc(key=f"T{number}", title=title, depends_on=tuple(f"T{other}" for other in range(min(number, needs))))
        for number in range(200)
    )
    features = tuple(FeatureDoc(key=f"F{n}", title=title, tasks=tasks[n * 4 : n * 4 + 4]) for n in range(50))
    return PlanDoc(summary="s", features=features)


def test_large_plans_stay_within_what_mermaid_draws() -> None:
    # Each task needs all before it: the longer ways say the same.
    ordered = plan_to_mermaid(_large(200, "x"))
    assert ordered.count("-->") == 199 and "more arrows" not in ordered
    # Half of the tasks need each of the first hundred, which no other way says.
    crowded = plan_to_mermaid(
        PlanDoc(
            summary="s",
            features=(
                FeatureDoc(
                    key="F",
                    title="F",
                    tasks=tuple(
                        TaskDoc(
                            key=f"T{number}",
                            title="x",
                            depends_on=tuple(f"T{other}" for other in range(100)) if number >= 100 else (),
                        )
                        for number in range(200)
                    ),
                ),
            ),
        )
    )
    assert crowded.count("-->") < MAX_EDGES and "9501 more arrows" in crowded
    for title in ('"' * 300, "漢" * 300, "\U0001f680" * 300):
        assert len(plan_to_mermaid(_large(2, title))) <= MAX_LENGTH

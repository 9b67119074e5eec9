"""What a person changes of a plan while it is carried out, by lot: rather of what runs, or is about to."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.fleet import Fleet
from tests.loopback.plan_players import title_of

_TASKS = (
    "SELECT t.key, t.status, t.title, f.key AS feature FROM planning_task t JOIN planning_feature f"
    " ON f.id = t.feature_id WHERE f.plan_id = %s ORDER BY f.position, t.position"
)


def operations_draw(fleet: Fleet, plan_id: str, number: int, draw: random.Random) -> list[dict[str, Any]]:
    """Operations on the plan as it is now; some of them can't be had."""
    tasks = fleet.rows(_TASKS, (plan_id,))
    past = fleet.rows("SELECT document FROM planning_planversion WHERE plan_id = %s ORDER BY number", (plan_id,))
    keys = {key for row in past for key in _keys(row["document"]["features"])}
    gone = sorted(keys - {task["key"] for task in tasks})
    return [_operation(tasks, gone, number, draw) for _ in range(draw.choice([1, 1, 1, 2, 3]))]


def _keys(features: Sequence[dict[str, Any]]) -> list[str]:
    own = [task["key"] for feature in features for task in feature["tasks"]]
    return own + [key for feature in features for key in _keys(feature["features"])]


def _operation(
    tasks: Sequence[dict[str, Any]], gone: Sequence[str], number: int, draw: random.Random
) -> dict[str, Any]:
    running = [task for task in tasks if task["status"] == "running"]
    waiting = [task for task in tasks if task["status"] in ("pending", "blocked", "skipped")]
    chance = draw.random()
    among = running if running and chance < 0.3 else waiting if waiting and chance < 0.9 else tasks
    task, other = draw.choice(list(among)), draw.choice(list(tasks))
    key, fresh = task["key"], draw.randrange(10**6)

    def added(name: str) -> str:
        return title_of(f"{name} {fresh}", number)

    def says(word: str) -> str:
        return f"Say: {word}{fresh}"

    kinds: list[Callable[[], dict[str, Any]]] = [
        lambda: {
            "op": "add_task",
            "title": added("Added"),
            "instructions": says("added"),
            "feature": task["feature"],
            "depends_on": draw.choice([[], [key], [key, other["key"]]]),
        },
        lambda: {"op": "add_task", "title": added("Before"), "before": key, "instructions": says("before")},
        lambda: {
            "op": "add_task",
            "title": added("Again"),
            "after": key,
            # One that there was before, where there is one.
            **({"key": draw.choice(list(gone))} if gone else {}),
        },
        lambda: {"op": "remove_task", "key": key, "cascade": True},
        lambda: {"op": "remove_task", "key": key},
        lambda: {"op": "skip_task", "key": key},
        lambda: {"op": "unskip_task", "key": key},
        lambda: {"op": "move_task", "key": key, draw.choice(["before", "after"]): other["key"]},
        lambda: {"op": "update_task", "key": key, "depends_on": draw.choice([[], [other["key"]]])},
        lambda: {"op": "update_task", "key": other["key"], "depends_on": [key]},
        lambda: {"op": "update_task", "key": key, "instructions": says("changed")},
        lambda: {"op": "update_task", "key": key, "instructions": says("other"), "title": _renamed(task, fresh)},
        lambda: {
            "op": "split_task",
            "key": key,
            "parts": [
                {"title": added("Half"), "instructions": says("half"), **draw.choice([{}, {"key": key}])},
                {"title": added("Rest"), "instructions": says("rest"), **draw.choice([{}, {"depends_on": []}])},
            ],
        },
        lambda: {"op": "hold", "key": key, "reason": "it is looked at"},
        lambda: {"op": "release", "key": draw.choice([key, task["feature"]])},
    ]
    return draw.choice(kinds)()


def _renamed(task: dict[str, Any], fresh: int) -> str:
    """Another title of the same task: its work goes by what stands in front."""
    return f"{task['title'].partition(', named ')[0]}, named {fresh}"

"""No order of work, failures, edits, revisions and rewinds loses a finished task, or starts one before its time.

Without a database: the document, how far the tasks are, what may follow what, and what can start. The same over real
sessions is in ``tests/integration/test_plan_histories.py``.
"""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apps.agents.tools.plan_revising import revision_of
from apps.agents.tools.replanning import RevisePlanArguments
from apps.core.errors import InvalidInput
from apps.planning.checking import plan_problems
from apps.planning.diffing import plan_diff
from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.editing import operations_apply, operations_read
from apps.planning.protection import revision_problems
from apps.planning.scheduling import tasks_ready, tasks_settle
from apps.planning.types import TaskState, TaskStatus

FINISHED = (TaskStatus.DONE, TaskStatus.SKIPPED)
places = st.integers(0, 40)


class PlanHistory(RuleBasedStateMachine):
    """A plan as it is carried out and changed; keys are drawn by their place among those that there are."""

    def __init__(self) -> None:
        super().__init__()
        self.document = PlanDoc(summary="s")
        self.states: dict[str, TaskState] = {}
        self.done: dict[str, TaskDoc] = {}
        self.begun: set[str] = set()
        self.former: list[tuple[PlanDoc, dict[str, TaskState], dict[str, TaskDoc], set[str]]] = []

    @initialize(needs=st.lists(st.sets(st.integers(0, 5), max_size=2), min_size=2, max_size=6), nested=st.booleans())
    def plan(self, needs: list[set[int]], nested: bool) -> None:
        tasks = tuple(
            TaskDoc(key=f"T{n}", title=f"t{n}", depends_on=tuple(f"T{each}" for each in sorted(before) if each < n))
            for n, before in enumerate(needs)
        )
        half = len(tasks) // 2
        inner = FeatureDoc(key="F2", title="inner", tasks=tasks[half:])
        outer = FeatureDoc(key="F1", title="outer", tasks=tasks[:half], features=(inner,) if nested else ())
        # One that stands after another may have to wait for all of it.
        after = () if nested else (inner.model_copy(update={"depends_on": ("F1",)}),)
        self.document = PlanDoc(summary="s", features=(outer, *after))
        assert not plan_problems(self.document, None)

    def pick(self, keys: list[str], place: int) -> str | None:
        return keys[place % len(keys)] if keys else None

    def at(self, status: TaskStatus) -> list[str]:
        return [key for key in self.document.tasks if self.states.get(key, TaskState()).status is status]

    # --- Carrying it out ------------------------------------------------------------------------------------------
    @rule(place=places)
    def begin(self, place: int) -> None:
        key = self.pick(list(tasks_ready(self.document, self.states)), place)
        if key is None:
            return
        assert key not in self.begun, "a task is begun once"
        for needed in self.document.needs[key]:
            skipped = self.document.tasks[needed].skipped
            assert skipped or self.states[needed].status is TaskStatus.DONE, f"{key} needs {needed}"
        self.begun.add(key)
        self.states[key] = TaskState(TaskStatus.RUNNING, 1)

    @rule(place=places)
    def accept(self, place: int) -> None:
        if key := self.pick(self.at(TaskStatus.RUNNING), place):
            self.states[key] = TaskState(TaskStatus.DONE, self.states[key].attempts, "made", "c" * 40)
            self.done[key] = self.document.tasks[key]

    @rule(place=places)
    def give_up(self, place: int) -> None:
        if key := self.pick(self.at(TaskStatus.RUNNING), place):
            self.states[key] = TaskState(TaskStatus.FAILED, 3, "no")

    # --- Changing it ----------------------------------------------------------------------------------------------
    def _follow(self, document: PlanDoc) -> bool:
        """What the services do with a document that somebody hands them."""
        if plan_problems(document, None) or revision_problems(self.document, document, self.states):
            return False
        assert (document == self.document) == (not plan_diff(self.document, document))
        self._keep()
        self.document = document
        self.states = {key: state for key, state in self.states.items() if key in document.tasks}
        return True

    def _keep(self) -> None:
        self.former.append((self.document, dict(self.states), dict(self.done), set(self.begun)))

    @rule(
        place=places,
        change=st.sampled_from(["skip", "take up", "hold", "let go", "remove", "retitle", "redepend", "swap", "clear"]),
        other=places,
    )
    def person_edits(self, place: int, change: str, other: int) -> None:
        """Any edit of any task, allowed or not."""
        keys = list(self.document.tasks)
        key, needed = keys[place % len(keys)], keys[other % len(keys)]
        updates: dict[str, dict[str, Any]] = {
            "skip": {"skipped": True},
            "take up": {"skipped": False},
            "hold": {"blocked_reason": "wait"},
            "let go": {"blocked_reason": ""},
            "retitle": {"title": f"r{other}"},
            "redepend": {"depends_on": (needed,)},
            "clear": {"depends_on": ()},
        }
        if change == "swap":
            features = tuple(reversed(self.document.features))
            self._follow(self.document.model_copy(update={"features": features}))
            return

        def changed(task: TaskDoc) -> TaskDoc | None:
            if task.key != key:
                return task
            return None if change == "remove" else task.model_copy(update=updates[change])

        self._follow(self.document.tasks_map(changed))

    @rule(place=places, other=places, change=st.integers(0, 9))
    def person_operates(self, place: int, other: int, change: int) -> None:
        """The operations that people and their tools edit by; a chain of two now and then."""
        keys, features = list(self.document.tasks), list(self.document.features_by_key)
        key, needed, feature = keys[place % len(keys)], keys[other % len(keys)], features[other % len(features)]
        chosen: list[list[dict[str, Any]]] = [
            [{"op": "add_task", "title": "added", "feature": feature, "depends_on": [key]}],
            [{"op": "add_task", "title": "added", "before": key}, {"op": "skip_task", "key": needed}],
            [{"op": "add_feature", "title": "added", "parent": feature, "depends_on": []}],
            [{"op": "move_task", "key": key, "feature": feature}],
            [{"op": "move_task", "key": key, "after": needed}],
            [{"op": "remove_task", "key": key, "cascade": True}],
            [{"op": "remove_feature", "key": feature, "cascade": True}],
            [{"op": "split_task", "key": key, "parts": [{"title": "half"}, {"title": "other half"}]}],
            [{"op": "hold", "key": feature, "reason": "wait"}],
            [{"op": "release", "key": feature}],
        ]
        operations = operations_read(chosen[change])
        with contextlib.suppress(InvalidInput):
            self._follow(operations_apply(self.document, operations))

    @precondition(lambda self: not self.at(TaskStatus.RUNNING))
    @rule(data=st.data())
    def replan(self, data: st.DataObject) -> None:
        """A revision that keeps, drops and replaces as it may; what it comes to holds."""
        drawn = data.draw
        failed = [key for key in self.at(TaskStatus.FAILED) if not self.document.tasks[key].skipped]
        left = [
            key
            for key, task in self.document.tasks.items()
            if not self.states.get(key, TaskState()).started and not task.skipped
        ]
        replaced = [key for key in failed if drawn(st.booleans())]
        dropped = [key for key in left if drawn(st.sampled_from([True, False, False, False]))]
        tasks: list[dict[str, Any]] = [{"title": f"instead of {key}", "replaces": key} for key in replaced]
        for task in tasks:
            if drawn(st.booleans()):
                task["depends_on"] = []
        kept = [{"key": key} for key in left if key not in dropped]
        where = drawn(st.sampled_from([*self.document.features_by_key, "NEW"]))
        arguments = {
            "reason": "r",
            "features": [{"key": where, "title": "t", "tasks": [*tasks, *kept]}],
            "drop": dropped,
        }
        revision = revision_of(RevisePlanArguments.model_validate(arguments), self.document, self.states)
        assert not revision.problems, [str(each) for each in revision.problems]
        before = dict(self.document.tasks)
        # A feature in which tasks are put now may be one that another of them waits for: that is said, and refused.
        if self._follow(revision.document):
            for key in replaced:
                assert tasks_settle(self.document, self.states)[key].status is TaskStatus.SKIPPED
            assert set(before) <= set(self.document.tasks)

    @rule(place=places)
    def rewind(self, place: int) -> None:
        """Back to an earlier step: the document, and how far the tasks were."""
        if self.former:
            at = place % len(self.former)
            self.document, states, done, begun = self.former[at]
            self.states, self.done, self.begun = dict(states), dict(done), set(begun)
            del self.former[at:]

    # --- What holds -----------------------------------------------------------------------------------------------
    @invariant()
    def nothing_finished_is_lost(self) -> None:
        for key, task in self.done.items():
            assert self.document.tasks[key] == task
            assert self.states[key].status is TaskStatus.DONE
        assert all(key in self.document.tasks for key in self.states)
        for key in self.begun:
            assert self.states[key].started and key in self.document.tasks

    @invariant()
    def what_can_start_is_ready(self) -> None:
        settled = tasks_settle(self.document, self.states)
        assert list(settled) == list(self.document.tasks)
        for key in tasks_ready(self.document, self.states):
            assert settled[key].status is TaskStatus.PENDING
            assert all(settled[needed].status in FINISHED for needed in self.document.needs[key])
        for key, standing in settled.items():
            if standing.status is TaskStatus.BLOCKED:
                assert standing.blocked_reason
            # Nothing waits for ever without a word: what is pending can come, once what runs is done.
            if standing.status is TaskStatus.PENDING:
                assert all(
                    settled[needed].status in (*FINISHED, TaskStatus.PENDING, TaskStatus.RUNNING)
                    for needed in self.document.needs[key]
                )

    @invariant()
    def the_plan_holds(self) -> None:
        if self.document.tasks:
            assert not plan_problems(self.document, None)


PlanHistory.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestPlanHistory = PlanHistory.TestCase

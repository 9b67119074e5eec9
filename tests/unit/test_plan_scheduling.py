"""What can start: never anything before what it needs, and always something as long as there is something to do."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.planning.document import FeatureDoc, PlanDoc, TaskDoc
from apps.planning.scheduling import SATISFIED, status_roll_up, tasks_ready, tasks_settle
from apps.planning.types import TaskState, TaskStatus
from tests.unit.plan_documents import plans, states_of

DONE, FAILED, RUNNING = TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.RUNNING


@settings(max_examples=100, deadline=None)
@given(plans(), st.integers(0, 2**32))
def test_nothing_starts_before_what_it_needs(plan: PlanDoc, seed: int) -> None:
    """Carried out in any order, side by side and with failures, until nothing can start any more."""
    random, states = Random(seed), dict[str, TaskState]()
    order = {key: place for place, key in enumerate(plan.tasks)}
    while True:
        ready = tasks_ready(plan, states)
        assert list(ready) == sorted(ready, key=order.__getitem__)
        settled = tasks_settle(plan, states)
        for key in ready:
            assert not plan.tasks[key].skipped and not plan.tasks[key].blocked_reason
            assert all(
                states.get(each, TaskState()).status is DONE or plan.tasks[each].skipped for each in plan.needs[key]
            )
        running = [key for key, state in states.items() if state.status is RUNNING]
        if ready and (not running or random.random() < 0.6):
            states[random.choice(ready)] = TaskState(RUNNING, attempts=1)
        elif running:
            states[random.choice(running)] = TaskState(FAILED if random.random() < 0.2 else DONE, attempts=1)
        else:
            break
    # What is left was done without, is held, or waits for what failed or is held.
    for key, standing in settled.items():
        assert standing.status in (DONE, FAILED, TaskStatus.SKIPPED, TaskStatus.BLOCKED)
        if standing.status is TaskStatus.BLOCKED:
            assert standing.blocked_reason
            needed = {settled[each].status for each in plan.needs[key]}
            assert standing.blocked_reason == "held" or needed & {FAILED, TaskStatus.BLOCKED}


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(0, 2**32))
def test_what_was_begun_stands_as_it_is(plan: PlanDoc, seed: int) -> None:
    states = states_of(plan, Random(seed))
    settled = tasks_settle(plan, states)
    assert list(settled) == list(plan.tasks)
    for key, state in states.items():
        assert settled[key].status is state.status
    assert not set(tasks_ready(plan, states)) & set(states)


def test_a_failed_task_that_is_done_without_holds_nothing_up() -> None:
    first = TaskDoc(key="a", title="a", skipped=True)
    plan = PlanDoc(
        summary="s",
        features=(FeatureDoc(key="F", title="F", tasks=(first, TaskDoc(key="b", title="b", depends_on=("a",)))),),
    )
    assert tasks_ready(plan, {"a": TaskState(FAILED, 1)}) == ("b",)
    kept = plan.tasks_map(lambda task: task.model_copy(update={"skipped": False}))
    assert tasks_ready(kept, {"a": TaskState(FAILED, 1)}) == ()
    assert tasks_settle(kept, {"a": TaskState(FAILED, 1)})["b"].blocked_reason == "a, which it needs, failed"


def test_a_feature_is_at_the_least_of_its_tasks() -> None:
    pending, skipped, blocked = TaskStatus.PENDING, TaskStatus.SKIPPED, TaskStatus.BLOCKED
    for statuses, expected in (
        ((), pending),
        ((pending, pending), pending),
        ((skipped, skipped), skipped),
        ((DONE, skipped), DONE),
        ((DONE, pending), RUNNING),
        ((DONE, RUNNING, FAILED), RUNNING),
        ((DONE, FAILED, blocked), FAILED),
        ((blocked, pending), blocked),
    ):
        assert status_roll_up(statuses) is expected
    assert {DONE, skipped} == SATISFIED

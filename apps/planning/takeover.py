"""Taking a plan over from a session that has ended."""

from __future__ import annotations

import uuid

from django.db import transaction

from apps.planning.models import Plan, Task, TaskStatus
from apps.planning.scheduling import tasks_settle
from apps.planning.selectors import plan_document, task_states
from apps.planning.services import plan_lock


@transaction.atomic
def tasks_release(*, plan_id: uuid.UUID) -> Plan:
    """Have tasks that run for nobody any more be as if they had not been begun; the plan, locked.

    For callers who have made sure that no session carries it out. What was committed of such a task is on the branch
    of the session that had it. Raises NotFound.
    """
    plan = plan_lock(plan_id)
    running = Task.objects.filter(feature__plan=plan, status=TaskStatus.RUNNING)
    if running.update(status=TaskStatus.PENDING, attempts=0, session_id=None, result="", commit=""):
        for key, standing in tasks_settle(plan_document(plan), task_states(plan)).items():
            Task.objects.filter(feature__plan=plan, key=key, attempts=0).update(
                status=standing.status, blocked_reason=standing.blocked_reason
            )
    return plan

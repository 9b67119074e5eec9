"""Writes of the app: plans and their versions, how far tasks are, features that people add.

Every write of a plan locks its row first, so that a task begins on the plan as it is and no version is lost. A caller
that holds a session's head takes that before: head, then plan.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.authentication.models import User
from apps.core.errors import Conflict, NotFound, PermissionDenied
from apps.planning.checking import plan_problems, problems_refuse
from apps.planning.diffing import plan_diff
from apps.planning.document import FeatureDoc, PlanDoc, feature_id_of, task_id_of
from apps.planning.models import Feature, Plan, PlanVersion, Task
from apps.planning.protection import revision_problems
from apps.planning.scheduling import tasks_ready, tasks_settle
from apps.planning.selectors import plan_document, task_states
from apps.planning.types import Effort, MadeIn, PlanStatus, Priority, TaskState, TaskStatus, VersionSource
from apps.projects.models import Project, Role
from apps.projects.selectors import project_get_for_user, project_role

#: Which status may follow which; the same one again is always fine, since a replay may say it twice.
_TASK_TRANSITIONS: dict[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.PENDING: frozenset({TaskStatus.RUNNING, TaskStatus.FAILED}),
    TaskStatus.RUNNING: frozenset({TaskStatus.PENDING, TaskStatus.DONE, TaskStatus.FAILED}),
    TaskStatus.FAILED: frozenset({TaskStatus.PENDING, TaskStatus.RUNNING}),
    # Work that is committed is taken back by a rewind, which makes the task pending, and by nothing else.
    TaskStatus.DONE: frozenset({TaskStatus.PENDING}),
    TaskStatus.BLOCKED: frozenset(),
    TaskStatus.SKIPPED: frozenset(),
}


# --- Plans and their versions -----------------------------------------------------------------------------------------
def plan_create(
    *,
    plan_id: uuid.UUID,
    project: Project,
    goal: str,
    document: PlanDoc,
    source: VersionSource = VersionSource.PLANNER,
    reason: str = "",
    status: PlanStatus = PlanStatus.ACTIVE,
    author: User | None = None,
    estimate: Mapping[str, Any] | None = None,
    made_in: MadeIn | None = None,
    features: Mapping[str, uuid.UUID] | None = None,
) -> Plan:
    """The plan with this id, made with its first version unless it is there already; then that stays as it is.

    Ids of features and tasks follow from ``plan_id`` and their keys; but for ``features``, by key: those are people's
    own without a plan, which become a part of this one. Raises PlanRefused for a document in which
    something doesn't hold (by itself: files and checks are looked up by whoever knows the repository).
    """
    problems_refuse(plan_problems(document, None))
    with transaction.atomic():
        plan, created = Plan.objects.get_or_create(
            id=plan_id,
            defaults={
                "project": project,
                "goal": goal,
                "status": status,
                "estimate": dict(estimate or {}),
                "version": 0,
            },
        )
        if plan.project_id != project.id:
            raise Conflict("There is a plan with this id in another project.", state="other_project")
        if created:
            for key, feature_id in (features or {}).items():
                Feature.objects.filter(id=feature_id, project=project, plan=None).update(plan=plan, key=key)
            _version_write(plan, None, document, source=source, reason=reason, author=author, made_in=made_in)
    return plan


def plan_revise(
    *,
    plan_id: uuid.UUID,
    document: PlanDoc,
    source: VersionSource,
    reason: str,
    expected: int | None = None,
    author: User | None = None,
    made_in: MadeIn | None = None,
    status: PlanStatus | None = None,
    estimate: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan as ``document`` has it, as its next version; a document that is no other changes nothing.

    ``expected`` is the version that it was made from: Conflict (``plan_changed``) once there is a newer one. Raises
    PlanRefused for a document in which something doesn't hold, or that takes back what was begun.
    """
    problems_refuse(plan_problems(document, None))
    with transaction.atomic():
        plan = plan_lock(plan_id)
        if expected is not None and expected != plan.version:
            raise Conflict(
                f"the plan is at version {plan.version}, not at {expected}",
                next_step="look at it again, and make the change from there",
                state="plan_changed",
                version=plan.version,
            )
        before = plan_document(plan)
        problems_refuse(revision_problems(before, document, task_states(plan)))
        if status is not None and status != plan.status:
            plan.status = status
            plan.save(update_fields=["status", "updated_at"])
        if estimate is not None:
            plan.estimate = dict(estimate)
            plan.save(update_fields=["estimate", "updated_at"])
        if document != before:
            _version_write(plan, before, document, source=source, reason=reason, author=author, made_in=made_in)
    return plan


def plan_extend(
    *,
    plan_id: uuid.UUID,
    project: Project,
    goal: str,
    turn: int,
    feature: FeatureDoc,
    made_in: MadeIn | None = None,
    estimate: Callable[[PlanDoc, Mapping[str, TaskState]], Mapping[str, Any]] | None = None,
) -> Plan:
    """Add the feature of a follow-up at the plan's end, once; it is active again. One that isn't there is made.

    ``estimate`` says of the document what is left of it is likely to take.
    """
    with transaction.atomic():
        plan = Plan.objects.select_for_update().filter(id=plan_id).first()
        if plan is None:
            document = PlanDoc(summary=feature.title, features=(feature,))
            source = VersionSource.FOLLOW_UP
            return plan_create(
                plan_id=plan_id,
                project=project,
                goal=goal,
                document=document,
                source=source,
                made_in=made_in,
                estimate=estimate(document, {}) if estimate else None,
            )
        if plan.project_id != project.id:
            raise Conflict("There is a plan with this id in another project.", state="other_project")
        before = plan_document(plan)
        if feature.key not in before.features_by_key:
            after = before.model_copy(update={"features": (*before.features, feature)})
            reason = f"follow-up {turn}"
            if estimate is not None:
                plan.estimate = dict(estimate(after, task_states(plan)))
                plan.save(update_fields=["estimate", "updated_at"])
            _version_write(
                plan, before, after, source=VersionSource.FOLLOW_UP, reason=reason, author=None, made_in=made_in
            )
            plan_update_status(plan_id=plan_id, status=PlanStatus.ACTIVE)
    return plan


def plan_approve(*, plan_id: uuid.UUID, version: int) -> Plan:
    """A person's leave to carry this version out. Again: changes nothing. Raises Conflict for another version."""
    with transaction.atomic():
        plan = plan_lock(plan_id)
        _version_require(plan, version)
        if plan.approved_version == version and plan.status != PlanStatus.WAITING:
            return plan
        if plan.status not in (PlanStatus.WAITING, PlanStatus.ACTIVE):
            raise _decided(plan)
        plan.approved_version, plan.status = version, PlanStatus.ACTIVE
        plan.save(update_fields=["approved_version", "status", "updated_at"])
    return plan


def plan_reject(*, plan_id: uuid.UUID, version: int) -> Plan:
    """A person does not want this version. Raises Conflict for another one, and once it is carried out."""
    with transaction.atomic():
        plan = plan_lock(plan_id)
        _version_require(plan, version)
        if plan.status not in (PlanStatus.WAITING, PlanStatus.ACTIVE, PlanStatus.REJECTED):
            raise _decided(plan)
        plan.status = PlanStatus.REJECTED
        plan.save(update_fields=["status", "updated_at"])
    return plan


def plan_update_status(*, plan_id: uuid.UUID, status: PlanStatus) -> None:
    """Raises NotFound."""
    if not Plan.objects.filter(id=plan_id).update(status=status, updated_at=timezone.now()):
        raise NotFound("There is no such plan.")


def plan_end(*, plan_id: uuid.UUID, version: int, status: PlanStatus) -> bool:
    """Have the plan be done or failed in this version; False, and it goes on, once there is a newer one."""
    with transaction.atomic():
        plan = plan_lock(plan_id)
        if plan.version != version:
            return False
        plan.status = status
        plan.save(update_fields=["status", "updated_at"])
    return True


def plan_lock(plan_id: uuid.UUID) -> Plan:
    """The plan, its row locked until the transaction ends. Raises NotFound."""
    plan = Plan.objects.select_for_update().filter(id=plan_id).first()
    if plan is None:
        raise NotFound("There is no such plan.")
    return plan


# --- How far tasks are ------------------------------------------------------------------------------------------------
def task_begin(*, task_id: uuid.UUID, session_id: uuid.UUID) -> Task:
    """Have the task run for this session. Again: changes nothing.

    Raises Conflict (``not_ready``) where it may not start as the plan is now: it is done without or held, or what it
    needs isn't done.
    """
    with transaction.atomic():
        plan_id = Task.objects.filter(id=task_id).values_list("feature__plan", flat=True).first()
        if plan_id is None:
            raise NotFound("There is no such task.")
        plan = plan_lock(plan_id)
        task = Task.objects.select_for_update().get(id=task_id)
        if task.status == TaskStatus.RUNNING and task.session_id == session_id:
            return task
        if task.key not in tasks_ready(plan_document(plan), task_states(plan)):
            raise Conflict(f"task {task.key} can't start: it is {task.status}", state="not_ready")
        task.status, task.session_id, task.blocked_reason = TaskStatus.RUNNING, session_id, ""
        task.attempts = max(task.attempts, 1)
        task.save(update_fields=["status", "session_id", "blocked_reason", "attempts", "updated_at"])
    return task


def task_update_status(
    *,
    task_id: uuid.UUID,
    status: TaskStatus,
    attempts: int | None = None,
    result: str | None = None,
    commit: str | None = None,
    check_results: Sequence[Mapping[str, Any]] | None = None,
    findings: Sequence[Mapping[str, Any]] | None = None,
) -> Task:
    """Move the task on; ``attempts`` is how many were begun, this one included. What is not given stays.

    The same status again is fine. What waits for it is blocked or freed with it. Raises Conflict for a status that
    can't follow the present one, NotFound.
    """
    with transaction.atomic():
        task = Task.objects.select_related("feature").filter(id=task_id).first()
        if task is None:
            raise NotFound("There is no such task.")
        plan = plan_lock(task.feature.plan_id) if task.feature.plan_id else None
        task = Task.objects.select_for_update().get(id=task_id)
        if status != task.status and status not in _TASK_TRANSITIONS[TaskStatus(task.status)]:
            raise Conflict(f"A task that is {task.status} can't become {status}.", state=task.status)
        task.status = status
        if attempts is not None:
            task.attempts = attempts
        if result is not None:
            task.result = result
        if commit is not None:
            task.commit = commit
        if check_results is not None:
            task.check_results = [dict(each) for each in check_results]
        if findings is not None:
            task.findings = [dict(each) for each in findings]
        task.save()
        if plan is not None:
            _settle(plan, plan_document(plan))
    return task


# --- Taking back ------------------------------------------------------------------------------------------------------
def plan_rewind(
    *,
    plan_id: uuid.UUID,
    session_id: uuid.UUID,
    version: int | None,
    tasks: Mapping[uuid.UUID, TaskState],
    made_in: MadeIn | None,
    reason: str,
) -> None:
    """Have the plan as it was: in this version, active, and the session's tasks as told, the others of it not begun.

    ``version``: None leaves its content as it is. For a session that is taken back to an earlier step. What other
    sessions did stays. The former content becomes a new version, so that nothing is lost. A plan that is gone is fine.
    """
    with transaction.atomic():
        plan = Plan.objects.select_for_update().filter(id=plan_id).first()
        if plan is None:
            return
        for task in Task.objects.select_for_update().filter(feature__plan=plan, session_id=session_id):
            state = tasks.get(task.id, TaskState())
            task.status, task.attempts = state.status, state.attempts
            task.result, task.commit = state.result, state.commit
            fields = ["status", "attempts", "result", "commit", "updated_at"]
            if not state.started:
                task.session_id = None
                task.check_results = task.findings = []
                fields += ["session_id", "check_results", "findings"]
            if state.check_results is not None:
                task.check_results = [dict(each) for each in state.check_results]
                fields.append("check_results")
            if state.findings is not None:
                task.findings = [dict(each) for each in state.findings]
                fields.append("findings")
            task.save(update_fields=fields)
        before = plan_document(plan)
        former = PlanVersion.objects.filter(plan=plan, number=version or plan.version).first()
        after = PlanDoc.read(former.document) if former else before
        if after != before:
            source = VersionSource.REWIND
            _version_write(plan, before, after, source=source, reason=reason, author=None, made_in=made_in)
        else:
            _settle(plan, before)
        plan_update_status(plan_id=plan_id, status=PlanStatus.ACTIVE)


def plan_withdraw(*, plan_id: uuid.UUID) -> None:
    """Keep the plan as one that its session was taken back from; the session makes another one."""
    Plan.objects.filter(id=plan_id).update(status=PlanStatus.WITHDRAWN, updated_at=timezone.now())


# --- Features without a plan ------------------------------------------------------------------------------------------
def feature_create(
    *,
    user: User,
    project_id: uuid.UUID,
    title: str,
    description: str = "",
    priority: Priority = Priority.NORMAL,
    effort: Effort = Effort.MEDIUM,
) -> Feature:
    """A person's feature, in no plan yet. Raises NotFound or PermissionDenied."""
    project = project_get_for_user(user=user, project_id=project_id, write=True)
    return Feature.objects.create(
        project=project, title=title, description=description, priority=priority, effort=effort, created_by=user
    )


def feature_update(*, user: User, feature: Feature, **fields: str) -> Feature:
    """Change title, description, priority or effort of one without a plan. Raises PermissionDenied as a deletion."""
    _feature_own_require(user, feature)
    for name, value in fields.items():
        setattr(feature, name, value)
    feature.save(update_fields=[*fields, "updated_at"])
    return feature


def feature_delete(*, user: User, feature: Feature) -> None:
    """Delete one without a plan. Raises PermissionDenied unless the user added it, or owns the project."""
    _feature_own_require(user, feature)
    feature.delete()


def _feature_own_require(user: User, feature: Feature) -> None:
    project = project_get_for_user(user=user, project_id=feature.project_id, write=True)
    if feature.created_by_id != user.id and project_role(project) != Role.OWNER:
        raise PermissionDenied("Somebody else added this feature.", next_step="ask them, or an owner of the project")


def _decided(plan: Plan) -> Conflict:
    """Nobody waits for a word on the plan."""
    step = "make another one" if plan.status == PlanStatus.WITHDRAWN else "change it, or have it revised"
    return Conflict(f"the plan is {plan.status}: nothing of it waits for a word", next_step=step, state=plan.status)


# --- Rows -------------------------------------------------------------------------------------------------------------
def _version_require(plan: Plan, version: int) -> None:
    if version != plan.version:
        raise Conflict(
            f"the plan is at version {plan.version}, not at {version}",
            next_step="look at it as it is now",
            state="plan_changed",
            version=plan.version,
        )


def _version_write(
    plan: Plan,
    before: PlanDoc | None,
    after: PlanDoc,
    *,
    source: VersionSource,
    reason: str,
    author: User | None,
    made_in: MadeIn | None,
) -> None:
    """Keep the document as the plan's next version, and have its rows say the same; the plan's row is locked."""
    changes = plan_diff(before, after) if before is not None else ()
    plan.version += 1
    plan.summary, plan.intent = after.summary, after.intent
    plan.save(update_fields=["version", "summary", "intent", "updated_at"])
    PlanVersion.objects.create(
        plan=plan,
        number=plan.version,
        document=after.as_dict(),
        changes=[change.as_dict() for change in changes],
        reason=reason,
        source=source,
        author=author,
        session_id=made_in.session_id if made_in else None,
        seq=made_in.seq if made_in else None,
    )
    _rows_write(plan, after, author)
    _settle(plan, after)


def _rows_write(plan: Plan, document: PlanDoc, author: User | None) -> None:
    features = {row.key: row for row in Feature.objects.filter(plan=plan)}
    tasks = {row.key: row for row in Task.objects.filter(feature__plan=plan)}
    for position, placed in enumerate(document.placed_features):
        doc = placed.feature
        row = features.get(doc.key)
        is_new = row is None
        if row is None:
            row = Feature(
                id=feature_id_of(plan.id, doc.key),
                plan=plan,
                project_id=plan.project_id,
                key=doc.key,
                created_by=author,
            )
            features[doc.key] = row
        row.parent = features[placed.within[-1].key] if placed.within else None
        row.title, row.description, row.position = doc.title, doc.description, position
        row.priority, row.effort, row.blocked_reason = doc.priority, doc.effort, doc.blocked_reason
        row.depends_on = list(doc.depends_on)
        row.save(force_insert=is_new)
        for task_position, task_doc in enumerate(doc.tasks):
            task = tasks.get(task_doc.key)
            is_new = task is None
            if task is None:
                task = Task(id=task_id_of(plan.id, task_doc.key), key=task_doc.key)
            task.feature, task.position = row, task_position
            task.title, task.instructions = task_doc.title, task_doc.instructions
            task.type, task.agent_type = task_doc.type, task_doc.agent_type
            task.depends_on = list(task_doc.depends_on)
            task.files, task.creates = list(task_doc.files), list(task_doc.creates)
            task.checks = [check.model_dump(mode="json") for check in task_doc.checks]
            task.save(force_insert=is_new)
    Task.objects.filter(feature__plan=plan).exclude(key__in=document.tasks).delete()
    # A feature that holds others goes with them: those that stay have moved out by now.
    Feature.objects.filter(plan=plan).exclude(key__in=document.features_by_key).delete()


def _settle(plan: Plan, document: PlanDoc) -> None:
    """Have the rows of tasks say what follows for them from the plan and the other tasks."""
    settled = tasks_settle(document, task_states(plan))
    for task in Task.objects.filter(feature__plan=plan):
        standing = settled.get(task.key)
        if standing is not None and (task.status, task.blocked_reason) != (standing.status, standing.blocked_reason):
            Task.objects.filter(id=task.id).update(
                status=standing.status, blocked_reason=standing.blocked_reason, updated_at=timezone.now()
            )

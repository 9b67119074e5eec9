"""The addresses of plans, typed; and finding what a person means by the beginning of an id, or by a key."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from cli.client import Api
from cli.command import command_line
from cli.errors import ApiError, CliError
from cli.plan_resources import PlanDiff, PlanFeature, PlanProgress, PlanRow, PlanTask, PlanVersion
from cli.resources import Session

_PREFIX_LENGTH = 4
_SEARCHED = 100


class PlanApi:
    """A client's hand on plans. Raises ApiError as :class:`Api` does."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def plans(self, *, project_id: str | None, status: str | None, words: str, limit: int) -> list[PlanRow]:
        """The newest first."""
        asked = {"project": project_id, "status": status, "q": words or None}
        return self._api.rows(PlanRow, "/api/planning/plans/", limit=limit, **asked)[:limit]

    def progress(self, plan_id: str) -> PlanProgress:
        return self._api.call(PlanProgress, "GET", f"/api/planning/plans/{plan_id}/progress/")

    def project_of(self, plan_id: str) -> str:
        return self._api.call(PlanRow, "GET", f"/api/planning/plans/{plan_id}/").project

    def versions(self, plan_id: str) -> list[PlanVersion]:
        """The newest first."""
        return self._api.rows(PlanVersion, f"/api/planning/plans/{plan_id}/versions/")

    def diff(self, plan_id: str, *, first: int | None, last: int | None) -> PlanDiff:
        asked = {"from": first, "to": last}
        return self._api.call(PlanDiff, "GET", f"/api/planning/plans/{plan_id}/diff/", params=asked)

    def mermaid(self, plan_id: str) -> str:
        return self._api.text(f"/api/planning/plans/{plan_id}/diagram/", media_type="text/plain")

    def markdown(self, plan_id: str) -> str:
        return self._api.text(f"/api/planning/plans/{plan_id}/markdown/", media_type="text/markdown")

    def markdown_put(self, plan_id: str, *, markdown: str, version: int | None, reason: str) -> None:
        body = {"markdown": markdown, "version": version, "reason": reason}
        self._api.call(dict[str, Any], "PUT", f"/api/planning/plans/{plan_id}/markdown/", body=body)

    def import_new(self, *, project_id: str, goal: str, markdown: str) -> str:
        """The id of the plan that is made."""
        body = {"project": project_id, "goal": goal, "markdown": markdown}
        made = self._api.call(dict[str, Any], "POST", "/api/planning/plans/import/", body=body)
        return str(made.get("id", ""))

    def restore(self, plan_id: str, *, version: int, reason: str) -> None:
        body = {"version": version, "reason": reason}
        self._api.call(dict[str, Any], "POST", f"/api/planning/plans/{plan_id}/restore/", body=body)

    def operate(self, plan_id: str, operations: Sequence[Mapping[str, Any]], *, reason: str) -> None:
        """Change the plan, by all of the operations or none."""
        body = {"operations": [dict(operation) for operation in operations], "reason": reason}
        self._api.call(dict[str, Any], "PATCH", f"/api/planning/plans/{plan_id}/", body=body)

    # --- what planners make -------------------------------------------------------------------------------------------
    def generate(self, body: Mapping[str, Any]) -> Session:
        """The session of the planner that makes a plan."""
        return self._api.call(Session, "POST", "/api/planning/plans/generate/", body=body)

    def revise(self, plan_id: str, body: Mapping[str, Any]) -> Session:
        """The session that makes another version, as the body's comment says."""
        return self._api.call(Session, "POST", f"/api/planning/plans/{plan_id}/revise/", body=body)

    def decide(self, plan_id: str, decision: str, body: Mapping[str, Any]) -> str:
        """`approve` or `reject` a plan; its status then."""
        now = self._api.call(dict[str, Any], "POST", f"/api/planning/plans/{plan_id}/{decision}/", body=body)
        return str(now.get("status", ""))

    def of_session(self, session_id: str) -> str:
        """The id of the session's plan; empty: it has none."""
        plan = self._api.session_progress(session_id).plan
        return plan.id if plan is not None else ""

    # --- what is meant ------------------------------------------------------------------------------------------------
    def find(self, reference: str) -> PlanProgress:
        """The plan of this id, or of the session with it; or the only one whose id, or whose session's, begins so."""
        try:
            wanted = str(uuid.UUID(reference))
        except ValueError:
            return self.progress(self._by_beginning(reference))
        try:
            return self.progress(wanted)
        except ApiError as error:
            if error.status != 404:
                raise
        return self.progress(self._of_session(wanted))

    def _by_beginning(self, reference: str) -> str:
        prefix = reference.strip().lower()
        if len(prefix) < _PREFIX_LENGTH:
            raise CliError(
                f"{reference!r} is too short to tell a plan",
                next_step=f"give at least {_PREFIX_LENGTH} characters; see {command_line('plan', 'list')}",
                code="not_found",
            )
        plans = self.plans(project_id=None, status=None, words="", limit=_SEARCHED)
        found = [plan.id for plan in plans if plan.id.startswith(prefix)]
        if not found:
            sessions = self._api.session_list(limit=_SEARCHED)
            found = [self._of_session(session.id) for session in sessions if session.id.startswith(prefix)]
        if len(found) != 1:
            problem = "is the beginning of several" if found else "is no plan or session of the last ones"
            raise CliError(
                f"{reference!r} {problem}", next_step=f"see {command_line('plan', 'list')}", code="not_found"
            )
        return found[0]

    def _of_session(self, session_id: str) -> str:
        if plan_id := self.of_session(session_id):
            return plan_id
        raise CliError(
            f"session {session_id[:8]} has no plan yet",
            next_step=f"watch it: {command_line('watch', session_id)}",
            code="not_found",
        )


def task_named(plan: PlanProgress, key: str) -> PlanTask:
    """The plan's task of this key."""
    found = next((task for task in plan.tasks if task.key.lower() == key.strip().lower()), None)
    if found is None:
        raise _unknown(plan, key, [task.key for task in plan.tasks], "task")
    return found


def feature_named(plan: PlanProgress, key: str) -> PlanFeature:
    found = next((feature for feature in plan.features if feature.key.lower() == key.strip().lower()), None)
    if found is None:
        raise _unknown(plan, key, [feature.key for feature in plan.features], "feature")
    return found


def part_named(plan: PlanProgress, key: str) -> PlanTask | PlanFeature:
    """The plan's task or feature of this key."""
    parts: list[PlanTask | PlanFeature] = [*plan.tasks, *plan.features]
    found = next((part for part in parts if part.key.lower() == key.strip().lower()), None)
    if found is None:
        raise _unknown(plan, key, [part.key for part in parts], "task or feature")
    return found


def siblings(
    plan: PlanProgress, part: PlanTask | PlanFeature | None, *, parent: str | None, is_task: bool
) -> list[str]:
    """The keys of the tasks or features of a feature, in order, without ``part``; by default of that which it is in."""
    if is_task:
        inside = parent or next((each.key for each in plan.features if part in each.tasks), plan.features[-1].key)
        keys = [task.key for task in feature_named(plan, inside).tasks]
    else:
        around = _around(plan)
        inside = around.get(part.key, "") if parent is None and part is not None else parent or ""
        keys = [each.key for each in plan.features if around[each.key] == inside]
    return [key for key in keys if part is None or key != part.key]


def _around(plan: PlanProgress) -> dict[str, str]:
    """By feature, the one that it is in; empty: none."""
    path: list[str] = []
    around = {}
    for feature in plan.features:
        del path[feature.depth :]
        around[feature.key] = path[-1] if path else ""
        path.append(feature.key)
    return around


def _unknown(plan: PlanProgress, key: str, known: list[str], kind: str) -> CliError:
    return CliError(
        f"the plan has no {kind} {key!r}",
        next_step=f"it has {', '.join(known[:20])}; see {command_line('plan', 'show', plan.id[:8])}",
        code="not_found",
    )

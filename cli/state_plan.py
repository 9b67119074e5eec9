"""What is known of a plan's tasks from a session's events, for whatever shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TaskState:
    title: str
    #: Empty until it has started.
    id: str = ""
    #: What the plan calls it; empty until an event names it.
    key: str = ""
    #: `pending`, `running`, `done`, `failed`, `blocked` or `skipped`.
    status: str = "pending"
    attempt: int = 0
    #: Why it is blocked.
    reason: str = ""


@dataclass
class PlanState:
    """The tasks in the plan's order, as far as events tell it. Events name a task by id, by key or by title alone."""

    summary: str = ""
    version: int = 1
    tasks: list[TaskState] = field(default_factory=list)

    def created(self, payload: dict[str, Any]) -> None:
        self.summary = str(payload.get("summary") or "")
        self.version = 1
        self.tasks = _described(payload)

    def extended(self, payload: dict[str, Any]) -> None:
        self.tasks += _described(payload)

    def started(self, payload: dict[str, Any]) -> None:
        identifier, title = str(payload.get("task", "")), str(payload.get("title") or "task")
        task = self._started_task(identifier, str(payload.get("key") or ""), title)
        if task is None:
            task = TaskState(title)
            self.tasks.append(task)
        task.id, task.status, task.reason = identifier, "running", ""
        task.key = task.key or str(payload.get("key") or "")
        task.attempt = int(payload.get("attempt") or 1)

    def title_of(self, identifier: str) -> str:
        """The title of the task of this id; empty where no event has named it."""
        return next((task.title for task in self.tasks if identifier and task.id == identifier), "")

    def ended(self, payload: dict[str, Any], status: str) -> None:
        for task in self.tasks:
            if task.id == str(payload.get("task", "")):
                task.status, task.reason = status, str(payload.get("reason") or "") if status == "blocked" else ""

    def revised(self, payload: dict[str, Any]) -> None:
        """A new version: what it added, removed and changed of tasks."""
        version = payload.get("version")
        self.version = version if isinstance(version, int) else self.version + 1
        changes = payload.get("changes")
        for change in changes if isinstance(changes, list) else ():
            if not isinstance(change, dict):
                continue
            if change.get("what") == "plan" and change.get("field") == "summary":
                self.summary = str(change.get("after") or "")
            elif change.get("what") == "task":
                self._task_changed(change)

    def _task_changed(self, change: dict[str, Any]) -> None:
        key, title = str(change.get("key") or ""), str(change.get("title") or "")
        if change.get("kind") == "added":
            self.tasks.append(TaskState(title, key=key))
            return
        renamed = change.get("field") == "title"
        # Until it has started an event may have named it by its former title alone.
        task = self._known(key, str(change.get("before") or "") if renamed else title)
        if task is None:
            return
        task.key = task.key or key
        if change.get("kind") == "removed":
            self.tasks.remove(task)
        elif renamed:
            task.title = title
        elif change.get("field") == "skipped" and task.status not in ("running", "done"):
            task.status = "skipped" if change.get("after") else "failed" if task.id else "pending"
        elif change.get("field") == "blocked_reason" and task.status in ("pending", "blocked"):
            task.reason = str(change.get("after") or "")
            task.status = "blocked" if task.reason else "pending"

    def _started_task(self, identifier: str, key: str, title: str) -> TaskState | None:
        for task in self.tasks:
            if task.id == identifier:
                return task
        found = self._known(key, title)
        return found if found is not None and not found.id else None

    def _known(self, key: str, title: str) -> TaskState | None:
        """The task of this key; else one whose key isn't known yet, of this title: one that has not begun rather."""
        by_key = next((task for task in self.tasks if key and task.key == key), None)
        if by_key is not None:
            return by_key
        titled = [task for task in self.tasks if task.title == title and not (key and task.key)]
        return min(titled, key=lambda task: bool(task.id), default=None)


def _described(payload: dict[str, Any]) -> list[TaskState]:
    """The tasks that an event lists: titles, or what has a title and a key."""
    listed = payload.get("tasks")
    tasks = []
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, dict):
            tasks.append(TaskState(str(item.get("title") or "task"), key=str(item.get("key") or "")))
        else:
            tasks.append(TaskState(str(item)))
    return tasks

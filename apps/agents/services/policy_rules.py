"""Rules of the policy: who may write which, and what holds for a session."""

from __future__ import annotations

import datetime
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Q, QuerySet
from django.utils import timezone

from apps.agents.models import AgentSession, PolicyRule
from apps.agents.tools.policy import Policy
from apps.agents.types import PolicyEffect, PolicyRuleData, Risk
from apps.core.errors import InvalidInput, NotFound, PermissionDenied
from apps.core.storable import text_storable
from apps.projects.autonomy import Autonomy
from apps.projects.sandbox.path_pattern import path_matcher
from apps.projects.selectors import project_get_for_user
from apps.projects.workspace import WorkspaceError

if TYPE_CHECKING:
    from apps.authentication.models import User

#: Rules that one project may have.
RULES = 500
#: For how long an "always" lasts that names no time, and at most.
ALWAYS_MINUTES = 8 * 60
MINUTES = 365 * 24 * 60
_CONDITIONS = ("tool", "path", "command", "risk")
#: As long as the columns are.
LENGTHS = {"path": 1000, "command": 2000}


@dataclass(frozen=True)
class RuleFields:
    """What a rule says."""

    effect: PolicyEffect
    tool: str = ""
    path: str = ""
    command: str = ""
    risk: str = ""
    expires_at: datetime.datetime | None = None
    note: str = ""


def policy_rule_list(*, user: User, project_id: uuid.UUID | None = None) -> QuerySet[PolicyRule]:
    """The rules that the user's sessions go by: those of their projects (or of the one), and the server's."""
    if project_id is not None:
        project_get_for_user(user=user, project_id=project_id)
        known = Q(project_id=project_id)
    else:
        known = Q(project__memberships__user=user)
    rules = PolicyRule.objects.filter(known | Q(project__isnull=True)).select_related("created_by")
    return rules.distinct().order_by("-created_at", "id")


def policy_rule_get(*, user: User, rule_id: uuid.UUID, write: bool = False) -> PolicyRule:
    """A rule that the user may know of, with ``write`` one that they may change."""
    rule = policy_rule_list(user=user).filter(id=rule_id).first()
    if rule is None:
        raise NotFound("There is no such rule.", next_step="GET /api/agents/rules/ lists those that you may know of")
    if write:
        _write_require(user, rule.project_id)
    return rule


def policy_rule_create(*, user: User, project_id: uuid.UUID | None, fields: RuleFields, source: str = "") -> PolicyRule:
    """A rule for a project, or (for administrators) for the whole server."""
    _write_require(user, project_id)
    own = Q(project__isnull=True) if project_id is None else Q(project_id=project_id)
    if PolicyRule.objects.filter(own).count() >= RULES:
        raise InvalidInput(f"there are {RULES} rules already", next_step="delete those that are of no use any more")
    values = _checked(fields)
    return PolicyRule.objects.create(project_id=project_id, created_by=user, source=source, **values)


def policy_rule_update(*, user: User, rule_id: uuid.UUID, changes: dict[str, Any]) -> PolicyRule:
    """Change what is named; sessions that run go by it from their next call on that does more than look."""
    rule = policy_rule_get(user=user, rule_id=rule_id, write=True)
    fields = RuleFields(
        **{
            "effect": PolicyEffect(rule.effect),
            **{name: getattr(rule, name) for name in (*_CONDITIONS, "expires_at", "note")},
            **changes,
        }
    )
    values = _checked(fields, expiry_checked="expires_at" in changes)
    for name, value in values.items():
        setattr(rule, name, value)
    rule.save(update_fields=[*values, "updated_at"])
    return rule


def policy_rule_delete(*, user: User, rule_id: uuid.UUID) -> None:
    policy_rule_get(user=user, rule_id=rule_id, write=True).delete()


def policy_load(*, session_id: uuid.UUID) -> Policy:
    """What a session goes by now: its autonomy, and the rules that have not run out."""
    session = AgentSession.objects.only("autonomy", "project_id").get(id=session_id)
    holds = Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now())
    rules = PolicyRule.objects.filter(holds, Q(project_id=session.project_id) | Q(project__isnull=True))
    return Policy(Autonomy(session.autonomy), tuple(_data(rule) for rule in rules.order_by("created_at", "id")))


def _data(rule: PolicyRule) -> PolicyRuleData:
    return PolicyRuleData(
        id=str(rule.id),
        effect=PolicyEffect(rule.effect),
        tool=rule.tool,
        path=rule.path,
        command=rule.command,
        risk=rule.risk,
        expires_at=rule.expires_at,
        note=rule.note,
    )


def _write_require(user: User, project_id: uuid.UUID | None) -> None:
    if project_id is not None:
        project_get_for_user(user=user, project_id=project_id, write=True)
    elif not user.is_staff:
        raise PermissionDenied(
            "Only administrators may write rules for the whole server.", next_step="name a project of yours"
        )


def _checked(fields: RuleFields, *, expiry_checked: bool = True) -> dict[str, Any]:
    """The rule's columns. Raises InvalidInput for a rule that says nothing, or that nothing can fit."""
    values = {name: text_storable(str(getattr(fields, name))).strip() for name in _CONDITIONS}
    if not any(values.values()):
        raise InvalidInput(
            "a rule needs a condition: tool, path, command or risk",
            next_step="to have everything asked or allowed, choose the session's autonomy instead",
        )
    if too_long := [name for name in ("path", "command") if len(values[name]) > LENGTHS[name]]:
        raise InvalidInput(
            f"the {too_long[0]} of a rule has at most {LENGTHS[too_long[0]]} characters",
            next_step="write a shorter pattern; a call is approved without always",
        )
    if values["path"]:
        values["path"] = _path_checked(values["path"])
    if values["risk"] == Risk.TALK:
        raise InvalidInput("there are no rules for talking", next_step="name another risk")
    if not re.fullmatch(r"[\w*?\[\]!-]*", values["tool"]):
        raise InvalidInput("that is no pattern of tools' names", next_step="write it as run_command, git_* or *_file")
    if values["command"] and values["tool"] and not _may_be_command(values["tool"]):
        raise InvalidInput(
            "only run_command has a command", next_step="leave tool out, or name run_command with the command"
        )
    if fields.expires_at is not None and expiry_checked and fields.expires_at <= timezone.now():
        raise InvalidInput("the rule would have expired already", next_step="name a later time, or none")
    return {**values, "effect": fields.effect, "expires_at": fields.expires_at, "note": text_storable(fields.note)}


def _may_be_command(tool: str) -> bool:
    return tool == "run_command" or any(character in tool for character in "*?[")


def _path_checked(path: str) -> str:
    path = path.removeprefix("./")
    if path in ("", ".", "/"):
        raise InvalidInput("the path names everything", next_step="write ** for every path, or leave it out")
    if ".." in path.split("/"):
        raise InvalidInput("a path of a rule has no `..`", next_step="write it from the repository's root")
    try:
        path_matcher(path.lstrip("/"))
    except WorkspaceError as error:
        raise InvalidInput(str(error), next_step="write it as `*.py`, `src/**/*.ts` or `secrets/`") from error
    return path

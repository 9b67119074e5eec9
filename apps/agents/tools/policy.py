"""One gate before every tool call, whoever provides the tool.

First it judges by the tools that the model was offered, which follow from its role, its form of edits, the project's
network policy and whether the session may change anything at all: it may call what it was given, nothing else. Then
each part of the call is set against the rules, and where no rule fits, against the session's autonomy.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from apps.agents.services.rules import paths_of
from apps.agents.tools.base import Arguments, Tool
from apps.agents.tools.patch import PatchError, patch_parse
from apps.agents.tools.policy_commands import command_assess
from apps.agents.tools.policy_parts import Assessment, Part
from apps.agents.tools.policy_paths import WorktreePaths
from apps.agents.tools.policy_rules import rules_fitting
from apps.agents.types import PolicyEffect, PolicyRuleData, Risk
from apps.core.shell_parse_words import Word
from apps.core.storable import json_storable
from apps.projects.autonomy import Autonomy
from apps.projects.workspace import SANDBOX_WORKSPACE


@dataclass(frozen=True)
class Allowed:
    tool: Tool[Any]
    arguments: Arguments


@dataclass(frozen=True)
class Refused:
    """The call does not run; the reason goes back to the model."""

    reason: str
    #: Its arguments can't be read.
    malformed: bool = False


@dataclass(frozen=True)
class Policy:
    """What holds for a session now."""

    autonomy: Autonomy
    rules: tuple[PolicyRuleData, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What becomes of a call: of its parts, the worst."""

    effect: PolicyEffect
    risk: Risk
    #: For a person: what it does, and which rule has a say.
    reasons: tuple[str, ...] = ()


def call_judge(*, tools: Mapping[str, Tool[Any]], name: str, arguments: Mapping[str, Any]) -> Allowed | Refused:
    """Whether this call may be made with these tools, with its arguments checked."""
    tool = tools.get(name)
    if tool is None:
        return Refused(f"there is no tool named {name!r}; yours are {', '.join(tools)}")
    try:
        return Allowed(tool, tool.arguments.model_validate(arguments))
    except ValidationError as error:
        return Refused(f"the arguments of {name} are wrong: {arguments_problems(error)}", malformed=True)


def arguments_problems(error: ValidationError) -> str:
    """What is wrong with a call's arguments, each by its name."""
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'arguments'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)
    )


def call_decide(
    *, policy: Policy, tool: Tool[Any], arguments: Arguments, paths: WorktreePaths, now: datetime.datetime
) -> Verdict:
    """What the rules and the session's autonomy say of a call that its tools would allow."""
    if policy.autonomy == Autonomy.AUTO and not policy.rules:
        # What it may do is of no consequence then, and most calls are such.
        return Verdict(PolicyEffect.ALLOW, tool.risk)
    assessment = call_assess(tool, arguments, commands_in=paths.commands_in)
    worst, reasons = PolicyEffect.ALLOW, []
    for part in assessment.parts:
        effect, rule = _part_decide(policy, tool, part, paths, now)
        if rule is not None and effect != PolicyEffect.ALLOW:
            named = f" ({rule.note})" if rule.note else ""
            reasons.append(f"a rule says {effect.value}{named}: {_shown(part)}")
        worst = max(worst, effect, key=_STRICTNESS.index)
    return Verdict(worst, assessment.risk, tuple(dict.fromkeys((*reasons, *assessment.reasons)))[:20])


_STRICTNESS = [PolicyEffect.ALLOW, PolicyEffect.ASK, PolicyEffect.DENY]


def _part_decide(
    policy: Policy, tool: Tool[Any], part: Part, paths: WorktreePaths, now: datetime.datetime
) -> tuple[PolicyEffect, PolicyRuleData | None]:
    fitting = list(rules_fitting(policy.rules, tool=tool.name, part=part, paths=paths, now=now))
    for effect in (PolicyEffect.DENY, PolicyEffect.ASK, PolicyEffect.ALLOW):
        for rule in fitting:
            if rule.effect == effect:
                return effect, rule
    return _by_autonomy(policy.autonomy, tool, part), None


def _by_autonomy(autonomy: Autonomy, tool: Tool[Any], part: Part) -> PolicyEffect:
    if autonomy == Autonomy.OBSERVE:
        return PolicyEffect.DENY if tool.mutating else PolicyEffect.ALLOW
    if autonomy == Autonomy.AUTO or part.is_wrapper:
        return PolicyEffect.ALLOW
    edits = not part.is_command and part.risk == Risk.WRITE
    if autonomy == Autonomy.AUTO_EDIT and (edits or tool.on_copy):
        return PolicyEffect.ALLOW
    return PolicyEffect.ASK


def call_assess(tool: Tool[Any], arguments: Arguments, *, commands_in: str = ".") -> Assessment:
    """What a call may do; ``commands_in`` is the folder that command lines start in."""
    given = arguments.model_dump(mode="json")
    if isinstance(command := given.get("command"), str) and tool.risk == Risk.EXECUTE:
        return Assessment(command_assess(command, start=commands_in))
    paths = tuple(dict.fromkeys(path for path in paths_of(given) if path))
    risks = {Risk(tool.risk)}
    if tool.name in _OWN_COMMANDS:
        risks = {Risk.READ}
    if tool.name == "delete_file" or _DELETING_PATCH.search(str(given.get("patch", ""))):
        risks.add(Risk.DELETE)
    if isinstance(patch := given.get("patch"), str):
        # As the tool itself reads it: a file has many ways to be named in a patch. One that it can't read changes none.
        with suppress(PatchError):
            changes = patch_parse(patch)
            paths = tuple(dict.fromkeys(path for each in changes for path in (each.path, each.move_to) if path))
            risks |= {Risk.DELETE} if any(each.kind == "delete" for each in changes) else set()
    if tool.name == "git_show":
        # A commit shows whatever changed in it, and a revision may name a file.
        named = str(given.get("revision", "")).partition(":")[2]
        paths = tuple(path for path in (*paths, named) if path) or (".",)
    shown = paths or ((str(given["url"]),) if "url" in given else ())
    part = Part(
        text=" ".join([tool.name, *shown]),
        risks=frozenset(risks),
        words=tuple(Word(path) for path in paths),
        recursive=tool.name in _INTO_FOLDERS,
        is_command=False,
    )
    return Assessment((part,))


#: They act on what the agent itself has started.
_OWN_COMMANDS = frozenset({"command_stop", "command_output"})
#: They act on, or read, all that is in a folder.
_INTO_FOLDERS = frozenset({"search", "delete_file", "move_file", "git_show"})
_DELETING_PATCH = re.compile(r"^(\*\*\* Delete File|\+\+\+ /dev/null|deleted file mode)", re.MULTILINE)


def _shown(part: Part) -> str:
    return part.text if len(part.text) <= 200 else part.text[:200] + "…"


def call_digest(*, name: str, arguments: Mapping[str, Any]) -> str:
    """What an approval is bound to: another name, or any other argument, has another digest."""
    canonical = json.dumps(
        json_storable({"name": name, "arguments": dict(arguments)}),
        sort_keys=True, separators=(",", ":"), ensure_ascii=False,
    )  # fmt: skip
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def rules_from_call(tool: Tool[Any], arguments: Arguments, policy: Policy) -> Sequence[tuple[str, str, str]] | None:
    """Tool, path and command of the rules that would let exactly this call through; None where none can."""
    if tool.risk == Risk.TALK:
        return None
    assessment = call_assess(tool, arguments)
    if assessment.risk == Risk.UNKNOWN:
        return None
    found: list[tuple[str, str, str]] = []
    for part in assessment.parts:
        if _by_autonomy(policy.autonomy, tool, part) == PolicyEffect.ALLOW:
            continue
        if part.is_command:
            if any(character in part.text for character in "*?"):
                return None
            found.append((tool.name, "", part.text))
        elif part.words:
            if any(set("*?[{\\") & set(word.text) for word in part.words):
                return None
            # From the root: a name alone would fit in every folder.
            found += [(tool.name, posixpath.join(SANDBOX_WORKSPACE, word.text), "") for word in part.words]
        else:
            found.append((tool.name, "", ""))
    return tuple(dict.fromkeys(found))

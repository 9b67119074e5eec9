"""What make is told to run: the recipes of targets, as lines for a shell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_RULE = re.compile(r"([^\s#:=][^#:=]*?) *::?(?!=)([^#;=]*)(?:;(.*))?")
_VARIABLE = re.compile(r"(\w+) *(?::{0,3}|\?)= *(.*?) *")
_REFERENCE = re.compile(r"\$(?:\((\w+)\)|\{(\w+)\})")
_OWN = {"MAKE": "make", "SHELL": "sh", "CURDIR": "."}


@dataclass
class _Rule:
    needs: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def recipe_lines(makefile: str, targets: Sequence[str]) -> tuple[str, ...]:
    """What a makefile has a shell run for these targets (none: its first) and for what they need, as far as it says so
    itself: what is included, or made by a pattern, isn't known."""
    rules, variables = _read(makefile)
    first = next((name for name in rules if not name.startswith(".")), "")
    waiting = list(reversed(targets or [first]))
    seen: set[str] = set()
    lines: list[str] = []
    while waiting:
        target = waiting.pop()
        rule = rules.get(target)
        if rule is None or target in seen:
            continue
        seen.add(target)
        waiting += reversed(rule.needs)
        lines += (_expanded(line.lstrip("@-+ \t"), variables) for line in rule.lines)
    return ("\n".join(lines),) if ".ONESHELL" in rules and lines else tuple(lines)


def _read(makefile: str) -> tuple[dict[str, _Rule], Mapping[str, str]]:
    rules: dict[str, _Rule] = {}
    variables = dict(_OWN)
    current: list[_Rule] = []
    for line in makefile.replace("\\\n", " ").splitlines():
        if line.startswith("\t"):
            for rule in current:
                rule.lines.append(line)
        elif found := _VARIABLE.fullmatch(line):
            variables.setdefault(found[1], found[2])
        elif found := _RULE.fullmatch(line.partition(" #")[0].rstrip()):
            current = [rules.setdefault(name, _Rule()) for name in found[1].split()]
            for rule in current:
                rule.needs += found[2].split()
                rule.lines += [found[3]] if found[3] else []
    return rules, variables


def _expanded(line: str, variables: Mapping[str, str]) -> str:
    """A line of a recipe with the values of variables; one that isn't known becomes one of the shell's."""
    for _ in range(3):
        line = _REFERENCE.sub(lambda found: variables.get(found[1] or found[2], f"${found[1] or found[2]}"), line)
    return line.replace("$$", "$")

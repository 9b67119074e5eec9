"""docs/reference/api.md has every address with its methods, and every code that an error can have; so for states."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.urls import URLPattern, URLResolver, get_resolver
from django.views.generic import RedirectView

from apps.agents.types import TERMINAL_STATUSES, SessionOutcome, SessionStatus
from apps.core.errors import ApplicationError

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
API = (REFERENCE / "api.md").read_text()
STATES = (REFERENCE / "session-states.md").read_text()
METHODS = ("get", "post", "put", "patch", "delete")


def _addresses(patterns: Iterable[URLPattern | URLResolver], prefix: str = "/") -> Iterator[tuple[str, set[str]]]:
    for pattern in patterns:
        address = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _addresses(pattern.url_patterns, address)
        elif address.startswith("/api/") and getattr(pattern.callback, "view_class", None) is not RedirectView:
            view = getattr(pattern.callback, "cls", None) or getattr(pattern.callback, "view_class", None)
            shown = re.sub(r"<\w+:(\w+)>", r"{\1}", address)
            yield shown, {method.upper() for method in METHODS if hasattr(view, method)}


def _codes(kind: type[ApplicationError]) -> set[str]:
    return {kind.code}.union(*(_codes(below) for below in kind.__subclasses__()))


def _table(page: str, heading: str) -> list[str]:
    """The first cells of the table below a heading."""
    section = page.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| ([^|]*`[^|]*) \|", section, re.MULTILINE)


def test_addresses_and_methods_are_those_of_the_url_table() -> None:
    rows = re.findall(r"^\| ([A-Z, ]+) \| `(/api/[^`]*)` \|", API, re.MULTILINE)
    assert {address: set(methods.split(", ")) for methods, address in rows} == dict(
        _addresses(get_resolver().url_patterns)
    )


def test_every_code_of_an_error_is_told() -> None:
    import apps.agents.services.autonomous_executor
    import apps.projects.environment  # noqa: F401  (errors are known once their modules are)

    told = set(re.findall(r"`(\w+)`", "".join(_table(API, "## Errors") + _table(STATES, "## Why a session stopped"))))
    written = _codes(ApplicationError) - {ApplicationError.code}
    assert written <= told, written - told


def test_states_and_outcomes_are_the_real_ones() -> None:
    statuses = [cell.strip("`") for cell in _table(STATES, "## Status") if not cell.endswith("/`")]
    assert statuses == list(SessionStatus.values)
    assert [cell.strip("`") for cell in _table(STATES, "## Outcome")] == list(SessionOutcome.values)
    for status in TERMINAL_STATUSES:
        row = rf"^\| `{status}` \| [^|]* \| `running`, by a message( or a rebase)?; `paused`, by a rewind \|$"
        assert re.search(row, STATES, re.MULTILINE), f"{status} is left by a message, a rebase or a rewind alone"

"""Whatever has a Makefile with a ``test`` or ``check`` target, and no runner that is known better."""

from __future__ import annotations

import re
from pathlib import Path

from apps.projects.ecosystems.folders import text_of
from apps.projects.ecosystems.types import CheckCommand, Ecosystem

#: In the order in which make looks for them.
MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_TARGET = re.compile(r"^(test|check)\s*:(?!=)", re.MULTILINE)


def _checks(checkout: Path, place: str) -> tuple[CheckCommand, ...]:
    text = next((text_of(checkout / place / name) for name in MAKEFILES if (checkout / place / name).is_file()), "")
    targets = _TARGET.findall(text)
    if not targets:
        return ()
    command = "make test" if "test" in targets else "make check"
    # Counts by its exit code; runners that it calls and that can be reached inside of it tell their tests.
    return (CheckCommand(command, command, "command"),)


MAKE = Ecosystem(
    name="make",
    title="Make",
    places=lambda checkout: ("",),
    setup=lambda checkout, place: None,
    checks=_checks,
    programs=("make",),
    packages="make on Debian",
    last_resort=True,
    configuration_names=re.compile(r"GNUmakefile|[Mm]akefile|.*\.mk"),
)

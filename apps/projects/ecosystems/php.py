"""PHP: packages by Composer, tests by PHPUnit."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from apps.projects.ecosystems.commands import command_words
from apps.projects.ecosystems.folders import files_named, folders_with, text_of
from apps.projects.ecosystems.results import junit_results
from apps.projects.ecosystems.sources import SourceCollector, host_ask
from apps.projects.ecosystems.types import RESULTS, CheckCommand, Ecosystem, Runner, RunnerCall, SetupPlan

_MARKER = re.compile(r"phpunit(\.dist)?\.xml(\.dist)?|composer\.json")
_CONFIGURED = ("phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml")
_TEST = re.compile(r".*Test\.php")
_URL = re.compile(r"^\[repositories\.[^\]]*\.url\] (\S+)$", re.MULTILINE)

_SETUP = """\
export COMPOSER_HOME=/tmp/composer COMPOSER_CACHE_DIR=/tmp/composer-cache COMPOSER_ALLOW_SUPERUSER=1
mkdir -p "$COMPOSER_HOME"
[ -z "${ARCHON_COMPOSER_CONFIG:-}" ] || printf '%s' "$ARCHON_COMPOSER_CONFIG" > "$COMPOSER_HOME/config.json"
composer install --no-interaction --no-progress --prefer-dist
"""


def _composer(checkout: Path, place: str) -> dict[str, Any]:
    try:
        read = json.loads(text_of(checkout / place / "composer.json"))
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _setup(checkout: Path, place: str) -> SetupPlan | None:
    if not (checkout / place / "composer.json").is_file():
        return None
    locked = "" if (checkout / place / "composer.lock").is_file() else ", not locked"
    return SetupPlan(f"PHP: packages of {place or 'the root'}{locked}", _SETUP)


def _checks(checkout: Path, place: str) -> tuple[CheckCommand, ...]:
    configured = any((checkout / place / name).is_file() for name in _CONFIGURED)
    required = _composer(checkout, place).get("require-dev")
    brings = isinstance(required, dict) and any(name.startswith("phpunit/") for name in required)
    tests = next(files_named(checkout, _TEST, depth=12, below=place), "")
    if not (configured or brings) or not tests:
        return ()
    program = "vendor/bin/phpunit" if brings else "phpunit"
    folder = Path(tests).relative_to(place or ".").parts[0]
    return (CheckCommand("phpunit", program if configured else f"{program} {shlex.quote(folder)}", "phpunit"),)


def _calls(words: Sequence[str]) -> bool:
    plain = list(words[1:]) if words and words[0] == "php" else list(words)
    return bool(plain) and plain[0].rpartition("/")[2] in ("phpunit", "phpunit.phar")


def _ask(call: RunnerCall) -> RunnerCall:
    words = command_words(call.command)
    at = next(index for index, word in enumerate(words) if word.rpartition("/")[2].startswith("phpunit")) + 1
    return replace(call, command=shlex.join([*words[:at], "--log-junit", f"{RESULTS}/phpunit.xml", *words[at:]]))


def _select(call: RunnerCall, tests: Sequence[str]) -> RunnerCall | None:
    names = [re.search(r"::(\w+)( with data set .*)?$", name) for name in tests]
    if not all(names):
        return None
    chosen = "|".join(dict.fromkeys(name[1] for name in names if name is not None))
    return replace(call, command=f"{call.command} --filter {shlex.quote(f'/::({chosen})( |$)/')}")


def _sources(collector: SourceCollector) -> None:
    """The repositories of this host's Composer. Where those keep packages on other hosts, these aren't let through."""
    urls = _URL.findall(host_ask("composer", "config", "--global", "--list"))
    repositories = [{"type": "composer", "url": collector.location(url)} for url in urls if "://" in url]
    if repositories:
        collector.environment["ARCHON_COMPOSER_CONFIG"] = json.dumps(
            {"repositories": [*repositories, {"packagist.org": False}]}
        )


PHPUNIT = Runner(name="phpunit", calls=_calls, ask=_ask, read=junit_results, select=_select)

PHP = Ecosystem(
    name="php",
    title="PHP",
    places=lambda checkout: folders_with(checkout, _MARKER),
    setup=_setup,
    checks=_checks,
    runners=(PHPUNIT,),
    programs=("php",),
    packages="php-cli, phpunit and composer on Debian",
    sources=_sources,
    setup_names=re.compile(r"composer\.(json|lock)"),
    configuration_names=re.compile(r"composer\.(json|lock)|phpunit(\.dist)?\.xml(\.dist)?|bootstrap\.php"),
    test_names=_TEST,
)

"""Ruby: gems by Bundler, tests by RSpec."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from apps.projects.ecosystems.folders import files_named, folders_with, text_of
from apps.projects.ecosystems.results import file_read
from apps.projects.ecosystems.rspec_results import rspec_read
from apps.projects.ecosystems.sources import SourceCollector, host_ask
from apps.projects.ecosystems.types import (
    RESULTS,
    CheckCommand,
    Ecosystem,
    Results,
    Runner,
    RunnerCall,
    SetupPlan,
    TestResult,
)
from apps.projects.workspace import SANDBOX_ENVIRONMENT

_MARKER = re.compile(r"Gemfile|gems\.rb|\.rspec|.*_spec\.rb")
_SPEC = re.compile(r".*_spec\.rb")
_ENV = {
    # Not in the checkout, where an agent's commit would have it.
    "BUNDLE_APP_CONFIG": f"{SANDBOX_ENVIRONMENT}/bundle-config",
    # Beside the system's own gems, which count as installed.
    "GEM_HOME": f"{SANDBOX_ENVIRONMENT}/gems",
    "BUNDLE_DISABLE_VERSION_CHECK": "true",
    "BUNDLE_IGNORE_MESSAGES": "true",
}
_SETUP = """\
mkdir -p "$BUNDLE_APP_CONFIG"
export BUNDLE_USER_HOME=/tmp/bundle
if bundle install --local --quiet >/dev/null 2>&1; then
  echo "archon: the gems that the server has installed are enough"
else
  bundle install --jobs 4 --retry 2
fi
bundle config set --local frozen true
"""


def _gemfile(checkout: Path, place: str) -> bool:
    return any((checkout / place / name).is_file() for name in ("Gemfile", "gems.rb"))


def _places(checkout: Path) -> tuple[str, ...]:
    """Folders with a Gemfile or a ``spec`` folder."""
    folders = [re.sub(r"(^|/)spec(/.*)?$", "", folder) for folder in folders_with(checkout, _MARKER, nested=True)]
    kept: list[str] = []
    for folder in sorted(set(folders), key=lambda folder: (folder.count("/"), folder)):
        if not any(other == "" or folder.startswith(f"{other}/") for other in kept):
            kept.append(folder)
    return tuple(kept)


def _setup(checkout: Path, place: str) -> SetupPlan | None:
    if not _gemfile(checkout, place):
        return None
    return SetupPlan(f"Ruby: gems of {place or 'the root'}", _SETUP, _ENV, _ENV)


def _checks(checkout: Path, place: str) -> tuple[CheckCommand, ...]:
    specs = f"{place}/spec" if place else "spec"
    if not (checkout / specs).is_dir() or not any(files_named(checkout, _SPEC, depth=12, below=specs)):
        return ()
    gems = text_of(checkout / place / "Gemfile") + text_of(checkout / place / "Gemfile.lock")
    bundled = _gemfile(checkout, place) and ("rspec" in gems or "gemspec" in gems)
    return (CheckCommand("rspec", "bundle exec rspec" if bundled else "rspec", "rspec"),)


def _calls(words: Sequence[str]) -> bool:
    plain = list(words[2:]) if list(words[:2]) == ["bundle", "exec"] else list(words)
    return bool(plain) and plain[0] in ("rspec", "bin/rspec")


def _ask(call: RunnerCall) -> RunnerCall:
    # A variable, which also reaches an RSpec that a given command calls.
    options = f"{call.env.get('SPEC_OPTS', '')} --format progress --format json --out {RESULTS}/rspec.json".strip()
    return replace(call, env={**call.env, "SPEC_OPTS": options})


def _read(results: Results) -> Mapping[str, TestResult]:
    content = file_read(results.folder / "rspec.json")
    return {} if content is None else rspec_read(content)


def _select(call: RunnerCall, tests: Sequence[str]) -> RunnerCall | None:
    parts = [re.sub(r" \(\d+\)$", "", name).partition("::") for name in tests]
    if not all(description for _, _, description in parts):
        return None
    chosen = [word for description in dict.fromkeys(part[2] for part in parts) for word in ("-e", description)]
    return replace(call, command=f"{call.command} {shlex.join(chosen)}")


#: What RSpec itself requires: a file of such a name below ``lib`` or ``spec`` is found before the gem's.
_OF_RSPEC = re.compile(r"(rspec|diff|minitest|test)(/.*|\.rb)|(rspec-[\w-]+|json|set|stringio|time|tsort)(/.*|\.rb)")


def _in_the_way(
    changed: Sequence[str], before: frozenset[str], environment: Path | None, folders: Sequence[str]
) -> tuple[str, ...]:
    """New files on RSpec's load path that would be taken for files of its own."""
    roots = [f"{folder}/{name}/" if folder else f"{name}/" for folder in {"", *folders} for name in ("lib", "spec")]
    return tuple(
        path
        for path in changed
        if path not in before
        and any(path.startswith(root) and _OF_RSPEC.fullmatch(path.removeprefix(root)) for root in roots)
    )


def _sources(collector: SourceCollector) -> None:
    """The sources of this host's gem command, and Bundler's mirrors."""
    for line in host_ask("gem", "sources", "--list").splitlines():
        if line.startswith(("https://", "http://")):
            source = collector.location(line.strip())
            if source.rstrip("/") == "https://rubygems.org":
                collector.host("index.rubygems.org")
    for line in host_ask("bundle", "config", "list", "--parseable").splitlines():
        name, _, value = line.partition("=")
        if name.startswith("mirror.") and "://" in value:
            variable = "BUNDLE_" + name.replace(".", "__").replace("-", "___").upper()
            collector.environment[variable] = collector.location(value.strip('"'))


RSPEC = Runner(name="rspec", calls=_calls, ask=_ask, read=_read, select=_select, reaches_inside=True)

RUBY = Ecosystem(
    name="ruby",
    title="Ruby",
    places=_places,
    setup=_setup,
    checks=_checks,
    runners=(RSPEC,),
    programs=("ruby", "bundle"),
    packages="ruby, bundler and ruby-rspec on Debian",
    sources=_sources,
    setup_names=re.compile(r"Gemfile(\.lock)?|gems\.(rb|locked)|.*\.gemspec|\.ruby-version"),
    configuration_names=re.compile(
        r"Gemfile(\.lock)?|gems\.(rb|locked)|\.rspec(-local)?|spec_helper\.rb|rails_helper\.rb|Rakefile"
    ),
    test_names=_SPEC,
    in_the_way=_in_the_way,
)

"""Go: modules by go mod download, tests by go test."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from apps.projects.ecosystems.commands import command_words
from apps.projects.ecosystems.folders import files_named, folders_with
from apps.projects.ecosystems.go_results import go_events_read
from apps.projects.ecosystems.kept_output import output_keep, output_kept
from apps.projects.ecosystems.sources import SourceCollector, host_ask
from apps.projects.ecosystems.types import CheckCommand, Ecosystem, Results, Runner, RunnerCall, SetupPlan, TestResult
from apps.projects.workspace import SANDBOX_ENVIRONMENT, SANDBOX_WORKSPACE

_MODULE = re.compile(r"go\.mod")
_TESTS = re.compile(r".*_test\.go")
_HOME = f"{SANDBOX_ENVIRONMENT}/go"
#: What is compiled; go has to write there, so each checkout gets a copy. Go itself passes over such a name.
_CACHE = ".go-build"
_ENV = {
    "GOMODCACHE": f"{_HOME}/mod",
    "GOCACHE": f"{SANDBOX_WORKSPACE}/{_CACHE}",
    "GOTOOLCHAIN": "local",
    "GOTELEMETRY": "off",
}

_SETUP = """\
mkdir -p "$GOMODCACHE"
# Of another module of the repository.
if [ -d HOME/build ]; then mv HOME/build "$GOCACHE"; fi
[ -d vendor ] || go mod download
go test -run '^$' ./... >/dev/null || echo "archon: not all tests compile at this commit" >&2
mv "$GOCACHE" HOME/build
mkdir -p ENVIRONMENT/bin
cat > ENVIRONMENT/bin/go <<'WRAPPER'
#!/bin/bash
# What was compiled with the environment need not be compiled again.
PATH=${PATH//ENVIRONMENT\\/bin:/}
[ -e "$GOCACHE" ] || cp -a --reflink=auto HOME/build "$GOCACHE"
exec go "$@"
WRAPPER
chmod 755 ENVIRONMENT/bin/go
"""


def _setup(checkout: Path, place: str) -> SetupPlan | None:
    if not (checkout / place / "go.mod").is_file():
        return None
    script = _SETUP.replace("ENVIRONMENT", SANDBOX_ENVIRONMENT).replace("HOME", _HOME)
    return SetupPlan(f"Go: module in {place or 'the root'}", script, _ENV, {**_ENV, "GOPROXY": "off", "GOSUMDB": "off"})


def _checks(checkout: Path, place: str) -> tuple[CheckCommand, ...]:
    if not (checkout / place / "go.mod").is_file() or not any(files_named(checkout, _TESTS, depth=8, below=place)):
        return ()
    return (CheckCommand("go test", "go test ./...", "go"),)


def _calls(words: Sequence[str]) -> bool:
    return list(words[:2]) == ["go", "test"]


def _ask(call: RunnerCall) -> RunnerCall:
    words = command_words(call.command)
    if "-json" not in words:
        words.insert(2, "-json")
    # Whoever reads the check's output wants to read text.
    return replace(call, command=output_keep(shlex.join(words), through="python3 {lent}/go_text.py {path}"))


def _read(results: Results) -> Mapping[str, TestResult]:
    return go_events_read(output_kept(results))


def _select(call: RunnerCall, tests: Sequence[str]) -> RunnerCall | None:
    words = command_words(call.command)
    names = dict.fromkeys(name.partition("::")[2].partition("/")[0] for name in tests)
    if any(word.startswith("-run") for word in words) or not all(re.fullmatch(r"\w+", name) for name in names):
        return None
    return replace(call, command=shlex.join([*words[:2], "-run", f"^({'|'.join(names)})$", *words[2:]]))


def _sources(collector: SourceCollector) -> None:
    """What ``go env`` says of proxies; ``direct``, which would reach any host, is left out."""
    proxies = [part.strip() for part in re.split(r"[,|]", host_ask("go", "env", "GOPROXY"))]
    kept = [collector.location(proxy) for proxy in proxies if proxy and proxy not in ("direct", "off")]
    collector.environment["GOPROXY"] = ",".join(kept) or "off"
    checksums = host_ask("go", "env", "GOSUMDB").split()
    if checksums and checksums[0] != "off":
        location = checksums[1] if len(checksums) > 1 else f"https://{checksums[0].partition('+')[0]}"
        collector.location(location)
        collector.environment["GOSUMDB"] = " ".join(checksums)
    else:
        collector.environment["GOSUMDB"] = "off"
    for name in ("GOPRIVATE", "GONOSUMDB", "GONOSUMCHECK", "GOINSECURE"):
        if value := host_ask("go", "env", name):
            collector.environment[name] = value


GO_TEST = Runner(name="go", calls=_calls, ask=_ask, read=_read, select=_select, compiles=True)

GO = Ecosystem(
    name="go",
    title="Go",
    places=lambda checkout: folders_with(checkout, _MODULE, nested=True),
    setup=_setup,
    checks=_checks,
    runners=(GO_TEST,),
    programs=("go",),
    packages="golang-go on Debian",
    sources=_sources,
    outputs=lambda checkout, place: (os.path.relpath(_CACHE, place or "."),),
    setup_names=re.compile(r"go\.(mod|sum|work)|go\.work\.sum"),
    configuration_names=re.compile(r"go\.(mod|sum|work)|go\.work\.sum"),
    test_names=_TESTS,
)

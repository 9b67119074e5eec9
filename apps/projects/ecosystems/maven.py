"""Java by Maven: artefacts into a repository of the environment's own, tests by Surefire and Failsafe."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape

from apps.projects.ecosystems.folders import files_named, folders_with, text_of
from apps.projects.ecosystems.reports import reports_read, reports_remove
from apps.projects.ecosystems.sources import SourceCollector
from apps.projects.ecosystems.types import CheckCommand, Ecosystem, Results, Runner, RunnerCall, SetupPlan, TestResult
from apps.projects.workspace import SANDBOX_ENVIRONMENT

_POM = re.compile(r"pom\.xml")
_TEST_SOURCE = re.compile(r".*(Test|Tests|TestCase|IT)\.(java|kt|groovy|scala)|Test.*\.(java|kt)")
_REPORTS = ("target/surefire-reports", "target/failsafe-reports")
_DEFAULT_HOST = "repo.maven.apache.org"
#: Mirrors of the host's settings.xml, without anything else of it.
_MIRRORS = "ARCHON_MAVEN_MIRRORS"

_SETUP = """\
proxy=${http_proxy#http://}
cat > /tmp/maven-settings.xml <<SETTINGS
<settings><mirrors>${ARCHON_MAVEN_MIRRORS:-}</mirrors><proxies>
<proxy><id>s</id><protocol>https</protocol><host>${proxy%%:*}</host><port>${proxy##*:}</port></proxy>
<proxy><id>p</id><protocol>http</protocol><host>${proxy%%:*}</host><port>${proxy##*:}</port></proxy>
</proxies></settings>
SETTINGS
# Which provider runs the tests, Maven decides when it runs them: so they are begun, and not waited for.
code=0
PATH=${PATH//ENVIRONMENT\\/bin:/} mvn --batch-mode --no-transfer-progress --settings /tmp/maven-settings.xml \\
  -Dmaven.repo.local=ENVIRONMENT/m2 -Dmaven.test.failure.ignore=true -Dsurefire.timeout=10 --fail-at-end test \\
  > /tmp/maven.txt 2>&1 || code=$?
tail -n 40 /tmp/maven.txt
if [ "$code" != 0 ]; then
  if grep -qE 'Could not (resolve|transfer|find)|could not be resolved|Non-resolvable' /tmp/maven.txt; then exit 1; fi
  echo "archon: the project does not build at this commit; what its tests need may be missing" >&2
fi
# These say which repository an artefact came from, and Maven would ask there again.
find ENVIRONMENT/m2 -name _remote.repositories -delete
find . -type d -name target -prune -exec rm -rf {} +
mkdir -p ENVIRONMENT/bin
cat > ENVIRONMENT/bin/mvn <<'WRAPPER'
#!/bin/bash
# What there is was fetched with the environment.
PATH=${PATH//ENVIRONMENT\\/bin:/}
exec mvn --offline -Dmaven.repo.local=ENVIRONMENT/m2 "$@"
WRAPPER
chmod 755 ENVIRONMENT/bin/mvn
"""


def _setup(checkout: Path, place: str) -> SetupPlan | None:
    if not (checkout / place / "pom.xml").is_file():
        return None
    return SetupPlan(f"Maven: {place or 'the root'}", _SETUP.replace("ENVIRONMENT", SANDBOX_ENVIRONMENT))


def _checks(checkout: Path, place: str) -> tuple[CheckCommand, ...]:
    if not (checkout / place / "pom.xml").is_file() or not any(
        files_named(checkout, _TEST_SOURCE, depth=20, below=place)
    ):
        return ()
    return (CheckCommand("mvn test", "mvn --batch-mode --fail-at-end test", "maven"),)


def _outputs(checkout: Path, place: str) -> tuple[str, ...]:
    modules = (path.rpartition("/")[0] for path in files_named(checkout, _POM, depth=8, below=place))
    return tuple(str(Path(module, "target").relative_to(place or ".")) for module in modules)


def _ask(call: RunnerCall) -> RunnerCall:
    removals = "\n".join(reports_remove(folder) for folder in _REPORTS)
    return replace(call, command=f"{removals}\n{call.command}")


def _read(results: Results) -> Mapping[str, TestResult]:
    return reports_read(results, folders=_REPORTS, prefix="TEST-")


def _select(call: RunnerCall, tests: Sequence[str]) -> RunnerCall | None:
    names = [re.fullmatch(r"([\w.$]+)\.(\w+)(\[.*\])?", name) for name in tests]
    if not all(names):
        return None
    chosen = ",".join(dict.fromkeys(f"{name[1].rpartition('.')[2]}#{name[2]}" for name in names if name is not None))
    options = "-DfailIfNoTests=false -Dsurefire.failIfNoSpecifiedTests=false"
    return replace(call, command=f"{call.command} '-Dtest={chosen}' {options}")


def _sources(collector: SourceCollector) -> None:
    """The mirrors of this host's ``settings.xml``; without one for all, Maven's own central repository."""
    home = Path(os.environ.get("MAVEN_HOME") or "/usr/share/maven")
    mirrors: list[str] = []
    everything = False
    for path in (Path.home() / ".m2/settings.xml", home / "conf/settings.xml"):
        for identifier, of, url in _mirrors(path):
            everything = everything or of in ("*", "central", "external:*")
            mirrors.append(
                f"<mirror><id>{escape(identifier)}</id><mirrorOf>{escape(of)}</mirrorOf>"
                f"<url>{escape(collector.location(url))}</url></mirror>"
            )
    if not everything:
        collector.host(_DEFAULT_HOST)
    if mirrors:
        collector.environment[_MIRRORS] = "".join(mirrors)


def _mirrors(path: Path) -> Iterator[tuple[str, str, str]]:
    text = re.sub(r"\sxmlns(:\w+)?=(\"[^\"]*\"|'[^']*')", "", text_of(path))
    if "<!DOCTYPE" in text:
        return
    try:
        root = ElementTree.fromstring(re.sub(r"\s\w+:\w+=\"[^\"]*\"", "", text))
    except ElementTree.ParseError:
        return
    for mirror in root.iterfind("./mirrors/mirror"):
        identifier, of, url = (mirror.findtext(tag, "").strip() for tag in ("id", "mirrorOf", "url"))
        # Maven itself brings one that blocks plain http.
        if url and not url.startswith("http://0.0.0.0"):
            yield identifier or "mirror", of, url


MAVEN_TEST = Runner(
    name="maven",
    calls=lambda words: bool(words) and words[0] == "mvn" and bool({"test", "verify", "install"}.intersection(words)),
    ask=_ask,
    read=_read,
    select=_select,
    compiles=True,
)

MAVEN = Ecosystem(
    name="maven",
    title="Maven",
    places=lambda checkout: folders_with(checkout, _POM),
    setup=_setup,
    checks=_checks,
    runners=(MAVEN_TEST,),
    programs=("mvn", "java"),
    packages="maven and default-jdk-headless on Debian",
    sources=_sources,
    outputs=_outputs,
    setup_names=_POM,
    configuration_names=re.compile(r"pom\.xml|testng.*\.xml|junit-platform\.properties"),
    configuration_paths=re.compile(r"(.*/)?\.mvn/.*"),
    test_names=_TEST_SOURCE,
)

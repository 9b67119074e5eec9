"""Java and its kin by Gradle: the host's own, since a project's wrapper would download one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from apps.projects.ecosystems.folders import files_named, folders_with, text_of
from apps.projects.ecosystems.reports import reports_read, reports_remove
from apps.projects.ecosystems.sources import SourceCollector
from apps.projects.ecosystems.types import CheckCommand, Ecosystem, Results, Runner, RunnerCall, SetupPlan, TestResult
from apps.projects.workspace import SANDBOX_ENVIRONMENT

_BUILD = re.compile(r"(build|settings)\.gradle(\.kts)?")
_TEST_FOLDER = re.compile(r".*(Test|Tests|Spec|IT)\.(java|kt|groovy|scala)|Test.*\.(java|kt)")
_REPORTS = "build/test-results"
_WRAPPER_VERSION = re.compile(r"gradle-([\d.]+)-(bin|all)\.zip")
#: Where Gradle looks when a build says ``mavenCentral()`` or names a plugin.
_DEFAULT_HOSTS = ("repo.maven.apache.org", "plugins.gradle.org", "plugins-artifacts.gradle.org")

_SETUP = """\
export GRADLE_USER_HOME=ENVIRONMENT/gradle
mkdir -p "$GRADLE_USER_HOME"
proxy=${http_proxy#http://}
cat > "$GRADLE_USER_HOME/gradle.properties" <<PROPERTIES
systemProp.http.proxyHost=${proxy%%:*}
systemProp.http.proxyPort=${proxy##*:}
systemProp.https.proxyHost=${proxy%%:*}
systemProp.https.proxyPort=${proxy##*:}
PROPERTIES
cat > /tmp/resolve.gradle <<'INIT'
allprojects { p ->
  p.tasks.create('archonResolve') {
    doLast {
      p.configurations.findAll { it.metaClass.respondsTo(it, 'isCanBeResolved') ? it.canBeResolved : true }.each { c ->
        try { c.resolve() } catch (Exception e) { println 'archon: ' + c + ': ' + (e.cause ?: e).message }
      }
    }
  }
}
INIT
PATH=${PATH//ENVIRONMENT\\/bin:/}
gradle --no-daemon --console=plain --init-script /tmp/resolve.gradle archonResolve
gradle --no-daemon --console=plain --continue testClasses || \\
  echo "archon: the project does not compile at this commit; what its plugins need may be missing" >&2
rm -rf "$GRADLE_USER_HOME/gradle.properties" "$GRADLE_USER_HOME/daemon" .gradle
mkdir -p ENVIRONMENT/bin
cat > ENVIRONMENT/bin/gradle <<'WRAPPER'
#!/bin/bash
# Gradle writes beside what it has downloaded, so it gets a copy of that.
PATH=${PATH//ENVIRONMENT\\/bin:/}
export GRADLE_USER_HOME=/tmp/gradle
[ -d "$GRADLE_USER_HOME" ] || cp -r ENVIRONMENT/gradle "$GRADLE_USER_HOME"
exec gradle --offline --no-daemon "$@"
WRAPPER
chmod 755 ENVIRONMENT/bin/gradle
"""


def _is_build(checkout: Path, place: str) -> bool:
    return any(_BUILD.fullmatch(path.name) for path in (checkout / place).glob("*.gradle*"))


def _setup(checkout: Path, place: str) -> SetupPlan | None:
    if not _is_build(checkout, place):
        return None
    properties = text_of(checkout / place / "gradle/wrapper/gradle-wrapper.properties")
    version = _WRAPPER_VERSION.search(properties)
    wanted = f", made for Gradle {version[1]}; the server's own is used" if version else ""
    script = _SETUP.replace("ENVIRONMENT", SANDBOX_ENVIRONMENT)
    return SetupPlan(f"Gradle: {place or 'the root'}{wanted}", script)


def _checks(checkout: Path, place: str) -> tuple[CheckCommand, ...]:
    if not _is_build(checkout, place) or not any(files_named(checkout, _TEST_FOLDER, depth=20, below=place)):
        return ()
    return (CheckCommand("gradle test", "gradle --console=plain --continue test", "gradle"),)


def _outputs(checkout: Path, place: str) -> tuple[str, ...]:
    modules = (path.rpartition("/")[0] for path in files_named(checkout, _BUILD, depth=8, below=place))
    return (".gradle", *dict.fromkeys(str(Path(module, "build").relative_to(place or ".")) for module in modules))


def _ask(call: RunnerCall) -> RunnerCall:
    return replace(call, command=f"{reports_remove(_REPORTS)}\n{call.command}")


def _read(results: Results) -> Mapping[str, TestResult]:
    return reports_read(results, folders=(_REPORTS,), prefix="TEST-")


def _select(call: RunnerCall, tests: Sequence[str]) -> RunnerCall | None:
    if not all(re.fullmatch(r"[\w.$]+(\(\))?", name) for name in tests):
        return None
    return replace(call, command=call.command + "".join(f" --tests {name.removesuffix('()')}" for name in tests))


def _sources(collector: SourceCollector) -> None:
    """Gradle's repositories stand in the build itself; the host may have local ones below ``/usr/share``."""
    for host in _DEFAULT_HOSTS:
        collector.host(host)
    properties = Path(os.environ.get("GRADLE_USER_HOME") or Path.home() / ".gradle") / "gradle.properties"
    if "org.gradle.java.home" in text_of(properties):
        collector.notes.append("gradle.properties of this host is not used in sandboxes.")


GRADLE_TEST = Runner(
    name="gradle",
    calls=lambda words: bool(words) and words[0] == "gradle" and bool({"test", "check", "build"}.intersection(words)),
    ask=_ask,
    read=_read,
    select=_select,
    compiles=True,
)

GRADLE = Ecosystem(
    name="gradle",
    title="Gradle",
    places=lambda checkout: folders_with(checkout, _BUILD),
    setup=_setup,
    checks=_checks,
    runners=(GRADLE_TEST,),
    programs=("gradle", "java"),
    packages="gradle on Debian, or a newer one from its makers",
    sources=_sources,
    outputs=_outputs,
    setup_names=re.compile(r"(build|settings)\.gradle(\.kts)?|gradle\.(properties|lockfile)|libs\.versions\.toml"),
    configuration_names=re.compile(r".*\.gradle(\.kts)?|gradle\.properties|libs\.versions\.toml"),
    configuration_paths=re.compile(r"(.*/)?(gradle/wrapper|buildSrc)/.*"),
    test_names=_TEST_FOLDER,
)

"""Node: packages by npm, pnpm or yarn, tests by what package.json's scripts call."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from apps.projects.ecosystems import lent
from apps.projects.ecosystems.node_results import NODE_ENV, NODE_RUNNERS
from apps.projects.ecosystems.node_scripts import Package, package_read, script_runner
from apps.projects.ecosystems.python_requirements import text_read
from apps.projects.ecosystems.sources import SourceCollector, host_ask
from apps.projects.ecosystems.types import CheckCommand, Ecosystem, SetupPlan

_SKIPPED_FOLDERS = {
    "node_modules", "test", "tests", "__tests__", "fixtures", "examples", "example", "docs", "doc", "website", "vendor",
    "third_party", "dist", "build", "templates", "template", "benchmarks", "benchmark", "e2e",
}  # fmt: skip
_PLACE_DEPTH = 2
_MAX_PLACES = 8
_LOCKS = {
    "pnpm-lock.yaml": "pnpm",
    "yarn.lock": "yarn",
    "npm-shrinkwrap.json": "npm",
    "package-lock.json": "npm",
}
#: What is installed where neither the host nor the project names a version, by what the lock file is written in.
_PNPM_BY_LOCK = {"9": "9.15.9", "6": "8.15.9", "5": "7.33.7"}
_YARN_CLASSIC, _YARN_BERRY = "1.22.22", "4.9.4"
_VERSIONED = re.compile(r"(npm|pnpm|yarn)@(\d+\.\d+\.\d+(?:-[\w.]+)?)(\+\w+\.\w+)?")
_LIFECYCLE = ("preinstall", "install", "postinstall", "prepare")
_NODE_TEST = re.compile(r"""(from\s*|require\(\s*|import\(\s*)["']node:test["']""")
_TEST_SCRIPT = re.compile(r".*[.\-_](test|spec)\.[cm]?[jt]sx?|test[.-].*\.[cm]?js|test\.[cm]?js")

_PRELUDE = """\
note() { echo "archon: $*" >&2; }
downloads=${npm_config_cache%/*}
export npm_config_store_dir=$downloads/pnpm YARN_CACHE_FOLDER=$downloads/yarn YARN_GLOBAL_FOLDER=$downloads/yarn-berry
export YARN_NODE_LINKER=node-modules YARN_ENABLE_TELEMETRY=0 YARN_ENABLE_GLOBAL_CACHE=1
export YARN_NPM_REGISTRY_SERVER=$npm_config_registry YARN_HTTP_PROXY=$http_proxy YARN_HTTPS_PROXY=$https_proxy
export npm_config_fund=false npm_config_audit=false npm_config_update_notifier=false npm_config_progress=false
export npm_config_package_import_method=copy npm_config_manage_package_manager_versions=false COREPACK_ENABLE_STRICT=0
# What would fetch browsers and the like, from hosts that are no registries, leaves it.
export PUPPETEER_SKIP_DOWNLOAD=1 PUPPETEER_SKIP_CHROMIUM_DOWNLOAD=1 PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1
export CYPRESS_INSTALL_BINARY=0 ELECTRON_SKIP_BINARY_DOWNLOAD=1 HUSKY=0
need() {
    local found
    found=$("$1" --version 2>/dev/null) || found=''
    [[ $found == "$2" || ( -n $found && $3 == any ) ]] && return
    note "$1 $2 is installed from the registry"
    npm install --global --prefix /env --no-fund --no-audit --loglevel=error "$4@$2" || {
        note "$1 $2 could not be installed: name a version that the registry has in package.json's packageManager"
        return 1
    }
}
keep() {
    node - <<'ARCHON_END'
%sARCHON_END
}
"""


def _prelude() -> str:
    script = Path(lent.__file__).with_name("node_modules_keep.cjs").read_text()
    return _PRELUDE.replace("%s", script)


def _places(checkout: Path) -> tuple[str, ...]:
    """The checkout itself, or else the folders below it that are packages with tests or a lock file of their own."""
    package = package_read(checkout)
    if package is not None and (package.scripts or package.dependencies or package.workspaces or _manager(checkout)):
        return ("",)
    found: list[str] = []
    for folder, folders, files in os.walk(checkout):
        relative = Path(folder).relative_to(checkout)
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith("."))
        if relative.parts and "package.json" in files:
            inner = package_read(Path(folder))
            if inner is not None and (inner.test_script or inner.dependencies or _LOCKS.keys() & set(files)):
                found.append(relative.as_posix())
                folders.clear()
        if len(relative.parts) >= _PLACE_DEPTH:
            folders.clear()
    if not found and _node_tests(checkout, ""):
        return ("",)
    return tuple(found[:_MAX_PLACES])


def _setup(checkout: Path, place: str) -> SetupPlan | None:
    package = package_read(checkout / place)
    if package is None:
        return None
    top = _workspace_root(checkout, place)
    root_package = package_read(checkout / top) or package
    manager, lock = _manager(checkout / top) or ("npm", "")
    named = _VERSIONED.match(root_package.package_manager)
    if named and not lock:
        manager = named[1]
    needed = root_package.dependencies or root_package.workspaces or lock
    if not needed and not any(name in root_package.scripts for name in _LIFECYCLE):
        return None
    lines = []
    if top != place:
        lines.append(f"cd {shlex.quote(os.path.relpath(top or '.', place or '.'))}")
    lines += _install(checkout / top, manager, lock, named[2] if named and named[1] == manager else "")
    lines.append("keep")
    if not _checks(checkout, place):
        # Tools of a project whose tests are in another language, say: it can be worked on without them.
        lines = [
            "set +e",
            "(",
            "set -e",
            *lines,
            ")",
            '[[ $? -eq 0 ]] || note "left out: the packages of Node"',
            "set -e",
        ]
    where = f" in {top}" if top else ""
    description = f"Node: {manager}{f' with {lock}' if lock else ', no lock file'}{where}"
    return SetupPlan(description, "\n".join(lines) + "\n", env=dict(NODE_ENV))


def _install(root: Path, manager: str, lock: str, version: str) -> list[str]:
    if manager == "npm":
        if not lock:
            return ["npm install --no-package-lock"]
        return ["npm ci || {", '    note "npm ci failed; npm install instead"', "    npm install", "}"]
    if manager == "pnpm":
        match = re.search(r"^lockfileVersion:\s*['\"]?(\d+)", text_read(root / lock) if lock else "", re.MULTILINE)
        chosen = version or _PNPM_BY_LOCK.get(match[1] if match else "", _PNPM_BY_LOCK["9"])
        if not lock:
            # One that the set-up made would change what the next set-up is for.
            return [f"need pnpm {chosen} {'exactly' if version else 'any'} pnpm", "pnpm install --no-lockfile"]
        return [
            f"need pnpm {chosen} {'exactly' if version else 'any'} pnpm",
            "pnpm install --frozen-lockfile || {",
            '    note "the lock file does not fit; pnpm install without it"',
            "    pnpm install --no-frozen-lockfile",
            "}",
        ]
    classic = "# yarn lockfile v1" in text_read(root / lock)[:500] if lock else not (root / ".yarnrc.yml").is_file()
    if version:
        classic = version.startswith("1.")
    if classic:
        # Its lock file names the host that each package came from once; here they come from this host's registry.
        address = r's#(resolved ")https?://[^/"]+/((@[^/"]+/)?[^/"]+/-/[^"]+\.tgz)#\1'
        rewrite = [f"sed -i -E '{address}'\"${{npm_config_registry%/}}/\"'\\2#' yarn.lock"] if lock else []
        return [
            f"need yarn {version or _YARN_CLASSIC} {'exactly' if version else 'any'} yarn",
            *rewrite,
            f"yarn install --non-interactive {'--frozen-lockfile' if lock else '--no-lockfile'}",
        ]
    release = re.search(r"^yarnPath:\s*['\"]?([\w./-]+)", text_read(root / ".yarnrc.yml"), re.MULTILINE)
    if release and (root / release[1]).is_file():
        # The classic one hands over to the release that the project holds.
        return [
            f"need yarn {_YARN_CLASSIC} any yarn",
            "yarn install --immutable || yarn install --no-immutable",
        ]
    chosen = version or _YARN_BERRY
    return [
        "export YARN_IGNORE_PATH=1",
        f"need yarn {chosen} exactly @yarnpkg/cli-dist",
        "yarn install --immutable || yarn install --no-immutable",
    ]


def _checks(checkout: Path, place: str) -> tuple[CheckCommand, ...]:
    root = checkout / place
    package = package_read(root)
    if package is None or not package.test_script:
        return _unscripted(root, package)
    manager = (_manager(checkout / _workspace_root(checkout, place)) or ("npm", ""))[0]
    runner = script_runner(package)
    if runner == "command" and package.workspaces and _WORKSPACE_RUN.search(package.test_script):
        runner = "npm-script" if any(_workspace_runners(root)) else "command"
    return (CheckCommand(f"{manager} test", f"{manager} test", runner),)


_WORKSPACE_RUN = re.compile(r"\s(-r|--recursive|-ws?|--workspaces?|workspaces?)(\s|=|$)|\b(turbo|lerna|nx)\b")


def _workspace_runners(root: Path) -> list[str]:
    """The runners that packages of a workspace use."""
    found = []
    for folder in sorted({*root.glob("*/package.json"), *root.glob("*/*/package.json")})[:200]:
        inner = package_read(folder.parent)
        if "node_modules" not in folder.parts and inner is not None and inner.test_script:
            runner = script_runner(inner)
            if runner != "command":
                found.append(runner)
    return found


def _unscripted(root: Path, package: Package | None) -> tuple[CheckCommand, ...]:
    """A package that names no test script, but says by its dependencies or its tests what runs them."""
    for name, command in (("vitest", "npx vitest run"), ("jest", "npx jest"), ("mocha", "npx mocha")):
        if package is not None and name in package.dependencies:
            return (CheckCommand(name, command, name),)
    if _node_tests(root, ""):
        return (CheckCommand("node --test", "node --test", "node-test"),)
    return ()


def _node_tests(checkout: Path, place: str) -> bool:
    """Some test file imports Node's own runner."""
    looked = 0
    for folder, folders, files in os.walk(checkout / place):
        folders[:] = sorted(name for name in folders if name != "node_modules" and not name.startswith("."))
        in_tests = PurePosixPath(folder).name in ("test", "tests", "__tests__")
        for name in sorted(files):
            if _TEST_SCRIPT.fullmatch(name) or (in_tests and re.fullmatch(r".*\.[cm]?js", name)):
                looked += 1
                if _NODE_TEST.search(text_read(Path(folder, name))):
                    return True
                if looked > 200:
                    return False
    return False


def _manager(root: Path) -> tuple[str, str] | None:
    """The package manager by its lock file, and that file."""
    return next(((manager, name) for name, manager in _LOCKS.items() if (root / name).is_file()), None)


def _workspace_root(checkout: Path, place: str) -> str:
    """The folder in which a package's dependencies are installed: its own, or that of the workspace it is part of."""
    if _manager(checkout / place):
        return place
    for parent in PurePosixPath(place).parents if place else ():
        folder = "" if parent == PurePosixPath(".") else parent.as_posix()
        package = package_read(checkout / folder)
        if package is not None and package.workspaces:
            return folder
    return place


def _in_the_way(
    changed: Sequence[str], before: frozenset[str], environment: Path | None, folders: Sequence[str]
) -> tuple[str, ...]:
    """What is found before the installed packages."""
    return tuple(path for path in changed if "node_modules" in PurePosixPath(path).parts)


def _sources(collector: SourceCollector) -> None:
    if registry := host_ask("npm", "config", "get", "registry"):
        collector.environment["npm_config_registry"] = collector.location(registry)
    certificates = host_ask("npm", "config", "get", "cafile")
    if certificates and Path(certificates).is_file() and "NODE_EXTRA_CA_CERTS" not in collector.environment:
        target = "/opt/archon/npm-certificates.pem"
        collector.lend(Path(certificates).resolve(), target)
        collector.environment["NODE_EXTRA_CA_CERTS"] = target
    if not collector.proxy:
        proxy = host_ask("npm", "config", "get", "https-proxy")
        collector.proxy = proxy if proxy not in ("null", "undefined") else ""


_SCRIPT = r"\.[cm]?[jt]sx?"
NODE = Ecosystem(
    name="node",
    title="Node",
    places=_places,
    setup=_setup,
    checks=_checks,
    prelude=_prelude,
    runners=NODE_RUNNERS,
    programs=("node", "npm"),
    sources=_sources,
    setup_names=re.compile(
        r"package(-lock)?\.json|npm-shrinkwrap\.json|pnpm-(lock|workspace)\.yaml|yarn\.lock|\.npmrc|\.yarnrc(\.yml)?|"
        r"\.pnpmfile\.c?js|binding\.gyp"
    ),
    configuration_names=re.compile(
        r"package(-lock)?\.json|npm-shrinkwrap\.json|pnpm-(lock|workspace)\.yaml|yarn\.lock|\.npmrc|\.yarnrc(\.yml)?|"
        r"\.pnpmfile\.c?js|\.pnp\..*|\.(node-version|nvmrc)|\.env(\..*)?|(ts|js)config.*\.json|(turbo|nx|lerna)\.json|"
        r"\.(mocharc|nycrc|c8rc|taprc|babelrc|swcrc|jestrc)(\..*)?|"
        r"(jest|vitest|vite|babel|ava|karma|playwright|cypress|nyc|swc|web-test-runner|wallaby)[\w.-]*\.config\..*|"
        rf"karma\.conf{_SCRIPT}|"
        rf"vitest\.workspace\..*|(jest|vitest|vite|mocha|tests?|globals?)[.-]?(setup|environment|resolver|transform)"
        rf"[\w.-]*{_SCRIPT}|set-?up-?(tests?|jest|vitest|mocha)[\w.-]*{_SCRIPT}",
        re.IGNORECASE,
    ),
    test_names=re.compile(rf".*[.-](test|spec)\.\w+|tests?{_SCRIPT}|test-.*{_SCRIPT}|.*\.snap"),
    test_folders=frozenset({"__mocks__", "__snapshots__", "__fixtures__", "specs"}),
    in_the_way=_in_the_way,
)

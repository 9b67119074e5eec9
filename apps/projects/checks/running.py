"""Running checks where nothing can touch them: a clean checkout of the commit, in a sandbox of their own."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from django.conf import settings

from apps.projects.checks.detection import command_words
from apps.projects.checks.results.junit import junit_read
from apps.projects.checks.types import CheckReport, CheckSpec, TestResult
from apps.projects.environment.preparation import environment_apply
from apps.projects.environment.types import Environment
from apps.projects.git import full_disk_told
from apps.projects.repository import commit_overlay
from apps.projects.sandbox import Bind, sandbox_run
from apps.projects.sandbox.owners import sandbox_owner
from apps.projects.workspace import SANDBOX_ENVIRONMENT, CommandResult, SandboxLimits
from apps.projects.worktree import checkout_export, tree_delete, tree_own
from integrations.embedded.reach import runtime_root

_RESULTS = "/run/results"
_JUNIT = f"{_RESULTS}/junit.xml"
_UNITTEST = "/run/unittest_results.py"
_OUTPUT_BYTES = 20_000
_OUTPUT_KEPT = 200_000


async def checks_run(
    *,
    project_id: object,
    commit: str,
    specs: Sequence[CheckSpec],
    environment: Environment,
    on_progress: Callable[[str], None] | None = None,
    overlay_from: str = "",
    overlay_paths: Sequence[str] = (),
) -> tuple[CheckReport, ...]:
    """Run each check on a clean checkout of the commit, with the environment read-only and no network.

    With ``overlay_from``, ``overlay_paths`` are as in that commit. ``on_progress`` is told what the checks print.
    A check that fails is a report, not an error.
    """
    if overlay_from and overlay_paths:
        commit = await asyncio.to_thread(
            commit_overlay, project_id=project_id, commit=commit, base=overlay_from, paths=overlay_paths
        )
    return tuple([await _check_run(project_id, commit, spec, environment, on_progress) for spec in specs])


async def _check_run(
    project_id: object,
    commit: str,
    spec: CheckSpec,
    environment: Environment,
    on_progress: Callable[[str], None] | None,
) -> CheckReport:
    folder = await asyncio.to_thread(_prepare, project_id, commit, environment)
    try:
        binds = [
            Bind(source=folder / "results", target=_RESULTS, writable=True),
            Bind(source=folder / "unittest_results.py", target=_UNITTEST),
        ]
        if environment.path is not None:
            binds.append(Bind(source=environment.path, target=SANDBOX_ENVIRONMENT))
        result = await sandbox_run(
            command=["bash", "-c", check_command(spec)],
            workspace=folder / "workspace",
            limits=SandboxLimits(
                memory_mb=settings.ARCHON_SANDBOX_MEMORY_MB,
                disk_mb=settings.ARCHON_SANDBOX_DISK_MB,
                processes=settings.ARCHON_SANDBOX_PROCESSES,
            ),
            timeout=settings.ARCHON_CHECK_SECONDS,
            env=_variables(spec, environment),
            binds=binds,
            max_output=_OUTPUT_KEPT,
            on_output=on_progress,
        )
        tests = junit_read(folder / "results" / "junit.xml")
    finally:
        await asyncio.to_thread(tree_delete, folder)
    passed, reason = check_judge(spec, result, tests)
    return CheckReport(
        name=spec.name,
        command=spec.command,
        passed=passed,
        exit_code=result.exit_code,
        killed=result.killed,
        output=_tail(result.output),
        seconds=result.seconds,
        tests=tests,
        reason=reason,
    )


def check_command(spec: CheckSpec) -> str:
    """The command with which the check's results are written."""
    words = command_words(spec.command)
    if spec.runner == "unittest" and words:
        # `python -m unittest …` → our runner, which does the same and writes the results.
        return shlex.join([words[0], _UNITTEST, _JUNIT, *words[3:]])
    return spec.command


def check_judge(spec: CheckSpec, result: CommandResult, tests: dict[str, TestResult]) -> tuple[bool, str]:
    """Whether a check passed, and why not. An exit code alone is not believed where results could be had."""
    if result.killed:
        return False, f"stopped: over the limit of {result.killed}"
    failing = [name for name, outcome in tests.items() if outcome in ("failed", "error")]
    executed = [name for name, outcome in tests.items() if outcome != "skipped"]
    if result.exit_code != 0:
        if spec.runner == "pytest" and result.exit_code == 5:
            return False, "no tests were found"
        return False, f"exit code {result.exit_code}"
    if spec.runner == "command":
        return True, ""
    if failing:
        return False, f"exit code 0, but {len(failing)} test(s) failed"
    if not tests:
        return False, "exit code 0, but the runner ended without results, so no test counts as executed"
    if not executed:
        return False, "exit code 0, but every test was skipped"
    return True, ""


def _prepare(project_id: object, commit: str, environment: Environment) -> Path:
    with full_disk_told("the check's checkout could not be written"):
        return _folder_make(project_id, commit, environment)


def _folder_make(project_id: object, commit: str, environment: Environment) -> Path:
    root = runtime_root(settings.ARCHON_HOME) / "checks"
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="check-", dir=root))
    try:
        folder.chmod(0o711)
        workspace = folder / "workspace"
        checkout_export(project_id=project_id, commit=commit, destination=workspace)
        environment_apply(environment=environment, checkout=workspace)
        (folder / "results").mkdir(mode=0o700)
        tree_own(folder / "results", sandbox_owner(workspace))
        # Out of our own folder, which the sandbox's user may not be able to reach.
        shutil.copyfile(Path(__file__).with_name("unittest_results.py"), folder / "unittest_results.py")
        (folder / "unittest_results.py").chmod(0o644)
    except BaseException:
        tree_delete(folder)
        raise
    return folder


def _variables(spec: CheckSpec, environment: Environment) -> dict[str, str]:
    # The checkout is thrown away, so bytecode may lie where Python looks for it first.
    variables = {**environment.env, "PYTHONDONTWRITEBYTECODE": ""}
    if spec.runner != "unittest":
        # Not in the command: this also reaches a pytest that a given command calls.
        results = f"--junitxml={_JUNIT} -o junit_family=xunit1"
        variables["PYTEST_ADDOPTS"] = f"{variables.get('PYTEST_ADDOPTS', '')} {results}".strip()
    return variables


def _tail(output: str) -> str:
    """The last bytes, from a line's start on."""
    encoded = output.encode("utf-8", "replace")
    if len(encoded) <= _OUTPUT_BYTES:
        return output
    return encoded[-_OUTPUT_BYTES:].partition(b"\n")[2].decode("utf-8", "replace")

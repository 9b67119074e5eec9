"""Running checks where nothing can touch them: a clean checkout of the commit, in a sandbox of their own."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from django.conf import settings

from apps.projects.checks.services import service_hint
from apps.projects.checks.types import CheckReport, CheckSpec, TestResult
from apps.projects.ecosystems import lent
from apps.projects.ecosystems.python import UNITTEST_PROGRAM
from apps.projects.ecosystems.registry import ecosystem_get, programs_missing, runner_get
from apps.projects.ecosystems.types import LENT, RESULTS, Results, RunnerCall
from apps.projects.environment.preparation import environment_apply
from apps.projects.environment.types import Environment
from apps.projects.git import full_disk_told
from apps.projects.repository import commit_overlay
from apps.projects.sandbox import Bind, sandbox_run
from apps.projects.sandbox.owners import sandbox_owner
from apps.projects.workspace import SANDBOX_ENVIRONMENT, CommandResult, SandboxLimits
from apps.projects.worktree import checkout_export, tree_delete, tree_own
from integrations.embedded.reach import runtime_root

_LENT_FILES = Path(lent.__file__).parent
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
    if missing := _missing(spec, environment):
        return CheckReport(spec.name, spec.command, False, None, "", "", 0.0, reason=missing)
    call = RunnerCall(spec.command, environment.env)
    result, tests = await check_execute(project_id, commit, spec, call, environment, on_progress)
    passed, reason = check_judge(spec, result, tests)
    if not passed and (hint := service_hint(result.output)):
        reason = f"{reason}; {hint}"
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


async def check_execute(
    project_id: object,
    commit: str,
    spec: CheckSpec,
    call: RunnerCall,
    environment: Environment,
    on_progress: Callable[[str], None] | None,
) -> tuple[CommandResult, Mapping[str, TestResult]]:
    """Make a call of a check's runner, asked for results, on a checkout and in a sandbox of its own."""
    asked = _asked(spec, call)
    folder = await asyncio.to_thread(_prepare, project_id, commit, environment)
    try:
        binds = [
            Bind(source=folder / "results", target=RESULTS, writable=True),
            Bind(source=folder / "lent", target=LENT),
            Bind(source=folder / "lent" / "unittest_results.py", target=UNITTEST_PROGRAM),
        ]
        if environment.path is not None:
            binds.append(Bind(source=environment.path, target=SANDBOX_ENVIRONMENT))
        result = await sandbox_run(
            command=["bash", "-c", asked.command],
            workspace=folder / "workspace",
            limits=SandboxLimits(
                memory_mb=settings.ARCHON_SANDBOX_MEMORY_MB,
                disk_mb=settings.ARCHON_SANDBOX_DISK_MB,
                processes=settings.ARCHON_SANDBOX_PROCESSES,
            ),
            timeout=settings.ARCHON_CHECK_SECONDS,
            env=asked.env,
            binds=binds,
            secrets=environment.secrets,
            max_output=_OUTPUT_KEPT,
            on_output=on_progress,
        )
        left = Results(folder / "results", folder / "workspace", spec.folder, result.output)
        return result, await asyncio.to_thread(runner_get(spec.runner).read, left)
    finally:
        await asyncio.to_thread(tree_delete, folder)


def check_command(spec: CheckSpec) -> str:
    """The command with which the check's results are written."""
    return _asked(spec, RunnerCall(spec.command, {})).command


def _asked(spec: CheckSpec, call: RunnerCall) -> RunnerCall:
    """The call that also writes results, in the check's folder."""
    # The checkout is thrown away, so bytecode may lie where Python looks for it first.
    call = replace(call, env={**call.env, "PYTHONDONTWRITEBYTECODE": ""})
    call = runner_get(spec.runner).ask(call)
    if spec.folder:
        call = replace(call, command=f"cd {shlex.quote(spec.folder)} || exit\n{call.command}")
    return call


def check_judge(spec: CheckSpec, result: CommandResult, tests: Mapping[str, TestResult]) -> tuple[bool, str]:
    """Whether a check passed, and why not. An exit code alone is not believed where results could be had."""
    if result.killed:
        return False, f"stopped: over the limit of {result.killed}"
    failing = [name for name, outcome in tests.items() if outcome in ("failed", "error")]
    executed = [name for name, outcome in tests.items() if outcome != "skipped"]
    if result.exit_code != 0:
        if result.exit_code in runner_get(spec.runner).no_tests:
            return False, "no tests were found"
        return False, f"exit code {result.exit_code}{_signal(result.exit_code)}"
    if runner_get(spec.runner).name == "command":
        return True, ""
    if failing:
        return False, f"exit code 0, but {len(failing)} test(s) failed"
    if not tests:
        return False, "exit code 0, but the runner ended without results, so no test counts as executed"
    if not executed:
        return False, "exit code 0, but every test was skipped"
    return True, ""


def _signal(exit_code: int | None) -> str:
    """What a shell means by an exit code over 128; the limits that we watch are told apart from these."""
    if exit_code in (128 + signal.SIGKILL, 128 + signal.SIGTERM):
        return f" ({signal.Signals(exit_code - 128).name}: something in the check ended its own runner)"
    if exit_code in (128 + signal.SIGSEGV, 128 + signal.SIGABRT):
        return f" ({signal.Signals(exit_code - 128).name}: the runner crashed)"
    return ""


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
        _lend(folder / "lent")
    except BaseException:
        tree_delete(folder)
        raise
    return folder


def _lend(target: Path) -> None:
    """A copy of what sandboxes are lent, readable for all."""
    shutil.copytree(_LENT_FILES, target, ignore=shutil.ignore_patterns("__pycache__", "__init__.py"))
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)


def _missing(spec: CheckSpec, environment: Environment) -> str:
    """Why the check can't run here at all; empty when it can."""
    if not spec.ecosystem:
        return ""
    ecosystem = ecosystem_get(spec.ecosystem)
    if programs := programs_missing(ecosystem, environment=environment.path):
        return (
            f"{ecosystem.title} needs {' and '.join(programs)}, which this server doesn't have: have the operator "
            f"install it{f' ({ecosystem.packages})' if ecosystem.packages else ''}, see `archon doctor`, or give the "
            "checks to run (--check)"
        )
    return ""


def _tail(output: str) -> str:
    """The last bytes, from a line's start on."""
    encoded = output.encode("utf-8", "replace")
    if len(encoded) <= _OUTPUT_BYTES:
        return output
    return encoded[-_OUTPUT_BYTES:].partition(b"\n")[2].decode("utf-8", "replace")

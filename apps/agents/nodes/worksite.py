"""Where a session works: its worktree, the environment, the sandbox and the checks, each opened when first needed."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from django.conf import settings

from apps.agents.services.attachments import attachments_place
from apps.agents.services.ledger_records import Snapshot
from apps.core.database import AsyncDatabase
from apps.core.errors import Conflict
from apps.core.outbound import host_is_listed
from apps.projects.checks import (
    CheckComparison,
    CheckReport,
    CheckSpec,
    Verification,
    checks_baseline,
    checks_compare,
    checks_detect,
    checks_run,
    checks_verify,
)
from apps.projects.ecosystems.registry import outputs_find
from apps.projects.egress import egress_open
from apps.projects.environment import (
    Environment,
    EnvironmentSpec,
    environment_apply,
    environment_detect,
    environment_prepare,
)
from apps.projects.git import path_display
from apps.projects.repository import changed_paths, commit_resolve, commit_submodules, diff_read
from apps.projects.repository_diff import Diff, FileChange
from apps.projects.repository_rebase import branch_move
from apps.projects.sandbox import workspace_open
from apps.projects.secrets import SessionSecrets
from apps.projects.subfolder import workspace_within
from apps.projects.workspace import SandboxLimits, Workspace, WorkspaceError, Worktree
from apps.projects.worktree import (
    CommitResult,
    checkout_export,
    secrets_refuse,
    tree_delete,
    worktree_commit,
    worktree_create,
    worktree_exclude,
    worktree_path,
    worktree_reset,
    worktree_snapshot_commit,
)
from apps.projects.worktree_snapshots import snapshot_keep, tree_of, worktree_restore, worktree_take
from integrations.embedded.reach import runtime_root

logger = logging.getLogger(__name__)

_MODULES_NAMED = 10
#: How long a worktree that somebody else still has is waited for, and how often it is looked at.
_TAKE_SECONDS = 5.0
#: The same where files are to be put back: the request that asked for it may be at it, in a large checkout.
_RESTORE_SECONDS = 120.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class SiteFacts:
    session_id: uuid.UUID
    project_id: uuid.UUID
    branch: str
    base_commit: str
    check_commands: tuple[str, ...]
    setup_command: str
    #: The folder that the work is about; empty: all of the repository.
    subfolder: str = ""
    #: What the repository lacks.
    notices: tuple[str, ...] = ()
    #: The last state of the files that is kept: a tree or a commit.
    kept: str = ""
    #: What commands may reach of the network, as `HOST`, `HOST:PORT`, `*.DOMAIN`; nothing: there is none.
    network_hosts: tuple[str, ...] = ()
    secrets: SessionSecrets = field(default_factory=SessionSecrets)
    #: Which of the session's worktrees it is, empty: its own; and for another one, where its branch began.
    lane: str = ""
    start: str = ""

    @property
    def worktree_name(self) -> str:
        return self.lane or "main"


class WorkSite:
    """One of a session's places of work on this machine; close it when the run ends."""

    def __init__(self, *, facts: SiteFacts, database: AsyncDatabase, on_progress: Callable[[str], None]) -> None:
        self._facts = facts
        self._database = database
        self._on_progress = on_progress
        self._resources = AsyncExitStack()
        self._sandbox = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._worktree: Worktree | None = None
        self._modules: tuple[str, ...] = ()
        self._fresh = False
        self._environment: Environment | None = None
        self._workspace: Workspace | None = None
        self._kept: str | None = None
        self._tip = ""
        #: Something was put into the background, so that files may change without a call until the agent has ended.
        self.restless = False

    def beside(self, *, lane: str, branch: str, start: str, kept: str) -> WorkSite:
        """Another worktree of the session, for one of its tasks; in the environment of this one, which has to be open.

        Its branch begins at ``start``; what is judged is judged as here, against what the session started from.
        ``kept``: the last state of its files that is kept; empty: none is.
        """
        assert self._environment is not None, "the environment is opened by the prepare node"
        facts = replace(self._facts, lane=lane, branch=branch, start=start, kept=kept)
        site = WorkSite(facts=facts, database=self._database, on_progress=self._on_progress)
        site._environment, site._modules = self._environment, self._modules
        return site

    @property
    def lane(self) -> str:
        """Which of the session's worktrees it is; empty: its own."""
        return self._facts.lane

    @property
    def branch(self) -> str:
        return self._facts.branch

    @property
    def path(self) -> Path:
        """Where the worktree is, or will be."""
        return worktree_path(session_id=self._facts.session_id, name=self._facts.worktree_name)

    @property
    def notes(self) -> tuple[str, ...]:
        """What an agent has to know of the place, as parts of its brief; the worktree has to be there."""
        notes = []
        if self._facts.subfolder:
            notes.append(
                f"The work is about the folder {self._facts.subfolder} of a larger repository. run_command and the "
                "checks run in that folder; the paths of all other tools are relative to the repository's root."
            )
        if self._facts.notices:
            notes.append("Of the repository:\n" + "\n".join(f"- {notice}" for notice in self._facts.notices))
        if self._facts.network_hosts:
            notes.append(
                f"Commands reach these hosts and no others: {', '.join(self._facts.network_hosts)}; over http(s), "
                "through the proxy that http_proxy and https_proxy name. Checks reach nothing."
            )
        if self._facts.secrets.commands:
            names = ", ".join(sorted(self._facts.secrets.commands))
            notes.append(
                f"Commands have these secrets in variables: {names}. Use them by name; their values are shown to "
                "nobody, and a file that holds one is not committed."
            )
        if self._modules:
            named = ", ".join(path_display(path) for path in self._modules[:_MODULES_NAMED])
            notes.append(
                f"Submodules ({named}) belong to other repositories: changes to their files are not kept. Make none."
            )
        return tuple(notes)

    @property
    def subfolder(self) -> str:
        """The folder that commands start in; empty: the repository's root."""
        return self._facts.subfolder

    async def worktree(self, *, take_seconds: float = _TAKE_SECONDS) -> Worktree:
        if self._worktree is None:
            await self._take(take_seconds)
            # Long after a session has ended its checkout is removed; a follow-up gets a new one of the branch.
            self._fresh = not self.path.is_dir()
            self._worktree = await self._database.run_in_thread(self._worktree_make)
            self._modules = self._modules or await self._database.run_in_thread(
                commit_submodules, project_id=self._facts.project_id, commit=self._facts.base_commit
            )
        return self._worktree

    async def _take(self, seconds: float) -> None:
        """Have the worktree for this run alone: a worker that the session was taken from may still be letting go.

        One that doesn't let go (it stands still, say) holds nobody up for long: it can write nothing any more.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (descriptor := worktree_take(self._facts.session_id, self._facts.worktree_name)) is None:
            if loop.time() > until:
                logger.warning("another process still has the worktree of session %s", self._facts.session_id)
                return
            await asyncio.sleep(_LOOK_SECONDS)
        self._resources.callback(os.close, descriptor)

    async def restore(self, *, tree: str, head: str) -> None:
        """Put the files back to a state that was kept, and the branch to where it was then.

        In a checkout made anew where the present one is such that they can't be. Raises Conflict when they are gone.
        """
        for _ in range(2):
            worktree = await self.worktree(take_seconds=_RESTORE_SECONDS)
            async with self._quiet():
                stands = await self._database.run_in_thread(worktree_restore, worktree=worktree, tree=tree, head=head)
            if stands:
                self._kept, self._tip = await self.tree(tree), head
                return
            # A sandbox that is open has the folder that is gone.
            self._workspace = None
            await self._sandbox.aclose()
            self._worktree = await self._database.run_in_thread(self._worktree_make)
            self._fresh = True
        raise Conflict(
            "the files of the step that the session was taken back to are no longer in the server's repository",
            next_step="take it back to another step, or start a new session",
            state="no_snapshot",
        )

    def _worktree_make(self) -> Worktree:
        return worktree_create(
            project_id=self._facts.project_id,
            session_id=self._facts.session_id,
            name=self._facts.worktree_name,
            branch=self._facts.branch,
            base_commit=self._facts.start or self._facts.base_commit,
        )

    async def worktree_is_fresh(self) -> bool:
        """Whether the checkout was made just now, from the branch's last commit."""
        await self.worktree()
        return self._fresh

    async def branch_tip(self) -> str:
        """The commit that the branch is at."""
        worktree = await self.worktree()
        return await self._database.run_in_thread(
            commit_resolve, project_id=self._facts.project_id, revision=worktree.branch
        )

    async def changes(self, commit: str) -> tuple[FileChange, ...]:
        """What a commit changes against the one that the session started from."""
        diff = await self._database.run_in_thread(
            diff_read, project_id=self._facts.project_id, base=self._facts.base_commit, head=commit, max_bytes=1
        )
        return diff.files

    async def requirements(self) -> tuple[EnvironmentSpec, tuple[CheckSpec, ...]]:
        """What the repository needs installed and how it is checked; ask before an agent has changed anything."""
        worktree = await self.worktree()
        return (
            await self.environment_spec(),
            await self._database.run_in_thread(
                checks_detect,
                checkout=worktree.path,
                commands=self._facts.check_commands,
                folder=self._facts.subfolder,
            ),
        )

    async def requirements_of(self, commit: str) -> tuple[EnvironmentSpec, tuple[CheckSpec, ...]]:
        """The same of a commit, whatever is in the worktree."""
        return await self._database.run_in_thread(self._requirements_of, commit)

    def _requirements_of(self, commit: str) -> tuple[EnvironmentSpec, tuple[CheckSpec, ...]]:
        root = runtime_root(settings.ARCHON_HOME) / "checks"
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="base-", dir=root) as folder:
            checkout = Path(folder) / "workspace"
            checkout_export(project_id=self._facts.project_id, commit=commit, destination=checkout)
            try:
                return (
                    environment_detect(
                        checkout=checkout, setup_command=self._facts.setup_command, folder=self._facts.subfolder
                    ),
                    checks_detect(checkout=checkout, commands=self._facts.check_commands, folder=self._facts.subfolder),
                )
            finally:
                tree_delete(checkout)

    async def branch_rebased(self, *, commit: str, expected: str) -> None:
        """The branch at a commit that was made of its own, and the files those of it. Again: changes nothing."""
        worktree = await self.worktree()
        async with self._quiet():
            await self._database.run_in_thread(
                branch_move,
                project_id=self._facts.project_id, branch=worktree.branch, commit=commit, expected=expected,
            )  # fmt: skip
            await self._database.run_in_thread(worktree_reset, worktree=worktree, commit=commit)
        self._kept, self._tip = await self.tree(commit), commit

    async def tree(self, revision: str) -> str:
        """The files of a commit as one id; empty where it is gone."""
        return await self._database.run_in_thread(tree_of, worktree=await self.worktree(), revision=revision)

    async def environment_spec(self) -> EnvironmentSpec:
        """What the worktree as it is now needs installed."""
        worktree = await self.worktree()
        return await self._database.run_in_thread(
            environment_detect,
            checkout=worktree.path,
            setup_command=self._facts.setup_command,
            folder=self._facts.subfolder,
        )

    async def environment_open(self, spec: EnvironmentSpec, *, untouched: bool) -> Environment:
        """Install the dependencies, or find them in the cache; the sandboxes opened from now on have them.

        ``untouched``: no agent has been in the worktree yet, so it gets what the set-up made beside the environment.
        """
        if self._environment is None:
            self._environment = await self._environment_prepare(spec, self._facts.base_commit)
            await self.environment_apply(untouched=untouched)
        return self._environment

    async def environment_apply(self, *, untouched: bool) -> None:
        """Give a worktree in which no agent has been what the set-up made beside the environment, which is open."""
        assert self._environment is not None, "the environment is opened by the prepare node"
        worktree = await self.worktree()
        if untouched or self._fresh:
            # What builds write has no place in a commit, whether or not the project's .gitignore says so.
            outputs = await self._database.run_in_thread(outputs_find, worktree.path, folder=self._facts.subfolder)
            made = await self._database.run_in_thread(
                environment_apply, environment=self._environment, checkout=worktree.path
            )
            await self._database.run_in_thread(worktree_exclude, worktree=worktree, paths=(*made, *outputs))

    async def _environment_prepare(self, spec: EnvironmentSpec, commit: str) -> Environment:
        environment = await environment_prepare(
            project_id=self._facts.project_id,
            commit=commit,
            spec=spec,
            secrets=self._facts.secrets.setup,
            on_progress=self._on_progress,
        )
        return replace(environment, secrets=self._facts.secrets.checks)

    async def workspace(self) -> Workspace:
        """The agent's sandbox on the worktree; the environment has to be open."""
        assert self._environment is not None, "the environment is opened by the prepare node"
        async with self._opening:
            workspace = self._workspace
            if workspace is None:
                workspace = await self._sandbox.enter_async_context(
                    workspace_open(
                        await self.worktree(),
                        limits=sandbox_limits(),
                        environment=self._environment.path,
                        env=self._environment.env,
                        attachments=await self._database.run_in_thread(
                            attachments_place, self._facts.session_id, self._facts.worktree_name
                        ),
                        egress_socket=await self._egress_open(),
                        secrets=self._facts.secrets.commands,
                    )
                )
                self._workspace = workspace = workspace_within(workspace, self._facts.subfolder)
            return workspace

    async def _egress_open(self) -> Path | None:
        """The way out for commands: to the project's hosts, through a proxy of ours; None when it allows none."""
        listed = self._facts.network_hosts
        if not listed:
            return None

        def allowed(host: str, port: int) -> bool:
            return host_is_listed(host, port, listed=listed)

        proxy = egress_open(allowed=allowed, private_hosts=settings.ARCHON_PRIVATE_HOSTS)
        return (await self._sandbox.enter_async_context(proxy)).socket

    async def checks_run(
        self, commit: str, specs: Sequence[CheckSpec], *, rerun_failing: bool = False
    ) -> tuple[CheckReport, ...]:
        """Each check in a fresh sandbox on a clean checkout of the commit.

        ``rerun_failing``: what fails is run again, to tell what is flaky.
        """
        assert self._environment is not None, "the environment is opened by the prepare node"
        run = checks_baseline if rerun_failing else checks_run
        return await run(
            project_id=self._facts.project_id,
            commit=commit,
            specs=specs,
            environment=self._environment,
            on_progress=self._on_progress,
        )

    async def verify(
        self,
        *,
        commit: str,
        specs: Sequence[CheckSpec],
        before: Sequence[CheckReport],
        spec: EnvironmentSpec | None = None,
    ) -> Verification:
        """The server's word on a commit: its checks, in the environment that the commit itself asks for.

        All that the session changed counts, not only what the last task did: a test that an earlier one weakened is
        put back as well. ``spec``: what the commit needs installed, where it isn't what the worktree holds.
        """
        base = self._environment
        assert base is not None, "the environment is opened by the prepare node"
        spec = spec or await self.environment_spec()
        return await checks_verify(
            project_id=self._facts.project_id,
            base_commit=self._facts.base_commit,
            commit=commit,
            specs=specs,
            before=before,
            base_environment=base,
            environment=base if spec.key == base.key else await self._environment_prepare(spec, commit),
            on_progress=self._on_progress,
        )

    async def acceptance_run(
        self, commit: str, specs: Sequence[CheckSpec], *, in_worktree: bool = True
    ) -> tuple[CheckReport, ...]:
        """Each check on the commit, in the environment that the commit asks for; what fails is not run again.

        ``in_worktree``: the commit is what the worktree holds. Raises EnvironmentSetupFailed or InvalidInput.
        """
        base = self._environment
        assert base is not None, "the environment is opened by the prepare node"
        spec = await self.environment_spec() if in_worktree else (await self.requirements_of(commit))[0]
        return await checks_run(
            project_id=self._facts.project_id,
            commit=commit,
            specs=specs,
            environment=base if spec.key == base.key else await self._environment_prepare(spec, commit),
            on_progress=self._on_progress,
        )

    async def changed_between(self, base: str, commit: str, *, max_bytes: int = 2_000_000) -> Diff:
        """What a commit changes against another, its text cut after so many bytes."""
        return await self._database.run_in_thread(
            diff_read, project_id=self._facts.project_id, base=base, head=commit, max_bytes=max_bytes
        )

    async def compare(
        self, *, base: str, commit: str, before: Sequence[CheckReport], after: Sequence[CheckReport]
    ) -> tuple[CheckComparison, ...]:
        """Reports of two commits, side by side."""
        changed = await self._database.run_in_thread(
            changed_paths, project_id=self._facts.project_id, base=base, head=commit
        )
        return checks_compare(before=before, after=after, changed_files=changed)

    async def snapshot(self) -> str:
        """The worktree as it is now, as a commit on no branch."""
        async with self._quiet():
            return await self._database.run_in_thread(worktree_snapshot_commit, worktree=await self.worktree())

    async def files_keep(self) -> Snapshot | None:
        """Keep the files as they are now, for a rewind; None when they are as they were kept last."""
        worktree = await self.worktree()
        known = await self.files_tree()
        if not self._tip:
            self._tip = await self.branch_tip()
        try:
            async with self._quiet():
                tree = await self._database.run_in_thread(
                    snapshot_keep,
                    worktree=worktree,
                    session_id=self._facts.session_id,
                    known=known,
                    lane=self.lane,
                )
        except WorkspaceError as error:
            self._kept = ""
            return Snapshot("", self._tip, str(error), self.lane)
        if tree == known:
            return None
        self._kept = tree
        return Snapshot(tree, self._tip, lane=self.lane)

    async def files_tree(self) -> str:
        """The tree that the files were kept as last, which they are between calls; empty where they can't be kept."""
        if self._kept is None:
            self._kept = await self.tree(self._facts.kept or self._facts.start or self._facts.base_commit)
        return self._kept

    def kept_as(self, commit: str) -> Snapshot:
        """The files as those of a commit that the branch is at."""
        return Snapshot(commit, commit, lane=self.lane)

    async def commit(self, *, message: str, parent: str, replaces: str, timestamp: datetime.datetime) -> CommitResult:
        """Commit the worktree on the session's branch, in place of what an earlier attempt left there.

        The same arguments and files give the same commit.
        """
        async with self._quiet():
            worktree = await self.worktree()
            if self._facts.secrets.redactor:
                await self._database.run_in_thread(
                    secrets_refuse, worktree=worktree, base=parent, redactor=self._facts.secrets.redactor
                )
            committed = await self._database.run_in_thread(
                worktree_commit,
                worktree=worktree,
                message=message,
                parent=parent,
                replaces=replaces,
                timestamp=timestamp,
            )
        # The branch has moved, and the files that it holds are kept by it.
        self._tip = ""
        return committed

    async def commands_end(self) -> None:
        """An agent has ended: what it left running in the background ends too."""
        self.restless = False
        if self._workspace is not None:
            await self._workspace.background_stop_all()

    @asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        """git reads files that hold still: what runs in the background stands still as long."""
        if self._workspace is None:
            yield
            return
        async with self._workspace.quiet():
            yield

    async def close(self) -> None:
        try:
            await self._sandbox.aclose()
        finally:
            await self._resources.aclose()


def sandbox_limits() -> SandboxLimits:
    return SandboxLimits(
        memory_mb=settings.ARCHON_SANDBOX_MEMORY_MB,
        disk_mb=settings.ARCHON_SANDBOX_DISK_MB,
        processes=settings.ARCHON_SANDBOX_PROCESSES,
    )

"""What the benchmarks of code search share: services of their own, a project made of a folder, and its index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_GIT = (
    "git", "-c", "user.name=Bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgSign=false",
    "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "safe.directory=*",
)  # fmt: skip


@contextmanager
def stack_alone(*, second: str = "") -> Iterator[Path]:
    """Services in a folder of their own, migrated, with Django set up; the folder.

    ``second`` names one more embedder beside the one that is chosen.
    """
    with tempfile.TemporaryDirectory(prefix="archon-bench-") as name:
        folder = Path(name)
        os.chmod(folder, 0o755)
        os.environ["ARCHON_HOME"] = str(folder / "home")
        os.environ["ARCHON_REPOSITORY_ROOTS"] = name
        if second:
            os.environ["ARCHON_EMBEDDER_SECOND"] = second
        for variable in ("DB_HOST", "REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
            os.environ.pop(variable, None)
        from config.bootstrap import prepare

        prepare()
        import django

        django.setup()
        from django.core.management import call_command

        print("migrating …", file=sys.stderr)
        call_command("migrate", verbosity=0)
        yield folder


def repository_copy(source: Path, target: Path) -> Path:
    """A repository with what the folder holds: its last commit, or its files where it is no repository."""
    if not source.is_dir():
        sys.exit(f"{source} is no folder")
    if (source / ".git").exists():
        subprocess.run(
            [*_GIT, "clone", "--quiet", "--no-hardlinks", str(source), str(target)], check=True, stdout=sys.stderr
        )
        return target
    shutil.copytree(source, target, symlinks=True, ignore_dangling_symlinks=True)
    git(target, "init", "--quiet", "--initial-branch=main")
    # What the folder's own ignore files name stays out, as it would when its owner commits it.
    git(target, "add", "--all")
    git(target, "commit", "--quiet", "--message", "As it is")
    return target


def git(folder: Path, *arguments: str) -> str:
    """Run git in a repository of the benchmark's own."""
    done = subprocess.run([*_GIT, *arguments], cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def project_of(folder: Path, repository: Path) -> tuple[Any, Any]:
    """A project whose repository is a copy of this one, and its owner."""
    from apps.authentication.models import User
    from apps.projects.services import project_create

    user = User.objects.create_user("bench@example.org", "a-long-password-of-the-bench")
    project = project_create(user=user, name=repository.name, repository_path=str(repository))
    return project, user

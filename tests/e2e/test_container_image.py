"""What the image holds and starts, without an engine: the files that ``.dockerignore`` lets in, the entry point run."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from config.bootstrap import BASE_DIR
from scripts.seccomp_profile import PROFILE, profile_text

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder /app of the image."""
    application = tmp_path_factory.mktemp("image") / "app"
    patterns = [line for line in (BASE_DIR / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert patterns[0] == "*", "what isn't named stays out"
    left_out = [pattern.removeprefix("**/") for pattern in patterns if pattern.startswith("**/")]

    def ignored(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if any(fnmatch(name, pattern) for pattern in left_out)}

    for pattern in patterns:
        if pattern.startswith("!"):
            source, target = BASE_DIR / pattern[1:], application / pattern[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=ignored)
            else:
                shutil.copy2(source, target)
    yield application


def started(image: Path, home: Path, *command: str, **variables: str) -> subprocess.Popen[str]:
    """The entry point, with the image's environment rather than ours."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(image),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DJANGO_SETTINGS_MODULE": "config.settings.prod",
        "ARCHON_HOME": str(home),
        "LANG": "C.UTF-8",
        **variables,
    }
    return subprocess.Popen(
        [image / "deploy/entrypoint.sh", *command],
        cwd=image,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str]:
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def secret_files(folder: Path) -> dict[str, str]:
    found = {}
    for name in ("DJANGO_SECRET_KEY", "JWT_SECRET_KEY"):
        path = folder / name.lower()
        path.write_text(secrets.token_urlsafe(64) + "\n")
        found[f"{name}_FILE"] = str(path)
    return found


def test_nothing_but_the_application_is_in_it(image: Path) -> None:
    names = {path.name for path in image.rglob("*")}
    assert {"config", "apps", "cli", "manage.py", "entrypoint.sh", "celery_app.py"} <= names
    outside = {"tests", "benchmarks", ".git", ".env", ".env.example", ".archon", "secrets", ".venv", "compose.yaml"}
    assert outside & {path.name for path in image.iterdir()} == set()
    assert [name for name in names if name.startswith(".env") or name == "secrets"] == []


def test_without_secrets_it_says_which(image: Path, archon_home: Path) -> None:
    code, output = ended(started(image, archon_home, DB_HOST="127.0.0.1", REDIS_URL="redis://127.0.0.1:1/0"))
    assert code != 0 and "DJANGO_SECRET_KEY must be set to at least 50 random characters" in output


def test_any_command_is_passed_through_in_place_of_the_shell(image: Path, archon_home: Path) -> None:
    process = started(image, archon_home, "python", "-c", "import os; print(os.getpid())")
    code, output = ended(process)
    assert (code, int(output)) == (0, process.pid)
    code, output = ended(started(image, archon_home, "no-such-command"))
    assert code == 127 and "no-such-command" in output
    variables = secret_files(archon_home)
    code, output = ended(
        started(image, archon_home, "manage", "check", "--deploy", "--fail-level", "WARNING", **variables)
    )
    assert code == 0, output


def test_it_migrates_serves_and_ends_when_told_to(image: Path, archon_home: Path) -> None:
    """As ``docker run`` has it: nothing but secrets, so with the embedded services."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {
        **secret_files(archon_home),
        "ARCHON_BIND": f"127.0.0.1:{port}",
        "ARCHON_MIGRATE": "1",
        "DJANGO_ALLOWED_HOSTS": "archon.example",
    }
    process = started(image, archon_home, **variables)
    try:
        give_up = time.monotonic() + 120
        while (said := health(image, archon_home, variables))[0] != 0:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < give_up, said
            time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        code, output = ended(process)
    finally:
        process.kill()
    assert code in (0, -signal.SIGTERM), output
    assert "Applying agents." in output
    # With nobody there, the check says so.
    assert health(image, archon_home, variables)[0] != 0


def test_a_secret_in_a_file_that_is_not_there_is_named(image: Path, archon_home: Path) -> None:
    code, output = ended(started(image, archon_home, "migrate", JWT_SECRET_KEY_FILE="/nowhere/key"))
    assert code != 0 and "JWT_SECRET_KEY_FILE names /nowhere/key, which can't be read" in output
    both = {**secret_files(archon_home), "JWT_SECRET_KEY": "x"}
    code, output = ended(started(image, archon_home, "migrate", **both))
    assert code != 0 and "both JWT_SECRET_KEY and JWT_SECRET_KEY_FILE are set" in output


def test_the_containers_profile_is_made_from_the_sandboxs_own_list() -> None:
    assert PROFILE.read_text() == profile_text()


def health(image: Path, home: Path, variables: dict[str, str]) -> tuple[int, str]:
    return ended(started(image, home, "python", "-m", "config.health", **{**variables, "ARCHON_MIGRATE": "0"}))


def test_the_entry_point_is_posix_shell() -> None:
    for script in ("deploy/entrypoint.sh", "deploy/secrets.sh"):
        assert os.access(BASE_DIR / script, os.X_OK)
        subprocess.run(["dash", "-n", BASE_DIR / script], check=True)

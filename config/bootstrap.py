"""What every entry point does before Django reads its settings.

``manage.py``, ``config.asgi`` and ``celery_app`` call :func:`prepare` first. It reads ``.env``, gives a development
checkout secrets of its own, and, where the operator named no ``DB_HOST`` or ``REDIS_URL``, attaches to (or starts) the
embedded services and puts their addresses into the environment. The settings then read one environment, wherever it
came from.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from integrations.embedded.errors import ServicesUnavailable
from integrations.embedded.reach import home_create

if TYPE_CHECKING:
    from integrations.embedded import Services

BASE_DIR = Path(__file__).resolve().parent.parent
DEVELOPMENT_SETTINGS = "config.settings.dev"

#: Names the file in which a beat inside the worker remembers when it last sent what (see ``config.worker_beat``).
BEAT_SCHEDULE_VARIABLE = "ARCHON_BEAT_SCHEDULE"

#: Variables of ours and of the services that we speak to; any of them may be in a file.
#: Settings that are the name of a file, and no secret in one.
_FILES_THEMSELVES = ("ARCHON_GIT_CA_FILE",)
_PREFIXES = (
    *("ANTHROPIC_", "ARCHON_", "CELERY_", "DB_", "DJANGO_", "GEMINI_", "JWT_", "LANGCHAIN_", "OPENAI_", "PINECONE_"),
    *("REDIS_", "SUPABASE_"),
)

#: Commands that look at code alone: they need no database, so none is started for them.
COMMANDS_WITHOUT_SERVICES = frozenset(
    {
        *("check", "collectstatic", "compilemessages", "diffsettings", "makemessages", "makemigrations"),
        *("sandbox_probe", "spectacular", "startapp", "help", "--help", "-h", "version", "--version"),
    }
)


def prepare(*, settings_module: str = DEVELOPMENT_SETTINGS, command: str | None = None) -> None:
    """Complete ``os.environ`` for this process; safe to call more than once.

    Ends the process with the reason when embedded services are needed and don't start.
    """
    try:
        environment_read(settings_module=settings_module)
        if command not in COMMANDS_WITHOUT_SERVICES:
            services_prepare(progress=lambda message: print(f"{message} …", file=sys.stderr))
    except ServicesUnavailable as error:
        sys.exit(str(error))


def variables_read() -> Path:
    """Add what ``.env`` says to the environment, which wins, and make ``ARCHON_HOME`` absolute; returns it.

    A variable may be in a file instead, which ``NAME_FILE`` names: so containers are given secrets. Raises
    ``ServicesUnavailable`` when one can't be read.

    Tests don't read it: what a developer has configured must not decide whether they pass.
    """
    under_test = os.environ.get("DJANGO_SETTINGS_MODULE") == "config.settings.test"
    if not under_test and (BASE_DIR / ".env").exists():
        # Imported only here: without the file, reading the environment takes no time at all.
        import environ

        environ.Env.read_env(BASE_DIR / ".env")
    _files_read()
    home = home_path()
    os.environ["ARCHON_HOME"] = str(home)
    return home


def environment_read(*, settings_module: str = DEVELOPMENT_SETTINGS) -> Path:
    """:func:`variables_read`, and the settings module and local secrets where none are named; returns the home.

    Raises ``ServicesUnavailable`` when that folder can't be used.
    """
    home = variables_read()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings_module)
    try:
        home_create(home)
        # Where the API puts uploads while they come in; Django refuses to run with a setting that names no folder.
        (home / "uploads").mkdir(exist_ok=True)
        if os.environ["DJANGO_SETTINGS_MODULE"] == DEVELOPMENT_SETTINGS:
            _secrets_fill(home)
    except OSError as error:
        raise ServicesUnavailable(
            f"the state folder {home} can't be used: {error.strerror}",
            next_step="make it yours (it may belong to another user), or set ARCHON_HOME to another folder",
        ) from error
    return home


def services_prepare(*, progress: Callable[[str], None] | None = None) -> Services | None:
    """Attach to embedded services where none are configured, and put their addresses into the environment.

    None when everything is configured. Raises ``ServicesUnavailable``.
    """
    needs_database = not os.environ.get("DB_HOST")
    needs_redis = not os.environ.get("REDIS_URL")
    if not (needs_database or needs_redis):
        return None
    from integrations.embedded import services_attach

    services = services_attach(home_path(), database=needs_database, redis=needs_redis, progress=progress)
    for name, value in services.environment().items():
        # A broker that the operator named for itself stays; half of a database's address does not.
        if not (name.startswith("CELERY_") and os.environ.get(name)):
            os.environ[name] = value
    return services


def home_path() -> Path:
    """Where Archon keeps its state: ``ARCHON_HOME`` (from the checkout, when relative), or ``.archon`` in it."""
    return BASE_DIR / Path(os.environ.get("ARCHON_HOME") or ".archon").expanduser()


def _files_read() -> None:
    """Put what ``NAME_FILE`` names into ``NAME``, and take the file's name away: the secret is read once."""
    for name in [name for name in os.environ if name.endswith("_FILE") and name.startswith(_PREFIXES)]:
        if name in _FILES_THEMSELVES:
            continue
        variable, path = name.removesuffix("_FILE"), os.environ[name]
        if not path:
            continue
        if os.environ.get(variable):
            raise ServicesUnavailable(
                f"both {variable} and {name} are set, and only one can be meant",
                next_step=f"unset one of them (it may be in {BASE_DIR / '.env'})",
            )
        try:
            os.environ[variable] = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ServicesUnavailable(
                f"{name} names {path}, which can't be read: {reason}",
                next_step="see that the file is there and readable for this process's user",
            ) from error
        del os.environ[name]


def _secrets_fill(home: Path) -> None:
    """Give a development checkout random secrets that survive a restart; production has to name its own."""
    names = ("DJANGO_SECRET_KEY", "JWT_SECRET_KEY")
    if all(os.environ.get(name) for name in names):
        return
    path = home / "secrets.json"
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({name: secrets.token_urlsafe(48) for name in names}, file)
        try:
            os.link(draft, path)  # whole or not at all, and the first of two wins
        except FileExistsError:
            pass
        draft.unlink()
    for name, value in json.loads(path.read_text()).items():
        if not os.environ.get(name):
            os.environ[name] = value

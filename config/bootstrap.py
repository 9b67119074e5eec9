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
from pathlib import Path

import environ

from integrations.embedded.reach import home_create

BASE_DIR = Path(__file__).resolve().parent.parent

#: Commands that look at code alone: they need no database, so none is started for them.
COMMANDS_WITHOUT_SERVICES = frozenset(
    {
        *("check", "collectstatic", "compilemessages", "diffsettings", "makemessages", "makemigrations"),
        *("sandbox_probe", "spectacular", "startapp", "help", "--help", "-h", "version", "--version"),
    }
)


def home_path() -> Path:
    """Where Archon keeps its state: ``ARCHON_HOME``, or ``.archon`` in the checkout."""
    return Path(os.environ.get("ARCHON_HOME") or BASE_DIR / ".archon").expanduser().absolute()


def prepare(*, settings_module: str = "config.settings.dev", command: str | None = None) -> None:
    """Complete ``os.environ`` for this process; safe to call more than once.

    Raises ``integrations.embedded.ServicesUnavailable`` when embedded services are needed and don't start.
    """
    environ.Env.read_env(BASE_DIR / ".env")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings_module)
    os.environ.setdefault("ARCHON_HOME", str(home_path()))
    if os.environ["DJANGO_SETTINGS_MODULE"] == "config.settings.dev":
        _secrets_fill(home_path())
    # Where the API puts uploads while they come in; Django refuses to run with a setting that names no folder.
    (home_path() / "uploads").mkdir(parents=True, exist_ok=True)
    if command in COMMANDS_WITHOUT_SERVICES:
        return
    needs_database = not os.environ.get("DB_HOST")
    needs_redis = not os.environ.get("REDIS_URL")
    if needs_database or needs_redis:
        from integrations.embedded import services_attach

        services = services_attach(home_path(), database=needs_database, redis=needs_redis)
        for name, value in services.environment().items():
            # A broker that the operator named for itself stays; a half-configured database does not.
            if not (name.startswith("CELERY_") and os.environ.get(name)):
                os.environ[name] = value


def _secrets_fill(home: Path) -> None:
    """Give a development checkout random secrets that survive a restart; production has to name its own."""
    names = ("DJANGO_SECRET_KEY", "JWT_SECRET_KEY")
    if all(os.environ.get(name) for name in names):
        return
    path = home / "secrets.json"
    home_create(home)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w") as file:
            json.dump({name: secrets.token_urlsafe(48) for name in names}, file)
    for name, value in json.loads(path.read_text()).items():
        os.environ.setdefault(name, value)

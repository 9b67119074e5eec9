"""What every test gets: its tier, services of its own, no way out to the network.

The services are embedded ones under ``.archon/test`` (less durable, so faster), unless ``DB_HOST`` names others. Each
run takes a free slot and each of its processes a database and a Redis database of that slot, so that several runs, each
of several processes, don't meet.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.database_flush import rows_deleted_after_tests
from tests.golden import Golden
from tests.sandbox_fixture import each_sandbox

# pytest finds fixtures by their names in this file.
__all__ = ["each_sandbox", "rows_deleted_after_tests"]

ROOT = Path(__file__).resolve().parent.parent
TEST_HOME = ROOT / ".archon" / "test"
#: A test's folder says what it needs: `unit` nothing, the others real services.
TIERS = ("unit", "integration", "e2e", "faults", "external")
DEFAULT_TIERS = frozenset({"unit", "integration", "e2e"})
_SLOTS = 8
_PROCESSES = 8
#: Nothing that a developer has configured may reach a test: it could talk to a real model, or cost money.
_FOREIGN_VARIABLES = ("OPENAI_", "ANTHROPIC_", "GEMINI_", "PINECONE_", "SUPABASE_", "LANGCHAIN_", "ARCHON_", "JWT_")
_OWN_VARIABLES = frozenset({"ARCHON_TEST_SLOT", "ARCHON_VENV", "ARCHON_POSTGRES_BIN"})

_slot_lock: int | None = None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--tier",
        action="append",
        choices=(*TIERS, "slow", "all"),
        help="run these tiers alone (repeatable; default: unit, integration and e2e, without what is marked slow)",
    )
    parser.addoption(
        "--every",
        action="store_true",
        help="let workers die at every point of a session, and try every case of what is marked `sampled`, rather than"
        " those that the seed chooses",
    )
    parser.addoption(
        "--golden-update", action="store_true", help="write golden files anew where they differ, rather than fail"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Complete the environment, and only then let Django read its settings."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN_VARIABLES) and name not in _OWN_VARIABLES:
            del os.environ[name]
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings.test"
    worker = _worker_number()
    if worker is None and _needs_services(config):
        _slot_take()
        if not os.environ.get("DB_HOST"):
            _services_start()
    slot = os.environ.get("ARCHON_TEST_SLOT", "none")
    if os.environ.get("REDIS_URL"):
        for name in ("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
            os.environ[name] = _redis_url_for(os.environ["REDIS_URL"], worker or 0)
    os.environ["ARCHON_HOME"] = str(_home_fresh(TEST_HOME / f"home-{slot}-{worker or 0}"))
    # Here and not by pytest-django, which would have read the settings before this file is even imported.
    import django

    django.setup()
    from django.conf import settings

    if str(settings.ARCHON_HOME) != os.environ["ARCHON_HOME"]:
        raise pytest.UsageError("Django's settings were read before this file could say where this process's state is")
    if worker is None and config.getoption("numprocesses", None):
        # A process of pytest-xdist's that inherits it has its settings read by pytest-django before it gets here, and
        # would share this one's state.
        del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark every test with its folder's tier, and leave out the tiers that were not asked for."""
    asked = set(config.getoption("--tier") or ())
    named = _tiers_named(config)
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    whole = config.getoption("--every") or named != {None}
    sampled_out: set[pytest.Item] = set() if whole else _sampled_out(config, items)
    for item in items:
        if item in sampled_out:
            left_out.append(item)
            continue
        tier = _tier_of(item.path)
        if tier is not None:
            item.add_marker(tier)
        slow = item.get_closest_marker("slow") is not None
        if asked:
            wanted = "all" in asked or tier in asked or (slow and "slow" in asked)
        else:
            wanted = tier is None or tier in named or (tier in DEFAULT_TIERS and not slow)
        (kept if wanted else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def _sampled_out(config: pytest.Config, items: list[pytest.Item]) -> set[pytest.Item]:
    """The cases of what is marked ``sampled`` that this run's seed leaves out; the same in all of its processes."""
    seed = config.getoption("randomly_seed", 0)
    left_out: set[pytest.Item] = set()
    cases: Counter[str] = Counter()
    for item in sorted(items, key=lambda item: item.nodeid):
        sampled = item.get_closest_marker("sampled")
        if sampled is not None:
            [share] = sampled.args
            cases[str(item.path)] += 1
            if (cases[str(item.path)] + seed) % share:
                left_out.add(item)
    return left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    seed = config.getoption("randomly_seed", None)
    if isinstance(seed, int):
        terminalreporter.write_line(f"random seed: {seed}; the same order again: --randomly-seed={seed}")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Holds texts against golden files, or writes these anew."""
    test = request.path.relative_to(ROOT).as_posix()
    return Golden(update=bool(request.config.getoption("--golden-update")), test=test)


@pytest.fixture
def archon_home() -> Iterator[Path]:
    """An empty ``ARCHON_HOME`` that every user of the machine can reach; whatever runs in it is stopped afterwards."""
    from tests.stacks import home_open

    with home_open() as home:
        yield home


def _worker_number() -> int | None:
    """This process's number among pytest-xdist's; none in the one that leads them (or is alone)."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "")
    return int(name.removeprefix("gw")) if name else None


def _needs_services(config: pytest.Config) -> bool:
    only = set(config.getoption("--tier") or ())
    return not config.option.collectonly and only != {"unit"} and _tiers_named(config) != {"unit"}


def _tiers_named(config: pytest.Config) -> set[str | None]:
    """The tiers of the paths on the command line; none among them stands for paths that hold several."""
    paths = [argument.split("::")[0] for argument in config.args]
    return {_tier_of((config.invocation_params.dir / path).resolve()) for path in paths}


def _tier_of(path: Path) -> str | None:
    try:
        first = path.relative_to(ROOT / "tests").parts[0]
    except (ValueError, IndexError):
        return None
    return first if first in TIERS else None


def _slot_take() -> None:
    """Hold a number that no other run holds, for as long as this process lives."""
    global _slot_lock
    TEST_HOME.mkdir(parents=True, exist_ok=True)
    for slot in range(_SLOTS):
        descriptor = os.open(TEST_HOME / f"slot-{slot}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        _slot_lock = descriptor
        os.environ["ARCHON_TEST_SLOT"] = str(slot)
        return
    raise pytest.UsageError(f"{_SLOTS} test runs are under way in this checkout; wait for one to end")


def _services_start() -> None:
    from integrations.embedded import ServicesUnavailable, services_attach

    try:
        services = services_attach(TEST_HOME, durable=False, progress=lambda message: print(f"{message} …"))
    except ServicesUnavailable as error:
        raise pytest.UsageError(str(error)) from error
    slot = int(os.environ["ARCHON_TEST_SLOT"])
    os.environ.update(services.environment())
    os.environ["DB_NAME"] = f"archon_{slot}"
    os.environ["REDIS_URL"] = _redis_url_for(os.environ["REDIS_URL"], slot * _PROCESSES)


def _redis_url_for(url: str, offset: int) -> str:
    """The Redis database so many after the one in the address."""
    parts = urlsplit(url)
    number = int(parts.path.strip("/") or 0) + offset
    return urlunsplit(parts._replace(path=f"/{number}"))


def _home_fresh(home: Path) -> Path:
    from integrations.embedded.reach import runtime_root

    if home.exists():
        if (elsewhere := runtime_root(home)) != home:
            shutil.rmtree(elsewhere, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
    return home

"""``archon doctor`` tells what is there and what to do, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.launching import archon_run
from tests.processes import processes_of

_SECRET = "canary-7f3a"


def test_a_sound_machine_has_no_problem_and_nothing_stays_running(archon_home: Path) -> None:
    answer = archon_run(archon_home, "doctor", "--json")
    document = json.loads(answer.stdout)
    findings = {finding["name"]: finding for finding in document["findings"]}
    assert [finding for finding in findings.values() if finding["state"] == "problem"] == []
    assert document["ok"] is True
    assert answer.returncode == 0
    assert findings["database"]["detail"].startswith("PostgreSQL 18")
    assert "embedded" in findings["redis"]["detail"]
    assert findings["keys"]["state"] == "missing"
    assert "OPENAI_API_KEY" in findings["keys"]["next_step"]
    assert processes_of(archon_home) == {}


@pytest.mark.slow
def test_keys_are_named_and_never_shown(archon_home: Path) -> None:
    secrets = {
        "OPENAI_API_KEY": _SECRET,
        "OPENAI_BASE_URL": f"https://user:{_SECRET}@models.example/v1?key={_SECRET}",
        "ARCHON_MODEL_KEYS": f"https://models.example/={_SECRET}",
        "ARCHON_MODEL_BASE_URLS": f"https://user:{_SECRET}@models.example/",
        "DJANGO_SECRET_KEY": _SECRET,
        "DB_HOST": "127.0.0.1",
        "DB_PORT": "1",
        "DB_PASSWORD": _SECRET,
        "REDIS_URL": f"redis://user:{_SECRET}@127.0.0.1:1/0",
    }
    for arguments in ((), ("--json",)):
        answer = archon_run(archon_home, "doctor", *arguments, **secrets)
        assert "OPENAI_API_KEY" in answer.stdout
        assert "models.example" in answer.stdout
        assert _SECRET not in answer.stdout + answer.stderr


def test_services_that_do_not_answer_are_problems_with_a_way_out(archon_home: Path) -> None:
    answer = archon_run(
        archon_home, "doctor", "--json", DB_HOST="127.0.0.1", DB_PORT="1", REDIS_URL="redis://127.0.0.1:1/0"
    )
    assert answer.returncode == 1
    findings = {finding["name"]: finding for finding in json.loads(answer.stdout)["findings"]}
    for name, variable in (("database", "DB_HOST"), ("redis", "REDIS_URL")):
        assert findings[name]["state"] == "problem"
        assert variable in findings[name]["next_step"]


@pytest.mark.slow
def test_a_container_engine_that_is_not_there_is_a_problem_and_nothing_takes_its_place(archon_home: Path) -> None:
    answer = archon_run(
        archon_home,
        *("doctor", "--json"),
        ARCHON_SANDBOX="container",
        ARCHON_CONTAINER_ENGINE=f"unix://{archon_home}/none.sock",
    )
    assert answer.returncode == 1
    findings = {finding["name"]: finding for finding in json.loads(answer.stdout)["findings"]}
    assert findings["adapter"]["detail"].startswith("container (ARCHON_SANDBOX)")
    assert findings["sandbox"]["state"] == "problem"
    assert "No container engine answers" in findings["sandbox"]["detail"]
    assert "ARCHON_CONTAINER_ENGINE" in findings["sandbox"]["next_step"]

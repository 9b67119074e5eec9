"""Dockerfile and compose files, as the programs read them that others read them with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.launching import ROOT
from tests.tools import COMPOSE, HADOLINT


def test_hadolint_finds_nothing() -> None:
    answer = subprocess.run([HADOLINT.path(), ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What a user has after the first two commands that compose.yaml names."""
    for name in ("compose.yaml", "compose.containers.yaml", "Dockerfile"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    shutil.copy(ROOT / ".env.example", tmp_path / ".env")
    subprocess.run(["sh", tmp_path / "deploy/secrets.sh"], check=True)
    return tmp_path


def compose(project: Path, *files: str, **environment: str) -> dict[str, Any]:
    named = [argument for file in files for argument in ("--file", str(project / file))]
    answer = subprocess.run(
        [COMPOSE.path(), *named, "config", "--format", "json"],
        cwd=project,
        env={"PATH": os.environ["PATH"], "HOME": str(project), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == "", "nothing to warn of"
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


def test_the_stack_is_what_the_specification_asks_for(project: Path) -> None:
    document = compose(project, "compose.yaml")
    services = document["services"]
    assert set(services) == {"backend", "celery", "beat", "migrate", "postgres", "redis"}
    for name in ("backend", "celery", "beat"):
        conditions = {needed: how["condition"] for needed, how in services[name]["depends_on"].items()}
        assert conditions == {
            "postgres": "service_healthy",
            "redis": "service_healthy",
            "migrate": "service_completed_successfully",
        }
        assert services[name]["restart"] == "unless-stopped"
    for name in ("postgres", "redis", "celery"):
        assert services[name]["healthcheck"]["test"]
    assert services["migrate"]["restart"] == "no"
    assert services["postgres"]["image"].startswith("pgvector/pgvector:pg")
    assert set(document["volumes"]) == {"archon_home", "postgres_data", "redis_data"}
    for name in ("backend", "celery"):
        assert {volume["target"] for volume in services[name]["volumes"]} == {"/var/lib/archon"}


def test_only_the_api_is_published_and_only_to_this_machine(project: Path) -> None:
    document = compose(project, "compose.yaml")
    published = {
        name: [(port["host_ip"], port["published"]) for port in service["ports"]]
        for name, service in document["services"].items()
        if service.get("ports")
    }
    assert published == {"backend": [("127.0.0.1", "8000")]}
    assert document["networks"]["inside"]["internal"] is True
    for name in ("postgres", "redis", "migrate"):
        assert list(document["services"][name]["networks"]) == ["inside"]


def test_services_are_limited_and_no_secret_is_in_their_environment(project: Path) -> None:
    document = compose(project, "compose.yaml")
    secret = (project / "secrets/db_password").read_text()
    assert len(secret) >= 50 and secret not in json.dumps(document)
    for name, service in document["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} <= set(limits), name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged") and not service.get("cap_add"), name
        if service["image"] == "archon-backend":
            assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["init"]


def test_the_worker_has_what_bubblewrap_needs_and_the_others_do_not(project: Path) -> None:
    services = compose(project, "compose.yaml")["services"]
    needs = {"seccomp=./deploy/seccomp.json", "apparmor=unconfined", "systempaths=unconfined"}
    assert needs <= set(services["celery"]["security_opt"])
    for name in ("backend", "beat", "migrate", "postgres", "redis"):
        assert services[name]["security_opt"] == ["no-new-privileges:true"]


def test_with_containers_the_worker_gives_that_up_for_the_socket(project: Path) -> None:
    document = compose(project, "compose.yaml", "compose.containers.yaml", DOCKER_GID="999")
    worker = document["services"]["celery"]
    assert worker["security_opt"] == ["no-new-privileges:true"]
    assert worker["group_add"] == ["999"] and worker["environment"]["ARCHON_SANDBOX"] == "container"
    name = document["volumes"]["archon_home"]["name"]
    assert worker["environment"]["ARCHON_CONTAINER_PATHS"] == f"/var/lib/archon=volume:{name}"
    sources = {volume["source"] for volume in worker["volumes"]}
    assert sources == {"archon_home", "/var/run/docker.sock"}
    others = {name for name in document["services"] if "docker.sock" in json.dumps(document["services"][name])}
    assert others == {"celery"}

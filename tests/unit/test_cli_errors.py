"""Wrong input to the command line ends with a message, a way out and exit code 2, before any server is asked."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from cli import demo, run, sessions
from cli.client import Api, problem_error, url_is_loopback
from cli.errors import ApiError, CliError
from cli.materials import Materials, materials_upload
from cli.registry import ProjectRegistry
from cli.run import options_build


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> typer.Typer:
    monkeypatch.setenv("ARCHON_HOME", str(tmp_path / "home"))
    for name in ("ARCHON_SERVER", "ARCHON_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    application = typer.Typer()
    for module in (run, demo, sessions):
        module.register(application)
    return application


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "  "], "invalid_input"),
        (["run", "Mend it", "--repo", "/nowhere/at/all"], "repository_missing"),
        (["demo", "--server", "http://127.0.0.1:1"], "no_token"),
        (["show", "abcd1234", "--server", "ftp://example.org"], "no_token"),
        (["answer", "abcd1234", " "], "invalid_input"),
        (["discard", "abcd1234"], "confirmation_needed"),
    ],
)
def test_json_errors_are_one_document(arguments: list[str], code: str, app: typer.Typer) -> None:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error["code"] == code
    assert error["message"] and error["next_step"]


def test_text_errors_go_to_standard_error(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["run", ""])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: the goal is empty\nNext: say what is to be done\n"


def test_a_server_that_does_not_answer_is_named(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHON_TOKEN", "archon_x")
    result = CliRunner().invoke(app, ["sessions", "--json", "--server", "http://127.0.0.1:1"])
    error = json.loads(result.stdout)["error"]
    assert (error["code"], error["status"]) == ("unreachable", 0)
    assert "127.0.0.1:1" in error["message"]


@pytest.mark.parametrize("url", ["", "example.org", "ftp://example.org", "http://", "file:///etc/passwd"])
def test_what_is_no_server_address_is_refused(url: str) -> None:
    with pytest.raises(CliError) as caught:
        Api(base_url=url, token="archon_x")
    assert caught.value.code == "invalid_server"


def test_problem_documents_are_told_in_the_server_s_words() -> None:
    body = {
        "title": "Invalid",
        "detail": "The goal is too long.",
        "code": "invalid_input",
        "next_step": "shorten it",
        "errors": {"goal": ["at most 10000 characters"], "limits": {"steps": ["not a number"]}},
    }
    error = problem_error(httpx.Response(400, json=body))
    assert error.message == "The goal is too long. (goal: at most 10000 characters; limits.steps: not a number)"
    assert (error.code, error.next_step, error.status) == ("invalid_input", "shorten it", 400)


def test_an_answer_from_something_else_is_said_to_be_that() -> None:
    request = httpx.Request("GET", "http://127.0.0.1:9/api/?secret=1")
    error = problem_error(httpx.Response(502, text="<h1>Bad gateway</h1>", request=request))
    assert error.code == "not_archon"
    assert "secret" not in error.message


def test_a_file_that_is_too_large_to_be_sent_is_named(tmp_path: Path) -> None:
    class Full(Api):
        def attachment_upload(self, path: Path, *, name: str = "") -> str:
            raise ApiError("The request body is larger than 64 KiB.", code="too_large", status=413)

    large = tmp_path / "video.mp4"
    large.write_bytes(b"x" * 200_000)
    with pytest.raises(CliError) as caught:
        materials_upload(Full(base_url="http://127.0.0.1:9", token="archon_x"), Materials(files=(large,)))
    assert str(large) in caught.value.message and "0.2 MiB" in caught.value.message
    assert "ARCHON_ATTACHMENT_LIMIT_MB" in caught.value.next_step


def test_only_what_was_asked_for_is_sent() -> None:
    assert options_build() == {}
    assert options_build(checks=["make test"], limit_cost=0.0, limit_steps=3) == {
        "checks": ["make test"],
        "limits": {"cost_usd": 0.0, "steps": 3},
    }


@pytest.mark.parametrize(
    ("url", "loopback"),
    [("http://127.0.0.1:8000", True), ("http://[::1]/", True), ("http://localhost", True), ("https://a.test", False)],
)
def test_loopback_servers_are_reached_without_a_proxy(url: str, loopback: bool) -> None:
    assert url_is_loopback(url) is loopback


def test_projects_are_remembered_by_server_and_path(tmp_path: Path) -> None:
    registry = ProjectRegistry(tmp_path / "home")
    assert registry.project_id(server="local", repository=tmp_path) is None
    registry.remember(server="local", repository=tmp_path, project_id="p1")
    registry.remember(server="https://a.test", repository=tmp_path, project_id="p2")
    assert ProjectRegistry(tmp_path / "home").project_id(server="local", repository=tmp_path) == "p1"
    assert registry.repository(server="https://a.test", project_id="p2") == tmp_path
    assert registry.repository(server="local", project_id="p2") is None


def test_a_broken_registry_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "cli-projects.json").write_text("{nonsense")
    registry = ProjectRegistry(tmp_path)
    assert registry.project_id(server="local", repository=tmp_path) is None
    registry.remember(server="local", repository=tmp_path, project_id="p1")
    assert registry.project_id(server="local", repository=tmp_path) == "p1"

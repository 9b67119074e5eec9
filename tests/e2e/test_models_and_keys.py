"""Models by role, fallbacks and stored keys, as people use them: by the command line and by the API."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from cli.client import Api
from cli.errors import ApiError
from tests.builders import repository_build
from tests.launching import ROOT, environment
from tests.loopback.agents import Agents, call, finishes, plans, says
from tests.loopback.openai_server import OpenAIServer, Reply, Request
from tests.stacks import LiveStack, Ran

pytestmark = pytest.mark.timeout(600)

PLANNER_KEY = "sk-canary/planner+4b1f"
CODER_KEY = "sk-canary/coder+77ce="
CODER = Agents([says(call("write_file", path="a.txt", content="a\n")), finishes("Wrote it.")])
PLANNER = Agents(planner=[plans("Write a.txt")])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return repository_build(tmp_path / "sample", {"data.txt": "x\n"})


@contextmanager
def model(answer: Callable[[Request], Reply], *, key: str | None = None) -> Iterator[OpenAIServer]:
    """A model that answers to one key; any other that is shown to it fails the test."""
    with OpenAIServer(answer, api_key=key) as server:
        yield server
        assert server.refused == []
        assert {request.authorization for request in server.requests} <= {f"Bearer {key or 'none'}"}


def typed(stack: LiveStack, *arguments: str, text: str) -> Ran:
    """A command that reads ``text`` from its standard input."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli", *arguments],
        cwd=ROOT,
        env=environment(stack.home, **{**stack.variables, "PYTHONPATH": str(ROOT)}),
        input=text,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def key_store(stack: LiveStack, server: OpenAIServer, secret: str, *options: str) -> str:
    """Stored by the command line; the key's id."""
    stored = typed(
        stack, "keys", "set", "openai", "--base-url", server.base_url, *options, "--json", text=f"{secret}\n"
    )
    assert stored.code == 0, stored.output + stored.errors
    assert secret not in stored.output + stored.errors
    return str(stored.document["id"])


def other_user(stack: LiveStack) -> tuple[str, Api]:
    """Somebody else with an account of their own: e-mail address and client."""
    email, password = f"{uuid.uuid4().hex[:12]}@example.org", f"a-good-password-{uuid.uuid4().hex[:6]}"
    made = httpx.post(f"{stack.url}/api/auth/register/", json={"email": email, "password": password})
    assert made.status_code == 201, made.text
    return email, Api(base_url=stack.url, token=made.json()["access"])


def files_below(folder: Path) -> Iterator[Path]:
    """Every file but the database's."""
    for name, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if each != "postgres"]
        for path in (Path(name, file) for file in files):
            # What a service takes away meanwhile is none.
            if path.is_file() and not path.is_symlink():
                yield path


def forms_of(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, quote(secret, safe=""), quote(secret), encoded, encoded.rstrip("=")}


def test_two_roles_two_servers_two_keys_and_no_trace_of_them(stack: LiveStack, repository: Path) -> None:
    began = time.time()
    with model(PLANNER, key=PLANNER_KEY) as planner, model(CODER, key=CODER_KEY) as coder:
        key_store(stack, planner, PLANNER_KEY)
        key_store(stack, coder, CODER_KEY)
        ran = stack.archon(
            *("run", "Write a.txt.", "--repo", str(repository), "--check", "true", "--json", "--yes"),
            *("--model", f"openai:gpt-4o-mini@{coder.base_url}", "--temperature", "0.2"),
            *("--role-model", f"planner=openai:gpt-4o@{planner.base_url}"),
        )
        assert (ran.code, ran.document["outcome"]) == (0, "verified"), ran.document
        assert planner.requests and coder.requests
        assert {request.body["model"] for request in planner.requests} == {"gpt-4o"}
        assert {request.body["temperature"] for request in coder.requests} == {0.2}
    said = ran.document
    assert said["priced"] is True
    assert {line["model"]: line["calls"] for line in said["models"]} == {"openai:gpt-4o": 1, "openai:gpt-4o-mini": 2}
    assert sum(line["input_tokens"] + line["output_tokens"] for line in said["models"]) == said["tokens"]
    listed = stack.archon("keys", "list", "--json")
    shown = stack.archon("show", said["session_id"])
    assert "Models: openai:gpt-4o (1 call" in shown.output
    seen = ran.output + ran.errors + listed.output + shown.output + stack.story(said["session_id"])
    forms = [form for secret in (PLANNER_KEY, CODER_KEY) for form in forms_of(secret)]
    assert not [form for form in forms if form in seen]
    # Everything that the server has written since beside its database: logs, checkouts, recordings, what it remembers.
    written = [path for path in files_below(stack.home) if path.stat().st_mtime >= began - 1]
    assert written
    for path in written:
        assert not [form for form in forms if form.encode() in path.read_bytes()], path


def test_a_fallback_takes_over_and_both_are_told(stack: LiveStack, repository: Path) -> None:
    with model(lambda _: Reply(failure="server_error")) as first, model(CODER) as second:
        ran = stack.archon(
            *("run", "Write a.txt.", "--repo", str(repository), "--check", "true", "--json", "--yes"),
            *("--model", f"openai:gpt-4o@{first.base_url}", "--role-model", f"planner=openai:gpt-4o@{second.base_url}"),
            *("--fallback", f"openai:gpt-4o-mini@{second.base_url}"),
        )
        assert (ran.code, ran.document["outcome"]) == (0, "verified"), ran.document
        assert first.requests
    lines = {line["model"]: line for line in ran.document["models"]}
    assert lines["openai:gpt-4o"]["failed"] >= 1
    assert lines["openai:gpt-4o-mini"]["failed"] == 0 and lines["openai:gpt-4o-mini"]["calls"] >= 2


def test_a_projects_key_is_its_members_and_a_users_own_is_not(stack: LiveStack, repository: Path) -> None:
    project = stack.project_make(repository)
    email, member = other_user(stack)
    added = httpx.post(
        f"{stack.url}/api/projects/{project.id}/members/",
        json={"email": email, "role": "member"},
        headers={"Authorization": f"Bearer {stack.api.token}"},
    )
    assert added.status_code == 201, added.text
    with model(CODER, key="sk-project-0000000") as shared, OpenAIServer(CODER, api_key="sk-owner-000000000") as own:
        key_store(stack, shared, "sk-project-0000000", "--project", project.id)
        key_store(stack, own, "sk-owner-000000000")
        options = {"agent_type": "coder", "checks": ["true"]}

        def run(server: OpenAIServer) -> str:
            asked = {**options, "model": f"openai:gpt-4o@{server.base_url}"}
            return member.session_run(project_id=project.id, goal="Write a.txt.", options=asked).id

        with member:
            [key] = member.key_list()
            assert (key.scope, key.project, key.hint) == ("project", project.id, "0000")
            done = stack.session_wait(run(shared))
            assert (done.status, done.outcome) == ("completed", "verified"), done.reason
            failed = stack.session_wait(run(own))
            assert failed.status == "paused" and failed.reason is not None
            assert "without a key" in failed.reason.message
            assert own.requests == []
            # Nor may the member have the owner's key used by naming it.
            owners = next(key for key in stack.api.key_list() if key.scope == "user" and own.base_url == key.base_url)
            for command in (member.key_get, member.key_delete, member.key_test):
                with pytest.raises(ApiError) as caught:
                    command(owners.id)
                assert caught.value.status == 404


def test_a_key_is_tried_by_the_worker_and_removed(stack: LiveStack) -> None:
    with OpenAIServer(lambda _: finishes(), api_key=CODER_KEY) as server:
        key_id = key_store(stack, server, CODER_KEY)
        good = stack.archon("keys", "test", key_id)
        assert (good.code, "takes the key" in good.output) == (0, True), good.output
        assert stack.archon("keys", "test", key_id, "--model", "gpt-99").code == 1
        assert key_store(stack, server, "sk-another-one-0000") == key_id
        bad = stack.archon("keys", "test", key_id, "--json")
        assert (bad.code, bad.document["test_state"]) == (1, "bad")
        assert "keys set openai" in bad.document["test_next_step"]
        assert server.requests == []
    assert stack.archon("keys", "remove", key_id).code == 0
    assert key_id not in stack.archon("keys", "list", "--json").output


def test_what_a_price_is_not_known_of_costs_no_zero_dollars(stack: LiveStack, repository: Path) -> None:
    with model(CODER) as server:
        ran = stack.archon(
            *("run", "Write a.txt.", "--repo", str(repository), "--check", "true", "--yes"),
            *("--model", "openai:home-grown", "--base-url", server.base_url),
            *("--role-model", f"planner=openai:home-grown@{server.base_url}"),
        )
    assert ran.code == 0, ran.output + ran.errors
    assert "price unknown" in ran.output and "$0.00" not in ran.output


def test_models_and_keys_are_listed(stack: LiveStack) -> None:
    document = stack.archon("models", "--json").document
    assert {vendor["name"] for vendor in document["vendors"]} >= {"openai", "anthropic", "gemini", "ollama"}
    assert set(document["defaults"]) == {"planner", "coder", "reviewer", "researcher"}
    table = stack.archon("models").output
    assert "anthropic" in table and "Next: " in table
    prices = stack.archon("models", "anthropic").output
    assert "anthropic:claude-sonnet-4-5" in prices and "ANTHROPIC_API_KEY" in prices
    assert stack.archon("models", "skynet").code == 2


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        (("keys", "set", "openai"), "\n", "no key came"),
        (("keys", "set", "skynet"), "sk-x\n", "no provider of that name"),
        (("keys", "set", "openai", "--base-url", "https://elsewhere.example"), "sk-x\n", "has not allowed"),
        (("keys", "set", "openai", "--project", "no-such-project"), "sk-x\n", "no project has this name"),
        (("keys", "test", "nothing-of-the-sort"), "", "no key that you may know of"),
        (("keys", "remove", "x"), "", "no key that you may know of"),
    ],
)
def test_what_makes_no_sense_is_refused(stack: LiveStack, arguments: tuple[str, ...], text: str, words: str) -> None:
    ran = typed(stack, *arguments, "--json", text=text)
    assert ran.code == 2, ran.output
    assert words in ran.document["error"]["message"] and ran.document["error"]["next_step"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--effort", "enormous"), "effort"),
        (("--tool-calls", "telepathy"), "tool_calls"),
        (("--role-model", "planner"), "no ROLE=PROVIDER:MODEL"),
        (("--role-model", "writer=openai:x"), "models.writer"),
        (("--role-model", "planner=gemini:gemini-2.5-pro"), "for the planner: there is no key"),
        (("--fallback", "gemini:gemini-2.5-pro"), "as a fallback: there is no key"),
        (("--edit-format", "telepathy"), "edit_format"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_there_is_a_session(
    stack: LiveStack, repository: Path, options: tuple[str, ...], words: str
) -> None:
    ran = stack.archon(
        "run", "Do it.", "--repo", str(repository), "--model", "openai:x@http://127.0.0.1:9/v1", *options, "--json"
    )
    assert ran.code == 2
    assert words in ran.document["error"]["message"], ran.document

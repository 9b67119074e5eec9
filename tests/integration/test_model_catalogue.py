"""What ``GET /api/agents/models/`` lists, and what a project says of models."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.conf import LazySettings

from apps.usage.catalogue import known_models
from integrations.llm_providers.vendors import VENDORS, vendor_find
from tests.api import client_for, project_make, user_make

pytestmark = pytest.mark.django_db

MODELS = "/api/agents/models/"


@pytest.fixture(autouse=True)
def _nothing_configured(settings: LazySettings) -> None:
    for vendor in VENDORS:
        for name in (vendor.key_setting, vendor.base_url_setting):
            if name:
                setattr(settings, name, "")
    settings.ARCHON_MODEL, settings.ARCHON_MODELS, settings.ARCHON_MODEL_FALLBACKS = "", [], []
    settings.ARCHON_MODEL_BASE_URLS, settings.ARCHON_MODEL_KEYS = [], {}


def vendors(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {vendor["name"]: vendor for vendor in document["vendors"]}


def test_where_nothing_is_configured_it_says_what_to_set() -> None:
    document = client_for(user_make()).get(MODELS).json()
    assert document["configured"] is False
    assert "OPENAI_API_KEY" in document["next_step"]
    assert set(vendors(document)) == {vendor.name for vendor in VENDORS}
    for vendor in VENDORS:
        shown = vendors(document)[vendor.name]
        assert (shown["configured"], shown["key"], shown["models"]) == (False, "", [])
        wanted = "ARCHON_MODEL_BASE_URLS" if vendor.is_local else vendor.key_setting
        assert wanted in shown["next_step"], shown
    assert document["defaults"]["coder"]["problem"] == "no model is configured: there is no key of a provider"


def test_keys_and_allowed_addresses_make_providers_ready(settings: LazySettings) -> None:
    settings.ANTHROPIC_API_KEY = "sk-ant-0000000000"
    settings.ARCHON_MODEL_BASE_URLS = ["http://127.0.0.1:11434"]
    settings.VLLM_BASE_URL = "http://gpu.example:8000/v1"
    document = client_for(user_make()).get(MODELS).json()
    ready = {name: vendor["key"] for name, vendor in vendors(document).items() if vendor["configured"]}
    assert ready == {"anthropic": "environment", "ollama": "", "vllm": ""}
    assert vendors(document)["vllm"]["base_url"] == "http://gpu.example:8000/v1"
    assert document["configured"] is True
    anthropic = vendor_find("anthropic")
    assert anthropic is not None
    assert document["defaults"]["planner"]["model"] == f"anthropic:{anthropic.default_model}"
    assert document["addresses"] == ["http://127.0.0.1:11434"]
    listed = {model["name"]: model for model in vendors(document)["anthropic"]["models"]}
    sonnet = listed["anthropic:claude-sonnet-4-5"]
    assert (sonnet["context_tokens"], sonnet["input_usd"], sonnet["output_usd"]) == (200_000, 3.0, 15.0)
    assert (sonnet["vision"], sonnet["tool_calls"], sonnet["effort"]) == (True, "native", True)


@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "openrouter"])
def test_known_models_write_text_and_are_priced(name: str) -> None:
    document = client_for(user_make()).get(f"{MODELS}?vendor={name}").json()
    [vendor] = document["vendors"]
    models = {model["name"].partition(":")[2]: model for model in vendor["models"]}
    assert len(models) >= 10
    default = next(vendor.default_model for vendor in VENDORS if vendor.name == name)
    assert not default or default in models
    for other_use in ("embedding", "tts", "whisper", "image", "realtime", "moderation"):
        assert not [model for model in models if other_use in model]
    assert "gemini-2.0-flash" not in models  # on its way out
    assert all(model["context_tokens"] > 0 and model["output_tokens"] > 0 for model in models.values())


def test_a_provider_that_there_is_not_is_refused() -> None:
    answer = client_for(user_make()).get(f"{MODELS}?vendor=skynet")
    assert answer.status_code == 400
    assert "openrouter" in answer.json()["next_step"]


def test_a_member_sees_the_projects_key_and_defaults(settings: LazySettings) -> None:
    settings.ARCHON_MODEL_BASE_URLS = ["http://127.0.0.1:*"]
    owner, member, stranger = user_make(), user_make(), user_make()
    project = project_make(owner=owner, member=member)
    address = f"/api/projects/{project.id}/models/"
    stored = {"scope": "project", "project": str(project.id), "vendor": "gemini", "secret": "g-canary-0000"}
    assert client_for(owner).post("/api/agents/keys/", stored).status_code == 201
    said = {
        "model": "gemini:gemini-2.5-pro",
        "effort": "high",
        "fallbacks": ["openai:own@http://127.0.0.1:7/v1"],
        "models": {"coder": {"model": "anthropic:claude-sonnet-4-5", "edit_format": "v4a"}},
    }
    answer = client_for(member).put(address, said)
    assert answer.status_code == 200, answer.content
    assert client_for(owner).get(address).json() == answer.json()
    document = client_for(member).get(f"{MODELS}?project={project.id}").json()
    assert vendors(document)["gemini"]["key"] == "project"
    planner, coder = document["defaults"]["planner"], document["defaults"]["coder"]
    assert (planner["model"], planner["effort"], planner["configured"]) == ("gemini:gemini-2.5-pro", "high", True)
    assert (coder["edit_format"], coder["effort"]) == ("v4a", "high")
    # The key of that one is still missing, which is told and refuses nothing.
    assert coder["configured"] is False
    assert "ANTHROPIC_API_KEY" in coder["next_step"]
    assert document["configured"] is False
    assert client_for(stranger).get(f"{MODELS}?project={project.id}").status_code == 404
    assert client_for(member).get(MODELS).json()["defaults"]["planner"]["configured"] is False


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"model": "gpt-5"}, "PROVIDER:MODEL"),
        ({"model": "openai:gpt-5", "base_url": "https://elsewhere.example"}, "not allowed"),
        ({"models": {"coder": {"model": "skynet:x"}}}, "skynet"),
        ({"fallbacks": ["nonsense"]}, "nonsense"),
        ({"effort": "enormous"}, "effort"),
        ({"modles": {}}, "modles"),
        ({"models": {"writer": {"model": "openai:gpt-5"}}}, "models.writer"),
        ({"models": {"coder": {"modle": "openai:gpt-5"}}}, "models.coder.modle"),
        ({"temperature": 7}, "temperature"),
    ],
)
def test_a_project_says_nothing_that_no_session_could_carry_out(said: dict[str, Any], field: str) -> None:
    owner = user_make()
    project = project_make(owner=owner)
    answer = client_for(owner).put(f"/api/projects/{project.id}/models/", said)
    assert answer.status_code == 400
    assert field in str(answer.json())
    assert client_for(owner).get(f"/api/projects/{project.id}/models/").json()["model"] == ""


def test_a_viewer_may_look_and_not_change() -> None:
    owner, viewer = user_make(), user_make()
    project = project_make(owner=owner, viewer=viewer)
    address = f"/api/projects/{project.id}/models/"
    assert client_for(viewer).get(address).status_code == 200
    assert client_for(viewer).put(address, {"model": "openai:gpt-5"}).status_code == 403


def test_settings_that_cannot_be_read_are_told_and_break_nothing(settings: LazySettings) -> None:
    settings.ARCHON_MODELS = ["writer=openai:gpt-5"]
    document = client_for(user_make()).get(MODELS).json()
    assert document["configured"] is False
    assert "ARCHON_MODELS" in document["defaults"]["coder"]["problem"]


_CODE = """
import sys
import django

django.setup()
from apps.usage import catalogue

assert catalogue.known_models("openai") and catalogue.known_models("anthropic")
heavy = {"langchain_core", "langgraph", "openai", "anthropic", "google.genai", "bpe_openai"} & set(sys.modules)
assert not heavy, heavy
"""


def test_listing_models_loads_no_providers_library() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_list_is_made_once() -> None:
    assert known_models("openai") is known_models("openai")

"""An API process knows every model's name, address and key without loading a model's library."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import sys
import django

django.setup()
from apps.usage import catalogue, choices, keys, models, selectors, services, views
from django.conf import settings
import integrations.llm_providers

settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL = "k", ""
place = choices.ModelConfiguration(model="openai:gpt-5-mini")
assert choices.choices_make(roles=["coder"], places=[place], stored=())["coder"].model == "openai:gpt-5-mini"
from integrations.llm_providers.capabilities import tool_call_style
heavy = {"langchain_core", "langgraph", "openai", "anthropic", "google.genai", "genai_prices", "bpe_openai", "httpx2"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""


def test_resolving_a_model_loads_no_library_of_one() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_WORKER = """
import sys
import django

django.setup()
import apps.usage.gateway
from integrations.llm_providers import get_chat_model
from integrations.llm_providers.types import ModelSpec, Secret

vendors = {"openai", "anthropic", "google.genai"}
assert not vendors & set(sys.modules), vendors & set(sys.modules)
spec = ModelSpec(provider="anthropic", model="claude-sonnet-5", base_url="http://127.0.0.1:1", api_key=Secret("k"))
get_chat_model(spec)
assert vendors & set(sys.modules) == {"anthropic"}, vendors & set(sys.modules)
"""


def test_a_worker_loads_a_vendors_library_when_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", _WORKER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

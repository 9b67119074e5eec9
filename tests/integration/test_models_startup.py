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

settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL = "k", ""
place = choices.ModelConfiguration(model="openai:gpt-5-mini")
assert choices.choices_make(roles=["coder"], places=[place], stored=())["coder"].model == "openai:gpt-5-mini"
heavy = {"langchain_core", "langgraph", "openai", "genai_prices", "bpe_openai", "httpx2"} & set(sys.modules)
assert not heavy, heavy
"""


def test_resolving_a_model_loads_no_library_of_one() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
